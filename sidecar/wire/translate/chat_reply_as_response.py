"""What a chat answered, as the Responses API's answer: whole, and event by event."""

from typing import Any, Final

from sidecar.wire.translate.common import Json, StreamTranslator
from sidecar.wire.translate.usage import responses_usage
from sidecar.wire.usage import read_usage

_INCOMPLETE: Final = {"length": "max_output_tokens", "content_filter": "content_filter"}

_TIERS: Final = ("auto", "default", "flex", "scale", "priority")
"""OpenAI's own; others have words of theirs."""


def _response(identity: str, model: str, created: int) -> Json:
    return {
        "id": identity,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }


def _completed(response: Json, finish: str, usage: Any) -> None:
    response["status"] = "completed"
    if finish in _INCOMPLETE:
        response["status"] = "incomplete"
        response["incomplete_details"] = {"reason": _INCOMPLETE[finish]}
    told = read_usage(usage)[0] if isinstance(usage, dict) else None
    response["usage"] = responses_usage(told) if told is not None else None


def _message(identity: str, text: str) -> Json:
    return {
        "id": identity,
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [_text_part(text)],
    }


def _text_part(text: str) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _reasoning(identity: str, text: str) -> Json:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": identity, "type": "reasoning", "summary": [], "content": content}


def _call(identity: str, call_id: Any, name: Any, arguments: str, status: str = "completed") -> Json:
    return {
        "id": identity,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def chat_reply_to_response(body: Json) -> Json:
    """A whole chat completion as a response; of several choices the first."""
    identity = body.get("id") or ""
    response = _response(identity, body.get("model") or "", int(body.get("created") or 0))
    choice = (body.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    output = response["output"]
    if thought := message.get("reasoning_content") or message.get("reasoning"):
        output.append(_reasoning(f"rs_{identity}", thought))
    if (text := message.get("content") or message.get("refusal")) is not None:
        output.append(_message(f"msg_{identity}", text))
    for number, call in enumerate(message.get("tool_calls") or ()):
        function = call.get("function") or {}
        arguments = function.get("arguments") or ""
        output.append(_call(f"fc_{identity}_{number}", call.get("id"), function.get("name"), arguments))
    _completed(response, choice.get("finish_reason") or "stop", body.get("usage"))
    if body.get("service_tier") in _TIERS:
        response["service_tier"] = body["service_tier"]
    return response


class ChatStreamToResponse(StreamTranslator):
    """A stream of chunks as response events."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0
        self._response: Json | None = None
        self._open: Json | None = None
        """The item of text or thought that is being written."""
        self._open_index = 0
        self._text = ""
        self._calls: dict[int, tuple[int, Json]] = {}
        """Place of a call -> its index in the output and its item."""
        self._items: list[Json | None] = []
        self._finish = ""
        self._usage: Any = None

    def event(self, name: str, body: Json) -> None:
        """Translate one chunk."""
        if body.get("error"):
            self._fail(body["error"])
            return
        if self._response is None:
            self._start(body)
        self._usage = body.get("usage") or self._usage
        for choice in body.get("choices") or ():
            if choice.get("index", 0) == 0:
                self._delta(choice.get("delta") or {})
                self._finish = choice.get("finish_reason") or self._finish

    def done(self) -> None:
        """The last chunk has come."""
        self._end()

    def ended(self) -> None:
        """The stream has ended without saying so; its reason to stop says whether it is whole."""
        if self._finish:
            self._end()

    def _start(self, body: Json) -> Json:
        identity = body.get("id") or "resp"
        response = self._response = _response(
            identity, body.get("model") or "", int(body.get("created") or 0)
        )
        self._say("response.created", response=response)
        self._say("response.in_progress", response=response)
        return response

    def _delta(self, delta: Json) -> None:
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            self._write("reasoning", thought)
        if text := delta.get("content") or delta.get("refusal"):
            self._write("message", text)
        for call in delta.get("tool_calls") or ():
            self._argue(call)

    def _write(self, kind: str, text: str) -> None:
        if self._open is None or self._open["type"] != kind:
            self._close()
            self._begin(kind)
        item = self._open
        assert item is not None
        self._text += text
        place = {"item_id": item["id"], "output_index": self._open_index, "content_index": 0}
        if kind == "message":
            self._say("response.output_text.delta", **place, delta=text, logprobs=[])
        else:
            self._say("response.reasoning_text.delta", **place, delta=text)

    def _begin(self, kind: str) -> None:
        assert self._response is not None
        index = self._open_index = len(self._items)
        self._items.append(None)
        self._text = ""
        identity = f"{'msg' if kind == 'message' else 'rs'}_{self._response['id']}_{index}"
        item: Json = {"id": identity, "type": kind}
        item |= (
            {"status": "in_progress", "role": "assistant", "content": []}
            if kind == "message"
            else {"summary": [], "content": []}
        )
        self._open = item
        self._say("response.output_item.added", output_index=index, item=item)
        if kind == "message":
            place = {"item_id": identity, "output_index": index, "content_index": 0}
            self._say("response.content_part.added", **place, part=_text_part(""))

    def _close(self) -> None:
        item, self._open = self._open, None
        if item is None:
            return
        index = self._open_index
        place = {"item_id": item["id"], "output_index": index, "content_index": 0}
        if item["type"] == "message":
            self._say("response.output_text.done", **place, text=self._text, logprobs=[])
            self._say("response.content_part.done", **place, part=_text_part(self._text))
            whole = _message(item["id"], self._text)
        else:
            self._say("response.reasoning_text.done", **place, text=self._text)
            whole = _reasoning(item["id"], self._text)
        self._items[index] = whole
        self._say("response.output_item.done", output_index=index, item=whole)

    def _argue(self, call: Json) -> None:
        function = call.get("function") or {}
        place = call.get("index")
        place = place if isinstance(place, int) else len(self._calls)
        if place not in self._calls:
            self._close()
            assert self._response is not None
            index = len(self._items)
            identity = f"fc_{self._response['id']}_{index}"
            item = _call(identity, call.get("id"), function.get("name"), "", "in_progress")
            self._items.append(None)
            self._calls[place] = index, item
            self._say("response.output_item.added", output_index=index, item=item)
        index, item = self._calls[place]
        if more := function.get("arguments"):
            item["arguments"] += more
            self._say(
                "response.function_call_arguments.delta", item_id=item["id"], output_index=index, delta=more
            )

    def _end(self) -> None:
        response = self._response or self._start({})
        self._close()
        for index, item in self._calls.values():
            place = {"item_id": item["id"], "output_index": index}
            self._say(
                "response.function_call_arguments.done",
                **place,
                name=item["name"],
                arguments=item["arguments"],
            )
            self._items[index] = item = {**item, "status": "completed"}
            self._say("response.output_item.done", output_index=index, item=item)
        response["output"] = self._items
        _completed(response, self._finish, self._usage)
        self._say(f"response.{response['status']}", response=response)
        self.over = True

    def _fail(self, error: Any) -> None:
        told = error if isinstance(error, dict) else {"message": str(error)}
        code, message = told.get("code") or told.get("type"), str(told.get("message") or "")
        self._say("error", code=code, message=message, param=told.get("param"), error=told)
        self.over = True

    def _say(self, kind: str, **fields: Any) -> None:
        self.write({"type": kind, "sequence_number": self._number, **fields}, kind)
        self._number += 1

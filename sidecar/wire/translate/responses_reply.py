"""What the Responses API answered, as a chat's answer: whole, and event by event."""

from typing import Any

from sidecar.wire.translate.common import DONE, Json, StreamTranslator
from sidecar.wire.translate.usage import chat_usage
from sidecar.wire.usage import read_usage


def _usage(block: Any) -> Json | None:
    usage = read_usage(block)[0] if isinstance(block, dict) else None
    return chat_usage(usage) if usage is not None else None


def _finish(response: Json, calls: bool) -> str:
    if response.get("status") == "incomplete":
        reason = (response.get("incomplete_details") or {}).get("reason")
        return "content_filter" if reason == "content_filter" else "length"
    return "tool_calls" if calls else "stop"


def responses_reply_to_chat(body: Json) -> Json:
    """A whole response as a chat completion."""
    texts: list[str] = []
    refusals: list[str] = []
    thoughts: list[str] = []
    calls: list[Json] = []
    for item in body.get("output") or ():
        kind = item.get("type")
        if kind == "message":
            for part in item.get("content") or ():
                if part.get("type") == "refusal":
                    refusals.append(part.get("refusal") or "")
                else:
                    texts.append(part.get("text") or "")
        elif kind == "function_call":
            function = {"name": item.get("name"), "arguments": item.get("arguments") or ""}
            calls.append({"id": item.get("call_id"), "type": "function", "function": function})
        elif kind == "reasoning":
            parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
            thoughts += [part.get("text") or "" for part in parts]
    message: Json = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "".join(refusals) if refusals else None,
    }
    if calls:
        message["tool_calls"] = calls
    if any(thoughts):
        message["reasoning_content"] = "\n\n".join(filter(None, thoughts))
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(body, bool(calls))}
    reply = {
        "id": body.get("id", ""),
        "object": "chat.completion",
        "created": int(body.get("created_at") or 0),
        "model": body.get("model", ""),
        "choices": [choice],
    }
    usage = _usage(body.get("usage"))
    if usage is not None:
        reply["usage"] = usage
    return reply | ({"service_tier": body["service_tier"]} if body.get("service_tier") else {})


class ResponsesStreamToChat(StreamTranslator):
    """A stream of response events as chunks."""

    def __init__(self, *, include_usage: bool) -> None:
        super().__init__()
        self._named: Json = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": ""}
        self._include_usage = include_usage
        self._calls: dict[Any, int] = {}
        """Index of a call's item -> its place among the calls."""

    def event(self, name: str, body: Json) -> None:
        """Translate one event."""
        kind = body.get("type") or name
        delta = body.get("delta")
        if kind == "response.output_text.delta":
            self._chunk({"content": delta})
        elif kind == "response.refusal.delta":
            self._chunk({"refusal": delta})
        elif kind in ("response.reasoning_summary_text.delta", "response.reasoning_text.delta"):
            self._chunk({"reasoning_content": delta})
        elif kind == "response.function_call_arguments.delta":
            if body.get("output_index") in self._calls:
                call = {"index": self._calls[body["output_index"]], "function": {"arguments": delta}}
                self._chunk({"tool_calls": [call]})
        elif kind == "response.output_item.added":
            self._item(body.get("output_index"), body.get("item") or {})
        elif kind == "response.created":
            response = body.get("response") or {}
            created = int(response.get("created_at") or 0)
            self._named |= {
                "id": response.get("id", ""),
                "model": response.get("model", ""),
                "created": created,
            }
            self._chunk({"role": "assistant", "content": ""})
        elif kind in ("response.completed", "response.incomplete"):
            self._end(body.get("response") or {})
        elif kind in ("response.failed", "error"):
            self._fail((body.get("response") or {}).get("error") or body.get("error") or body)

    def _item(self, index: Any, item: Json) -> None:
        if item.get("type") == "function_call":
            place = self._calls[index] = len(self._calls)
            function = {"name": item.get("name"), "arguments": item.get("arguments") or ""}
            call = {"index": place, "id": item.get("call_id"), "type": "function", "function": function}
            self._chunk({"tool_calls": [call]})

    def _chunk(self, delta: Json, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        self.write({**self._named, "choices": [choice]})

    def _end(self, response: Json) -> None:
        self._chunk({}, _finish(response, bool(self._calls)))
        usage = _usage(response.get("usage")) if self._include_usage else None
        if usage is not None:
            self.write({**self._named, "choices": [], "usage": usage})
        self.write_raw(DONE)
        self.over = True

    def _fail(self, error: Json) -> None:
        told = {"message": error.get("message") or "", "type": error.get("type") or "server_error"}
        self.write({"error": {**told, "param": error.get("param"), "code": error.get("code")}})
        self.write_raw(DONE)
        self.over = True

"""What a chat answered, as Anthropic's answer: whole, and event by event."""

from typing import Any, Final

import msgspec

from sidecar.wire.translate.common import Json, StreamTranslator, decode
from sidecar.wire.translate.usage import messages_usage
from sidecar.wire.usage import read_usage

STOP: Final = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


def usage_of(block: Any) -> Json | None:
    """A chat's usage block as Anthropic's."""
    usage = read_usage(block)[0] if isinstance(block, dict) else None
    return messages_usage(usage) if usage is not None else None


def chat_reply_to_messages(body: Json) -> Json:
    """A whole chat completion as a message; of several choices the first."""
    choice = (body.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    content: list[Json] = []
    if message.get("thinking_blocks"):
        content += message["thinking_blocks"]
    elif thought := message.get("reasoning_content") or message.get("reasoning"):
        content.append({"type": "thinking", "thinking": thought, "signature": ""})
    if text := message.get("content") or message.get("refusal"):
        content.append({"type": "text", "text": text})
    for call in message.get("tool_calls") or ():
        function = call.get("function") or {}
        given = _input(function.get("arguments"))
        content.append(
            {"type": "tool_use", "id": call.get("id"), "name": function.get("name"), "input": given}
        )
    return {
        "id": body.get("id", ""),
        "type": "message",
        "role": "assistant",
        "model": body.get("model", ""),
        "content": content,
        "stop_reason": STOP.get(choice.get("finish_reason") or "", "end_turn"),
        "stop_sequence": None,
        "usage": usage_of(body.get("usage")) or {"input_tokens": 0, "output_tokens": 0},
    }


def _input(arguments: Any) -> Json:
    try:
        given = decode(arguments) if arguments else {}
    except (msgspec.DecodeError, TypeError, RecursionError):
        given = arguments
    # A model may write what is no JSON; the agent gets to see what it wrote.
    return given if isinstance(given, dict) else {"arguments": given}


class ChatStreamToMessages(StreamTranslator):
    """A stream of chunks as message events.

    One block of text or thought is open at a time. Blocks of tools stay open to the end, for chunks of
    parallel calls may come in any order.
    """

    def __init__(self) -> None:
        super().__init__()
        self._started = False
        self._blocks = 0
        self._open = ""
        """What kind of text the last block holds; empty when it is closed, or a tool's."""
        self._calls: dict[int, int] = {}
        """Place of a call -> index of its block."""
        self._stop = ""
        self._text_index = 0
        self._usage: Json | None = None

    def event(self, name: str, body: Json) -> None:
        """Translate one chunk."""
        if body.get("error"):
            self._fail(body["error"])
            return
        if not self._started:
            self._start(body)
        if body.get("usage"):
            self._usage = usage_of(body["usage"]) or self._usage
        for choice in body.get("choices") or ():
            if choice.get("index", 0) == 0:
                self._delta(choice.get("delta") or {})
                self._stop = choice.get("finish_reason") or self._stop

    def done(self) -> None:
        """The last chunk has come."""
        self._end()

    def ended(self) -> None:
        """The stream has ended without saying so; its reason to stop says whether it is whole."""
        if self._stop:
            self._end()

    def _start(self, body: Json) -> None:
        self._started = True
        message: Json = {
            "id": body.get("id") or "msg",
            "type": "message",
            "role": "assistant",
            "model": body.get("model") or "",
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        self._say("message_start", message=message)

    def _delta(self, delta: Json) -> None:
        if thought := delta.get("reasoning_content") or delta.get("reasoning"):
            self._text("thinking", {"type": "thinking_delta", "thinking": thought})
        if text := delta.get("content") or delta.get("refusal"):
            self._text("text", {"type": "text_delta", "text": text})
        for call in delta.get("tool_calls") or ():
            self._call(call)

    def _text(self, kind: str, delta: Json) -> None:
        if self._open != kind:
            self._close()
            empty = {"thinking": "", "signature": ""} if kind == "thinking" else {"text": ""}
            self._say("content_block_start", index=self._blocks, content_block={"type": kind, **empty})
            self._open = kind
            self._blocks += 1
            self._text_index = self._blocks - 1
        self._say("content_block_delta", index=self._text_index, delta=delta)

    def _call(self, call: Json) -> None:
        function = call.get("function") or {}
        place = call.get("index")
        place = place if isinstance(place, int) else len(self._calls)
        if place not in self._calls:
            self._close()
            block: Json = {"type": "tool_use", "id": call.get("id") or f"call_{place}", "input": {}}
            self._calls[place] = self._blocks
            self._blocks += 1
            self._say(
                "content_block_start",
                index=self._calls[place],
                content_block={**block, "name": function.get("name") or ""},
            )
        if function.get("arguments"):
            delta = {"type": "input_json_delta", "partial_json": function["arguments"]}
            self._say("content_block_delta", index=self._calls[place], delta=delta)

    def _close(self) -> None:
        if self._open:
            self._say("content_block_stop", index=self._text_index)
            self._open = ""

    def _end(self) -> None:
        if not self._started:
            self._start({})
        self._close()
        for index in self._calls.values():
            self._say("content_block_stop", index=index)
        self._say(
            "message_delta",
            delta={"stop_reason": STOP.get(self._stop, "end_turn"), "stop_sequence": None},
            usage=self._usage or {"output_tokens": 0},
        )
        self._say("message_stop")
        self.over = True

    def _fail(self, error: Any) -> None:
        told = error if isinstance(error, dict) else {"message": str(error)}
        kind = told.get("type") if str(told.get("type", "")).endswith("_error") else "api_error"
        self._say("error", error={"type": kind, "message": str(told.get("message") or "")})
        self.over = True

    def _say(self, kind: str, **fields: Any) -> None:
        self.write({"type": kind, **fields}, kind)

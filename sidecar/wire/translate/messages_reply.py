"""What Anthropic answered, as a chat's answer: whole, and event by event."""

from typing import Any, Final

from sidecar.wire.translate.common import DONE, Json, StreamTranslator, encode
from sidecar.wire.translate.usage import chat_usage
from sidecar.wire.usage import read_usage

FINISH: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def _usage(block: Any) -> Json | None:
    usage = read_usage(block)[0] if isinstance(block, dict) else None
    return chat_usage(usage) if usage is not None else None


def messages_reply_to_chat(body: Json, *, created: int) -> Json:
    """A whole message as a chat completion."""
    texts: list[str] = []
    thoughts: list[Json] = []
    calls: list[Json] = []
    for block in body.get("content") or ():
        kind = block.get("type")
        if kind == "text":
            texts.append(block.get("text") or "")
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": encode(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(block)
    message: Json = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["reasoning_content"] = "".join(block.get("thinking") or "" for block in thoughts)
        message["thinking_blocks"] = thoughts
    finish = FINISH.get(body.get("stop_reason") or "", "stop")
    reply = {
        "id": body.get("id", ""),
        "object": "chat.completion",
        "created": created,
        "model": body.get("model", ""),
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
    }
    usage = _usage(body.get("usage"))
    return reply | ({"usage": usage} if usage is not None else {})


class MessagesStreamToChat(StreamTranslator):
    """A stream of message events as chunks."""

    def __init__(self, *, created: int, include_usage: bool) -> None:
        super().__init__()
        self._named: Json = {"id": "", "object": "chat.completion.chunk", "created": created, "model": ""}
        self._include_usage = include_usage
        self._calls: dict[Any, int] = {}
        """Index of a tool's block -> its place among the calls."""
        self._usage: Json = {}
        self._finish = ""

    def event(self, name: str, body: Json) -> None:
        """Translate one event."""
        kind = body.get("type") or name
        if kind == "content_block_delta":
            self._delta(body.get("index"), body.get("delta") or {})
        elif kind == "content_block_start":
            self._block(body.get("index"), body.get("content_block") or {})
        elif kind == "message_start":
            message = body.get("message") or {}
            self._named |= {"id": message.get("id", ""), "model": message.get("model", "")}
            self._usage |= message.get("usage") or {}
            self._chunk({"role": "assistant", "content": ""})
        elif kind == "message_delta":
            self._finish = (body.get("delta") or {}).get("stop_reason") or self._finish
            self._usage |= {
                key: value for key, value in (body.get("usage") or {}).items() if value is not None
            }
        elif kind == "message_stop":
            self._end()
        elif kind == "ping":
            self.write_raw(b": ping\n\n")
        elif kind == "error":
            error = body.get("error") or {}
            told = {"message": error.get("message", ""), "type": error.get("type"), "param": None}
            self.write({"error": {**told, "code": error.get("type")}})
            self.write_raw(DONE)
            self.over = True

    def _block(self, index: Any, block: Json) -> None:
        if block.get("type") == "tool_use":
            place = self._calls[index] = len(self._calls)
            function = {"name": block.get("name"), "arguments": ""}
            call = {"index": place, "id": block.get("id"), "type": "function", "function": function}
            self._chunk({"tool_calls": [call]})
        elif block.get("type") == "text" and block.get("text"):
            self._chunk({"content": block["text"]})

    def _delta(self, index: Any, delta: Json) -> None:
        kind = delta.get("type")
        if kind == "text_delta":
            self._chunk({"content": delta.get("text", "")})
        elif kind == "thinking_delta":
            self._chunk({"reasoning_content": delta.get("thinking", "")})
        elif kind == "input_json_delta" and index in self._calls and delta.get("partial_json"):
            function = {"arguments": delta["partial_json"]}
            self._chunk({"tool_calls": [{"index": self._calls[index], "function": function}]})

    def _chunk(self, delta: Json, finish: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        self.write({**self._named, "choices": [choice]})

    def _end(self) -> None:
        self._chunk({}, FINISH.get(self._finish, "stop"))
        usage = _usage(self._usage) if self._include_usage else None
        if usage is not None:
            self.write({**self._named, "choices": [], "usage": usage})
        self.write_raw(DONE)
        self.over = True

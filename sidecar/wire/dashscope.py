"""Alibaba's own dialect, which Qwen speaks on DashScope: what a reply says.

A reply has its ``output``, its ``usage`` and a ``request_id``. Events of a stream have the same shape, their
usage so far, and the text so far, or only what is new where ``incremental_output`` was asked for. Until the
last, an event's reason to end is the word ``null``
(https://www.alibabacloud.com/help/en/model-studio/qwen-api-via-dashscope).
"""

from collections.abc import Mapping
from typing import Any

from sidecar.wire.reading import Reading


def read_dashscope_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one event of a stream; never one of usage alone."""
    read_dashscope_body(event, reading)
    if name == "error":
        reading.fail(event)
    return False


def read_dashscope_body(body: Mapping[str, Any], reading: Reading) -> None:
    """Read a whole reply: of a chat, of embeddings, of a ranking."""
    reading.identify(body.get("request_id"), body.get("model"))
    output = body.get("output")
    output = output if isinstance(output, dict) else {}
    choices = output.get("choices")
    if isinstance(choices, list):
        for place, choice in enumerate(choices):
            if isinstance(choice, dict):
                _read_choice(choice, place, reading)
    else:
        _end(output.get("finish_reason"), 0, reading)
        reading.say(_news(output.get("text"), "text", 0, reading))
    reading.use(body.get("usage"))


def _read_choice(choice: dict[str, Any], place: int, reading: Reading) -> None:
    index = choice.get("index")
    index = index if type(index) is int else place
    _end(choice.get("finish_reason"), index, reading)
    message = choice.get("message")
    if not isinstance(message, dict):
        return
    reading.think(_news(message.get("reasoning_content"), "thought", index, reading))
    content = message.get("content")
    if isinstance(content, list):  # Models that see or hear answer in parts.
        content = "".join([_text(part.get("text")) for part in content if isinstance(part, dict)])
    reading.say(_news(content, "text", index, reading), index)
    calls = message.get("tool_calls")
    for order, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            _read_call(call, index, order, reading)


def _read_call(call: dict[str, Any], choice: int, order: int, reading: Reading) -> None:
    function = call.get("function")
    function = function if isinstance(function, dict) else {}
    index = call.get("index")
    key = choice, index if type(index) is int else order
    known = reading.tool_places.get(key)
    if known is None:
        if not call.get("id") and not function.get("name"):
            return
        known = reading.tool_places[key] = reading.call_tool(call.get("id"), function.get("name"))
    reading.argue(_news(function.get("arguments"), "arguments", key, reading), known)


def _end(reason: object, choice: int, reading: Reading) -> None:
    if reason != "null":
        reading.finished(reason, choice)


def _text(text: object) -> str:
    return text if isinstance(text, str) else ""


def _news(text: object, kind: str, place: object, reading: Reading) -> str:
    """What of ``text`` was not told before.

    A text that begins with all that came before it repeats it; once one does not, each is new. What came
    before is known by its length and its hash, however long it is.
    """
    text = _text(text)
    key = f"{kind} {place}"
    before = reading.scratch.get(key, (0, hash("")))
    if not text or before is None:
        return text
    size, known = before
    if len(text) >= size and hash(text[:size]) == known:
        reading.scratch[key] = len(text), hash(text)
        return text[size:]
    reading.scratch[key] = None
    return text

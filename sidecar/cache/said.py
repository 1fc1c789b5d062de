"""The text of a kept answer, to be compared with another."""

from typing import Any, Final

import msgspec

from sidecar.cache.entry import Entry
from sidecar.wire.modes import says_events
from sidecar.wire.sse import Splitter

_decode: Final = msgspec.json.Decoder().decode
_DELTA: Final = {
    "content_block_delta": lambda said: said["delta"].get("text", ""),
    "response.output_text.delta": lambda said: said["delta"],
}


def text_of(entry: Entry) -> str:
    """What the model said; empty where it said nothing, or in a way that we cannot read."""
    try:
        if says_events(entry.content_type):
            return "".join(_of_event(event.data) for event in Splitter().feed(entry.body))
        return _of_body(_decode(entry.body))
    except (msgspec.MsgspecError, LookupError, TypeError, AttributeError):
        return ""


def _of_event(data: bytes) -> str:
    if data == b"[DONE]":
        return ""
    said = _decode(data)
    if "choices" in said:
        return "".join(choice.get("delta", {}).get("content") or "" for choice in said["choices"][:1])
    told = _DELTA.get(said.get("type", ""))
    return str(told(said)) if told is not None else ""


def _of_body(said: Any) -> str:
    if "choices" in said:
        return said["choices"][0]["message"].get("content") or ""
    if "output" in said:
        parts = [part for item in said["output"] if item.get("type") == "message" for part in item["content"]]
    else:
        parts = said["content"]
    return "".join(part.get("text", "") for part in parts)

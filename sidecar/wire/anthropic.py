"""Anthropic messages: what a reply says."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from collector.pricing.regions import region_name
from sidecar.wire.plain_usage import FAST
from sidecar.wire.reading import Reading


class _BlockDelta(msgspec.Struct, gc=False):
    type: str
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class _DeltaEvent(msgspec.Struct, gc=False):
    type: str
    delta: _BlockDelta


_decode_delta: Final = msgspec.json.Decoder(_DeltaEvent).decode


def read_ordinary_event(payload: bytes, reading: Reading) -> bool:
    """Count an event that adds to an open block; false when it is not one."""
    try:
        event = _decode_delta(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    if event.type != "content_block_delta":
        return False
    delta = event.delta
    if delta.text is not None:
        reading.say(delta.text)
    elif delta.partial_json is not None:
        reading.argue(delta.partial_json, -1)
    else:
        reading.think(delta.thinking)
    return True


def read_messages_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one event of a messages stream; never one of usage alone."""
    kind = event.get("type") or name
    if kind == "content_block_delta":
        delta = event.get("delta")
        if isinstance(delta, dict):
            reading.say(delta.get("text"))
            reading.think(delta.get("thinking"))
            reading.argue(delta.get("partial_json"), -1)
    elif kind == "content_block_start":
        open_blocks = reading.scratch.setdefault("open_blocks", set())
        if len(open_blocks) < 1024 and type(index := event.get("index")) is int:
            open_blocks.add(index)
        if isinstance(block := event.get("content_block"), dict):
            _read_block(block, reading, streamed=True)
    elif kind == "content_block_stop":
        if type(index := event.get("index")) is int:
            reading.scratch.setdefault("open_blocks", set()).discard(index)
    elif kind == "message_start":
        if isinstance(message := event.get("message"), dict):
            read_messages_body(message, reading)
            reading.prelude = True
    elif kind == "message_delta":
        if isinstance(delta := event.get("delta"), dict):
            reading.finished(delta.get("stop_reason"))
        reading.add_usage(event.get("usage"))
        _read_tier(reading)
    elif kind == "message_stop":
        reading.complete = True
    elif kind == "error" or event.get("error"):
        reading.fail(event.get("error") or event)
    return False


def read_messages_body(body: Mapping[str, Any], reading: Reading) -> None:
    """Read a whole message object."""
    reading.identify(body.get("id"), body.get("model"))
    reading.finished(body.get("stop_reason"))
    content = body.get("content")
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict):
            _read_block(block, reading, streamed=False)
    reading.say(body.get("completion"))
    usage = body.get("usage")
    reading.use(usage)
    _read_tier(reading)
    if isinstance(usage, dict):
        reading.region = region_name(usage.get("inference_geo"))
    reading.fail(body.get("error"))


def _read_tier(reading: Reading) -> None:
    usage = reading.usage_block or {}
    tier = FAST if usage.get("speed") == FAST else usage.get("service_tier")
    if isinstance(tier, str):
        reading.service_tier = tier[:64]


def _read_block(block: dict[str, Any], reading: Reading, *, streamed: bool) -> None:
    kind = block.get("type")
    if kind == "text":
        reading.say(block.get("text"))
    elif kind == "thinking":
        reading.think(block.get("thinking"))
    elif kind == "tool_use":
        reading.call_tool(block.get("id"), block.get("name"))
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use") and not streamed:
        place = -1 if kind == "tool_use" else None
        reading.argue(msgspec.json.encode(block.get("input")).decode(), place)

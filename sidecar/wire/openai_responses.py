"""OpenAI responses: what a reply says."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sidecar.wire.facts import RequestFacts
from sidecar.wire.openai_chat import read_cost
from sidecar.wire.reading import Reading
from sidecar.wire.responses_request import CALLS, read_item

_FINAL = ("response.completed", "response.incomplete", "response.failed")


class _TextDelta(msgspec.Struct, gc=False):
    type: str
    delta: str
    sequence_number: int = 0


_decode_delta: Final = msgspec.json.Decoder(_TextDelta).decode


def read_ordinary_delta(payload: bytes, reading: Reading) -> bool:
    """Count an event that adds text; false when it is not one."""
    try:
        event = _decode_delta(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    reading.scratch["sequence_number"] = event.sequence_number
    return _read_delta(event.type, event.delta, reading)


def _read_delta(kind: str, delta: str, reading: Reading) -> bool:
    if kind == "response.output_text.delta":
        reading.say(delta)
    elif kind.startswith("response.reasoning"):
        reading.think(delta)
    elif kind.endswith(("arguments.delta", "input.delta", "refusal.delta", "code.delta")):
        reading.argue(delta)
    else:
        return False
    return True


def read_responses_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one event of a responses stream; never one of usage alone."""
    kind = str(event.get("type") or name)
    if type(number := event.get("sequence_number")) is int:
        reading.scratch["sequence_number"] = number
    response = event.get("response")
    if isinstance(response, dict):
        if kind in _FINAL:
            read_responses_body(response, reading, streamed=True)
            reading.complete = True
        else:
            reading.identify(response.get("id"), response.get("model"))
            reading.scratch.setdefault("created", response.get("created_at"))
    elif isinstance(delta := event.get("delta"), str):
        _read_delta(kind, delta, reading)
    elif kind == "response.output_item.done" and isinstance(item := event.get("item"), dict):
        _read_output_item(item, reading)
    elif kind == "error":
        reading.fail(event.get("error") or event)
    elif event.get("error"):
        reading.fail(event["error"])
    return False


def read_responses_body(body: Mapping[str, Any], reading: Reading, *, streamed: bool = False) -> None:
    """Read a whole response object; in a stream its text was counted before."""
    reading.identify(body.get("id"), body.get("model"))
    reading.finished(body.get("status"))
    if isinstance(tier := body.get("service_tier"), str):
        reading.service_tier = tier[:64]
    output = body.get("output")
    if isinstance(output, list) and output:
        reading.forget_tools()
        reading.units = []
        reading.searches = 0
        counted = reading.text_bytes, reading.reasoning_bytes
        for item in output:
            if isinstance(item, dict):
                _read_output_item(item, reading)
                _count_output_text(item, reading)
        if streamed and counted[0]:
            reading.text_bytes, reading.reasoning_bytes = counted
    usage = body.get("usage")
    if isinstance(usage, dict):
        reading.use(usage)
        read_cost(usage, reading)
    reading.fail(body.get("error"))


def _read_output_item(item: dict[str, Any], reading: Reading) -> None:
    """Note an item for the hash, and the tool that it asks for."""
    if reading.units is None:
        reading.units = []
    kind = item.get("type")
    if kind in CALLS:
        reading.call_tool(item.get("call_id"), item.get("name"))
    elif kind == "web_search_call":
        action = item.get("action")
        # Only searches are billed, not the pages opened after them.
        if not isinstance(action, dict) or action.get("type", "search") == "search":
            reading.searches += 1
    unit = read_item(item, RequestFacts("openai.responses", ""))
    if unit is not None:
        reading.units.append(unit)


def _count_output_text(item: dict[str, Any], reading: Reading) -> None:
    kind = item.get("type")
    arguments = item.get("arguments") if kind == "function_call" else item.get("input")
    reading.argue(arguments, -1 if kind in CALLS else None)
    for name in ("content", "summary"):
        parts = item.get(name)
        for part in parts if isinstance(parts, list) else ():
            text = part.get("text") if isinstance(part, dict) else None
            if item.get("type") == "reasoning":
                reading.think(text)
            else:
                reading.argue(text)

"""OpenAI responses: what a request asks, what a reply says.

Its input is a list of items rather than messages. Messages and tool calls are
hashed; reasoning and the traces of server-side tools are not, because agents may
or may not send them back.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.hashing import call_mark, fold
from sidecar.wire.openai_chat import read_content, read_cost
from sidecar.wire.reading import Reading
from sidecar.wire.request_fields import (
    check_number,
    read_attributes,
    read_count,
    read_flag,
    read_model,
    read_owner,
    read_tools,
)
from sidecar.wire.strict import Fields, value

CALLS = ("function_call", "custom_tool_call")
"""Items by which the model asks the agent to run a tool."""
CALL_OUTPUTS = ("function_call_output", "custom_tool_call_output")


def read_responses_request(fields: Fields) -> RequestFacts:
    """The facts of a ``/v1/responses`` body.

    Raises:
        InvalidRequest: a field that we rely on is not what the API defines.
    """
    facts = RequestFacts("openai.responses", read_model(fields))
    facts.attributes = attributes = read_attributes(fields)
    facts.stream = read_flag(fields, "stream")
    facts.background = read_flag(fields, "background")
    cap = read_count(fields, "max_output_tokens")
    if cap is not None:
        facts.max_output_tokens = attributes["max_tokens"] = cap
    _read_input(fields, facts)
    instructions = value(fields, "instructions")
    if isinstance(instructions, str):
        facts.text_bytes += len(instructions.encode("utf-8", "replace"))
    reasoning = value(fields, "reasoning")
    if isinstance(reasoning, dict) and isinstance(reasoning.get("effort"), str):
        attributes["reasoning_level"] = reasoning["effort"][:64]
    text = value(fields, "text")
    wanted = text.get("format") if isinstance(text, dict) else None
    if isinstance(wanted, dict) and isinstance(wanted.get("type"), str):
        attributes["output_type"] = "json" if wanted["type"].startswith("json") else wanted["type"][:64]
        facts.wants_json_schema = wanted["type"] == "json_schema"
    conversation = value(fields, "conversation")
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    if isinstance(conversation, str):
        facts.conversation_id = conversation[:256]
    read_tools(fields, facts, "tools")
    read_owner(fields, facts)
    return facts


def _read_input(fields: Fields, facts: RequestFacts) -> None:
    given = value(fields, "input")
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    if given is None:
        return  # A stored prompt, or a previous response, may say it all.
    if not isinstance(given, list):
        raise InvalidRequest("input must be a string or a list of items.", "input")
    check_number(given, "input")
    rolling = 0
    for number, item in enumerate(given):
        if not isinstance(item, dict):
            raise InvalidRequest(f"input[{number}] must be an object.", f"input.{number}")
        unit = read_item(item, facts)
        if unit is not None:
            role, text, marks = unit
            facts.text_bytes += len(text)
            rolling = fold(rolling, role, text, marks)
            facts.message_hashes.append(rolling)


def read_item(item: dict[str, Any], facts: RequestFacts) -> tuple[str, bytes, str] | None:
    """Role, text and marks of an input or output item; ``None`` for items that are not hashed."""
    kind = item.get("type")
    if kind in CALLS:
        name, call_id = str(item.get("name") or ""), str(item.get("call_id") or "")
        arguments = item.get("arguments") if kind == CALLS[0] else item.get("input")
        facts.text_bytes += len(name) + len(str(arguments or "").encode("utf-8", "replace"))
        return "call", b"", call_mark(call_id, name)
    if kind in CALL_OUTPUTS:
        text, marks = read_content(item.get("output"), facts)
        return "output", text.encode("utf-8", "replace"), str(item.get("call_id") or "") + marks
    if kind in (None, "message") and "role" in item:
        text, marks = read_content(item.get("content"), facts)
        return str(item["role"]), text.encode("utf-8", "replace"), marks
    return None


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
    except msgspec.DecodeError:
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
        reading.tools.clear()
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
    reading.argue(item.get("arguments") if item.get("type") == "function_call" else item.get("input"))
    for name in ("content", "summary"):
        parts = item.get(name)
        for part in parts if isinstance(parts, list) else ():
            text = part.get("text") if isinstance(part, dict) else None
            if item.get("type") == "reasoning":
                reading.think(text)
            else:
                reading.argue(text)

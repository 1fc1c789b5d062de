"""OpenAI responses: what a request asks.

Its input is a list of items rather than messages. Messages and tool calls are
hashed; reasoning and the traces of server-side tools are not, because agents may
or may not send them back.
"""

from typing import Any

from sidecar.wire.chat_request import read_content
from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.hashing import call_mark, fold
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


def read_responses_request(fields: Fields, body: bytes) -> RequestFacts:
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
    for item in given:
        if not isinstance(item, dict):
            continue
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

"""OpenAI responses: what a request asks.

Its input is a list of items rather than messages. Messages and tool calls are
hashed; reasoning and the traces of server-side tools are not, because agents may
or may not send them back.
"""

from typing import Any, Final

import msgspec

from sidecar.wire.chat_request import read_content
from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.hashing import SYSTEM_ROLES, call_mark, fold, system_digest, told_two_ways
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
from sidecar.wire.tool_results import says_error

CALLS = ("function_call", "custom_tool_call")
"""Items by which the model asks the agent to run a tool."""
CALL_OUTPUTS = ("function_call_output", "custom_tool_call_output")
_COUNTED: Final = (None, "message", *CALLS)
"""Other items that are hashed; what is none of them may stand between results."""
_UNFINISHED: Final = "incomplete"


_Empty = list[None] | None


class _Part(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    text: str
    type: str = ""
    annotations: _Empty = None
    logprobs: _Empty = None


class _Item(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str | None = None
    role: str | msgspec.UnsetType = msgspec.UNSET
    content: str | list[_Part] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""
    output: str | list[_Part] | None = None
    summary: list[_Part] | None = None
    id: str | None = None
    status: str | None = None
    encrypted_content: str | None = None


_decode_items: Final = msgspec.json.Decoder(str | list[_Item]).decode


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
        encoded = instructions.encode("utf-8", "replace")
        facts.text_bytes += len(encoded)
        facts.system_hash = system_digest(encoded)
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
    raw = fields.get("input")
    if raw is None:
        return  # A stored prompt, or a previous response, may say it all.
    try:
        items = _decode_items(raw)
    except (msgspec.DecodeError, RecursionError):
        _read_any_input(value(fields, "input"), facts)
        return
    if isinstance(items, str):
        items = [_Item(role="user", content=items)]
    check_number(len(items), "input")
    rolling = size = 0
    hashes = facts.message_hashes
    role, text = "", b""
    for item in items:
        kind = item.type
        if kind == "function_call":
            size += len(item.name) + len(item.arguments.encode())
            role, text, mark = "call", b"", call_mark(item.call_id, item.name)
        elif kind == "function_call_output":
            role, text, mark = "output", _text_of(item.output), item.call_id
        elif (kind is None or kind == "message") and isinstance(item.role, str):
            role, text, mark = item.role, _text_of(item.content), ""
        elif kind == CALLS[1] or kind == CALL_OUTPUTS[1]:  # Rare, and shaped differently.
            hashes.clear()
            _read_any_input(value(fields, "input"), facts)
            return
        else:
            continue
        size += len(text)
        rolling = fold(rolling, role, text, mark)
        hashes.append(rolling)
        if rolling == hashes[0]:
            _note_beginning(role, text, facts)
    facts.text_bytes += size
    _note_last(role, text, facts)
    if role == "output":
        facts.tool_errors = _errors_at_end(items)


def _errors_at_end(items: list[_Item]) -> int:
    """Of the tools whose results stand last, how many failed."""
    errors = 0
    for item in reversed(items):
        if item.type == CALL_OUTPUTS[0]:
            errors += item.status == _UNFINISHED or says_error(_text_of(item.output))
        elif item.type in _COUNTED:
            break
    return errors


def _note_beginning(role: str, text: bytes, facts: RequestFacts) -> None:
    if role in SYSTEM_ROLES:
        facts.system_hash = system_digest(text)


def _note_last(role: str, text: bytes, facts: RequestFacts) -> None:
    if role:
        facts.input_role = "tool" if role == "output" else role[:32]
        facts.input_hash = told_two_ways(text)


def _text_of(content: str | list[_Part] | None) -> bytes:
    if isinstance(content, str):
        return content.encode()
    return "".join([part.text for part in content]).encode() if content else b""


def _read_any_input(given: Any, facts: RequestFacts) -> None:
    if given is None:
        return
    if not isinstance(given, list):
        raise InvalidRequest("input must be a string or a list of items.", "input")
    check_number(len(given), "input")
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
            if rolling == facts.message_hashes[0]:
                _note_beginning(role, text, facts)
            if role != "output":
                facts.tool_errors = 0
            else:
                failed = item.get("status") == _UNFINISHED or says_error(text)
                facts.tool_errors = failed + (facts.tool_errors if facts.input_role == "tool" else 0)
            _note_last(role, text, facts)


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

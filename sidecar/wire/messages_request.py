"""Anthropic messages and token counting: what a request asks."""

import json
import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from collector.pricing.regions import region_name
from sidecar.wire.chat_request import note_media
from sidecar.wire.facts import RequestFacts
from sidecar.wire.hashing import call_mark, fold, system_digest, told_two_ways
from sidecar.wire.plain_usage import FAST
from sidecar.wire.request_fields import (
    bounded_metadata,
    check_number,
    conversation_of,
    messages_of,
    read_attributes,
    read_count,
    read_flag,
    read_model,
    read_tools,
    stop_sequences,
)
from sidecar.wire.strict import MAX_DEPTH, Fields, decode_value, is_deep, value

_SESSION: Final = re.compile(r"_session_([0-9a-fA-F-]{8,64})$")
"""Claude Code writes ``user_<hash>_account_<id>_session_<id>`` as its user id."""


_Cache = dict[str, str] | None


_NO_INPUT: Final = Raw(b"null")


class _Inner(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str
    text: str
    cache_control: _Cache = None


class _Block(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str
    text: str | None = None
    id: str = ""
    name: str = ""
    input: Raw = _NO_INPUT
    tool_use_id: str | None = None
    content: str | list[_Inner] | None = None
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    cache_control: _Cache = None


class _Turn(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: str
    content: str | list[_Block]


_decode_turns: Final = msgspec.json.Decoder(list[_Turn]).decode
_INPUT_DEPTH: Final = MAX_DEPTH - 5
"""How deep the input of a tool may nest: it stands in a block of the content of one of the messages."""


def read_messages_request(fields: Fields, body: bytes) -> RequestFacts:
    """The facts of a ``/v1/messages`` body.

    Raises:
        InvalidRequest: a field that we rely on is not what the API defines.
    """
    facts = RequestFacts("anthropic.messages", read_model(fields))
    facts.attributes = attributes = read_attributes(fields)
    facts.stream = read_flag(fields, "stream")
    cap = read_count(fields, "max_tokens")
    if cap is not None:
        facts.max_output_tokens = attributes["max_tokens"] = cap
    if "speed" in fields and value(fields, "speed") == FAST:
        attributes["service_tier"] = FAST
    _read_messages(fields, facts)
    if "system" in fields:
        facts.system_hash = system_digest(read_blocks(value(fields, "system"), facts)[0])
    if sequences := stop_sequences(value(fields, "stop_sequences")):
        attributes["stop_sequences"] = sequences
    config = value(fields, "output_config")
    wanted = value(fields, "output_format") or (config.get("format") if isinstance(config, dict) else None)
    if isinstance(wanted, dict):
        attributes["output_type"] = "json"
        facts.wants_json_schema = True
    if isinstance(config, dict) and isinstance(config.get("effort"), str):
        attributes["reasoning_level"] = config["effort"][:64]
    if "inference_geo" in fields:
        facts.region = region_name(value(fields, "inference_geo"))
    read_tools(fields, facts, "tools")
    _read_owner(fields, facts)
    return facts


def read_count_tokens_request(fields: Fields, body: bytes) -> RequestFacts:
    """The facts of a ``/v1/messages/count_tokens`` body, which costs nothing.

    Raises:
        InvalidRequest: a field that we rely on is not what the API defines.
    """
    facts = read_messages_request(fields, body)
    facts.api = "anthropic.count_tokens"
    facts.max_output_tokens = 0
    return facts


def _read_owner(fields: Fields, facts: RequestFacts) -> None:
    facts.metadata = bounded_metadata(value(fields, "metadata"))
    facts.user = user = facts.metadata.get("user_id", "")
    facts.conversation_id = conversation_of(facts.metadata)
    if facts.conversation_id or not user:
        return
    if found := _SESSION.search(user):
        facts.conversation_id = found[1]
    elif user.startswith("{"):
        try:
            session = json.loads(user).get("session_id")
        except (ValueError, AttributeError):
            return
        if isinstance(session, str):
            facts.conversation_id = session[:256]


def _read_messages(fields: Fields, facts: RequestFacts) -> None:
    raw = fields.get("messages")
    try:
        turns = _decode_turns(raw or b"")
        check_number(len(turns), "messages")
        _hash_turns(turns, facts)
    except (msgspec.DecodeError, RecursionError, _Unusual):
        rolling = 0
        for message in messages_of(raw, "messages"):
            content, role = message.get("content"), str(message.get("role") or "")
            text, marks = read_blocks(content, facts)
            rolling = fold(rolling, role, text, marks)
            facts.message_hashes.append(rolling)
            results = [
                block
                for block in (content if isinstance(content, list) else ())
                if isinstance(block, dict) and block.get("type") == "tool_result"
            ]
            facts.input_role, facts.input_hash = "tool" if results else role[:32], told_two_ways(text)
            facts.tool_errors = sum(block.get("is_error") is True for block in results)


class _Unusual(Exception):
    """These messages are read one member at a time."""


def _hash_turns(turns: list[_Turn], facts: RequestFacts) -> None:
    """As :func:`read_blocks` does, for messages of text, thinking and tools.

    Raises:
        _Unusual: there is something else in them; ``facts`` are as they were.
    """
    rolling = size = errors = 0
    hashes: list[int] = []
    role, text = "", b""
    for turn in turns:
        content, role, errors = turn.content, turn.role, 0
        marks = ""
        if isinstance(content, str):
            text = content.encode()
        else:
            texts: list[str] = []
            for block in content:
                kind = block.type
                if kind == "tool_use":
                    size += _input_size(block.input)
                    marks += call_mark(block.id, block.name)
                elif block.input is not _NO_INPUT:  # Nobody would look how deep it nests.
                    raise _Unusual
                elif kind == "text":
                    texts.append(block.text or "")
                elif kind == "tool_result":
                    texts.append(_result_text(block.content))
                    marks += f"{block.tool_use_id};"
                    role = "tool"
                    errors += block.is_error is True
                elif kind == "thinking":
                    size += len((block.thinking or "").encode())
                else:
                    raise _Unusual
            text = "".join(texts).encode()
        size += len(text)
        rolling = fold(rolling, turn.role, text, marks)
        hashes.append(rolling)
    facts.text_bytes += size
    facts.message_hashes = hashes
    if turns:
        facts.input_role, facts.input_hash, facts.tool_errors = role[:32], told_two_ways(text), errors


def _result_text(content: str | list[_Inner] | None) -> str:
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for inner in content or ():
        if inner.type != "text":
            raise _Unusual
        texts.append(inner.text)
    return "".join(texts)


def _input_size(given: Raw) -> int:
    """Bytes of a tool's input, written without spaces."""
    members = decode_value(given)
    size = len(msgspec.json.encode(members))
    if size >= 2 * _INPUT_DEPTH and is_deep(members, _INPUT_DEPTH):
        raise _Unusual
    return size


def read_blocks(content: object, facts: RequestFacts) -> tuple[bytes, str]:
    """The text of a message and the marks of its tool calls, tool results and media.

    Thinking and server-side tools are left out: agents need not send them back.
    """
    if isinstance(content, str):
        text = content.encode("utf-8", "replace")
        facts.text_bytes += len(text)
        return text, ""
    texts: list[bytes] = []
    marks = ""
    for block in content if isinstance(content, list) else []:
        if not isinstance(block, dict):
            continue
        kind = block.get("type")
        if kind == "text":
            text = str(block.get("text") or "").encode("utf-8", "replace")
            facts.text_bytes += len(text)
            texts.append(text)
        elif kind == "tool_use":
            marks += call_mark(str(block.get("id") or ""), str(block.get("name") or ""))
            facts.text_bytes += len(msgspec.json.encode(block.get("input")))
        elif kind == "tool_result":
            inner, inner_marks = read_blocks(block.get("content"), facts)
            texts.append(inner)
            marks += f"{block.get('tool_use_id')}{inner_marks};"
        elif kind in ("thinking", "redacted_thinking"):
            facts.text_bytes += len(str(block.get("thinking") or "").encode("utf-8", "replace"))
        elif kind in ("image", "document", "container_upload"):
            marks += _read_media(block, facts)
    return b"".join(texts), marks


def _read_media(block: dict[str, Any], facts: RequestFacts) -> str:
    source = block.get("source")
    if isinstance(source, dict) and source.get("type") in ("text", "content"):
        inner = source.get("data") if source["type"] == "text" else source.get("content")
        text, marks = read_blocks(inner, facts)
        return f"{len(text)}{marks};"
    noted = {**block, "type": "image"}
    noted.pop("cache_control", None)
    return note_media(noted, facts)

"""Anthropic messages and token counting: what a request asks, what a reply says."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from sidecar.wire.facts import InvalidRequest, RequestFacts
from sidecar.wire.hashing import call_mark, fold
from sidecar.wire.openai_chat import note_media
from sidecar.wire.reading import Reading
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
from sidecar.wire.strict import Fields, value

_SESSION: Final = re.compile(r"_session_([0-9a-fA-F-]{8,64})$")
"""Claude Code writes ``user_<hash>_account_<id>_session_<id>`` as its user id."""


class _Plain(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: str
    content: str


_decode_plain: Final = msgspec.json.Decoder(list[_Plain]).decode


def read_messages_request(fields: Fields) -> RequestFacts:
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
    _read_messages(fields, facts)
    if "system" in fields:
        read_blocks(value(fields, "system"), facts)
    if sequences := stop_sequences(value(fields, "stop_sequences")):
        attributes["stop_sequences"] = sequences
    config = value(fields, "output_config")
    wanted = value(fields, "output_format") or (config.get("format") if isinstance(config, dict) else None)
    if isinstance(wanted, dict):
        attributes["output_type"] = "json"
        facts.wants_json_schema = True
    if isinstance(config, dict) and isinstance(config.get("effort"), str):
        attributes["reasoning_level"] = config["effort"][:64]
    read_tools(fields, facts, "tools")
    _read_owner(fields, facts)
    return facts


def read_count_tokens_request(fields: Fields) -> RequestFacts:
    """The facts of a ``/v1/messages/count_tokens`` body, which costs nothing.

    Raises:
        InvalidRequest: a field that we rely on is not what the API defines.
    """
    facts = read_messages_request(fields)
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
    rolling = 0
    try:
        plain = _decode_plain(raw or b"")
    except (msgspec.DecodeError, RecursionError):
        for message in messages_of(raw, "messages"):
            text, marks = read_blocks(message.get("content"), facts)
            rolling = fold(rolling, str(message.get("role") or ""), text, marks)
            facts.message_hashes.append(rolling)
        return
    check_number(plain, "messages")
    for message in plain:
        text = message.content.encode()
        facts.text_bytes += len(text)
        rolling = fold(rolling, message.role, text)
        facts.message_hashes.append(rolling)


def read_blocks(content: object, facts: RequestFacts) -> tuple[bytes, str]:
    """The text of a message and the marks of its tool calls, tool results and media.

    Thinking and server-side tools are left out: agents need not send them back.

    Raises:
        InvalidRequest: a block is not an object.
    """
    if isinstance(content, str):
        text = content.encode("utf-8", "replace")
        facts.text_bytes += len(text)
        return text, ""
    texts: list[bytes] = []
    marks = ""
    for block in content if isinstance(content, list) else []:
        if not isinstance(block, dict):
            raise InvalidRequest("Each block of a message's content must be an object.", "messages")
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
    return note_media({key: block[key] for key in block if key != "cache_control"} | {"type": "image"}, facts)


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
    except msgspec.DecodeError:
        return False
    if event.type != "content_block_delta":
        return False
    delta = event.delta
    if delta.text is not None:
        reading.say(delta.text)
    elif delta.partial_json is not None:
        reading.argue(delta.partial_json)
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
            reading.argue(delta.get("partial_json"))
    elif kind == "content_block_start":
        open_blocks = reading.scratch.setdefault("open_blocks", set())
        if len(open_blocks) < 1024:
            open_blocks.add(event.get("index"))
        if isinstance(block := event.get("content_block"), dict):
            _read_block(block, reading, streamed=True)
    elif kind == "content_block_stop":
        reading.scratch.setdefault("open_blocks", set()).discard(event.get("index"))
    elif kind == "message_start":
        if isinstance(message := event.get("message"), dict):
            read_messages_body(message, reading)
            reading.prelude = True
    elif kind == "message_delta":
        if isinstance(delta := event.get("delta"), dict):
            reading.finished(delta.get("stop_reason"))
        reading.add_usage(event.get("usage"))
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
    if isinstance(usage, dict) and isinstance(tier := usage.get("service_tier"), str):
        reading.service_tier = tier[:64]
    reading.fail(body.get("error"))


def _read_block(block: dict[str, Any], reading: Reading, *, streamed: bool) -> None:
    kind = block.get("type")
    if kind == "text":
        reading.say(block.get("text"))
    elif kind == "thinking":
        reading.think(block.get("thinking"))
    elif kind == "tool_use":
        reading.call_tool(block.get("id"), block.get("name"))
    if kind in ("tool_use", "server_tool_use", "mcp_tool_use") and not streamed:
        reading.argue(msgspec.json.encode(block.get("input")).decode())

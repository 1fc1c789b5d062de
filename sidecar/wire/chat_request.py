"""OpenAI chat completions: what a request asks.

An ordinary body is decoded by type in one pass. A body with fields or values that
this does not know is read field by field, which is slower and says exactly what is
wrong. Both ways must give the same facts, hashes included.
"""

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.native import native
from sidecar.wire.facts import RequestFacts
from sidecar.wire.hashing import (
    SYSTEM_ROLES,
    call_mark,
    fold,
    fold_system,
    media_mark,
    system_digest,
    told_two_ways,
)
from sidecar.wire.request_fields import (
    MAX_CHOICES,
    check_number,
    messages_of,
    read_attributes,
    read_choices,
    read_count,
    read_flag,
    read_model,
    read_owner,
    read_tools,
    stop_sequences,
    usable_model,
)
from sidecar.wire.strict import Fields, checked, value
from sidecar.wire.tool_results import says_error

MEDIA_PARTS: Final = frozenset(
    {"image_url", "input_image", "image", "file", "input_file", "document", "video_url", "input_audio"}
)
_LONGEST_ROLE: Final = 32
_TOOL_ROLES: Final = ("tool", "function")
_REMOTE: Final = re.compile(rb'"(?:https?://|file:|ftp://)')


class _Function(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    name: str = ""
    arguments: str = ""


class _ToolCall(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    id: str | None = None
    type: str = ""
    function: _Function | None = None
    index: int = 0


class _Part(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    type: str
    text: str


class _Message(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    role: str
    content: str | list[_Part] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    refusal: str | None = None


class _Chat(msgspec.Struct, gc=False):
    model: str
    messages: list[_Message]
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    reasoning_effort: str | None = None
    service_tier: str | None = None
    user: str | None = None


_decode_chat: Final = msgspec.json.Decoder(_Chat).decode
_UNTYPED: Final = frozenset({"top_k", "safety_identifier", "metadata", "dimensions", "previous_response_id"})
_OTHERS: Final = frozenset({"stream_options", "stop", "response_format", "tools", "functions", "n"})


def read_chat_request(fields: Fields, body: bytes) -> RequestFacts:
    """The facts of a ``/v1/chat/completions`` body, given with its ``fields``.

    Raises:
        InvalidRequest: a field that we rely on is not what the API defines.
    """
    return read_typed_chat(fields, body) or _read_carefully(fields)


def read_typed_chat(fields: Fields, body: bytes, before: RequestFacts | None = None) -> RequestFacts | None:
    """The facts of an ordinary body; None where it has to be read with more care.

    Args:
        fields: of the body.
        body: itself.
        before: what the messages say that stand before those in ``body``, in a request that was read before.
    """
    try:
        chat = _decode_chat(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    names = fields.keys()
    cap = chat.max_tokens if chat.max_completion_tokens is None else chat.max_completion_tokens
    choices = 1 if chat.n is None else chat.n
    usual = (cap is None or cap >= 0) and 0 < choices <= MAX_CHOICES and usable_model(chat.model)
    if not usual or not _UNTYPED.isdisjoint(names):
        return None
    facts = RequestFacts("openai.chat", chat.model, chat.stream is True, cap, choices)
    attributes = facts.attributes
    if chat.temperature is not None:
        attributes["temperature"] = chat.temperature
    if chat.top_p is not None:
        attributes["top_p"] = chat.top_p
    if chat.frequency_penalty is not None:
        attributes["frequency_penalty"] = chat.frequency_penalty
    if chat.presence_penalty is not None:
        attributes["presence_penalty"] = chat.presence_penalty
    if chat.seed is not None:
        attributes["seed"] = chat.seed
    if chat.reasoning_effort is not None:
        attributes["reasoning_level"] = chat.reasoning_effort[:64]
    if chat.service_tier is not None:
        attributes["service_tier"] = chat.service_tier[:64]
    if cap is not None:
        attributes["max_tokens"] = cap
    if chat.user:
        facts.user = chat.user[:512]
    if before is not None:
        facts.message_hashes = before.message_hashes.copy()
        facts.text_bytes = facts.message_bytes = before.message_bytes
        facts.system_hash, facts.tool_errors = before.system_hash, before.tool_errors
        facts.input_role, facts.input_hash = before.input_role, before.input_hash
    _hash_messages(chat.messages, facts)
    if not _OTHERS.isdisjoint(names):
        _read_others(fields, facts)
    return facts


_OPTIONS: Final = "stream_options"
_ASKING_FOR_USAGE: Final = frozenset({b'{"include_usage":true}', b'{"include_usage": true}'})
"""As the SDKs write it."""

_in_c: Final = None if native is None else native.read_chat


def read_chat_in_c(body: bytes, before: RequestFacts | None = None) -> tuple[RequestFacts, int, int] | None:
    """As :func:`read_typed_chat`, of a whole body that nobody has looked at; None where that has to be read.

    Also where the list of messages stands in ``body``: where it begins, and behind its end.

    Raises:
        InvalidRequest: tools nest too deeply.
    """
    if _in_c is None:
        return None
    hashes = before.message_hashes if before is not None else None
    read = _in_c(body, hashes[-1] if hashes else 0)
    if read is None:
        return None
    model, stream, cap, attributes, user, hashes, size, system, role, said, results, others, start, end = read
    errors = sum([says_error(result) for result in results]) if results else 0
    if before is not None:
        check_number(len(before.message_hashes) + len(hashes), "messages")
        if not hashes:
            role, said, errors = before.input_role, before.input_hash, before.tool_errors
        elif len(results) == len(hashes) and before.input_role in _TOOL_ROLES:
            # Results that were handed in before count on where nothing but results has come since.
            errors += before.tool_errors
        hashes = before.message_hashes + hashes
        size += before.message_bytes
        system = system or before.system_hash
    # All at once: setting the members of one that is made takes several times as long.
    facts = RequestFacts(
        "openai.chat",
        model,
        stream,
        cap,
        user=user,
        text_bytes=size,
        message_bytes=size,
        message_hashes=hashes,
        input_role=role,
        input_hash=said,
        tool_errors=errors,
        system_hash=system,
        attributes=attributes,
    )
    if others and others.get(_OPTIONS) in _ASKING_FOR_USAGE:
        del others[_OPTIONS]  # As the SDKs write it, and most often all that there is.
        facts.include_usage = True
    if others:
        _read_others({name: Raw(raw) for name, raw in others.items()}, facts)
    return facts, start, end


def _read_carefully(fields: Fields) -> RequestFacts:
    facts = RequestFacts("openai.chat", read_model(fields))
    facts.attributes = attributes = read_attributes(fields)
    rolling = 0
    for message in messages_of(fields.get("messages"), "messages"):
        rolling = _read_message(message, rolling, facts)
    facts.message_bytes = facts.text_bytes
    facts.stream = read_flag(fields, "stream")
    cap = read_count(fields, "max_completion_tokens")
    if cap is None:
        cap = read_count(fields, "max_tokens")
    if cap is not None:
        facts.max_output_tokens = attributes["max_tokens"] = cap
    facts.choice_count = read_choices(fields)
    _read_others(fields, facts)
    read_owner(fields, facts)
    return facts


def _read_others(fields: Fields, facts: RequestFacts) -> None:
    """Read what few requests have."""
    if _OPTIONS in fields:
        facts.include_usage = asks_for_usage(fields)
    if "n" in fields:
        facts.attributes["choice_count"] = facts.choice_count
    if sequences := stop_sequences(value(fields, "stop")):
        facts.attributes["stop_sequences"] = sequences
    if "response_format" in fields:
        _read_format(value(fields, "response_format"), facts)
    read_tools(fields, facts, "tools", "functions")


def asks_for_usage(fields: Fields) -> bool:
    """Whether the agent itself asked for usage at the end of its stream."""
    if bytes(fields[_OPTIONS]) in _ASKING_FOR_USAGE:
        return True
    options = value(fields, _OPTIONS)
    return isinstance(options, dict) and options.get("include_usage") is True


def _read_format(wanted: object, facts: RequestFacts) -> None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if isinstance(kind, str):
        facts.attributes["output_type"] = "json" if kind.startswith("json") else kind[:64]
        facts.wants_json_schema = kind == "json_schema"


def _hash_messages(messages: list[_Message], facts: RequestFacts) -> None:
    hashes, size, text = facts.message_hashes, 0, b""
    check_number(len(hashes) + len(messages), "messages")
    rolling = hashes[-1] if hashes else 0
    for message in messages:
        content = message.content
        if content.__class__ is not str:
            content = "".join([part.text for part in content]) if content else ""  # type: ignore[union-attr]
        text = content.encode()
        size += len(text)
        marks = message.tool_call_id or ""
        if message.tool_calls:
            for call in message.tool_calls:
                function = call.function or _Function()
                marks += call_mark(call.id or "", function.name)
                size += len(function.name) + len(function.arguments.encode())
        if not rolling and message.role in SYSTEM_ROLES:
            facts.system_hash = system_digest(text)
            rolling = fold_system(message.role, facts.system_hash)
        else:
            rolling = fold(rolling, message.role, text, marks)
        hashes.append(rolling)
    facts.text_bytes += size
    facts.message_bytes = facts.text_bytes
    if messages:
        role, role_before = message.role, facts.input_role
        errors = 0
        if role in _TOOL_ROLES:
            errors = _errors_at_end(messages)
            # Results that were handed in before count on where nothing but results has come since.
            if role_before in _TOOL_ROLES and all(one.role in _TOOL_ROLES for one in messages):
                errors += facts.tool_errors
        facts.tool_errors = errors
        facts.input_role, facts.input_hash = role[:_LONGEST_ROLE], told_two_ways(text)


def _errors_at_end(messages: list[_Message]) -> int:
    """Of the tools whose results stand last, how many failed."""
    errors = 0
    for message in reversed(messages):
        if message.role not in _TOOL_ROLES:
            break
        content = message.content
        if content.__class__ is not str:
            content = "".join([part.text for part in content]) if content else ""  # type: ignore[union-attr]
        errors += says_error(content.encode())
    return errors


def _read_message(message: dict[str, Any], rolling: int, facts: RequestFacts) -> int:
    text, marks = read_content(message.get("content"), facts)
    call_id = message.get("tool_call_id")
    if isinstance(call_id, str):
        marks = call_id + marks
    calls = message.get("tool_calls")
    legacy = message.get("function_call")
    for call in calls if isinstance(calls, list) else [{"function": legacy}] if legacy else []:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            name, arguments = str(function.get("name") or ""), str(function.get("arguments") or "")
            marks += call_mark(str(call.get("id") or ""), name)
            facts.text_bytes += len(name) + len(arguments.encode("utf-8", "replace"))
    encoded = text.encode("utf-8", "replace")
    facts.text_bytes += len(encoded)
    role = str(message.get("role") or "")
    if role not in _TOOL_ROLES:
        facts.tool_errors = 0
    else:
        before = facts.tool_errors if facts.input_role in _TOOL_ROLES else 0
        facts.tool_errors = before + says_error(encoded)
    facts.input_role, facts.input_hash = role[:_LONGEST_ROLE], told_two_ways(encoded)
    if not rolling and role in SYSTEM_ROLES:
        facts.system_hash = system_digest(encoded)
        rolling = fold_system(role, facts.system_hash)
    else:
        rolling = fold(rolling, role, encoded, marks)
    facts.message_hashes.append(rolling)
    return rolling


def read_content(content: object, facts: RequestFacts) -> tuple[str, str]:
    """The text of a message and the marks of its media; notes what a model needs to read them."""
    if isinstance(content, str):
        return content, ""
    texts: list[str] = []
    marks = ""
    for part in content if isinstance(content, list) else []:
        if isinstance(part, str):
            texts.append(part)
        elif isinstance(part, dict):
            text = part.get("text")
            if isinstance(text, str):
                texts.append(text)
            elif isinstance(part.get("refusal"), str):
                texts.append(part["refusal"])
            elif part.get("type") not in ("thinking", "reasoning"):
                marks += note_media(part, facts)
    return "".join(texts), marks


def note_media(part: dict[str, Any], facts: RequestFacts) -> str:
    """Note a part that is not text; its mark for the hash."""
    raw = msgspec.json.encode(part)
    kind = part.get("type")
    if isinstance(kind, str) and kind in MEDIA_PARTS:
        facts.has_images = True
    if _REMOTE.search(raw, 0, 65536):
        facts.has_remote_media = True
    return media_mark(raw)


def embedded_text(raw: Raw, name: str, facts: RequestFacts) -> int:
    """Read a prompt or an embedding input: text, or tokens, or lists of these.

    Returns:
        How many prompts it holds.
    """
    prompt = checked(raw, name)
    prompts = prompt if isinstance(prompt, list) else [prompt]
    if prompts and all(isinstance(member, int) for member in prompts):
        prompts = [prompts]
    for member in prompts:
        if isinstance(member, str):
            facts.text_bytes += len(member.encode("utf-8", "replace"))
        elif isinstance(member, list):
            facts.text_bytes += 4 * len(member)  # Tokens: about four bytes of text each.
        elif isinstance(member, dict):
            text, _ = read_content([member], facts)
            facts.text_bytes += len(text.encode("utf-8", "replace"))
    return max(1, len(prompts))

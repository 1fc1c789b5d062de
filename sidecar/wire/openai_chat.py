"""OpenAI chat completions, and all who copied them: what a request asks, what a reply says.

The messages of an ordinary request are decoded by type in one pass; a request with
fields we do not know is decoded whole and read by the same rules. Both ways must
give the same hashes, so both end in :func:`_fold`.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.wire.facts import RequestFacts
from sidecar.wire.hashing import call_mark, fold, media_mark
from sidecar.wire.reading import Reading
from sidecar.wire.request_fields import (
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
)
from sidecar.wire.strict import Fields, checked, value

MEDIA_PARTS: Final = frozenset(
    {"image_url", "input_image", "image", "file", "input_file", "document", "video_url"}
)
_REMOTE: Final = ('"http://', '"https://', '"file:', '"ftp://')


class _Function(msgspec.Struct, gc=False):
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


_decode_messages: Final = msgspec.json.Decoder(list[_Message]).decode


def read_chat_request(fields: Fields) -> RequestFacts:
    """The facts of a ``/v1/chat/completions`` body.

    Raises:
        InvalidRequest: a field that we rely on is not what the API defines.
    """
    facts = RequestFacts("openai.chat", read_model(fields))
    facts.attributes = attributes = read_attributes(fields)
    read_messages(fields, facts)
    facts.stream = read_flag(fields, "stream")
    if "stream_options" in fields:
        facts.include_usage = asks_for_usage(fields)
    cap = read_count(fields, "max_completion_tokens")
    if cap is None:
        cap = read_count(fields, "max_tokens")
    if cap is not None:
        facts.max_output_tokens = attributes["max_tokens"] = cap
    if "n" in fields:
        facts.choice_count = attributes["choice_count"] = read_choices(fields)
    if "stop" in fields and (sequences := stop_sequences(value(fields, "stop"))):
        attributes["stop_sequences"] = sequences
    if "response_format" in fields:
        _read_format(value(fields, "response_format"), facts)
    if fields.keys() & {"tools", "functions"}:
        read_tools(fields, facts, "tools", "functions")
    if fields.keys() & {"user", "safety_identifier", "metadata"}:
        read_owner(fields, facts)
    return facts


def asks_for_usage(fields: Fields) -> bool:
    """Whether the agent itself asked for usage at the end of its stream."""
    options = value(fields, "stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def _read_format(wanted: object, facts: RequestFacts) -> None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if isinstance(kind, str):
        facts.attributes["output_type"] = "json" if kind.startswith("json") else kind[:64]
        facts.wants_json_schema = kind == "json_schema"


def read_messages(fields: Fields, facts: RequestFacts) -> None:
    """Hash the messages one after another, and count the bytes that the model will read.

    Raises:
        InvalidRequest: they are not a list of objects.
    """
    raw = fields.get("messages")
    try:
        messages = _decode_messages(raw or b"")
    except (msgspec.DecodeError, RecursionError):
        rolling = 0
        for message in messages_of(raw, "messages"):
            rolling = _read_unusual_message(message, rolling, facts)
        return
    check_number(messages, "messages")
    rolling = size = 0
    hashes = facts.message_hashes
    for message in messages:
        content = message.content
        if content is None:
            content = ""
        elif not isinstance(content, str):
            content = "".join([part.text for part in content])
        text = content.encode()
        size += len(text)
        marks = message.tool_call_id or ""
        if message.tool_calls:
            for call in message.tool_calls:
                function = call.function or _Function()
                marks += call_mark(call.id or "", function.name)
                size += len(function.name) + len(function.arguments.encode())
        rolling = fold(rolling, message.role, text, marks)
        hashes.append(rolling)
    facts.text_bytes += size


def _read_unusual_message(message: dict[str, Any], rolling: int, facts: RequestFacts) -> int:
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
    rolling = fold(rolling, str(message.get("role") or ""), encoded, marks)
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
    head = raw[:65536].decode("utf-8", "replace")
    if part.get("type") in MEDIA_PARTS:
        facts.has_images = True
    if any(scheme in head for scheme in _REMOTE):
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


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Raw | None = None
    function_call: Raw | None = None


class _ChunkChoice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_ChunkChoice]
    usage: Raw | None = None
    error: Raw | None = None


_decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode


def read_ordinary_chunk(payload: bytes, reading: Reading) -> bool:
    """Count a chunk that adds text to one choice and says nothing else; false when it is not one."""
    try:
        chunk = _decode_chunk(payload)
    except msgspec.DecodeError:
        return False
    if (
        len(chunk.choices) != 1
        or chunk.usage is not None
        or chunk.error is not None
        or not reading.response_id
    ):
        return False
    choice = chunk.choices[0]
    delta = choice.delta
    if choice.finish_reason is not None or choice.index:
        return False
    if delta is None:
        text = choice.text
    elif delta.tool_calls is not None or delta.function_call is not None:
        return False
    else:
        text = delta.content
        if not text and (thought := delta.reasoning_content or delta.reasoning):
            reading.think(thought)
            return True
    if text:
        encoded = text.encode()
        reading.text_bytes += len(encoded)
        reading.text += encoded
    return True


def read_chat_event(name: str, event: Mapping[str, Any], reading: Reading) -> bool:
    """Read one chunk; true when it carries nothing but usage."""
    read_chat_body(event, reading)
    if event.get("choices") == [] and isinstance(event.get("usage"), dict) and not event.get("error"):
        return True
    if name == "error" and not event.get("error"):
        reading.fail(event)
    return False


def read_chat_body(body: Mapping[str, Any], reading: Reading) -> None:
    """Read a chat completion, a completion, an embedding, or one chunk of these."""
    reading.identify(body.get("id"), body.get("model"))
    if isinstance(tier := body.get("service_tier"), str):
        reading.service_tier = tier[:64]
    if isinstance(fingerprint := body.get("system_fingerprint"), str):
        reading.system_fingerprint = fingerprint[:128]
    if type(created := body.get("created")) is int and created:
        reading.scratch.setdefault("created", created)
    choices = body.get("choices")
    for place, choice in enumerate(choices if isinstance(choices, list) else ()):
        if isinstance(choice, dict):
            _read_choice(choice, place, reading)
    groq = body.get("x_groq")
    groq = groq if isinstance(groq, dict) else {}
    usage = body.get("usage") or groq.get("usage")
    if isinstance(usage, dict):
        reading.use(usage)
        read_cost(usage, reading)
    reading.fail(body.get("error") or groq.get("error"))


def read_cost(usage: Mapping[str, Any], reading: Reading) -> None:
    """The provider's own figure: OpenRouter and Perplexity in USD, xAI in ticks of 1e-10 USD."""
    cost = usage.get("cost")
    if isinstance(cost, dict):
        cost = cost.get("total_cost")
    ticks = usage.get("cost_in_usd_ticks")
    if type(ticks) is int and 0 <= ticks < 10**16:
        reading.cost_pico = ticks * 100
    elif cost is not None:
        reading.cost(cost)


def _read_choice(choice: dict[str, Any], place: int, reading: Reading) -> None:
    index = choice.get("index")
    index = index if type(index) is int else place
    reading.finished(choice.get("finish_reason") or choice.get("stop_reason"), index)
    reading.fail(choice.get("error"))
    message = choice.get("message") or choice.get("delta")
    if not isinstance(message, dict):
        reading.say(choice.get("text"), index)
        return
    _read_text(message, index, reading)
    calls = message.get("tool_calls")
    for order, call in enumerate(calls if isinstance(calls, list) else ()):
        if isinstance(call, dict):
            _read_call(call, (index, order), reading)
    if isinstance(legacy := message.get("function_call"), dict):
        _read_call({"index": 0, "function": legacy}, (index, 0), reading)


def _read_text(message: dict[str, Any], index: int, reading: Reading) -> None:
    reading.think(message.get("reasoning_content") or message.get("reasoning"))
    content = message.get("content")
    if isinstance(content, list):  # Mistral's reasoning models send parts.
        for part in content:
            if isinstance(part, dict) and part.get("type") == "thinking":
                thoughts = part.get("thinking")
                for thought in thoughts if isinstance(thoughts, list) else [thoughts]:
                    reading.think(thought.get("text") if isinstance(thought, dict) else thought)
            elif isinstance(part, dict):
                reading.say(part.get("text"), index)
    else:
        reading.say(content, index)
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal:
        reading.argue(refusal)


def _read_call(call: dict[str, Any], place: tuple[int, int], reading: Reading) -> None:
    """Read a tool call, or the next fragment of one.

    A fragment belongs to the call of the same index, unless it brings an id of its own:
    Gemini gives every parallel call index 0, Mistral gives none.
    """
    function = call.get("function")
    function = function if isinstance(function, dict) else call.get("custom")
    function = function if isinstance(function, dict) else {}
    call_id, name = call.get("id") or "", function.get("name") or ""
    index = call.get("index")
    key = (place[0], index) if type(index) is int else place
    known = reading.tool_places.get(key)
    if known is not None and known < len(reading.tools):
        known_id = reading.tools[known][0]
        if (call_id and known_id and call_id != known_id) or (name and type(index) is not int):
            known = None
    if known is None and (call_id or name):
        reading.tool_places[key] = reading.call_tool(call_id, name)
    elif known is not None and known < len(reading.tools) and (call_id or name):
        old_id, old_name = reading.tools[known]
        reading.tools[known] = (old_id or str(call_id)[:256], old_name or str(name)[:256])
    reading.argue(function.get("arguments") if "arguments" in function else function.get("input"))

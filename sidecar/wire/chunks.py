"""Chunks of a stream in OpenAI's chat dialect that hold what is documented, read by type, and so quickly."""

from typing import Any, Final

import msgspec

from sidecar.native import native
from sidecar.wire.chat_shapes import decode_chunk, decode_plain, decode_usage
from sidecar.wire.plain_usage import chat_usage, counted
from sidecar.wire.reading import Reading

_in_c: Final[Any] = None if native is None else native.read_chunk
_NO_CHOICE, _ONE_CHOICE = 1, 2  # as sidecar/native/chunk.c has them
_FINISHES: Final = b'"finish_reason":"'
_COUNTS: Final = b'"usage":{'


def read_ordinary_chunk(payload: bytes, reading: Reading) -> bool:
    """Count a chunk that adds text to one choice and says nothing else; false when it is not one."""
    if not reading.response_id or _FINISHES in payload or _COUNTS in payload:
        return False
    try:
        chunk = decode_chunk(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    if (
        len(chunk.choices) != 1
        or chunk.usage is not None
        or chunk.error is not None
        or chunk.x_groq is not None
        or chunk.base_resp is not None
    ):
        return False
    choice = chunk.choices[0]
    delta = choice.delta
    if choice.finish_reason is not None or choice.index:
        return False
    if choice.error is not None or choice.usage is not None:
        return False
    if delta is None:
        text = choice.text
        if text is None:
            return False  # Whatever it says stands elsewhere.
    elif delta.tool_calls is not None or delta.function_call is not None:
        return False
    else:
        text = delta.content
        if not text and (thought := delta.reasoning_content or delta.reasoning):
            reading.think(thought)
            return True
    if text:
        reading.say(text)
    return True


def read_plain_chunk(payload: bytes, reading: Reading) -> bool | None:
    """Read a chunk as OpenAI documents it, such as a stream's first, its last and that of its usage.

    As :func:`read_chat_event` of it, by type and so in a fifth of the time: true when it carries nothing but
    usage. None, and nothing was read, where it holds anything else.
    """
    told = read_plain_chunk_in_c(payload, reading)
    return read_plain_chunk_in_python(payload, reading) if told is None else told


def read_plain_chunk_in_c(payload: bytes, reading: Reading) -> bool | None:
    """The same of a chunk that is ordinary in every part; None of any other."""
    if _in_c is None:
        return None
    told = _in_c(payload)
    if told is None:
        return None
    name, model, created, tier, fingerprint, choices, reason, text, thought, refusal, block, counts = told
    reading.identify(name, model)
    if tier is not None:
        reading.service_tier = tier
    if fingerprint is not None:
        reading.system_fingerprint = fingerprint
    if created:
        reading.scratch.setdefault("created", created)
    if choices == _ONE_CHOICE:
        reading.finished(reason)
        if thought:
            reading.ponder(thought)
        if text:
            reading.hear(text)
        if refusal:
            reading.argue(refusal.decode())
    if counts is None:
        return False
    # C has checked what a Usage checks when it is made.
    reading.use(decode_usage(block), counted(counts))
    return bool(choices == _NO_CHOICE)


def read_plain_chunk_in_python(payload: bytes, reading: Reading) -> bool | None:
    """The same by way of objects."""
    try:
        chunk = decode_plain(payload)
        block = bytes(chunk.usage)
        usage = chat_usage(chunk.usage) if block != b"null" else None
    except (msgspec.DecodeError, ValueError):
        return None
    choices = chunk.choices or ()
    if len(choices) > 1 or (choices and choices[0].index) or chunk.object == "error":
        return None
    delta = choices[0].delta if choices else None
    if choices and not choices[0].finish_reason and choices[0].stop_reason:
        return None
    reading.identify(chunk.id, chunk.model)
    if chunk.service_tier is not None:
        reading.service_tier = chunk.service_tier[:64]
    if chunk.system_fingerprint is not None:
        reading.system_fingerprint = chunk.system_fingerprint[:128]
    if chunk.created:
        reading.scratch.setdefault("created", chunk.created)
    if choices:
        choice = choices[0]
        if choice.finish_reason:
            reading.finished(choice.finish_reason)
        if delta is None:
            reading.say(choice.text)
        else:
            if thought := delta.reasoning_content or delta.reasoning:
                reading.think(thought)
            reading.say(delta.content)
            if delta.refusal:
                reading.argue(delta.refusal)
    if usage is not None:
        reading.use(decode_usage(block), usage)
        return chunk.choices == []
    return False

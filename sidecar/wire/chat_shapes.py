"""Shapes of the chunks of a stream in OpenAI's chat dialect, for reading them by type."""

from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.wire.plain_usage import Fine, Uncited


class _Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: Raw | None = None
    function_call: Raw | None = None
    annotations: Uncited = None


class _ChunkChoice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    error: Raw | None = None
    usage: Raw | None = None


class _Chunk(msgspec.Struct, gc=False):
    choices: list[_ChunkChoice]
    usage: Raw | None = None
    error: Raw | None = None
    x_groq: Raw | None = None
    base_resp: Raw | None = None


_NO_USAGE: Final = Raw(b"null")


class _PlainDelta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: None = None
    function_call: None = None
    annotations: Uncited = None


decode_chunk: Final = msgspec.json.Decoder(_Chunk).decode


class _PlainChoice(msgspec.Struct, gc=False):
    index: int = 0
    delta: _PlainDelta | None = None
    text: str | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    message: None = None
    error: None = None
    usage: None = None


class _PlainChunk(msgspec.Struct, gc=False):
    id: str = ""
    model: str = ""
    created: int | None = None
    choices: list[_PlainChoice] | None = None
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: Raw = _NO_USAGE
    error: None = None
    x_groq: None = None
    timings: None = None
    base_resp: Fine | None = None
    object: str | None = None


decode_plain: Final = msgspec.json.Decoder(_PlainChunk).decode
decode_usage: Final = msgspec.json.Decoder(dict[str, Any]).decode

"""Usage blocks of the shapes that OpenAI and Anthropic document, read by type.

Quick, and sure of little: a key, a value or a proportion that is not expected makes
these give up, and :func:`sidecar.wire.usage.read_usage` decides. Where both know an
answer it is the same.
"""

from dataclasses import fields
from typing import Annotated, Any, Final

import msgspec

from collector.domain.usage import Usage
from collector.pricing.regions import region_name
from sidecar.native import native
from sidecar.wire.usage_shapes import MOST_TOKENS

FAST: Final = "fast"
"""Anthropic's fast mode, which the price book has as a service tier. Anthropic tells it by ``speed`` and
goes on to say ``standard`` of the tier: https://platform.claude.com/docs/en/build-with-claude/fast-mode"""

Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]

Uncited = Annotated[list[Any], msgspec.Meta(max_length=0)] | None
"""Annotations of a chat message that cites nothing. For one that does the web was searched, which its usage
may not say: whoever reads everything looks."""


class Fine(msgspec.Struct, gc=False):
    """MiniMax's ``base_resp`` of a call that went well. One that did not is for whoever reads everything."""

    status_code: Annotated[int, msgspec.Meta(ge=0, le=0)] = 0


class _CacheWrites(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    ttl_12h_tokens: Count | None = None
    ttl_30m_tokens: Any = None


class _PromptParts(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    cached_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cache_write_tokens_details: _CacheWrites | None = None
    text_tokens: Any = None


class _OutputParts(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    text_tokens: Any = None
    accepted_prediction_tokens: Any = None
    rejected_prediction_tokens: Any = None


class _ChatUsage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    prompt_tokens: Count
    completion_tokens: Count = 0
    total_tokens: Count = 0
    prompt_tokens_details: _PromptParts | None = None
    completion_tokens_details: _OutputParts | None = None
    # DeepSeek
    prompt_cache_hit_tokens: Count | None = None
    prompt_cache_miss_tokens: Any = None
    # Groq
    queue_time: Any = None
    prompt_time: Any = None
    completion_time: Any = None
    total_time: Any = None


class _ResponsesUsage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    input_tokens: Count
    output_tokens: Count
    total_tokens: Any = None
    input_tokens_details: _PromptParts | None = None
    output_tokens_details: _OutputParts | None = None


class _CacheCreation(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    ephemeral_5m_input_tokens: Any = None
    ephemeral_1h_input_tokens: Count | None = None


class _ServerTools(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    web_search_requests: Count | None = None
    web_fetch_requests: Any = None


class _MessagesUsage(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    input_tokens: Count
    output_tokens: Count
    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation: _CacheCreation | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None
    inference_geo: Any = None


_decode_chat: Final = msgspec.json.Decoder(_ChatUsage).decode
_decode_responses: Final = msgspec.json.Decoder(_ResponsesUsage).decode
_decode_messages: Final = msgspec.json.Decoder(_MessagesUsage).decode
_NO_PROMPT_PARTS: Final = _PromptParts()
_NO_OUTPUT_PARTS: Final = _OutputParts()


_MEMBERS: Final = tuple([vars(Usage)[field.name] for field in fields(Usage)])


def counted(counts: tuple[int, ...]) -> Usage:
    """The usage of these counts, in the order of its fields, which C has read and checked."""
    assert native is not None
    usage: Usage = native.filled(Usage, _MEMBERS, counts)
    return usage


def chat_usage(block: msgspec.Raw) -> Usage:
    """The usage of a chat completion, a completion or an embedding.

    Raises:
        ValueError: it needs a closer look.
    """
    said = _decode_chat(block)
    prompt, output, made = said.prompt_tokens_details, said.completion_tokens_details, said.completion_tokens
    if prompt is None and output is None:
        return Usage(
            input_tokens=said.prompt_tokens,
            output_tokens=made,
            cache_read_input_tokens=said.prompt_cache_hit_tokens or 0,
        )
    prompt, output = prompt or _NO_PROMPT_PARTS, output or _NO_OUTPUT_PARTS
    thought = output.reasoning_tokens or 0
    if thought and said.total_tokens == said.prompt_tokens + made + thought:
        # xAI counts reasoning beside the completion: the total proves it.
        made += thought
    cached = prompt.cached_tokens
    return Usage(
        input_tokens=said.prompt_tokens,
        output_tokens=made,
        cache_read_input_tokens=(said.prompt_cache_hit_tokens if cached is None else cached) or 0,
        cache_write_input_tokens=prompt.cache_write_tokens or 0,
        cache_write_1h_input_tokens=_kept_long(prompt),
        reasoning_output_tokens=thought,
        audio_input_tokens=prompt.audio_tokens or 0,
        audio_output_tokens=output.audio_tokens or 0,
        image_input_tokens=prompt.image_tokens or 0,
        image_output_tokens=output.image_tokens or 0,
    )


def _kept_long(prompt: _PromptParts) -> int:
    writes = prompt.cache_write_tokens_details
    return 0 if writes is None else writes.ttl_12h_tokens or 0


def responses_usage(block: msgspec.Raw) -> Usage:
    """The usage of a response.

    Raises:
        ValueError: it needs a closer look.
    """
    said = _decode_responses(block)
    prompt = said.input_tokens_details or _NO_PROMPT_PARTS
    output = said.output_tokens_details or _NO_OUTPUT_PARTS
    return Usage(
        input_tokens=said.input_tokens,
        output_tokens=said.output_tokens,
        cache_read_input_tokens=prompt.cached_tokens or 0,
        cache_write_input_tokens=prompt.cache_write_tokens or 0,
        cache_write_1h_input_tokens=_kept_long(prompt),
        reasoning_output_tokens=output.reasoning_tokens or 0,
        audio_input_tokens=prompt.audio_tokens or 0,
        audio_output_tokens=output.audio_tokens or 0,
        image_input_tokens=prompt.image_tokens or 0,
        image_output_tokens=output.image_tokens or 0,
    )


def messages_usage(block: msgspec.Raw) -> tuple[Usage, str, str]:
    """The usage of an Anthropic message, which counts cached tokens beside the input; its service tier
    and its region.

    Raises:
        ValueError: it needs a closer look.
    """
    said = _decode_messages(block)
    read, written, kinds = (
        said.cache_read_input_tokens or 0,
        said.cache_creation_input_tokens,
        said.cache_creation,
    )
    if written is None:
        if kinds is not None:
            raise ValueError("the tokens written are told by kind only")
        written = 0
    searches = said.server_tool_use.web_search_requests if said.server_tool_use is not None else 0
    usage = Usage(
        input_tokens=said.input_tokens + read + written,
        output_tokens=said.output_tokens,
        cache_read_input_tokens=read,
        cache_write_input_tokens=written,
        cache_write_1h_input_tokens=(kinds.ephemeral_1h_input_tokens or 0) if kinds is not None else 0,
        web_searches=searches or 0,
    )
    tier = FAST if said.speed == FAST else said.service_tier or ""
    return usage, tier, region_name(said.inference_geo)

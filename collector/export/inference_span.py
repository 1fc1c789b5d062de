"""The GenAI span: what one target was asked, what it answered and what that took."""

from collections.abc import Mapping
from math import isfinite
from typing import TypeGuard

from collector.domain.record import CallRecord, ConversationSource
from collector.export.content import input_messages, output_messages
from collector.export.conventions import EMBEDDINGS, OPENAI_API_TYPES
from collector.export.span_data import CLIENT, LARGEST_INT, Attributes, Cleaner, SpanFacts, put_money
from collector.export.targets import Target

_MOST_ITEMS = 16


def inference_span(
    record: CallRecord, target: Target, operation: str, span_id: str, clean: Cleaner
) -> SpanFacts:
    """The span of one inference."""
    model = clean[target.request_model]
    attributes: Attributes = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": target.provider_name or "unknown",
    }
    if model:
        attributes["gen_ai.request.model"] = model
    if target.address and target.port:
        attributes["server.address"] = target.address
        attributes["server.port"] = target.port
    _put_request(attributes, record.request_attributes, operation, clean)
    if operation != EMBEDDINGS:
        if record.stream:
            attributes["gen_ai.request.stream"] = True
            if target.time_to_first_chunk_us is not None:
                attributes["gen_ai.response.time_to_first_chunk"] = target.time_to_first_chunk_us / 1e6
        if record.conversation_id and record.conversation_source not in ("", ConversationSource.STITCHED):
            attributes["gen_ai.conversation.id"] = clean[record.conversation_id]
    if target.final:
        _put_response(attributes, record, operation, clean)
    _put_provider(attributes, record, target, operation, clean)
    _put_usage(attributes, record, target, operation)
    attributes["bursar.upstream"] = target.upstream
    if target.price_grade:
        attributes["bursar.price.grade"] = target.price_grade
        put_money(attributes, "effective", target.effective_cost_pico)
    if target.error_type:
        attributes["error.type"] = target.error_type
    if record.content and target.final and operation != EMBEDDINGS:
        _put_content(attributes, record.content, clean)
    return SpanFacts(
        trace_id=record.trace_id,
        span_id=span_id,
        parent_span_id=record.span_id,
        parent_is_remote=False,
        name=f"{operation} {model}" if model else operation,
        kind=CLIENT,
        start_ns=target.started_at_us * 1000,
        end_ns=(target.started_at_us + max(target.duration_us, 0)) * 1000,
        attributes=attributes,
        error_type=target.error_type,
    )


_NUMBERS = {
    "max_tokens": "gen_ai.request.max_tokens",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
}
_DOUBLES = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
}
_TEXTS = {
    "reasoning_level": "gen_ai.request.reasoning.level",
    "output_type": "gen_ai.output.type",
    "previous_response_id": "gen_ai.request.previous_response.id",
}
_OUTPUT_TYPES = ("text", "json", "image", "speech")


def _put_request(attributes: Attributes, asked: Mapping[str, object], operation: str, clean: Cleaner) -> None:
    """The request's parameters; they are the agent's, so each is checked for its type once more."""
    for name, value in asked.items():
        if operation == EMBEDDINGS:
            if name == "dimension_count" and _is_int(value):
                attributes["gen_ai.embeddings.dimension.count"] = value
            elif name == "encoding_formats" and isinstance(value, list):
                attributes["gen_ai.request.encoding_formats"] = _texts(value, clean)
        elif name in _NUMBERS:
            if _is_int(value):
                attributes[_NUMBERS[name]] = value
        elif name in _DOUBLES:
            if _is_number(value):
                attributes[_DOUBLES[name]] = float(value)
        elif name in _TEXTS:
            if isinstance(value, str) and value and (name != "output_type" or value in _OUTPUT_TYPES):
                attributes[_TEXTS[name]] = clean[value]
        elif name == "choice_count":
            if _is_int(value) and value != 1:
                attributes["gen_ai.request.choice.count"] = value
        elif name == "stop_sequences" and isinstance(value, list):
            attributes["gen_ai.request.stop_sequences"] = _texts(value, clean)


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST_INT <= value <= LARGEST_INT


def _is_number(value: object) -> TypeGuard[int | float]:
    return _is_int(value) or (isinstance(value, float) and isfinite(value))


def _texts(values: list[object], clean: Cleaner) -> list[str]:
    return [clean[value] for value in values[:_MOST_ITEMS] if isinstance(value, str)]


def _put_response(attributes: Attributes, record: CallRecord, operation: str, clean: Cleaner) -> None:
    """What the reply said of itself."""
    if record.response_model:
        attributes["gen_ai.response.model"] = clean[record.response_model]
    if operation == EMBEDDINGS:
        return
    if record.response_id:
        attributes["gen_ai.response.id"] = clean[record.response_id]
    if record.finish_reasons:
        attributes["gen_ai.response.finish_reasons"] = [
            clean[reason] for reason in record.finish_reasons[:_MOST_ITEMS]
        ]
    if record.tool_names:
        attributes["bursar.response.tool_names"] = [clean[name] for name in record.tool_names[:_MOST_ITEMS]]


def _put_provider(
    attributes: Attributes, record: CallRecord, target: Target, operation: str, clean: Cleaner
) -> None:
    """Service tiers and the like: under OpenAI's names at OpenAI, under ours elsewhere."""
    asked_tier = record.request_attributes.get("service_tier")
    given = record.response_attributes if target.final else {}
    tier, fingerprint = given.get("service_tier"), given.get("system_fingerprint")
    if target.provider_name != "openai" or operation == EMBEDDINGS:
        if isinstance(tier, str) and tier:
            attributes["bursar.response.service_tier"] = clean[tier]
        return
    if record.api in OPENAI_API_TYPES:
        attributes["openai.api.type"] = OPENAI_API_TYPES[record.api]
    if isinstance(asked_tier, str) and asked_tier and asked_tier != "auto":
        attributes["openai.request.service_tier"] = clean[asked_tier]
    if isinstance(tier, str) and tier:
        attributes["openai.response.service_tier"] = clean[tier]
    if isinstance(fingerprint, str) and fingerprint:
        attributes["openai.response.system_fingerprint"] = clean[fingerprint]


def _put_usage(attributes: Attributes, record: CallRecord, target: Target, operation: str) -> None:
    """Token counts, where something was used; the breakdown where it is more than nothing.

    A record does not tell a class that was 0 from one the provider kept silent about,
    so nothing is claimed of it.
    """
    if not target.usage_grade:
        return
    attributes["bursar.usage.grade"] = target.usage_grade
    attributes["gen_ai.usage.input_tokens"] = target.input_tokens
    if operation == EMBEDDINGS:
        return
    attributes["gen_ai.usage.output_tokens"] = target.output_tokens
    if target.cache_read_input_tokens:
        attributes["gen_ai.usage.cache_read.input_tokens"] = target.cache_read_input_tokens
    if target.cache_write_input_tokens:
        attributes["gen_ai.usage.cache_write.input_tokens"] = target.cache_write_input_tokens
    if target.cache_write_1h_input_tokens:
        attributes["bursar.usage.cache_write_1h.input_tokens"] = target.cache_write_1h_input_tokens
    if target.reasoning_output_tokens:
        attributes["gen_ai.usage.reasoning.output_tokens"] = target.reasoning_output_tokens
    if target.final and record.audio_input_tokens:
        attributes["gen_ai.usage.audio.input_tokens"] = min(record.audio_input_tokens, target.input_tokens)
    if target.final and record.audio_output_tokens:
        attributes["gen_ai.usage.audio.output_tokens"] = min(record.audio_output_tokens, target.output_tokens)


def _put_content(attributes: Attributes, content: Mapping[str, str], clean: Cleaner) -> None:
    """Captured messages, structured; secrets in them are masked like anywhere else."""
    messages, instructions = input_messages(clean.redact(content.get("input", "")))
    if messages:
        attributes["gen_ai.input.messages"] = list[object](messages)
    if instructions:
        attributes["gen_ai.system_instructions"] = list[object](instructions)
    if answers := output_messages(clean.redact(content.get("output", ""))):
        attributes["gen_ai.output.messages"] = list[object](answers)

"""The most that a call may cost: pure bounds on its input, its output and what a token costs.

A budget that must never be exceeded needs bounds, not estimates. What is really used is settled
afterwards, and what calls of a kind use is learned, so a wide bound costs room for a moment only.
"""

from typing import NamedTuple

from collector.domain.price import TokenPrice, price_in_force
from collector.pricing.book import Quote
from sidecar.wire import RequestFacts

UNKNOWN_MAX_OUTPUT = 32_768
"""Output tokens that a model may write of which nobody knows how many."""
BYTES_PER_TOKEN = 2
"""No tokenizer of today makes more than a token of two bytes of ordinary text; a request of which the
tokens were counted before is bounded by :data:`MARGIN` instead."""
MARGIN = 1.5
"""How far above the learned ratio the tokens of a text may lie."""
MESSAGE_TOKENS = 16
"""Framing of one message, at most."""
MEDIA_TOKENS = 8_192
"""The least that is assumed of media, whose tokens depend on the model."""
MEDIA_BYTES_PER_TOKEN = 64
UNKNOWN_CONTEXT = 200_000
"""Tokens that a model may read of which nobody knows how many."""
_STORED_MARK = b'"conversation"'


class Rates(NamedTuple):
    """The dearest rates of one model, in pico-USD."""

    input: int
    output: int
    per_request: int


def dearest_rates(
    price: TokenPrice, input_tokens: int, service_tier: str, *, writes_cache: bool, media: bool
) -> Rates:
    """What a token of input and of output may cost at most, whatever class it turns out to be of.

    Args:
        price: of the model.
        input_tokens: that decide which of its context tiers holds.
        service_tier: that the request asks for.
        writes_cache: whether the request may have its prompt written to the provider's cache.
        media: whether sound or images may be in it.
    """
    rates = price_in_force(price, input_tokens, service_tier=service_tier)
    reads, writes = rates.input, max(rates.output, rates.reasoning)
    if writes_cache:
        reads = max(reads, rates.cache_write, rates.cache_write_1h)
    if media and not rates.flat:
        reads = max(reads, rates.audio_input, rates.image_input)
        writes = max(writes, rates.audio_output, rates.image_output)
    return Rates(reads, writes, rates.per_request)


def most_input_tokens(facts: RequestFacts, body_bytes: int, estimated: int, *, learned: bool) -> int:
    """Input tokens that a call may have at most.

    Args:
        facts: of the request.
        body_bytes: size of its body.
        estimated: tokens of its text by the learned ratio.
        learned: whether that ratio was learned from calls of this model.
    """
    text = facts.text_bytes
    tokens = min(text, round(estimated * MARGIN) if learned else -(-text // BYTES_PER_TOKEN))
    tokens += MESSAGE_TOKENS * (len(facts.message_hashes) + 1)
    if facts.has_images or facts.has_remote_media:
        tokens += max(MEDIA_TOKENS, body_bytes // MEDIA_BYTES_PER_TOKEN)
    return tokens


def most_stored_tokens(facts: RequestFacts, body: bytes, quote: Quote) -> int:
    """Input tokens that a call may have besides its own text: what its provider keeps of a conversation.

    Nobody here has seen it, so it may be all that the model can read.
    """
    if facts.api != "openai.responses":
        return 0
    if "previous_response_id" in facts.attributes or (facts.conversation_id and _STORED_MARK in body):
        return quote.context_tokens or UNKNOWN_CONTEXT
    return 0


def most_output_tokens(facts: RequestFacts, quote: Quote) -> int:
    """Output tokens that a call may be billed at most, over all choices."""
    if facts.api == "openai.embeddings":
        return 0
    model = quote.max_output_tokens or UNKNOWN_MAX_OUTPUT
    cap = facts.max_output_tokens
    return (model if cap is None else cap) * max(1, facts.choice_count)

"""The most that a call may cost: pure bounds on its input, its output and what a token costs.

A budget that must never be exceeded needs bounds, not estimates. What is really used is settled
afterwards, and what calls of a kind use is learned, so a wide bound costs room for a moment only.
"""

import re
from typing import NamedTuple

from collector.domain.price import TokenPrice, price_in_force
from collector.pricing.book import Quote
from sidecar.accounting import MOST_HELD
from sidecar.wire import RequestFacts

UNKNOWN_MAX_OUTPUT = 32_768
"""Output tokens that a model may write of which nobody knows how many."""
BYTES_PER_TOKEN = 2
"""No tokenizer of today makes more than a token of two bytes of ordinary text; a request of which the
tokens were counted before is bounded by :data:`MARGIN` instead. What is not ordinary counts on top."""
USUAL_PERMILLE = 200
"""How much of prose is no lower-case letter: spaces, capitals, punctuation."""
SAMPLED = 512
"""About so many bytes of a body are looked at; at least so many of a longer one."""
MARGIN = 1.5
"""How far above the learned ratio the tokens of a text may lie."""
MESSAGE_TOKENS = 16
"""Framing of one message, at most."""
MEDIA_TOKENS = 8_192
"""The least that is assumed of media, whose tokens depend on the model."""
MEDIA_BYTES_PER_TOKEN = 64
UNKNOWN_CONTEXT = 200_000
"""Tokens that a model may read of which nobody knows how many."""
USUAL_SEARCHES = 10
"""Searches on the provider's side for which room is held where the call sets no cap."""
MOST_SEARCHES = 1_000
SEARCH_TOKENS = 8_192
"""Of what one search found, and the model then reads."""
_STORED_MARK = b'"conversation"'
_CACHE_MARKS = (b'"cache_control"', b'"cachePoint"', b'"prompt_cache_options"', b'"prompt_cache_breakpoint"')
"""Of Anthropic, Bedrock's Converse and OpenAI."""
_SEARCH_MARK = b'"web_search'
_SEARCH_CAPS = (b'"max_uses"', b'"max_tool_calls"')
_NUMBER = re.compile(rb"\s*+:\s*+(\d{1,9})")
_MEDIA_MARKS = (
    b'"input_image"', b'"image"', b'"input_file"', b'"file"', b'"document"', b'"input_audio"', b'"video_url"',
)  # fmt: skip
_LOWER = bytes(range(ord("a"), ord("z") + 1))
_LETTERS = _LOWER + bytes(range(0x80, 0x100))


class Rates(NamedTuple):
    """The dearest rates of one model, in pico-USD."""

    input: int
    output: int
    per_request: int


def dearest_rates(
    price: TokenPrice,
    input_tokens: int,
    service_tier: str,
    *,
    writes_cache: bool,
    keeps_long: bool,
    media: bool,
) -> Rates:
    """What a token of input and of output may cost at most, whatever class it turns out to be of.

    Args:
        price: of the model.
        input_tokens: that decide which of its context tiers holds.
        service_tier: that the request asks for.
        writes_cache: whether the prompt may be written to the provider's cache.
        keeps_long: whether the request may ask to have it kept there for long.
        media: whether sound or images may be in it.
    """
    rates = price_in_force(price, input_tokens, service_tier=service_tier)
    reads, writes = rates.input, max(rates.output, rates.reasoning)
    if writes_cache:
        reads = max(reads, rates.cache_write)
    if keeps_long:
        reads = max(reads, rates.cache_write_1h)
    if media and not rates.flat:
        reads = max(reads, rates.audio_input, rates.image_input)
        writes = max(writes, rates.audio_output, rates.image_output)
    return tuple.__new__(Rates, (reads, writes, rates.per_request))


def most_input_tokens(facts: RequestFacts, body: bytes, estimated: int, *, learned: bool) -> int:
    """Input tokens that a call may have at most.

    Args:
        facts: of the request.
        body: of the request.
        estimated: tokens of its text by the learned ratio.
        learned: whether that ratio was learned from calls of this model.
    """
    text = facts.text_bytes
    tokens = min(text, round(estimated * MARGIN) if learned else -(-text // BYTES_PER_TOKEN))
    if tokens < text:
        # Tokenizers work on bytes, so there is never more than a token for each of them.
        tokens = min(text, tokens + -(-text * unusual_permille(body, scripts=not learned) // 1000))
    tokens += MESSAGE_TOKENS * (len(facts.message_hashes) + 1)
    if facts.has_images or facts.has_remote_media:
        tokens += max(MEDIA_TOKENS * media_parts(body), len(body) // MEDIA_BYTES_PER_TOKEN)
    return tokens


def unusual_permille(body: bytes, *, scripts: bool) -> int:
    """How much of ``body``, in thousandths, is digits, capitals or signs beyond what prose and code have.

    Each of these may be a token of its own: ``3 1 4 1 5 9`` is one for each byte. Of a long body, bytes at
    even distances tell.

    Args:
        body: JSON, whose own signs count too.
        scripts: whether letters beyond ASCII count; where a ratio was learned, it knows them.
    """
    sample = body[:: len(body) // SAMPLED | 1]
    if not sample:
        return 0
    unusual = len(sample.translate(None, _LOWER if scripts else _LETTERS)) * 1000 // len(sample)
    return max(0, unusual - USUAL_PERMILLE)


def media_parts(body: bytes) -> int:
    """How many images, files and sounds a body may hold; at least one."""
    # A chat names an image twice: as the part's type, and as the field that holds it.
    found = -(-body.count(b'"image_url"') // 2)
    return max(1, found + sum([body.count(mark) for mark in _MEDIA_MARKS]))


def marks_for_cache(body: bytes) -> bool:
    """Whether a request says what of its prompt is to be cached, and perhaps for how long."""
    return b"cache" in body and any(mark in body for mark in _CACHE_MARKS)


def most_searches(body: bytes) -> int:
    """How many searches the provider may run for a call, and charge.

    A call that asks for searches says how many at most, or else is taken for an ordinary one: no provider
    states a bound of its own.
    """
    if body.find(_SEARCH_MARK) < 0:
        return 0
    caps: list[int] = []
    for mark in _SEARCH_CAPS:
        place = body.find(mark)
        for _ in range(MOST_SEARCHES):
            if place < 0:
                break
            place += len(mark)
            if found := _NUMBER.match(body, place):
                caps.append(int(found[1]))
            place = body.find(mark, place)
        else:
            return MOST_SEARCHES  # Nobody sets so many caps.
    return min(max(caps), MOST_SEARCHES) if caps else USUAL_SEARCHES


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
    return min((model if cap is None else cap) * max(1, facts.choice_count), MOST_HELD)

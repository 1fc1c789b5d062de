"""The most that a call may cost: never below what the provider can bill, and the rate is the dearest one."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.domain.price import ContextTier, TokenPrice, list_cost
from collector.domain.usage import Usage
from collector.pricing.book import PriceBook
from sidecar.budgets.bounds import (
    MARGIN,
    MEDIA_TOKENS,
    MESSAGE_TOKENS,
    UNKNOWN_CONTEXT,
    UNKNOWN_MAX_OUTPUT,
    dearest_rates,
    most_input_tokens,
    most_output_tokens,
    most_stored_tokens,
)
from sidecar.wire import RequestFacts, read_request

LONG = TokenPrice(input=30, output=90, cache_read=3, cache_write=60)
PRICE = TokenPrice(
    input=10,
    output=40,
    cache_read=1,
    cache_write=12,
    cache_write_1h=20,
    reasoning=50,
    audio_input=100,
    audio_output=200,
    image_input=15,
    per_request=7,
    context_tiers=(ContextTier(200_000, LONG),),
    service_tiers=(("priority", TokenPrice(input=18, output=72)), ("flex", TokenPrice(input=5, output=20))),
)
BOOK = PriceBook.load({})
CHAT = RequestFacts("openai.chat", "m", text_bytes=1000, message_hashes=[1, 2, 3])


def rates(
    tokens: int = 1000, tier: str = "", *, writes_cache: bool = False, media: bool = False
) -> tuple[int, int, int]:
    return tuple(dearest_rates(PRICE, tokens, tier, writes_cache=writes_cache, media=media))  # type: ignore[return-value]


def test_a_plain_call_reads_at_the_input_rate_and_writes_at_the_dearer_of_text_and_thought() -> None:
    assert rates() == (10, 50, 7)


def test_a_prompt_that_may_be_written_to_a_cache_is_read_at_the_dearest_write() -> None:
    assert rates(writes_cache=True) == (20, 50, 7)


def test_media_are_taken_for_the_dearest_kind() -> None:
    assert rates(media=True) == (100, 200, 7)


def test_a_long_prompt_is_read_and_answered_at_the_rates_of_its_tier() -> None:
    assert rates(200_000)[:2] == (10, 50)
    assert rates(200_001)[:2] == (30, 90)


@pytest.mark.parametrize(
    ("tier", "expected"), [("priority", (18, 72)), ("flex", (5, 20)), ("auto", (10, 50)), ("?", (10, 50))]
)
def test_the_service_tier_that_is_asked_for_counts(tier: str, expected: tuple[int, int]) -> None:
    assert rates(tier=tier)[:2] == expected


counts = st.integers(0, 300_000)


@given(counts, counts, counts, counts, counts, st.data())
def test_no_way_to_use_so_many_tokens_costs_more(
    plain: int, read: int, wrote: int, hour: int, output: int, data: st.DataObject
) -> None:
    """Whatever class the tokens turn out to be of, the bound at the dearest rates covers them."""
    usage = Usage(
        input_tokens=plain + read + wrote,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_write_input_tokens=wrote,
        cache_write_1h_input_tokens=min(wrote, hour),
        reasoning_output_tokens=data.draw(st.integers(0, output)),
    )
    bound = dearest_rates(PRICE, usage.input_tokens, "", writes_cache=True, media=False)
    most = usage.input_tokens * bound.input + output * bound.output + bound.per_request
    assert list_cost(usage, PRICE) <= most


# ---- input --------------------------------------------------------------------------------------


def test_input_is_bounded_by_two_bytes_a_token_while_nothing_was_learned() -> None:
    # 1,000 bytes, three messages and the reply's beginning
    assert most_input_tokens(CHAT, 2000, 9, learned=False) == 500 + 4 * MESSAGE_TOKENS


def test_a_learned_ratio_bounds_with_a_margin_and_never_beyond_a_token_a_byte() -> None:
    framing = 4 * MESSAGE_TOKENS
    assert most_input_tokens(CHAT, 2000, 250, learned=True) == round(250 * MARGIN) + framing
    assert most_input_tokens(CHAT, 2000, 900, learned=True) == 1000 + framing


@pytest.mark.parametrize("field", ["has_images", "has_remote_media"])
def test_media_are_never_free(field: str) -> None:
    seen = RequestFacts("openai.chat", "m", text_bytes=10)
    setattr(seen, field, True)
    assert most_input_tokens(seen, 100, 5, learned=False) >= MEDIA_TOKENS
    assert most_input_tokens(seen, 64_000_000, 5, learned=False) >= 1_000_000


@given(st.text(max_size=400))
def test_input_is_at_least_one_token_for_each_two_bytes_of_text(text: str) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    facts = read_request("openai.chat", body)
    assert facts.text_bytes >= len(text.encode("utf-8", "surrogatepass"))
    assert 2 * most_input_tokens(facts, len(body), 0, learned=False) >= facts.text_bytes


@pytest.mark.parametrize(
    ("more", "stored"),
    [
        ({"previous_response_id": "resp_1"}, True),
        ({"conversation": "conv_1"}, True),
        ({"conversation": {"id": "conv_1"}}, True),
        ({"metadata": {"conversation_id": "ours"}}, False),
        ({}, False),
    ],
)
def test_what_a_provider_keeps_of_a_conversation_may_be_all_that_the_model_can_read(
    more: dict[str, object], stored: bool
) -> None:
    body = json.dumps({"model": "gpt-4o-mini", "input": "and then?", **more}).encode()
    quote = BOOK.quote("openai", "gpt-4o-mini", 0)
    assert quote.context_tokens
    facts = read_request("openai.responses", body)
    assert most_stored_tokens(facts, body, quote) == (quote.context_tokens if stored else 0)
    unknown = replace(quote, context_tokens=None)
    assert most_stored_tokens(facts, body, unknown) == (UNKNOWN_CONTEXT if stored else 0)


# ---- output -------------------------------------------------------------------------------------


def test_the_calls_own_cap_counts_once_for_each_choice() -> None:
    quote = BOOK.quote("openai", "gpt-4o-mini", 0)
    asked = RequestFacts("openai.chat", "gpt-4o-mini", max_output_tokens=100, choice_count=8)
    assert most_output_tokens(asked, quote) == 800
    assert most_output_tokens(RequestFacts("openai.chat", "gpt-4o-mini", max_output_tokens=0), quote) == 0


def test_without_a_cap_the_model_can_write_as_much_as_it_can() -> None:
    known = BOOK.quote("openai", "gpt-4o-mini", 0)
    assert known.max_output_tokens
    asked = RequestFacts("openai.chat", "gpt-4o-mini", choice_count=2)
    assert most_output_tokens(asked, known) == 2 * known.max_output_tokens
    unknown = replace(known, max_output_tokens=None)
    assert most_output_tokens(asked, unknown) == 2 * UNKNOWN_MAX_OUTPUT


def test_embeddings_write_nothing() -> None:
    quote = BOOK.quote("openai", "text-embedding-3-small", 0)
    assert most_output_tokens(RequestFacts("openai.embeddings", "text-embedding-3-small"), quote) == 0

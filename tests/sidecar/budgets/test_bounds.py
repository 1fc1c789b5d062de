"""The most that a call may cost: never below what the provider can bill, and the rate is the dearest one."""

import base64
import json
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.price import ContextTier, TokenPrice, list_cost
from collector.domain.usage import Usage
from collector.pricing.book import PriceBook
from sidecar.budgets.bounds import (
    MARGIN,
    MEDIA_TOKENS,
    MESSAGE_TOKENS,
    MOST_SEARCHES,
    UNKNOWN_CONTEXT,
    UNKNOWN_MAX_OUTPUT,
    USUAL_SEARCHES,
    dearest_rates,
    marks_for_cache,
    most_input_tokens,
    most_output_tokens,
    most_searches,
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
WORDS = ["the", "sum", "of", "every", "small", "number", "answer", "below", "question", "tokenizer"]
PROSE = b"every ordinary sentence contains letters mostly, separated occasionally " * 40
CHAT = RequestFacts("openai.chat", "m", text_bytes=1000, message_hashes=[1, 2, 3])


def rates(
    tokens: int = 1000,
    tier: str = "",
    *,
    writes_cache: bool = False,
    keeps_long: bool = False,
    media: bool = False,
) -> tuple[int, int, int]:
    return dearest_rates(PRICE, tokens, tier, writes_cache=writes_cache, keeps_long=keeps_long, media=media)


def test_a_plain_call_reads_at_the_input_rate_and_writes_at_the_dearer_of_text_and_thought() -> None:
    assert rates() == (10, 50, 7)


def test_a_prompt_that_may_be_written_to_a_cache_is_read_at_the_dearest_write() -> None:
    assert rates(writes_cache=True) == (12, 50, 7)
    assert rates(writes_cache=True, keeps_long=True) == (20, 50, 7)


@pytest.mark.parametrize(
    ("body", "marked"),
    [
        (
            b'{"messages":[{"content":[{"type":"text","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]}',
            True,
        ),
        (b'{"system":[{"text":"x"},{"cachePoint":{"type":"default"}}]}', True),
        (b'{"prompt_cache_options":{"ttl":"12h"}}', True),
        (
            b'{"input":[{"type":"input_text","prompt_cache_breakpoint":{"mode":"explicit","ttl":"12h"}}]}',
            True,
        ),
        (b'{"prompt_cache_key":"k","input":"what a cachePoint is, and cache_control"}', False),
        (b'{"input":"hi"}', False),
    ],
)
def test_a_request_says_in_each_apis_words_what_is_to_be_cached(body: bytes, marked: bool) -> None:
    assert marks_for_cache(body) is marked


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
    bound = dearest_rates(PRICE, usage.input_tokens, "", writes_cache=True, keeps_long=True, media=False)
    most = usage.input_tokens * bound.input + output * bound.output + bound.per_request
    assert list_cost(usage, PRICE) <= most


# ---- input --------------------------------------------------------------------------------------


def test_input_is_bounded_by_two_bytes_a_token_while_nothing_was_learned() -> None:
    # 1,000 bytes, three messages and the reply's beginning
    assert most_input_tokens(CHAT, PROSE, 9, learned=False) == 500 + 4 * MESSAGE_TOKENS


def test_a_learned_ratio_bounds_with_a_margin_and_never_beyond_a_token_a_byte() -> None:
    framing = 4 * MESSAGE_TOKENS
    assert most_input_tokens(CHAT, PROSE, 250, learned=True) == round(250 * MARGIN) + framing
    assert most_input_tokens(CHAT, PROSE, 900, learned=True) == 1000 + framing


@pytest.mark.parametrize("field", ["has_images", "has_remote_media"])
def test_media_are_never_free(field: str) -> None:
    seen = RequestFacts("openai.chat", "m", text_bytes=10)
    setattr(seen, field, True)
    assert most_input_tokens(seen, b"x" * 100, 5, learned=False) >= MEDIA_TOKENS
    assert most_input_tokens(seen, b"x" * 64_000_000, 5, learned=False) >= 1_000_000


@given(st.text(max_size=400))
def test_input_is_at_least_one_token_for_each_two_bytes_of_text(text: str) -> None:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    facts = read_request("openai.chat", body)
    assert facts.text_bytes >= len(text.encode("utf-8", "surrogatepass"))
    assert 2 * most_input_tokens(facts, body, 0, learned=False) >= facts.text_bytes


def tokens_at_most(text: str, *, learned_bytes_per_token: float | None = None) -> int:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    facts = read_request("openai.chat", body)
    learned = learned_bytes_per_token is not None
    estimated = round(facts.text_bytes / learned_bytes_per_token) if learned_bytes_per_token else 0
    return most_input_tokens(facts, body, estimated, learned=learned)


@pytest.mark.parametrize("length", [40, 20_000])
@pytest.mark.parametrize("ratio", [None, 4.2])
@given(seed=st.integers(0, 2**32), share=st.integers(0, 100))
@settings(max_examples=12, deadline=None)
def test_every_digit_may_be_a_token_of_its_own(
    length: int, ratio: float | None, seed: int, share: int
) -> None:
    """Qwen's tokenizers split numbers into digits, and none joins a digit with the space beside it."""
    rng = random.Random(seed)
    words = [
        rng.choice(WORDS) if rng.randrange(100) >= share else str(rng.randrange(10)) for _ in range(length)
    ]
    text = " ".join(words)
    digits = sum(word.isdigit() for word in words)
    # A word with the space before it is one token; digits and the spaces before them are one each.
    assert tokens_at_most(text, learned_bytes_per_token=ratio) >= 2 * digits + (length - digits)


@pytest.mark.parametrize("ratio", [None, 4.2])
def test_encoded_bytes_are_no_prose(ratio: float | None) -> None:
    noise = random.Random(1).randbytes(30_000)
    encoded = base64.b64encode(noise).decode()
    # Three quarters of a token for each letter is what today's tokenizers make of it.
    assert tokens_at_most(encoded, learned_bytes_per_token=ratio) >= len(encoded) * 3 // 4
    # And of hexadecimal digits.
    assert tokens_at_most(noise.hex(), learned_bytes_per_token=ratio) >= len(noise.hex()) * 3 // 4


def test_ordinary_prose_is_not_held_at_more_than_before() -> None:
    rng = random.Random(2)
    text = " ".join(rng.choice(WORDS) for _ in range(2_000)).capitalize() + "."
    size = len(text)
    assert tokens_at_most(text) <= size // 2 + 2 * MESSAGE_TOKENS + size // 50
    assert (
        tokens_at_most(text, learned_bytes_per_token=4.2)
        <= size * MARGIN / 4.2 + 2 * MESSAGE_TOKENS + size // 50
    )


@given(st.integers(1, 40))
def test_every_remote_image_is_held_for(count: int) -> None:
    image = {"type": "image_url", "image_url": {"url": "https://images.example/1.png"}}
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": [image] * count}]}).encode()
    assert most_input_tokens(read_request("openai.chat", body), body, 0, learned=True) >= count * MEDIA_TOKENS
    image = {"type": "input_image", "image_url": "https://images.example/1.png"}
    body = json.dumps({"model": "m", "input": [{"role": "user", "content": [image] * count}]}).encode()
    facts = read_request("openai.responses", body)
    assert most_input_tokens(facts, body, 0, learned=True) >= count * MEDIA_TOKENS
    image = {"type": "image", "source": {"type": "url", "url": "https://images.example/1.png"}}
    said = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": [image] * count}]}
    body = json.dumps(said).encode()
    facts = read_request("anthropic.messages", body)
    assert most_input_tokens(facts, body, 0, learned=True) >= count * MEDIA_TOKENS


@pytest.mark.parametrize(
    ("more", "searches"),
    [
        ({}, 0),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}]}, 3),
        ({"tools": [{"type": "web_search"}], "max_tool_calls": 7}, 7),
        ({"tools": [{"type": "web_search", "max_uses": 2}], "max_tool_calls": 7}, 7),
        ({"tools": [{"type": "web_search", "max_uses": 10**8}]}, MOST_SEARCHES),
        ({"tools": [{"type": "web_search", "max_uses": 1}] * MOST_SEARCHES}, MOST_SEARCHES),
        ({"web_search_options": {}}, USUAL_SEARCHES),
        ({"tools": [{"type": "web_search"}]}, USUAL_SEARCHES),
    ],
)
def test_searches_on_the_providers_side_are_held_for(more: dict[str, object], searches: int) -> None:
    assert most_searches(json.dumps({"model": "m", **more}).encode()) == searches
    assert most_searches(json.dumps({"model": "m", **more}, separators=(",", ":")).encode()) == searches


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

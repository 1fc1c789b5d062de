"""A cost is an integer, its parts sum to it, and each token is charged once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.domain.price import (
    RATE_NAMES,
    ContextTier,
    TokenPrice,
    cost_parts,
    in_region,
    list_cost,
    map_rates,
    price_in_force,
    search_cost,
)
from collector.domain.usage import Usage

MTOK = 1_000_000  # one USD per million tokens, in pico-USD per token

SONNET = TokenPrice(
    input=3 * MTOK,
    output=15 * MTOK,
    cache_read=300_000,
    cache_write=3_750_000,
    cache_write_1h=6 * MTOK,
    per_search=10**10,
)

rates = st.integers(0, 10**9)
counts = st.integers(0, 10**6)


@st.composite
def prices(draw: st.DrawFn) -> TokenPrice:
    figures = {name: draw(rates) for name in RATE_NAMES}
    return TokenPrice(**figures, per_request=draw(rates), per_search=draw(rates))


@st.composite
def tiered_prices(draw: st.DrawFn) -> TokenPrice:
    base, long, batch = draw(prices()), draw(prices()), draw(prices())
    above = draw(st.integers(1, 2 * 10**6))
    tiers = (ContextTier(above, long),)
    figures = {name: getattr(base, name) for name in (*RATE_NAMES, "per_request", "per_search")}
    return TokenPrice(
        **figures, context_tiers=tiers, service_tiers=(("batch", batch),), regional_permille=(("eu", 1100),)
    )


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    read, write, fresh, output = draw(counts), draw(counts), draw(counts), draw(counts)
    return Usage(
        input_tokens=read + write + fresh,
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_write_input_tokens=write,
        cache_write_1h_input_tokens=draw(st.integers(0, write)),
        reasoning_output_tokens=draw(st.integers(0, output)),
        audio_input_tokens=draw(counts),
        audio_output_tokens=draw(counts),
        image_input_tokens=draw(counts),
        image_output_tokens=draw(counts),
        cache_read_audio_input_tokens=draw(counts),
        web_searches=draw(st.integers(0, 10)),
    )


tiers_asked = st.sampled_from(["", "batch", "flex", "default"])


def test_a_cached_call_costs_what_the_bill_says() -> None:
    usage = Usage(
        input_tokens=15_097,
        output_tokens=290,
        cache_read_input_tokens=14_714,
        cache_write_input_tokens=379,
    )

    # 4 x 3 + 14,714 x 0.30 + 379 x 3.75 + 290 x 15 = 10,197.45 micro-USD
    assert list_cost(usage, SONNET) == 10_197_450_000


def test_writes_that_last_an_hour_cost_more_than_short_ones() -> None:
    usage = Usage(input_tokens=2_070, cache_write_input_tokens=2_070, cache_write_1h_input_tokens=2_056)

    # 14 x 3.75 + 2,056 x 6
    assert list_cost(usage, SONNET) == (52_500_000 + 12_336_000_000)


def test_audio_and_text_of_one_prompt_are_charged_apart() -> None:
    price = TokenPrice(input=2_500_000, output=10 * MTOK, audio_input=40 * MTOK, audio_output=80 * MTOK)
    usage = Usage(input_tokens=81, audio_input_tokens=69, output_tokens=72, audio_output_tokens=50)

    # 12 x 2.5 + 69 x 40 + 22 x 10 + 50 x 80
    assert list_cost(usage, price) == 30_000_000 + 2_760_000_000 + 220_000_000 + 4_000_000_000


def test_cached_audio_is_not_charged_twice() -> None:
    price = TokenPrice(input=1, output=1, cache_read=2, audio_input=5, cache_read_audio=3)
    usage = Usage(
        input_tokens=100,
        cache_read_input_tokens=40,
        audio_input_tokens=50,
        cache_read_audio_input_tokens=30,
    )

    # text 40 x 1, audio 20 x 5, cached text 10 x 2, cached audio 30 x 3
    assert list_cost(usage, price) == 40 + 100 + 20 + 90


def test_reasoning_is_output_unless_it_has_a_rate_of_its_own() -> None:
    usage = Usage(output_tokens=100, reasoning_output_tokens=60)

    assert list_cost(usage, TokenPrice(input=1, output=10)) == 1_000
    assert list_cost(usage, TokenPrice(input=1, output=10, reasoning=3)) == 40 * 10 + 60 * 3


def test_a_request_and_its_searches_have_fees() -> None:
    price = TokenPrice(input=1, output=1, per_request=12 * 10**9, per_search=10**10)
    usage = Usage(input_tokens=5, web_searches=2)

    assert list_cost(usage, price) == 5 + 12 * 10**9 + 2 * 10**10
    assert search_cost(usage, price) == 2 * 10**10


@pytest.mark.parametrize(
    ("prompt", "rate"),
    [(199_999, 3), (200_000, 3), (200_001, 6), (1_000_000, 6), (1_000_001, 9)],
)
def test_a_long_prompt_moves_the_whole_call_to_its_tier(prompt: int, rate: int) -> None:
    price = TokenPrice(
        input=3,
        output=1,
        context_tiers=(
            ContextTier(200_000, TokenPrice(input=6, output=2)),
            ContextTier(1_000_000, TokenPrice(input=9, output=3)),
        ),
    )

    assert list_cost(Usage(input_tokens=prompt), price) == prompt * rate


def test_cached_tokens_count_for_the_size_of_the_prompt() -> None:
    long = TokenPrice(input=6, output=2, cache_read=5)
    price = TokenPrice(input=3, output=1, cache_read=1, context_tiers=(ContextTier(200_000, long),))
    usage = Usage(input_tokens=200_001, cache_read_input_tokens=200_000)

    assert list_cost(usage, price) == 6 + 200_000 * 5


def test_a_service_tier_has_its_own_rates_and_its_own_long_prompt() -> None:
    batch = TokenPrice(input=5, output=5, context_tiers=(ContextTier(100, TokenPrice(input=8, output=8)),))
    price = TokenPrice(input=10, output=10, service_tiers=(("batch", batch),))

    assert list_cost(Usage(input_tokens=100), price, service_tier="batch") == 500
    assert list_cost(Usage(input_tokens=101), price, service_tier="batch") == 808
    assert list_cost(Usage(input_tokens=101), price, service_tier="default") == 1_010


def test_a_region_charges_its_surcharge_rounded_up_to_the_pico() -> None:
    price = TokenPrice(input=15, output=10, per_request=7, regional_permille=(("eu", 1_100),))

    # 15 x 1.1 = 16.5 -> 17; the fee stays
    assert list_cost(Usage(input_tokens=2), in_region(price, 1_100)) == 2 * 17 + 7
    assert in_region(price, 1_100).regional_permille == ()


@given(usages(), tiered_prices(), tiers_asked)
def test_a_region_makes_every_token_dearer_and_no_fee(usage: Usage, price: TokenPrice, tier: str) -> None:
    there = cost_parts(usage, in_region(price, 1_100), service_tier=tier)

    for part, before in zip(there, cost_parts(usage, price, service_tier=tier), strict=True):
        more = 0 if part.name.startswith("per_") else -(-before.list_unit_price * 100 // 1000)
        assert part.list_unit_price == before.list_unit_price + more


def test_a_missing_rate_takes_its_fallback_and_nothing_is_free() -> None:
    price = TokenPrice(input=7, output=9, cache_write=8)

    assert (price.cache_read, price.cache_write_1h, price.audio_input, price.image_input) == (7, 8, 7, 7)
    assert (price.reasoning, price.audio_output, price.image_output) == (9, 9, 9)
    assert TokenPrice(input=7, output=9, cache_read=1).cache_read_audio == 1


def test_a_negative_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="negative rate"):
        TokenPrice(input=-5, output=1)
    with pytest.raises(ValueError, match="negative rate"):
        TokenPrice(input=1, output=1, per_request=-1)


def test_tiers_out_of_order_are_refused() -> None:
    tier = TokenPrice(input=1, output=1)
    with pytest.raises(ValueError, match="ascend"):
        TokenPrice(input=1, output=1, context_tiers=(ContextTier(2, tier), ContextTier(1, tier)))


@given(usages(), tiered_prices(), tiers_asked)
def test_the_parts_of_a_cost_sum_to_it(usage: Usage, price: TokenPrice, tier: str) -> None:
    parts = cost_parts(usage, price, service_tier=tier)

    assert sum(part.cost for part in parts) == list_cost(usage, price, service_tier=tier)
    assert all(part.cost == part.quantity * part.list_unit_price for part in parts)
    assert all(type(part.cost) is int and part.cost >= 0 for part in parts)


@given(usages(), prices())
def test_each_token_is_on_exactly_one_line(usage: Usage, price: TokenPrice) -> None:
    lines = {part.name: part.quantity for part in cost_parts(usage, price)}
    fees = {"per_request", "per_search"}
    outputs = {"output", "reasoning", "audio_output", "image_output"}

    assert sum(n for name, n in lines.items() if name in outputs) == usage.output_tokens
    assert sum(n for name, n in lines.items() if name not in outputs | fees) == usage.input_tokens


@given(usages(), prices())
def test_the_short_way_and_the_long_way_agree(usage: Usage, price: TokenPrice) -> None:
    """A price without media rates takes a shorter path through the arithmetic."""
    plain = TokenPrice(
        input=price.input,
        output=price.output,
        cache_read=price.cache_read,
        cache_write=price.cache_write,
        cache_write_1h=price.cache_write_1h,
        reasoning=price.reasoning,
        per_request=price.per_request,
        per_search=price.per_search,
    )
    text = Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=usage.cache_read_input_tokens,
        cache_write_input_tokens=usage.cache_write_input_tokens,
        cache_write_1h_input_tokens=usage.cache_write_1h_input_tokens,
        reasoning_output_tokens=usage.reasoning_output_tokens,
        web_searches=usage.web_searches,
    )

    assert list_cost(text, plain) == sum(part.cost for part in cost_parts(text, plain))
    assert list_cost(text, price) == list_cost(text, plain)


@given(usages(), prices(), st.integers(0, 10**9))
def test_cheaper_cache_reads_never_raise_a_bill(usage: Usage, price: TokenPrice, less: int) -> None:
    figures = {name: getattr(price, name) for name in RATE_NAMES}
    cheaper = TokenPrice(
        **{**figures, "cache_read": max(0, price.cache_read - less)}, per_request=price.per_request
    )
    dearer = TokenPrice(**figures, per_request=price.per_request)

    assert list_cost(usage, cheaper) <= list_cost(usage, dearer)


@given(st.data(), usages(), prices())
def test_more_tokens_of_a_class_never_cost_less(data: st.DataObject, usage: Usage, price: TokenPrice) -> None:
    more = data.draw(st.integers(0, 10**6))
    field = data.draw(st.sampled_from(["input_tokens", "output_tokens", "web_searches"]))
    counted = {name: getattr(usage, name) for name in Usage.__dataclass_fields__}
    # Media counts may overlap with text: without them the classes are disjoint by construction.
    counted = {name: 0 if "audio" in name or "image" in name else value for name, value in counted.items()}

    before, after = Usage(**counted), Usage(**{**counted, field: counted[field] + more})

    assert list_cost(after, price) >= list_cost(before, price)


@given(usages(), tiered_prices())
def test_the_tier_begins_one_token_above_its_edge(usage: Usage, price: TokenPrice) -> None:
    above, long = price.context_tiers[0]

    assert price_in_force(price, above) is price_in_force(price, above, service_tier="standard") is price
    assert price_in_force(price, above + 1) is long


@given(prices(), st.integers(0, 3_000))
def test_scaling_never_rounds_down(price: TokenPrice, permille: int) -> None:
    grown = in_region(price, permille)

    assert all(
        0 <= getattr(grown, name) * 1_000 - getattr(price, name) * permille < 1_000 for name in RATE_NAMES
    )
    assert grown.per_request == price.per_request


def test_a_change_of_rates_reaches_the_tiers() -> None:
    tier = TokenPrice(input=4, output=4)
    price = TokenPrice(
        input=2, output=2, context_tiers=(ContextTier(10, tier),), service_tiers=(("batch", tier),)
    )

    doubled = map_rates(price, lambda rate: 2 * rate)

    assert (doubled.input, doubled.context_tiers[0].price.input) == (4, 8)
    assert doubled.service_tiers[0][1].output == 8

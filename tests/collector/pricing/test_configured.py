"""A configured price wins, so a slip of the finger is pointed out."""

import pytest

from collector.pricing.book import PriceBook
from collector.pricing.configured import InvalidPrices, configured_prices


@pytest.mark.parametrize(
    ("usd_in", "suspicious"), [("2500", True), ("0.0025", True), ("1.25", False), ("25", False)]
)
def test_a_price_a_thousand_times_off_the_list_is_pointed_out(usd_in: str, suspicious: bool) -> None:
    book = PriceBook.load({"gpt-4o": {"input": usd_in, "output": 10}})

    assert [warning.rate for warning in book.warnings] == (["input"] if suspicious else [])


def test_the_warning_says_what_is_listed() -> None:
    [warning] = PriceBook.load({"gpt-4o": {"input": "2500", "output": 10}}).warnings

    assert str(warning) == (
        "prices.gpt-4o.input: 2500 USD per million tokens is 1000 times the listed 2.5; a slip of the unit?"
    )


def test_a_model_that_nobody_lists_is_held_to_what_models_cost_at_all() -> None:
    assert len(PriceBook.load({"qwen-own": {"input": "0.00005", "output": "0.0002"}}).warnings) == 2
    assert len(PriceBook.load({"qwen-own": {"input": 50_000, "output": 1}}).warnings) == 1


def test_a_price_per_token_is_not_rounded_to_nothing() -> None:
    with pytest.raises(InvalidPrices, match="per million"):
        configured_prices({"m": {"input": "0.00000005"}})


def test_own_hardware_may_be_booked_at_nothing() -> None:
    assert PriceBook.load({"qwen-own": {"input": 0, "output": 0}}).warnings == ()


def test_fees_are_in_dollars_and_rates_per_million() -> None:
    price = configured_prices({"m": {"input": 1, "per_request": "0.005", "audio_input": 0.1}})["m"]

    assert (price.input, price.output, price.per_request, price.audio_input) == (
        10**6,
        10**6,
        5 * 10**9,
        10**5,
    )


@pytest.mark.parametrize("amount", ["1e999", "1e1000000000", 1_000_001])
@pytest.mark.parametrize("name", ["output", "per_request"])
def test_a_price_beyond_all_money_is_refused_by_its_name(name: str, amount: object) -> None:
    """1e999 once came out as an InvalidOperation that named nothing."""
    with pytest.raises(InvalidPrices, match=rf"prices\.m\.{name}: .* more than a million USD"):
        configured_prices({"m": {"input": 1, name: amount}})  # type: ignore[dict-item]


@pytest.mark.parametrize("amount", ["nan", "inf", -1, "ten", None, [1]])
def test_what_is_no_amount_is_refused(amount: object) -> None:
    with pytest.raises(InvalidPrices, match=r"prices\.m\.input"):
        configured_prices({"m": {"input": amount}})  # type: ignore[dict-item]


def test_a_price_needs_an_input() -> None:
    with pytest.raises(InvalidPrices, match="input is missing"):
        configured_prices({"m": {"output": 1}})

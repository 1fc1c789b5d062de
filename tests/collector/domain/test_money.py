"""Money is exact in every unit it is kept in."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.domain.money import nano_rounded_up, pico_from_usd, pico_per_token, usd, usd_text


@given(st.integers(-(10**18), 10**18))
def test_pico_usd_survive_the_way_to_decimal_and_back(pico: int) -> None:
    assert pico_from_usd(usd(pico)) == pico


@given(st.integers(-(10**18), 10**18))
def test_an_amount_is_written_out_exactly(pico: int) -> None:
    assert Decimal(usd_text(pico)) == usd(pico)
    assert len(usd_text(pico).partition(".")[2]) == 12


@given(st.integers(0, 10**18))
def test_a_budget_counter_is_never_short_and_never_a_whole_nano_too_high(pico: int) -> None:
    nano = nano_rounded_up(pico)
    assert nano * 1000 >= pico > (nano - 1) * 1000


def test_a_price_per_million_tokens_is_a_whole_number_per_token() -> None:
    assert pico_per_token("2.50") == 2_500_000  # 2.5 USD / 1e6 tokens = 2.5e-6 USD
    assert pico_per_token(Decimal("0.00013")) == 130


@pytest.mark.parametrize("amount", ["NaN", "Infinity"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="not an amount"):
        pico_from_usd(amount)


@pytest.mark.parametrize("amount", ["1e999", "-1e999", "1e999999999", "1000000000000000"])
def test_what_is_more_than_all_money_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="larger than any amount of money"):
        pico_from_usd(amount)
    with pytest.raises(ValueError, match="larger than any amount of money"):
        pico_per_token(amount)


def test_the_largest_amount_keeps_its_last_digit() -> None:
    assert pico_from_usd("999999999999999.999999999999") == 10**27 - 1

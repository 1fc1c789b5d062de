from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.price import TokenPrice
from collector.probes.gpu_cost import (
    NOTHING,
    CapacityPrice,
    Charge,
    Split,
    Window,
    Work,
    apportion,
    capacity_between,
    claim,
    energy_money,
    split,
)
from collector.probes.gpu_prices import break_even, cache_saving, engine_price, fully_loaded, present_price
from collector.probes.timelines import Timeline, busy_time, work_within
from collector.probes.work_units import Coefficients, prior

S = 1_000_000
HOUR = 3600 * S
USD = 10**12

ONE_TO_TEN = Coefficients(prompt_ps=1_000_000, output_ps=10_000_000, method="calibrated", residual=0.1)
RENTED = CapacityPrice.rented(Decimal("3.60"))  # 0.001 USD a second


def added(parts: Split) -> Charge:
    return sum(parts.charges.values(), parts.idle + parts.unobserved)


# ---- what a window costs


def test_an_hour_of_two_rented_gpus_costs_twice_the_price() -> None:
    price = CapacityPrice.rented(Decimal("2.50"), gpus=2)
    assert capacity_between(price, 0, HOUR) == 5 * USD


def test_a_bought_gpu_costs_its_loss_of_value_and_its_energy() -> None:
    price = CapacityPrice.owned(
        Decimal(30_000),
        Decimal(5),
        residual_usd=Decimal(3_702),
        upkeep_hour_usd=Decimal("0.10"),
        kwh_usd=Decimal("0.20"),
        pue=Decimal("1.25"),
    )
    assert capacity_between(price, 0, HOUR) == 700_000_000_000  # 26 298 / (5 x 8766 h) + 0.10
    assert energy_money(price, 3_600_000_000) == 250_000_000_000  # 1 kWh x 0.20 x 1.25


def test_a_price_below_zero_or_a_building_that_makes_energy_is_refused() -> None:
    with pytest.raises(ValueError, match="PUE"):
        CapacityPrice.rented(Decimal(1), pue=Decimal("0.9"))
    with pytest.raises(ValueError, match="not negative"):
        CapacityPrice.rented(Decimal(-1))
    with pytest.raises(ValueError, match="no years"):
        CapacityPrice.owned(Decimal(1), Decimal(0))


@given(
    st.integers(0, 10**14), st.lists(st.integers(1, 10**10), min_size=1, max_size=20), st.integers(0, 10**14)
)
def test_neighbouring_windows_cost_what_the_whole_costs(start: int, lengths: list[int], hour: int) -> None:
    price = CapacityPrice(hour_pico=hour)
    edges = [start]
    for length in lengths:
        edges.append(edges[-1] + length)
    parts = [capacity_between(price, a, b) for a, b in pairwise(edges)]
    assert sum(parts) == capacity_between(price, start, edges[-1])


# ---- how it is split


def test_busy_money_goes_by_work_and_the_rest_is_idle() -> None:
    window = Window(start_us=0, end_us=10 * S, busy_us=6 * S)
    works = [
        Work(attempt="prompt", prompt_tokens=10_000, cached_tokens=90_000),
        Work(attempt="output", output_tokens=2_000),
    ]

    parts = split(window, RENTED, works, ONE_TO_TEN)

    # 0.01 USD in all, 0.006 busy; work 10 000 x 1 to 2 000 x 10.
    assert parts.total == Charge(10_000_000_000, 10 * S, 0)
    assert parts.idle == Charge(4_000_000_000, 4 * S, 0)
    assert parts.charges == {
        "prompt": Charge(2_000_000_000, 2 * S, 0),
        "output": Charge(4_000_000_000, 4 * S, 0),
    }
    assert parts.unobserved == NOTHING
    assert (parts.method, parts.residual) == ("calibrated", 0.1)


def test_energy_at_rest_belongs_to_idle_time_and_the_rest_to_those_who_worked() -> None:
    price = CapacityPrice.rented(Decimal(0), kwh_usd=Decimal("0.36"))  # 100 nano-USD a joule
    window = Window(start_us=0, end_us=10 * S, busy_us=5 * S, energy_mj=4_000_000, idle_power_mw=100_000)

    parts = split(window, price, [Work(attempt="a", output_tokens=1)], ONE_TO_TEN)

    assert parts.idle == Charge(50_000_000, 5 * S, 500_000)  # 100 W x 5 s
    assert parts.charges["a"] == Charge(350_000_000, 5 * S, 3_500_000)


def test_a_cached_prompt_costs_nothing() -> None:
    window = Window(start_us=0, end_us=S, busy_us=S)
    works = [Work(attempt="warm", cached_tokens=100_000), Work(attempt="cold", prompt_tokens=10)]
    parts = split(window, RENTED, works, ONE_TO_TEN)
    assert parts.charges["warm"] == NOTHING
    assert parts.charges["cold"].money_pico == 1_000_000_000


def test_traffic_that_bypasses_us_is_a_line_of_its_own() -> None:
    window = Window(start_us=0, end_us=S, busy_us=S, engine_prompt_tokens=4_000, engine_output_tokens=0)
    parts = split(window, RENTED, [Work(attempt="a", prompt_tokens=1_000)], ONE_TO_TEN, slack=0.0)
    assert parts.charges["a"].money_pico == 250_000_000
    assert parts.unobserved.money_pico == 750_000_000


def test_tokens_counted_a_window_early_or_late_are_not_taken_for_bypass() -> None:
    """The engine counts a prompt when it is done; we spread it over the time that it took."""
    ahead, unobserved = 0, []
    for engine, ours in [(1000, 900), (1000, 1150), (1000, 950), (1000, 1000)] * 5:
        window = Window(start_us=0, end_us=S, busy_us=S, engine_prompt_tokens=engine, engine_output_tokens=0)
        parts = split(window, RENTED, [Work(attempt="a", prompt_tokens=ours)], ONE_TO_TEN, ahead_units=ahead)
        ahead = parts.ahead_units
        unobserved.append(parts.unobserved)
    assert unobserved == [NOTHING] * 20


def test_a_small_bypass_that_stays_is_found_in_the_end() -> None:
    ahead, found, engine = 0, 0, 0
    for _ in range(100):
        window = Window(start_us=0, end_us=S, busy_us=S, engine_prompt_tokens=1_100, engine_output_tokens=0)
        parts = split(window, RENTED, [Work(attempt="a", prompt_tokens=1_000)], ONE_TO_TEN, ahead_units=ahead)
        ahead, found, engine = parts.ahead_units, found + parts.unobserved_units, engine + 1_100
    assert found == pytest.approx(10_000 * ONE_TO_TEN.prompt_ps, rel=0.05)


def test_without_any_known_work_busy_time_is_nobodys_and_not_idle() -> None:
    parts = split(Window(start_us=0, end_us=S, busy_us=S // 4), RENTED, [], ONE_TO_TEN)
    assert parts.unobserved.money_pico == 250_000_000
    assert parts.idle.money_pico == 750_000_000


def test_a_call_whose_record_comes_late_takes_its_share_from_the_unobserved_line() -> None:
    window = Window(start_us=0, end_us=S, busy_us=S, engine_prompt_tokens=4_000, engine_output_tokens=0)
    settled = split(window, RENTED, [Work(attempt="a", prompt_tokens=1_000)], ONE_TO_TEN, slack=0.0)

    charge, after = claim(settled, Work(attempt="late", prompt_tokens=2_000))

    assert charge.money_pico == 500_000_000
    assert after.charges["late"] == charge
    assert (after.unobserved.money_pico, added(after)) == (250_000_000, settled.total)
    charge, after = claim(after, Work(attempt="later", prompt_tokens=5_000))
    assert (charge.money_pico, after.unobserved, after.units) == (250_000_000, NOTHING, 4_000 * 1_000_000)
    assert claim(after, Work(attempt="last", prompt_tokens=1)) == (NOTHING, after)


amounts = st.integers(0, 10**7)
works = st.lists(
    st.builds(
        Work,
        attempt=st.sampled_from("abcdefgh"),
        prompt_tokens=amounts,
        output_tokens=amounts,
        cached_tokens=amounts,
    ),
    max_size=12,
)
coefficients = st.builds(
    lambda a, b: Coefficients(prompt_ps=a, output_ps=b + 1, method="calibrated", residual=0.0),
    st.integers(0, 10**10),
    st.integers(0, 10**12),
)
prices = st.builds(
    CapacityPrice,
    hour_pico=st.integers(0, 10**15),
    kwh_pico=st.integers(0, 10**13),
    pue_parts=st.integers(10_000, 30_000),
    gpus=st.integers(1, 16),
)
windows = st.builds(
    lambda start, length, busy, energy, idle, engine: Window(
        start_us=start,
        end_us=start + length,
        busy_us=busy,
        energy_mj=energy,
        idle_power_mw=idle,
        engine_prompt_tokens=engine and engine[0],
        engine_output_tokens=engine and engine[1],
    ),
    st.integers(0, 2 * 10**15),
    st.integers(1, HOUR),
    st.integers(-10, 2 * HOUR),
    st.integers(0, 10**10),
    st.integers(0, 10**7) | st.none(),
    st.tuples(amounts, amounts) | st.none(),
)


@settings(max_examples=200)
@given(windows, prices, works, coefficients, st.integers(-(10**18), 10**18), st.floats(0, 1), works)
def test_charges_idle_and_unobserved_are_the_meter_exactly(
    window: Window,
    price: CapacityPrice,
    done: list[Work],
    by: Coefficients,
    ahead: int,
    slack: float,
    late: list[Work],
) -> None:
    parts = split(window, price, done, by, ahead_units=ahead, slack=slack)

    meter = capacity_between(price, window.start_us, window.end_us) + energy_money(price, window.energy_mj)
    assert parts.total == Charge(meter, window.length_us * price.gpus, window.energy_mj)
    assert added(parts) == parts.total
    assert min(min(line) for line in (*parts.charges.values(), parts.idle, parts.unobserved)) >= 0
    for work in late:
        _, parts = claim(parts, work)
        assert added(parts) == parts.total
        assert min(min(line) for line in (*parts.charges.values(), parts.unobserved)) >= 0
    loaded = fully_loaded(parts)
    assert sum(loaded.values()) == (meter if loaded else 0)


@given(st.integers(0, 10**20), st.lists(st.integers(0, 10**20), min_size=1).filter(any))
def test_parts_sum_to_the_amount_and_are_less_than_one_off(amount: int, weights: list[int]) -> None:
    parts = apportion(amount, weights)
    assert sum(parts) == amount
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - amount * weight) < sum(weights)
        assert part >= 0


def test_nothing_is_not_divided_by_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to divide by"):
        apportion(5, [0, 0])


# ---- from records to work


def test_a_prompt_flows_until_the_first_token_and_the_output_after_it() -> None:
    line = Timeline(
        attempt="a",
        started_us=0,
        first_token_us=2 * S,
        ended_us=10 * S,
        prompt_tokens=1_000,
        output_tokens=80,
    )
    assert work_within(line, S, 4 * S, ONE_TO_TEN) == Work(attempt="a", prompt_tokens=500, output_tokens=20)
    assert work_within(line, 10 * S, 11 * S, ONE_TO_TEN) is None


def test_a_reply_in_one_piece_turns_where_its_work_does() -> None:
    line = Timeline(
        attempt="a",
        started_us=0,
        first_token_us=None,
        ended_us=10 * S,
        prompt_tokens=1_000,
        output_tokens=400,
    )
    # 1 000 to 4 000: the prompt has the first 2 of 10 s.
    assert work_within(line, 0, 2 * S, ONE_TO_TEN) == Work(attempt="a", prompt_tokens=1_000)


@given(
    st.tuples(*[st.integers(0, 10**7)] * 3),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
    st.lists(st.integers(-5, 10**7 + 5), max_size=10),
    st.booleans(),
)
def test_an_attempts_parts_add_up_to_it_however_time_is_cut(
    times: tuple[int, int, int], prompt: int, output: int, cuts: list[int], streamed: bool
) -> None:
    start, turn, end = sorted(times)
    line = Timeline(
        attempt="a",
        started_us=start,
        first_token_us=turn if streamed else None,
        ended_us=end,
        prompt_tokens=prompt,
        output_tokens=output,
        cached_tokens=7,
    )
    edges = sorted({-10, *cuts, 10**7 + 10})
    parts = [part for a, b in pairwise(edges) if (part := work_within(line, a, b, ONE_TO_TEN)) is not None]
    assert sum(part.prompt_tokens for part in parts) == prompt
    assert sum(part.output_tokens for part in parts) == output
    assert sum(part.cached_tokens for part in parts) == 7


def test_busy_time_counts_overlaps_once() -> None:
    assert busy_time([(5, 10), (0, 3), (2, 6), (20, 99), (50, 60)], 1, 30) == 19  # 1 to 10, 20 to 30
    assert busy_time([], 0, 10) == 0


# ---- prices


def test_the_present_price_is_what_was_paid_for_what_was_done() -> None:
    window = Window(start_us=0, end_us=10 * S, busy_us=5 * S)
    work = Work(attempt="a", prompt_tokens=10_000, output_tokens=1_500)
    parts = split(window, RENTED, [work], ONE_TO_TEN)  # 25 000 prompt tokens' worth

    busy, loaded = present_price([parts]), present_price([parts], loaded=True)

    assert busy == TokenPrice(input=200_000, output=2_000_000, cache_read=0)  # 5e9 / 25 000
    assert loaded == TokenPrice(input=400_000, output=4_000_000, cache_read=0)
    assert present_price([split(window, RENTED, [], ONE_TO_TEN)]) is None
    assert cache_saving(1_000, busy) == 200_000_000


def test_calibrated_engine_time_has_a_price_before_any_window_was_split() -> None:
    price = CapacityPrice.rented(Decimal("3.60"), kwh_usd=Decimal("0.36"))
    # 1 us at 0.001 USD a second is 1000 pico-USD; 500 W x 1 us = 0.5 mJ at 0.1 micro-USD a joule is 50.
    assert engine_price(price, ONE_TO_TEN, 500_000) == TokenPrice(input=1_050, output=10_500, cache_read=0)
    assert engine_price(price, prior()) is None


def test_break_even_says_how_busy_a_replica_must_be() -> None:
    window = Window(start_us=0, end_us=10 * S, busy_us=1 * S)
    parts = split(window, RENTED, [Work(attempt="a", output_tokens=1_000)], ONE_TO_TEN)
    provider = TokenPrice(input=1_000_000, output=5_000_000)  # 1 and 5 USD per million

    said = break_even([parts], provider, prompt_tokens=0, cached_tokens=0, output_tokens=1_000)

    # 0.01 USD of our own against 0.005: it would pay at twice the load.
    assert (said.own_pico, said.provider_pico, said.saved_pico) == (10 * 10**9, 5 * 10**9, -5 * 10**9)
    assert (said.busy_ratio, said.needed_busy_ratio) == (0.1, 0.2)

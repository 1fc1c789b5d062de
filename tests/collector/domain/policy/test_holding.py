"""A stream's hold is always ahead of what it may owe, and is charged once."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.credit import Claim, Counter, Unit
from collector.domain.policy import Ask, Lease
from collector.domain.policy.budget import WHOLE, Action, Threshold
from collector.domain.policy.holding import (
    LOOK_AHEAD,
    QUANTUM,
    amount_of,
    extension,
    initial_hold,
    least_hold,
    must_end,
)
from collector.domain.policy.levels import level_after
from collector.domain.policy.rate import poured, wait_us

MONEY = Counter("money", "", "", "total", Unit.USD, 10**12, 0, None)
TOKENS = Counter("tokens", "", "", "total", Unit.TOKENS, 10**12, 0, None)
CALLS = Counter("calls", "", "", "total", Unit.CALLS, 10**12, 0, None)


def lease_of(cap: int, price: int, input_pico: int, first: int) -> Lease:
    ask = Ask(
        call_id="c",
        model="m",
        stream=True,
        input_tokens=7,
        input_pico=input_pico,
        output_cap=cap,
        output_pico=price,
    )
    claims = tuple(
        Claim(counter, amount_of(counter.unit, ask, first, input_pico)) for counter in (MONEY, TOKENS, CALLS)
    )
    return Lease(ask, claims, (0, 1), first, cap)


@settings(max_examples=200, deadline=None)
@given(
    cap=st.integers(0, 20_000),
    price=st.integers(1, 10**9),
    input_pico=st.integers(0, 10**12),
    typical=st.integers(0, 20_000),
    chunks=st.lists(st.integers(1, QUANTUM), max_size=120),
    granted=st.integers(0, 100),
)
def test_what_a_stream_owes_is_held_at_every_chunk_and_extensions_add_up_to_one_rounding(
    cap: int, price: int, input_pico: int, typical: int, chunks: list[int], granted: int
) -> None:
    lease = lease_of(cap, price, input_pico, initial_hold(cap, typical))
    seen = 0
    for number, chunk in enumerate(chunks):
        seen = min(cap, seen + chunk)
        more = lease.extension(seen)
        assert (more is not None) == (seen >= lease.extend_at)
        if more is not None and number < granted:
            lease.extended(more)
        under_way = min(cap - seen, QUANTUM)
        assert lease.amounts[0] == -(-(input_pico + lease.output_tokens * price) // 1000)
        assert lease.amounts[0] * 1000 >= input_pico + (seen + under_way) * price
        assert lease.amounts[1] >= 7 + seen + under_way
        assert lease.must_end(seen) == (seen >= lease.end_at)
        if lease.must_end(seen):
            break
    cost = input_pico + seen * price
    assert lease.settlement(cost, 7 + seen) == (-(-cost // 1000), 7 + seen, 1)
    assert lease.settlement(0, 0, calls=0) == (0, 0, 0)


@settings(max_examples=200, deadline=None)
@given(produced=st.integers(0, 10_000), ahead=st.integers(0, 3_000), cap=st.integers(1, 20_000))
def test_an_extension_is_more_and_never_beyond_the_cap(produced: int, ahead: int, cap: int) -> None:
    held = min(cap, produced + ahead)

    tokens = extension(produced, held, cap)

    if tokens is not None:
        assert held < tokens <= cap
        assert not must_end(produced, tokens, cap)
    elif held < cap:
        assert held - produced > LOOK_AHEAD * QUANTUM


def test_a_stream_holds_as_much_as_half_of_its_like_write_and_no_more_than_its_cap() -> None:
    assert least_hold(100_000) == 768
    assert initial_hold(100_000, 0) == 768
    assert initial_hold(100_000, 1_000) == 1_512
    assert initial_hold(500, 1_000) == 500


def test_a_chunk_larger_than_a_quantum_makes_the_quantum_larger() -> None:
    lease = lease_of(100_000, 1, 0, 3 * QUANTUM)

    more = lease.extension(10, chunk=1_000)

    assert more is not None
    assert more.output_tokens >= 3_000
    lease.extended(more)
    assert not lease.must_end(1_000)
    assert lease.must_end(1_800)


def test_a_lease_that_does_not_grow_never_asks_and_never_ends() -> None:
    ask = Ask(call_id="c", model="m", output_cap=100)
    lease = Lease(ask, (Claim(MONEY, 5),), (), 100, 100)

    assert lease.extension(10**6) is None
    assert not lease.must_end(10**6)
    assert min(lease.extend_at, lease.end_at) > 100


# ---- thresholds and rates as pure functions

thresholds = st.lists(st.integers(1, 20_000), unique=True, max_size=5).map(
    lambda shares: tuple(Threshold(share, Action.NOTIFY) for share in sorted(shares))
)


@settings(max_examples=200, deadline=None)
@given(at=thresholds, limit=st.integers(0, 10**12), level=st.integers(0, 5), share=st.integers(0, 3 * WHOLE))
def test_a_level_settles_in_one_step_and_all_that_is_reached_is_below_it(
    at: tuple[Threshold, ...], limit: int, level: int, share: int
) -> None:
    spent = limit * share // WHOLE
    reached = sum(1 for threshold in at if spent * WHOLE >= threshold.share * limit)

    after = level_after(at, min(level, len(at)), spent, limit)

    assert reached <= after <= len(at)
    assert level_after(at, after, spent, limit) == after
    assert level_after(at, 0, spent, limit) == reached


@settings(max_examples=100, deadline=None)
@given(
    per_minute=st.integers(1, 10**12),
    burst=st.integers(1, 10**12),
    steps=st.lists(st.tuples(st.integers(0, 10**8), st.integers(0, 10**12)), max_size=30),
)
def test_a_bucket_never_lets_through_more_than_its_burst_and_its_rate(
    per_minute: int, burst: int, steps: list[tuple[int, int]]
) -> None:
    full_us = now_us = taken = 0
    for passed_us, amount in steps:
        now_us += passed_us
        amount = min(amount, burst)
        if wait_us(full_us, now_us, amount, per_minute, burst) == 0:
            full_us = poured(full_us, now_us, amount, per_minute)
            taken += amount
        assert taken <= burst + per_minute * now_us // 60_000_000 + 1


def test_what_is_given_back_to_a_bucket_can_be_taken_at_once() -> None:
    full_us = poured(0, 1_000, 600, 60)
    assert wait_us(full_us, 1_000, 600, 60, 600) > 0

    full_us = poured(full_us, 1_000, -600, 60)

    assert wait_us(full_us, 1_000, 600, 60, 600) == 0


@pytest.mark.parametrize("wait", [0, 30])
def test_a_charge_larger_than_the_burst_waits_for_a_full_bucket_and_goes(wait: int) -> None:
    full_us = wait * 1_000_000

    assert wait_us(full_us, 0, 10**9, 60, 60) == full_us

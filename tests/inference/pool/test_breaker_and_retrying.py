"""When a replica is left alone, and when a call is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from inference.pool.breaker import (
    CLOSED,
    Breaker,
    BreakerPolicy,
    failed,
    gave_up,
    lets_pass,
    started,
    state_of,
)
from inference.pool.retrying import RetryBudget, deposited, pause_s, withdrawn

POLICY = BreakerPolicy(failures=3, open_s=5.0, longest_s=12.0)


def after_failures(count: int, now: float = 100.0) -> Breaker:
    breaker = CLOSED
    for _ in range(count):
        breaker = failed(breaker, now, POLICY)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row_and_lets_one_call_try_later() -> None:
    assert lets_pass(after_failures(2), 100)
    opened = after_failures(3)
    assert not lets_pass(opened, 104.9)
    assert lets_pass(opened, 105)
    on_trial = started(opened, 105)
    assert not lets_pass(on_trial, 105)
    assert state_of(opened, 104) == "open"
    assert state_of(opened, 105) == "half_open"


def test_each_failed_trial_doubles_the_pause_up_to_the_longest() -> None:
    breaker = started(after_failures(3), 105)
    breaker = failed(breaker, 105, POLICY)
    assert breaker.open_until == 115  # 105 + 10
    breaker = failed(started(breaker, 115), 115, POLICY)
    assert breaker.open_until == 127  # 115 + 12, not 20


def test_calls_that_were_under_way_when_it_opened_do_not_open_it_again() -> None:
    opened = after_failures(3)
    assert after_failures(20).open_until == opened.open_until


def test_an_agent_that_leaves_on_trial_lets_another_try() -> None:
    assert lets_pass(gave_up(started(after_failures(3), 105)), 105)


def test_a_breaker_without_a_number_of_failures_never_opens() -> None:
    breaker = CLOSED
    for _ in range(1000):
        breaker = failed(breaker, 0, BreakerPolicy(failures=0))
    assert lets_pass(breaker, 0)


@given(st.lists(st.booleans(), max_size=400))
def test_retries_never_exceed_their_share_of_the_calls(calls: list[bool]) -> None:
    budget, made = RetryBudget(), 0
    for wants_retry in calls:
        budget = deposited(budget, share=0.2, most=100)
        if wants_retry and (left := withdrawn(budget)) is not None:
            budget, made = left, made + 1
    assert made <= 10 + 0.2 * len(calls) + 1e-6


@given(st.integers(0, 40), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_but_not_without_bound(retry: int, draw: float) -> None:
    assert 0 < pause_s(retry, draw, None, elsewhere=False) <= 8.0


def test_what_the_provider_asks_for_is_waited_and_another_replica_is_asked_at_once() -> None:
    assert 2.0 <= pause_s(0, 0.9, 2.0, elsewhere=False) <= 2.25
    assert pause_s(0, 0.9, 2.0, elsewhere=True) == 0

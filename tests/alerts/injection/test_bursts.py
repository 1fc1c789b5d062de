"""When high scores become an incident: the arithmetic by hand, the life of a burst."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.detectors.finding import subject
from alerts.injection.bursts import FEWEST, QUIET_MIN, Bursts, tail

AGENT = subject(agent="crawler")


def test_many_high_scores_in_a_minute_are_a_burst_and_it_says_whose_and_how_many() -> None:
    watch = Bursts(AGENT)
    watch.observe(600, 20, 0)

    burst = watch.observe(660, 20, 10)

    assert burst is not None
    assert burst.labels == {
        "alertname": "PromptInjectionBurst",
        "impact": "security",
        "severity": "warn",
        "agent": "crawler",
    }
    assert (burst.since, burst.opened, burst.value) == (660, 660, 0.25)  # 10 of 40
    assert burst.annotations["summary"].startswith("10 of 40 calls")


def test_a_few_high_scores_are_none_however_rare_they_were() -> None:
    watch = Bursts(AGENT)
    for minute in range(1000):
        assert watch.observe(minute * 60, 10, 0) is None

    assert watch.observe(60_000, FEWEST - 1, FEWEST - 1) is None


def test_a_subject_that_always_scores_high_makes_no_burst_of_it() -> None:
    watch = Bursts(AGENT)
    for minute in range(300):
        watch.observe(minute * 60, 10, 3 if minute > 60 else 0)
    usual = [watch.observe(minute * 60, 10, 3) for minute in range(300, 900)]

    assert usual[-1] is None or usual[-1].opened < 300 * 60


def test_what_is_usual_is_learned_from_slow_change() -> None:
    watch = Bursts(AGENT)
    found = [watch.observe(minute * 60, 20, 1) for minute in range(3000)]  # 5 %, a little above 1 %

    assert found == [None] * 3000
    assert watch.share == pytest.approx(0.05, abs=0.005)


def test_a_burst_keeps_its_name_until_it_has_been_quiet_and_the_next_has_another() -> None:
    watch = Bursts(AGENT)
    first = [watch.observe(minute * 60, 20, 10) for minute in range(3)]
    after = [watch.observe((3 + minute) * 60, 20, 0) for minute in range(QUIET_MIN + 10)]
    again = watch.observe(100 * 60, 20, 12)

    ids = {burst.id for burst in [*first, *after] if burst}
    assert len(ids) == 1
    assert after[-1] is None
    assert again is not None
    assert again.id not in ids


def test_an_open_burst_teaches_nothing() -> None:
    watch = Bursts(AGENT)
    watch.observe(0, 20, 10)
    before = watch.share
    for minute in range(1, 60):
        assert watch.observe(minute * 60, 20, 10) is not None

    assert watch.share == before


def test_a_restart_changes_nothing() -> None:
    steady, restarted = Bursts(AGENT), Bursts(AGENT)
    for minute in range(40):
        high = 9 if 20 <= minute < 23 else 0
        restarted = Bursts.from_dict(json.loads(json.dumps(restarted.to_dict())))

        assert steady.observe(minute * 60, 10, high) == restarted.observe(minute * 60, 10, high)


@pytest.mark.parametrize("state", [{}, {"version": 2}, {"version": 1, "subject": 3}])
def test_another_state_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Bursts.from_dict(state)


def test_more_high_scores_than_calls_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="3 high scores of 2"):
        Bursts().observe(0, 2, 3)


@given(
    st.integers(min_value=1, max_value=60),
    st.integers(min_value=0, max_value=60),
    st.floats(min_value=0.001, max_value=0.5),
)
def test_the_chance_is_never_understated(calls: int, found: int, share: float) -> None:
    found = min(found, calls)
    exact = sum(
        math.comb(calls, count) * share**count * (1 - share) ** (calls - count)
        for count in range(found, calls + 1)
    )

    assert tail(calls, found, share) >= exact * (1 - 1e-9)

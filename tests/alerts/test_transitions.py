"""An alert's moves, one by one, and laws that hold for any sequence of looks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.transitions import INACTIVE, Alert, Phase, Sample, Timing, transition

PATIENT = Timing(for_s=60, keep_firing_s=120, remember_s=900)


def after(looks: list[tuple[float, bool]], timing: Timing = PATIENT) -> Alert:
    alert = INACTIVE
    for at, active in looks:
        alert = transition(alert, Sample(at=at, active=active, value=at), timing)
    return alert


def test_an_alert_waits_before_it_fires() -> None:
    assert after([(0, True)]).phase is Phase.PENDING
    assert after([(0, True), (59, True)]).phase is Phase.PENDING
    fired = after([(0, True), (60, True)])
    assert (fired.phase, fired.active_at, fired.fired_at, fired.value) == (Phase.FIRING, 0, 60, 60)


def test_one_that_stops_while_it_waits_was_never_there() -> None:
    assert after([(0, True), (30, False)]) == INACTIVE
    assert after([(0, True), (30, False), (60, True)]).phase is Phase.PENDING


def test_one_that_flickers_goes_on_firing() -> None:
    alert = after([(0, True), (60, True), (100, False), (150, True), (200, False)])
    assert alert.phase is Phase.FIRING
    assert alert.fired == 1


def test_one_that_is_over_is_resolved_remembered_and_forgotten() -> None:
    looks = [(0, True), (60, True), (180, False)]
    resolved = after(looks)
    assert (resolved.phase, resolved.resolved_at) == (Phase.RESOLVED, 180)
    assert after([*looks, (1079, False)]).phase is Phase.RESOLVED
    assert after([*looks, (1080, False)]) == INACTIVE


def test_one_that_comes_back_waits_again_and_counts_as_a_second_time() -> None:
    again = after([(0, True), (60, True), (180, False), (200, True), (260, True)])
    assert (again.phase, again.fired_at, again.fired) == (Phase.FIRING, 260, 2)


def test_without_patience_it_fires_and_ends_at_once() -> None:
    at_once = Timing(remember_s=0)
    assert after([(0, True)], at_once).phase is Phase.FIRING
    assert after([(0, True), (1, False)], at_once).phase is Phase.RESOLVED


LOOKS = st.lists(st.tuples(st.integers(1, 90), st.booleans()), max_size=60).map(
    lambda steps: [
        (float(sum(gap for gap, _ in steps[: n + 1])), active) for n, (_, active) in enumerate(steps)
    ]
)


@given(LOOKS)
def test_nothing_fires_that_did_not_hold_for_as_long_as_it_must(looks: list[tuple[float, bool]]) -> None:
    alert, held_since = INACTIVE, None
    for at, active in looks:
        before = alert
        held_since = (at if held_since is None else held_since) if active else None
        alert = transition(alert, Sample(at=at, active=active), PATIENT)
        if alert.firing and not before.firing:
            assert held_since is not None and at - held_since >= PATIENT.for_s


@given(LOOKS)
def test_nothing_ends_before_it_was_quiet_for_as_long_as_it_must(looks: list[tuple[float, bool]]) -> None:
    alert, last_true = INACTIVE, 0.0
    for at, active in looks:
        before = alert
        last_true = at if active else last_true
        alert = transition(alert, Sample(at=at, active=active), PATIENT)
        if before.firing and not alert.firing:
            assert alert.phase is Phase.RESOLVED
            assert at - last_true >= PATIENT.keep_firing_s


@given(LOOKS)
def test_looking_twice_at_the_same_thing_changes_nothing(looks: list[tuple[float, bool]]) -> None:
    assert after([look for look in looks for _ in range(2)]) == after(looks)


@pytest.mark.parametrize("phase", list(Phase))
def test_a_late_sample_does_not_turn_time_back(phase: Phase) -> None:
    alert = Alert(phase=phase, active_at=50, fired_at=100, last_true_at=150, resolved_at=160)
    assert transition(alert, Sample(at=90, active=True), PATIENT).last_true_at >= 90

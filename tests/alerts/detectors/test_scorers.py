"""Scores of single series: what is strange, what is not, and nothing lost by a restart."""

import json
import math
from random import Random

import pytest

from alerts.detectors.levels import UnusualLevel
from alerts.detectors.rates import RateTests
from alerts.detectors.tails import Tail


def daily(random: Random, steps: int, per_day: int) -> list[float]:
    """Counts with a rhythm of the day."""
    return [
        float(max(round(random.gauss(200 + 100 * math.sin(step / per_day * 2 * math.pi), 10)), 1))
        for step in range(steps)
    ]


def test_a_value_never_seen_is_rarer_the_further_out_it_lies() -> None:
    tail, random = Tail(), Random(1)
    for _ in range(2000):
        tail.learn(random.expovariate(1.0))

    assert tail.rarity(1.0) == 0.0
    # Of an exponential law, one in ten thousand lies above 9.2.
    assert tail.rarity(9.2) == pytest.approx(4.0, abs=0.6)
    assert tail.rarity(20.0) > tail.rarity(10.0)


def test_a_tail_that_forgets_keeps_no_more_than_it_may() -> None:
    tail = Tail(keep=100, warm=10)
    for value in range(1000):
        tail.learn(float(value))
    assert len(tail.to_dict()["values"]) == 100
    assert tail.rarity(500.0) == 0.0


def test_a_pattern_of_the_day_that_breaks_is_stranger_than_anything_before() -> None:
    pytest.importorskip("numpy", reason="the extra 'alerts' is not installed")
    from alerts.detectors.windows import NearestWindows

    scorer, random = NearestWindows(), Random(2)
    usual = [scorer.score(value) for value in daily(random, 1500, 288)]
    broken = [scorer.score(150.0) for _ in range(60)]

    assert max(broken) > 1.6
    assert sum(score > 1.6 for score in usual[500:]) <= 3


def test_history_is_bounded_and_a_restart_changes_no_score() -> None:
    pytest.importorskip("numpy", reason="the extra 'alerts' is not installed")
    from alerts.detectors.windows import NearestWindows

    values = daily(Random(3), 1200, 100)
    scorer = NearestWindows(keep=256)
    for value in values[:1000]:
        scorer.score(value)
    restarted = NearestWindows.from_dict(json.loads(json.dumps(scorer.to_dict())))

    assert len(scorer.to_dict()["values"]) <= 512
    for value in values[1000:]:
        assert restarted.score(value) == pytest.approx(scorer.score(value), abs=1e-6)


def test_the_rise_of_every_morning_is_usual_and_a_level_that_no_hour_has_is_not() -> None:
    scorer = UnusualLevel(step_s=600)
    day = [20.0 if hour < 8 else 200.0 for hour in range(24) for _ in range(6)]
    random = Random(4)
    scores = [scorer.score(round(value + random.gauss(0, 3))) for _ in range(6) for value in day]
    at_night = [scorer.score(20.0) for _ in range(6)] + [scorer.score(900.0)]

    assert max(scores[3 * 144 :]) < scorer.THRESHOLD
    assert at_night[-1] > scorer.THRESHOLD


def test_the_third_sale_of_a_quiet_night_is_no_incident() -> None:
    scorer = UnusualLevel(step_s=3600)
    for _ in range(200):
        scorer.score(0.0)
    assert scorer.score(3.0) < scorer.THRESHOLD
    assert scorer.score(60.0) > scorer.THRESHOLD


def test_a_missing_value_repeats_the_last_one() -> None:
    scorer = UnusualLevel(step_s=3600)
    for _ in range(100):
        scorer.score(50.0)
    assert scorer.score(None) < 1


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (lambda step, rate: rate * 4, "surge"),
        (lambda step, rate: rate * 0.05, "drop"),
        (lambda step, rate: rate * (1 + step / 18), "drift"),
    ],
)
def test_a_rate_that_leaves_its_history_is_named(fault, name: str) -> None:
    tests, series = RateTests(), daily(Random(5), 10 * 144, 144)
    quiet = [tests.score(rate) for rate in series]
    during = [tests.score(fault(step, series[step])) for step in range(36)]

    assert not any(rate.opened for rate in quiet)
    assert sum(rate.opened for rate in during) == 1
    assert any(name in rate.open for rate in during)


def test_silence_is_no_drop_of_a_rate() -> None:
    tests, series = RateTests(), daily(Random(6), 10 * 144, 144)
    for rate in series:
        tests.score(rate)
    gap = [tests.score(0.0) for _ in range(10)]
    after = [tests.score(rate) for rate in series[10:30]]
    assert not any(rate.opened for rate in (*gap, *after))


def test_what_happens_every_night_is_no_incident() -> None:
    tests = RateTests()
    day = daily(Random(7), 144, 144)
    day[12:18] = [900.0] * 6
    opened = [tests.score(rate).opened for _ in range(12) for rate in day]
    assert not any(opened[7 * 144 :])


@pytest.mark.parametrize("make", [lambda: UnusualLevel(step_s=600), RateTests])
def test_a_restart_changes_no_judgement(make) -> None:
    series = daily(Random(8), 4 * 144, 144)
    scorer = make()
    for value in series[:500]:
        scorer.score(value)
    restarted = type(scorer).from_dict(json.loads(json.dumps(scorer.to_dict())))
    for value in series[500:]:
        again, score = restarted.score(value), scorer.score(value)
        assert again == (pytest.approx(score) if isinstance(score, float) else score)


@pytest.mark.parametrize("kind", [UnusualLevel, RateTests])
def test_a_state_of_another_version_is_refused(kind) -> None:
    with pytest.raises(ValueError, match="version"):
        kind.from_dict({"version": 0})

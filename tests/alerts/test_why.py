"""Incidents planted into a replayed company: found in time, with the right first cause, and nothing else."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from random import Random

import pytest
from support.incidents import (
    EPOCH,
    MINUTE,
    PLANTS,
    RATES,
    Booked,
    by_agent,
    company,
    point,
    points,
    uses,
)

from alerts.detectors.finding import Finding, Kind, subject
from alerts.detectors.watch import SubjectWatch
from alerts.why import Cause, Why, explain

ALSO_RIGHT = {"slow_leak": {"longer_inputs", "longer_outputs"}}
"""Contexts that grow are a leak, and are longer inputs."""
CHEAP = ("price_change", "cache_drop", "model_switch", "slow_leak")
"""Incidents whose only harm is money: without any they are none."""


@dataclass
class Planted:
    """One planted incident and what became of it."""

    cause: str
    agent: str
    minutes: int | None
    """Until it was found."""
    why: Why | None

    @property
    def is_right(self) -> bool:
        given = self.why.cause.value if self.why else ""
        return given == self.cause or given in ALSO_RIGHT.get(self.cause, ())


def first_finding(
    watch: SubjectWatch, calls: list[Booked], start: int, end: int
) -> tuple[int, Finding] | None:
    rows: dict[int, list[Booked]] = defaultdict(list)
    for call in calls:
        rows[int(call.at_s // MINUTE)].append(call)
    for minute in range(start, end):
        finding = watch.observe(point(minute, rows.get(minute, [])))
        if finding is not None:
            return minute, finding
    return None


def plant(name: str, agent: str, calls: list[Booked], state: str, start: int) -> Planted:
    end = start + (360 if name == "slow_leak" else 30)
    near = [call for call in calls if (start - 180) * MINUTE <= call.at_s < end * MINUTE]
    planted = PLANTS[name](near, start * MINUTE, end * MINUTE, Random(start))
    found = first_finding(SubjectWatch.from_dict(json.loads(state)), planted, start, end)
    if found is None:
        return Planted(name, agent, None, None)
    minute, finding = found
    since = (finding.since - EPOCH) // MINUTE
    why = explain(
        finding,
        uses(planted, (start - 60) * MINUTE, start * MINUTE),
        uses(planted, since * MINUTE, (minute + 1) * MINUTE),
        minutes_before=60,
        minutes_after=minute + 1 - since,
        rates=RATES,
    )
    return Planted(name, agent, minute + 1 - start, why)


def longest_gap_s(calls: list[Booked], start: int) -> float:
    at = [call.at_s for call in calls if (start - 180) * MINUTE <= call.at_s < start * MINUTE]
    return max(later - earlier for earlier, later in pairwise(at))


def is_visible(name: str, calls: list[Booked], start: int) -> bool:
    """Whether there is anything to see: calls enough, a cache that is used, money that matters."""
    hour = [call for call in calls if (start - 60) * MINUTE <= call.at_s < start * MINUTE]
    if len(hour) < 5 * 60:
        return False
    if name == "stop" and longest_gap_s(calls, start) > 60:
        return False  # An agent that is often silent for minutes has not stopped after five.
    cached = sum(call.cached for call in hour) / max(sum(call.input for call in hour), 1)
    if name == "cache_drop" and cached < 0.3:
        return False
    return name not in CHEAP or sum(call.cost for call in hour) > 0.5 * 10**12


def replay(
    seed: int, hours: int, calls_per_s: float, starts: list[int]
) -> tuple[list[Planted], list[Finding]]:
    """Every kind of incident at every start in every agent; and all that is found where none is planted."""
    outcomes, false = [], []
    for agent, calls in by_agent(company(seed, hours, calls_per_s)).items():
        watch, open_id = SubjectWatch(subject(agent=agent)), ""
        for minute, now in enumerate(points(calls, hours * 60)):
            if minute in starts:
                state = json.dumps(watch.to_dict())
                outcomes += [
                    plant(name, agent, calls, state, minute)
                    for name in PLANTS
                    if is_visible(name, calls, minute)
                ]
            finding = watch.observe(now)
            if finding is not None and finding.id != open_id:
                open_id = finding.id
                false.append(finding)
    return outcomes, false


@cache
def small() -> tuple[list[Planted], list[Finding]]:
    return replay(seed=11, hours=22, calls_per_s=1.0, starts=[14 * 60 + 7, 15 * 60 + 31])


@pytest.mark.slow
def test_planted_incidents_are_found_with_the_right_first_cause() -> None:
    outcomes, _ = small()
    right = sum(one.is_right for one in outcomes)
    assert {one.cause for one in outcomes} == set(PLANTS)
    wrong = [
        (one.cause, one.agent, one.minutes, one.why and one.why.cause) for one in outcomes if not one.is_right
    ]
    assert right >= 0.9 * len(outcomes), wrong


def test_sudden_incidents_are_found_within_five_minutes_and_rightly_named() -> None:
    sudden = [one for one in small()[0] if one.cause != "slow_leak"]
    in_time = [one for one in sudden if one.is_right and one.minutes is not None and one.minutes <= 5]
    late = [(one.cause, one.agent, one.minutes) for one in sudden if one not in in_time]
    assert len(in_time) >= 0.9 * len(sudden), late


def test_undisturbed_agents_page_less_than_once_a_week() -> None:
    _, false = small()
    weeks = 8 * 22 / (24 * 7)
    assert len(false) <= weeks, [(one.labels, one.kind) for one in false]


def test_a_page_says_who_how_much_an_hour_since_when_and_what_moved() -> None:
    outcomes, _ = small()
    why = next(one.why for one in outcomes if one.cause == "price_change" and one.why)
    assert sum(part.pico_per_hour for part in why.parts) == why.change_pico_per_hour
    assert why.parts[0].factor.value in why.summary
    assert f"agent {why.finding.labels['agent']}" in why.summary
    assert "USD/h since" in why.summary
    assert "price" in why.lever
    assert why.finding.excess_pico_per_hour > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_days_of_a_whole_company_keep_the_same_promise() -> None:
    outcomes, false = replay(
        seed=5, hours=54, calls_per_s=3.0, starts=[26 * 60 + 17, 37 * 60 + 5, 47 * 60 + 41]
    )
    right = sum(one.is_right for one in outcomes)
    assert right >= 0.9 * len(outcomes)
    assert len(false) <= 8 * 54 / (24 * 7)


def minutes(count: int, **values: int) -> Iterator[Booked]:
    for second in range(0, count * 60, 10):
        yield Booked(
            at_s=second, agent="a", model="gpt-5.4", conversation=f"c{second % 70}", input=1000, cached=500,
            output=100, failed=False, duration_ms=900 + second % 400, cost=values.get("cost", 10**9),
        )  # fmt: skip


def test_an_incident_keeps_its_name_until_it_is_over_and_is_said_once() -> None:
    steady = points(minutes(200), 200)
    silent = [point(minute, []) for minute in range(200, 230)]
    watch = SubjectWatch(subject(agent="a"))

    assert [watch.observe(one) for one in steady] == [None] * 200
    findings = [found for one in silent if (found := watch.observe(one)) is not None]

    assert {finding.id for finding in findings} == {findings[0].id}
    assert findings[0].kind is Kind.STOP
    assert findings[0].since == EPOCH + 200 * MINUTE
    assert len(findings) >= 24

    again = [point(minute, list(minutes(1))) for minute in range(230, 245)]
    assert watch.observe(again[0]) is not None
    assert [watch.observe(one) for one in again[1:]][-1] is None


def test_minutes_left_out_are_minutes_without_calls() -> None:
    watch = SubjectWatch(subject(agent="a"))
    for one in points(minutes(200), 200):
        watch.observe(one)
    finding = watch.observe(point(215, []))
    assert finding is not None
    assert finding.kind is Kind.STOP


def test_a_night_that_is_left_out_keeps_the_hour_of_the_day() -> None:
    day = list(minutes(12 * 60))
    said, left_out = SubjectWatch(subject(agent="a")), SubjectWatch(subject(agent="a"))
    for number in range(2):
        for one in points(day, 24 * 60):
            at = replace(one, at=one.at + number * 86_400)
            said.observe(at)
            if one.calls:
                left_out.observe(at)
    morning = replace(point(0, day[:6]), at=EPOCH + 2 * 86_400)
    said.observe(morning)
    left_out.observe(morning)

    drifts = [watch.to_dict()["signals"]["drift"] for watch in (said, left_out)]
    assert drifts[0]["step"] == drifts[1]["step"] == 2 * 144
    assert drifts[0]["counts"] == drifts[1]["counts"]


def test_nothing_is_said_before_there_is_a_past() -> None:
    watch = SubjectWatch(subject(agent="a"))
    early = [*points(minutes(10), 10), *(point(m, list(minutes(1)) * 50) for m in range(10, 20))]
    assert [watch.observe(one) for one in early] == [None] * 20


def test_an_open_incident_survives_a_restart_under_its_own_name() -> None:
    watch = SubjectWatch(subject(agent="a"))
    for one in points(minutes(200), 200):
        watch.observe(one)
    before = [watch.observe(point(minute, [])) for minute in range(200, 212)][-1]
    restarted = SubjectWatch.from_dict(json.loads(json.dumps(watch.to_dict())))
    after = restarted.observe(point(212, []))
    assert before is not None
    assert after is not None
    assert after.id == before.id


def test_a_surge_of_many_conversations_is_no_loop() -> None:
    finding = Finding(kind=Kind.SPEND_RATE, subject=subject(agent="a"), at=0, since=0, severity=0.9)
    calls = list(minutes(60))
    before = uses(calls, 0, 600)
    looping = uses([call for call in calls if call.conversation == "c0"] * 20, 0, 3600)

    surge = explain(finding, before, uses(calls * 5, 0, 3600), minutes_before=60, minutes_after=60)
    loop = explain(finding, before, looping, minutes_before=60, minutes_after=60)

    assert surge.cause is Cause.TRAFFIC_SURGE
    assert loop.cause is Cause.RUNAWAY_LOOP

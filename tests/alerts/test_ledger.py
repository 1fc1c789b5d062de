"""From a ledger to the minutes that detectors are shown, over the collector's real read API."""

import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path

import pytest
from support.collector_api import app_over, client_of, state_over
from support.past import past_call, write_past

from alerts.detectors.finding import Finding, Kind, Point, Subject, subject
from alerts.detectors.watch import SubjectWatch
from alerts.ledger import Collector, LedgerMinutes
from collector.domain.record import CallRecord
from collector.store.duckdb import DatabaseConfig
from collector.store.opening import open_ledger

BEGIN = 1_790_000_000 // 60 * 60
Shown = Callable[[Iterable[CallRecord], int, int], Awaitable[dict[Subject, list[Point]]]]


@pytest.fixture
def minutes_of(tmp_path: Path) -> Iterator[Shown]:
    """What detectors are shown of calls, after they went through journal, books and read API."""
    database = open_ledger(tmp_path / "ledger", DatabaseConfig()).database

    async def minutes_of(calls: Iterable[CallRecord], since: int, until: int) -> dict[Subject, list[Point]]:
        state = state_over(database, tmp_path)
        assert state.ledger is not None
        write_past(tmp_path / "journal", calls)
        state.ledger.follower.catch_up()
        async with client_of(app_over(state)) as client:
            shown = await LedgerMinutes(Collector("http://127.0.0.1:4010", client)).minutes(since, until)
        assert shown is not None
        return {name: list(points) for name, points in shown.items()}

    yield minutes_of
    database.close()


async def test_a_minute_counts_what_ended_in_it(minutes_of: Shown) -> None:
    calls = [
        past_call(
            BEGIN + 1, "crawler", 0.5, duration_us=1_000_000, key_id="vk_1"
        ),  # 2^(19/2) = 724 ms and more
        past_call(
            BEGIN + 2, "crawler", 0.25, duration_us=1_100_000, key_id="vk_1"
        ),  # 2^(20/2) = 1,024 ms and more
        past_call(BEGIN + 3, "crawler", 0, duration_us=30_000_000, outcome="failed", key_id="vk_1"),
        past_call(
            BEGIN + 4, "crawler", 2, duration_us=70_000_000, key_id="vk_2"
        ),  # 2^(32/2) = 65,536 ms and more
        past_call(BEGIN + 61, "crawler", 0.125, duration_us=1_400, key_id="vk_2"),  # 2^(0/2) = 1 ms and more
        past_call(
            BEGIN + 119, "crawler", 4, duration_us=1_000_000, key_id="vk_2"
        ),  # ends when the period does
        past_call(BEGIN - 2, "crawler", 8, duration_us=1_000_000, key_id="vk_2"),  # ended before it
    ]

    shown = await minutes_of(calls, BEGIN, BEGIN + 120)

    first, second = shown[subject(team="search", agent="crawler")]
    assert (first.at, first.calls, first.failed, first.cost_pico) == (BEGIN, 3, 1, 750_000_000_000)
    assert first.latency == ((19, 1), (20, 1))
    assert (second.at, second.calls, second.cost_pico) == (BEGIN + 60, 2, 2_125_000_000_000)
    assert second.latency == ((0, 1), (32, 1))
    assert [point.calls for point in shown[subject(key="vk_1")]] == [3]
    assert [point.calls for point in shown[subject(key="vk_2")]] == [2]
    assert [point.calls for point in shown[subject(model="gpt-5-mini")]] == [3, 2]
    assert [point.calls for point in shown[subject(upstream="openai")]] == [3, 2]


async def test_answers_that_take_three_times_as_long_are_found_within_five_minutes(minutes_of: Shown) -> None:
    rng = random.Random(11)
    slow_from = BEGIN + 3 * 3600
    calls = []
    for minute in range(BEGIN, slow_from + 600, 60):
        for _ in range(rng.choice([3, 4, 5])):
            took = 2.0 * rng.lognormvariate(0, 0.4) * (3 if minute >= slow_from else 1)
            calls.append(past_call(minute + rng.random() * 59, "crawler", 0.01, duration_us=int(took * 1e6)))

    shown = await minutes_of(calls, BEGIN, slow_from + 600)

    watch = SubjectWatch(subject(team="search", agent="crawler"))
    found: list[Finding] = []
    for point in shown[subject(team="search", agent="crawler")]:
        finding = watch.observe(point)
        found += [finding] if finding is not None else []
    assert {finding.kind for finding in found} == {Kind.LATENCY}
    assert slow_from <= found[0].opened <= slow_from + 300
    assert found[0].value > 2 * found[0].baseline

"""Trust is earned on the user's own history, and held within the page budget."""

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerts.backtest import NEVER, Episode, Episodes, Tuning, tune
from alerts.detectors.finding import Finding, Kind, Point, State, Subject, subject
from alerts.learning import MOST_SUBJECTS, Learning, Minutes
from alerts.settings import AlertsConfig
from alerts.state import AlertFolder

DAY = 86_400


def episode(severity: float, opened: int, usd: float = 10, agent: str = "a", **more: Any) -> Episode:
    given: dict[str, Any] = {
        "kind": Kind.SPEND_RATE, "subject": subject(agent=agent), "since": opened, "opened": opened,
        "ended": opened + 60, "severity": severity, "usd_per_hour": Decimal(str(usd)), "confirmed": True,
    }  # fmt: skip
    return Episode(**{**given, **more})


def tuned(episodes: list[Episode], days: float = 14, pages_per_week: float = 2) -> Tuning:
    return tune(episodes, days=days, pages_per_week=pages_per_week, page_usd_per_hour=Decimal(5))


def test_the_mildest_severity_that_keeps_within_the_budget_is_chosen() -> None:
    # Two weeks at two a week: four pages. Six incidents a day apart, so the two mildest must not page.
    found = tuned([episode(0.6 + n / 20, n * DAY) for n in range(6)])
    assert (found.threshold, found.pages) == (0.7, 4)
    assert found.trusted()[Kind.SPEND_RATE] == 0.7


def test_a_quiet_history_trusts_from_the_floor_up() -> None:
    assert tuned([]).threshold == 0.4


def test_a_history_of_two_days_trusts_nothing() -> None:
    found = tuned([], days=2)
    assert found.threshold == NEVER
    assert found.trusted() == {}
    assert "3 are needed" in found.reason


def test_one_trouble_seen_in_several_ways_is_one_page() -> None:
    at_once = [episode(0.9, 100 + n * 60, kind=kind) for n, kind in enumerate(Kind)]
    assert tuned(at_once, pages_per_week=0.5).pages == 1


def test_one_trouble_seen_in_an_agent_its_model_and_its_upstream_is_one_page() -> None:
    views = [episode(0.9, 0, subject=subject(**{name: "x"})) for name in ("agent", "model", "upstream")]
    assert tuned(views, pages_per_week=0.5).pages == 1
    assert tuned([episode(0.9, 0, agent=name) for name in "abc"], pages_per_week=5).pages == 3


@pytest.mark.parametrize("harmless", [episode(0.9, 0, usd=1), episode(0.9, 0, confirmed=False)])
def test_what_would_not_page_anyway_takes_nothing_of_the_budget(harmless: Episode) -> None:
    assert tuned([harmless] * 50).pages == 0


EPISODES = st.lists(
    st.builds(
        episode, severity=st.floats(0, 1), opened=st.integers(0, 14 * DAY), agent=st.sampled_from("abc")
    ),
    max_size=40,
)


@given(EPISODES, st.floats(0, 20))
def test_no_history_breaks_the_budget_it_was_tuned_to(episodes: list[Episode], budget: float) -> None:
    found = tuned(episodes, pages_per_week=budget)
    assert found.pages <= budget * 2
    assert found.threshold >= 0.4
    louder = tuned(episodes, pages_per_week=budget + 5)
    assert louder.threshold <= found.threshold


# ---- detectors at work ----------------------------------------------------------------------


class Spender:
    """The simplest watch: more than a dollar a minute is strange. Remembers how much it has seen."""

    def __init__(self, whose: Subject, seen: int = 0) -> None:
        self.whose, self.seen, self.empty, self.since = whose, seen, 0, 0

    def observe(self, point: Point) -> Iterable[Finding]:
        self.seen += 1
        self.empty += not point.calls
        if point.cost_pico <= 10**12:
            self.since = 0
            return
        self.since = self.since or point.at
        yield Finding(
            kind=Kind.SPEND_RATE, subject=self.whose, at=point.at, since=self.since, opened=self.since,
            severity=0.9, excess_pico_per_hour=point.cost_pico * 60,
        )  # fmt: skip

    def to_dict(self) -> State:
        return {"seen": self.seen}


class Books:
    """A ledger that the test writes."""

    def __init__(self, points: dict[Subject, list[Point]], until: int | None) -> None:
        self.points, self.until = points, until

    async def booked_until(self) -> int | None:
        return self.until

    async def minutes(self, since: int, until: int) -> Minutes | None:
        found = {who: [p for p in points if since <= p.at < until] for who, points in self.points.items()}
        return {who: points for who, points in found.items() if points}


A = subject(agent="a")
START = 1_700_000_000 // 60 * 60


def learning(books: Books, folder: Path) -> Learning:
    async def why(finding: Finding) -> dict[str, str]:
        return {}

    def again(who: Subject, state: State) -> Spender:
        return Spender(who, int(state["seen"]))

    return Learning(books, Spender, again, why, AlertFolder(folder), AlertsConfig())


async def begun(books: Books, folder: Path, now: float) -> Learning:
    found = learning(books, folder)
    while not found.shown_until:
        await found.findings(now)
        if found._aside is not None:
            await found._aside
    return found


def minute(n: int, usd: int = 0) -> Point:
    return Point(at=START + n * 60, calls=1, cost_pico=usd * 10**12)


async def test_history_is_learned_first_and_then_minute_by_minute(tmp_path: Path) -> None:
    books = Books({A: [minute(n, 2 if n == 5 else 0) for n in range(0, 5 * 1440, 5)]}, None)
    now = START + 4 * DAY + 30
    books.until = int(now)
    watch = await begun(books, tmp_path, now)
    assert watch.tuning is not None and watch.tuning.incidents == 1
    assert watch.trusted()[Kind.SPEND_RATE] == 0.4
    assert watch.shown_until == START + 4 * DAY
    books.points[A].append(minute(4 * 1440, 9))
    books.until = START + 4 * DAY + 80
    (found,) = await watch.findings(START + 4 * DAY + 80)
    assert (found.at, found.usd_per_hour) == (START + 4 * DAY, Decimal(540))


async def test_a_collector_that_is_behind_is_not_taken_for_silence(tmp_path: Path) -> None:
    books = Books({A: [minute(n) for n in range(4 * 1440)]}, START + 3 * DAY)
    watch = await begun(books, tmp_path, START + 3 * DAY + 20)
    shown = watch.shown_until
    books.until = START + 3 * DAY + 30  # an hour later it has booked half a minute more
    await watch.findings(START + 3 * DAY + 3600)
    assert watch.shown_until - shown <= 60
    books.until = None  # and now it does not answer
    await watch.findings(START + 3 * DAY + 7200)
    assert watch.shown_until - shown <= 60


async def test_what_was_learned_is_taken_up_after_a_restart(tmp_path: Path) -> None:
    now = START + 4 * DAY
    books = Books({A: [minute(n) for n in range(4 * 1440)]}, now)
    first = await begun(books, tmp_path, now + 20)
    first.save()
    second = await begun(books, tmp_path, now + 40)
    assert second._subjects[A].watch.to_dict() == first._subjects[A].watch.to_dict()
    assert second.tuning == first.tuning
    assert second.shown_until == first.shown_until


@pytest.mark.parametrize(
    "damage", [b"{", b'{"version": 1, "shown_until": 1700300000, "subjects": [{"state": 3}]}']
)
async def test_detectors_that_cannot_be_read_begin_afresh(tmp_path: Path, damage: bytes) -> None:
    """H10: a missing, damaged or foreign model costs its memory; nothing else stops."""
    now = START + 4 * DAY
    books = Books({A: [minute(n) for n in range(4 * 1440)]}, now)
    (tmp_path / "alerts").mkdir()
    (tmp_path / "alerts" / "detectors.json").write_bytes(damage)
    watch = await begun(books, tmp_path, now + 20)
    await watch.findings(now + 20)
    assert A in watch._subjects


async def test_a_flood_of_subjects_is_bounded_and_the_busy_ones_stay(tmp_path: Path) -> None:
    many = {subject(agent=f"n{n}"): [minute(3 * 1440)] for n in range(MOST_SUBJECTS + 50)}
    now = START + 3 * DAY + 120
    books = Books({**many, A: [minute(3 * 1440 + 1)]}, now)
    watch = learning(books, tmp_path)
    watch.shown_until = START + 3 * DAY
    watch._tuned_at = now
    await watch.findings(now)
    assert len(watch._subjects) == MOST_SUBJECTS


def test_findings_of_one_incident_are_one_episode_at_its_worst() -> None:
    found = Episodes()
    for at, severity in ((0, 0.6), (60, 0.9), (120, 0.7)):
        found.add(
            Finding(
                kind=Kind.LATENCY, subject=A, at=at, since=0, opened=0, severity=severity, confirmed=at > 0
            )
        )
    (one,) = found.all()
    assert (one.opened, one.ended, one.severity, one.confirmed) == (0, 120, 0.9, True)

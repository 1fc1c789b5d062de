"""Detectors at work: minutes come in from the ledger, findings go out, what was learned is kept.

Three rules. Only minutes that are whole and booked are shown: a collector that is behind looks like
traffic that has stopped. Nothing is asked again that was seen. And what may page is what a back-test on
this ledger's own history allows (:mod:`alerts.backtest`), made when there is none yet and renewed daily.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Protocol

from alerts.backtest import Episode, Episodes, Tuning, tune
from alerts.detectors.finding import Detector, Finding, Point, State, Subject
from alerts.settings import AlertsConfig
from alerts.state import AlertFolder
from collector import logs

MINUTE_S = 60
SETTLED_S = 15
"""How old a minute must be to be whole: its calls are booked by then."""
MOST_SUBJECTS = 2000
TUNE_EVERY_S = 86_400.0
SAVE_EVERY_S = 300.0
HISTORY_DAYS = 14.0
CATCH_UP_S = 3600
"""Most history shown at one look: after a pause it is caught up with hour by hour."""

_log = logs.get("alerts.learning")

Minutes = Mapping[Subject, Sequence[Point]]
"""By subject, its minutes in order; minutes without calls may be left out."""


class Ledger(Protocol):
    """Where minutes come from."""

    async def booked_until(self) -> int | None:
        """Until when everything is booked, seconds since 1970; None when the collector does not say."""

    async def minutes(self, since: int, until: int) -> Minutes | None:
        """The minutes that begin from ``since`` to before ``until``; None when the ledger does not answer."""


class Watch(Protocol):
    """All detectors of one subject."""

    def observe(self, point: Point) -> Iterable[Finding]:
        """Every incident that is open after this minute."""

    def to_dict(self) -> State:
        """What they remember."""


class Single:
    """One detector of one subject as a watch."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector

    def observe(self, point: Point) -> Iterable[Finding]:
        """Its incident, if one is open."""
        found = self._detector.observe(point)
        return () if found is None else (found,)

    def to_dict(self) -> State:
        """What it remembers."""
        return self._detector.to_dict()


@dataclass(slots=True)
class _Watched:
    watch: Watch
    seen_at: int
    """The last minute that had calls."""
    open: tuple[Finding, ...] = ()


@dataclass(slots=True)
class Learning:
    """Every detector of every subject.

    Args:
        ledger: where minutes come from.
        make: the detectors of a subject, new.
        remake: the same from what they remembered; ValueError when it cannot be used.
        explain: annotations that say why.
        folder: where all of it is kept.
        config: page budget and money.
    """

    ledger: Ledger
    make: Callable[[Subject], Watch]
    remake: Callable[[Subject, State], Watch]
    explain: Callable[[Finding], Awaitable[Mapping[str, str]]]
    folder: AlertFolder
    config: AlertsConfig
    shown_until: int = 0
    """Minutes before this one were shown."""
    tuning: Tuning | None = None
    episodes: list[Episode] = field(default_factory=list)
    """Incidents of the last back-test."""
    _subjects: dict[Subject, _Watched] = field(default_factory=dict)
    _tuned_at: float = 0.0
    _saved_at: float = 0.0
    _aside: asyncio.Task[None] | None = None
    """A back-test under way: rules are looked at meanwhile."""

    # -- what the watcher asks

    async def findings(self, now: float) -> list[Finding]:
        """Show what is new, and say every incident that is open."""
        if not self._is_free():
            return self._open() if self.shown_until else []
        if not self.shown_until:
            self._aside = asyncio.create_task(self._begin(now))
            return []
        if now - self._tuned_at >= TUNE_EVERY_S:
            self._tuned_at = now
            self._aside = asyncio.create_task(self._tune_again(now))
        booked = await self.ledger.booked_until()
        until = int(min(now - SETTLED_S, booked or 0)) // MINUTE_S * MINUTE_S
        if until > self.shown_until:
            until = min(until, self.shown_until + CATCH_UP_S)
            minutes = await self.ledger.minutes(self.shown_until, until)
            if minutes is not None:
                await asyncio.to_thread(self._show, minutes, self.shown_until, until, None)
                self.shown_until = until
                if now - self._saved_at >= SAVE_EVERY_S:
                    self._saved_at = now
                    await asyncio.to_thread(self.save)
                    self._read_tuning(now)  # somebody may have tuned by hand
        return self._open()

    def _open(self) -> list[Finding]:
        return [finding for watched in self._subjects.values() for finding in watched.open]

    def _is_free(self) -> bool:
        """Whether nothing is under way aside; raises what went wrong with it."""
        if self._aside is None:
            return True
        if not self._aside.done():
            # A beginning holds the minutes up; a new tuning has detectors of its own and does not.
            return bool(self.shown_until)
        task, self._aside = self._aside, None
        task.result()
        return True

    async def why(self, finding: Finding) -> Mapping[str, str]:
        """Annotations that explain ``finding``."""
        return await self.explain(finding)

    def trusted(self) -> Mapping[str, float]:
        """By kind, the severity from which it may page."""
        return self.tuning.trusted() if self.tuning else {}

    # -- beginning

    async def _begin(self, now: float) -> None:
        """Take up what was learned, or learn it from the ledger's history."""
        self._read_tuning(now)
        kept = self.folder.load("detectors")
        if kept and now - float(kept.get("shown_until", 0)) <= HISTORY_DAYS * 86400:
            self._restore(kept)
            return
        tuning = await self.back_test(now, HISTORY_DAYS, self.config.pages_per_week)
        if tuning is not None:
            self._tuned_at = now
            self.adopt(tuning)

    async def _tune_again(self, now: float) -> None:
        """A new back-test with detectors of its own."""
        trial = Learning(self.ledger, self.make, self.remake, self.explain, self.folder, self.config)
        tuning = await trial.back_test(now, HISTORY_DAYS, self.config.pages_per_week)
        if tuning is not None:
            self.adopt(tuning)

    async def back_test(self, now: float, days: float, pages_per_week: float) -> Tuning | None:
        """Show fresh detectors the past ``days``, keep them, and say what they may page; None when the
        ledger does not answer."""
        booked = await self.ledger.booked_until()
        if booked is None:
            return None
        end = int(min(now - SETTLED_S, booked)) // MINUTE_S * MINUTE_S
        since = end - int(days * 86400)
        self._subjects.clear()
        episodes = Episodes()
        first: int | None = None
        for start in range(since, end, 6 * 3600):
            stop = min(start + 6 * 3600, end)
            minutes = await self.ledger.minutes(start, stop)
            if minutes is None:
                return None
            if first is None and minutes:
                first = min(points[0].at for points in minutes.values() if points)
            if first is not None:
                await asyncio.to_thread(self._show, minutes, start, stop, episodes)
        seen_days = (end - first) / 86400 if first is not None else 0.0
        self.episodes = episodes.all()
        self.shown_until = end
        return tune(
            self.episodes,
            days=seen_days,
            pages_per_week=pages_per_week,
            page_usd_per_hour=Decimal(str(self.config.page_usd_per_hour)),
        )

    def adopt(self, tuning: Tuning) -> None:
        """Let anomalies page as ``tuning`` allows, from now on and after a restart."""
        self.tuning = tuning
        _log.info(f"back-tested: {tuning.reason}", count=tuning.incidents)
        try:
            self.folder.save("tuned", {**tuning.to_dict(), "made_at": self._tuned_at})
        except OSError as error:
            _log.error("the tuning cannot be saved", reason=str(error))

    # -- showing

    def _show(self, minutes: Minutes, since: int, until: int, episodes: Episodes | None) -> None:
        """Show every subject its minutes, empty ones too."""
        for subject in minutes:
            if subject not in self._subjects:
                self._admit(subject, since)
        for subject, watched in self._subjects.items():
            points = {point.at: point for point in minutes.get(subject, ())}
            for at in range(since, until, MINUTE_S):
                point = points.get(at) or Point(at=at)
                watched.open = tuple(watched.watch.observe(point))
                if point.calls:
                    watched.seen_at = at
                if episodes is not None:
                    for finding in watched.open:
                        episodes.add(finding)

    def _admit(self, subject: Subject, at: int) -> None:
        """Watch one more; when there is no room, the one that was quiet longest goes."""
        if len(self._subjects) >= MOST_SUBJECTS:
            quietest = min(self._subjects, key=lambda one: self._subjects[one].seen_at)
            del self._subjects[quietest]
        self._subjects[subject] = _Watched(self.make(subject), at)

    # -- remembering

    def save(self) -> None:
        """Keep what was learned."""
        rows = [
            {
                "subject": list(map(list, subject)),
                "seen_at": watched.seen_at,
                "state": watched.watch.to_dict(),
            }
            for subject, watched in self._subjects.items()
        ]
        try:
            self.folder.save("detectors", {"shown_until": self.shown_until, "subjects": rows})
        except OSError as error:
            _log.error("what was learned cannot be saved", reason=str(error))

    def _restore(self, kept: Mapping[str, Any]) -> None:
        lost = 0
        for row in kept.get("subjects", ()):
            try:
                subject = tuple((str(name), str(value)) for name, value in row["subject"])
                watch = self.remake(subject, row["state"])
                self._subjects[subject] = _Watched(watch, int(row["seen_at"]))
            except (KeyError, TypeError, ValueError, AttributeError, IndexError):
                lost += 1
        if lost:
            _log.error("what some detectors learned cannot be used; they begin afresh", count=lost)
        self.shown_until = int(kept["shown_until"])

    def _read_tuning(self, now: float) -> None:
        kept = self.folder.load("tuned")
        if not kept:
            return
        try:
            self.tuning = Tuning.from_dict(kept)
            self._tuned_at = min(now, float(kept["made_at"]))
        except (KeyError, TypeError, ValueError) as error:
            _log.error("the tuning cannot be used", failure=error)

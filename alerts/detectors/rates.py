"""Rates that rise, fall, or drift away from what this hour of the day has seen.

Three tests on one series of counts, all on ratios, each with a reference that makes it quiet:

surge   above *both* the recent past and nearly all of this hour's history
drop    below both, twice in a row, and not silent
drift   three hours of which three quarters stand above this hour's history: a slow ramp

Silence says nothing about a rate: a recorder that misses an hour writes zeros, and so does a
client that is done. Steps without calls are left out of every reference and raise no drop; how
long a silence may last is a test of its own (:mod:`alerts.detectors.stops`).

How large a ratio has to be is learnt from the series: its own largest excursions of the past
week, one of which a week is forgiven for drops, so that a client which bursts every night is
not reported every night. Standard library only.
"""

import math
from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Self

from alerts.detectors.finding import State

DAY_S = 86_400


class Rate(NamedTuple):
    """How a rate stands: for each test the log ratio, and whether that is an incident."""

    surge: float
    drop: float
    drift: float
    opened: bool
    """An incident began with this step. Tests that join within two hours belong to the same one."""
    open: tuple[str, ...]
    """Tests that are strange now."""
    expected: float
    """What this hour of the day usually has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    name: str
    floor: float
    """Least log ratio that is an incident."""
    forgiven_per_day: float
    """Past excursions a day that the threshold may leave above itself."""
    rest: int
    """Quiet steps after which the next excursion is an incident of its own."""


SURGE = _Test(name="surge", floor=0.8, forgiven_per_day=0.0, rest=6)
DROP = _Test(name="drop", floor=0.8, forgiven_per_day=0.15, rest=6)
DRIFT = _Test(name="drift", floor=0.5, forgiven_per_day=0.0, rest=24)


@dataclass(slots=True)
class _Excursions:
    """One test's past: its largest scores, apart from one another, and the threshold they make."""

    test: _Test
    horizon: int
    peaks: deque[tuple[int, float]] = field(default_factory=deque)
    """(step, score) of the excursions of the past week."""
    current: float = 0.0
    last: int = -1_000_000
    """Step of the youngest score that belongs to the current excursion."""

    def threshold(self, step: int) -> float:
        while self.peaks and self.peaks[0][0] < step - self.horizon:
            self.peaks.popleft()
        per_day = self.horizon / 7
        days = min(step, self.horizon) / per_day
        forgiven = int(self.test.forgiven_per_day * days)
        ranked = sorted((score for _, score in self.peaks), reverse=True)
        learnt = ranked[forgiven] * 1.05 if forgiven < len(ranked) else 0.0
        return max(self.test.floor, learnt)

    def see(self, step: int, score: float) -> bool:
        """Whether this score is an incident; it is remembered either way."""
        strange = score >= self.threshold(step)
        if score > self.test.floor / 2:
            if self.current and step - self.last > self.test.rest:
                self.peaks.append((self.last, self.current))
                self.current = 0.0
            self.current = max(self.current, score)
            self.last = step
        elif self.current and step - self.last > self.test.rest:
            self.peaks.append((self.last, self.current))
            self.current = 0.0
        return strange


class RateTests:
    """The three tests on one series of counts.

    Args:
        step_s: seconds between points; ten minutes suits most clients.
        warm_days: days before anything is reported.
    """

    VERSION = 1
    _DAYS = 7
    _SLACK = 3.0
    """Calls added to both sides of a ratio, so that small counts make small ratios."""

    def __init__(self, *, step_s: int = 600, warm_days: float = 1.0) -> None:
        self._step_s = step_s
        self._warm_days = warm_days
        self._per_day = DAY_S // step_s
        self._hour = max(3600 // step_s, 1)
        self._drift_steps = max(7200 // step_s, 4)
        horizon = self._DAYS * self._per_day
        self._counts: deque[float] = deque(maxlen=horizon + self._hour + 1)
        self._ratios: deque[float | None] = deque(maxlen=self._drift_steps)
        self._drop_before = 0.0
        self._step = 0
        self._strange_at = -1_000_000
        self._past = {test.name: _Excursions(test, horizon) for test in (SURGE, DROP, DRIFT)}

    def score(self, count: float) -> Rate:
        """Where the rate stands after a step with ``count`` calls."""
        step = self._step
        surge = drop = drift = 0.0
        expected = 0.0
        if count > 0 and len(self._counts) >= self._per_day // 4:
            recent = self._quantile(list(self._counts)[-self._hour :], 0.5)
            wide = self._same_time(self._hour)
            narrow = self._same_time(self._hour // 2)
            middle = self._quantile(narrow, 0.5)
            recent = recent if recent is not None else middle
            if recent is not None:
                high, low = self._quantile(wide, 0.9), self._quantile(wide, 0.1)
                upper = self._quantile(narrow, 0.75)
                expected = middle if middle is not None else recent
                surge = self._log_ratio(count, max(recent, recent if high is None else high))
                drop = -self._log_ratio(count, min(recent, recent if low is None else low))
                self._ratios.append(self._log_ratio(count, recent if upper is None else upper))
                drift = self._drift()
        else:
            self._ratios.append(None)
        twice, self._drop_before = min(drop, self._drop_before), drop
        self._counts.append(count)
        self._step = step + 1
        return self._judged(step, {"surge": surge, "drop": twice, "drift": drift}, expected)

    def _judged(self, step: int, scores: dict[str, float], expected: float) -> Rate:
        strange = tuple(name for name, score in scores.items() if self._past[name].see(step, score))
        if step < self._warm_days * self._per_day:
            strange = ()
        opened = bool(strange) and step - self._strange_at > 2 * self._hour
        if strange:
            self._strange_at = step
        return Rate(**scores, opened=opened, open=strange, expected=expected)

    def _log_ratio(self, count: float, reference: float) -> float:
        return math.log((count + self._SLACK) / (reference + self._SLACK))

    def _drift(self) -> float:
        known = [ratio for ratio in self._ratios if ratio is not None]
        if len(known) < self._drift_steps // 2:
            return 0.0
        return self._quantile(known, 0.25, silence=None) or 0.0

    def _same_time(self, around: int) -> list[float]:
        """Counts of the past days at this time, ``around`` steps either way; else of the last day."""
        counts, now = list(self._counts), len(self._counts)
        found: list[float] = []
        for day in range(1, self._DAYS + 1):
            first = now - day * self._per_day - around
            if first < 0:
                break
            found += counts[first : first + 2 * around + 1]
        return found or counts[-self._per_day :]

    @staticmethod
    def _quantile(values: list[float], part: float, *, silence: float | None = 0.0) -> float | None:
        """The quantile of the steps that had calls, linear between ranks; None below three of them."""
        known = sorted(value for value in values if value != silence)
        if len(known) < 3:
            return None
        place = part * (len(known) - 1)
        below = int(place)
        above = min(below + 1, len(known) - 1)
        return known[below] + (place - below) * (known[above] - known[below])

    def to_dict(self) -> State:
        """A week of counts and the excursions they made."""
        return {
            "version": self.VERSION,
            "step_s": self._step_s,
            "warm_days": self._warm_days,
            "step": self._step,
            "counts": list(self._counts),
            "ratios": list(self._ratios),
            "drop_before": self._drop_before,
            "strange_at": self._strange_at,
            "past": {
                name: [[list(peak) for peak in past.peaks], past.current, past.last]
                for name, past in self._past.items()
            },
        }

    @classmethod
    def from_dict(cls, state: State) -> Self:
        """The tests that wrote ``state``.

        Raises:
            ValueError: it was written by another version.
        """
        if state.get("version") != cls.VERSION:
            raise ValueError(f"not a state of this version: {state.get('version')!r}")
        tests = cls(step_s=state["step_s"], warm_days=state["warm_days"])
        tests._step = state["step"]
        tests._counts.extend(state["counts"])
        tests._ratios.extend(state["ratios"])
        tests._drop_before = state["drop_before"]
        tests._strange_at = state["strange_at"]
        for name, (peaks, current, last) in state["past"].items():
            past = tests._past[name]
            past.peaks.extend((step, score) for step, score in peaks)
            past.current, past.last = current, last
        return tests

"""One subject watched minute by minute: what moved first, since when, for how much money.

A signal (:mod:`alerts.detectors.signals`) must be strange for two minutes in a row. All that is
strange at once is one incident, named after the signal that explains the others: failed calls
before the spend they save, a dropped cache before the cost it adds. While it is open nothing is
learnt; after twelve hours it is the new rule.

Cold start: nothing in the first half hour; then the last hours; this hour of the day as well,
once two days are known.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

from alerts.detectors.finding import Finding, Kind, Point, State, Subject
from alerts.detectors.signals import MINUTE_S, UNITS, WINDOWS, Sensitivity, Signals, Strange

PRECEDENCE = (
    Kind.STOP,
    Kind.ERROR_RATE,
    Kind.CACHE_HITS,
    Kind.RETRIES,
    Kind.UNIT_PRICE,
    Kind.INPUT_PER_CALL,
    Kind.OUTPUT_PER_CALL,
    Kind.COST_PER_CALL,
    Kind.SPEND_RATE,
    Kind.CALL_RATE,
    Kind.LATENCY,
    Kind.SLOW_LEAK,
)
"""Causes before their effects."""

_VOLUME = (Kind.SPEND_RATE, Kind.CALL_RATE)
_PER_CALL = (
    Kind.UNIT_PRICE,
    Kind.INPUT_PER_CALL,
    Kind.OUTPUT_PER_CALL,
    Kind.COST_PER_CALL,
    Kind.CACHE_HITS,
    Kind.RETRIES,
)
_CREEPING = (Kind.INPUT_PER_CALL, Kind.OUTPUT_PER_CALL, Kind.COST_PER_CALL, Kind.SPEND_RATE)
"""Signals that, strange over the longest window alone, have crept up."""


def primary(strange: dict[Kind, Strange]) -> Kind:
    """The signal that explains the others."""
    volume = max((strange[kind].deviations for kind in _VOLUME if kind in strange), default=0.0)
    calls = strange.get(Kind.CALL_RATE)
    per_call = max((strange[kind].deviations for kind in _PER_CALL if kind in strange), default=0.0)
    stopped_or_failing = Kind.STOP in strange or Kind.ERROR_RATE in strange
    if calls is not None and volume > per_call and not stopped_or_failing:
        # Many more calls bring their own sizes and hits with them: the flood comes first.
        return Kind.SPEND_RATE if Kind.SPEND_RATE in strange else Kind.CALL_RATE
    kind = next(kind for kind in PRECEDENCE if kind in strange)
    crept = kind in _CREEPING and all(seen.window == WINDOWS[-1] for seen in strange.values())
    return Kind.SLOW_LEAK if crept else kind


@dataclass(slots=True)
class _Incident:
    kind: Kind
    opened: int
    since: int
    first: Strange
    last: Finding
    quiet: int = 0


class SubjectWatch:
    """Watches one subject; a :class:`~alerts.detectors.finding.Detector`."""

    VERSION = 1

    def __init__(self, subject: Subject, sensitivity: Sensitivity | None = None) -> None:
        self.subject = subject
        self.sensitivity = sensitivity or Sensitivity()
        self._signals = Signals(self.sensitivity)
        self._at: int | None = None
        self._streaks: dict[Kind, int] = {}
        self._open: _Incident | None = None

    def observe(self, point: Point) -> Finding | None:
        """The incident that is open after this minute, if one is; minutes left out had no calls."""
        if self._at is not None:
            missed = (point.at - self._at) // MINUTE_S - 1
            if missed > WINDOWS[-1]:
                # Two silent hours empty every window; of a longer silence only the time matters.
                self._signals.pass_by(self._at + MINUTE_S, point.at - WINDOWS[-1] * MINUTE_S)
                missed = WINDOWS[-1]
            for step in range(missed, 0, -1):
                self._step(Point(at=point.at - step * MINUTE_S))
        return self._step(point)

    def _step(self, point: Point) -> Finding | None:
        self._at = point.at
        strange = self._signals.add(point)
        self._streaks = {kind: self._streaks.get(kind, 0) + 1 for kind in strange}
        if self._open is not None:
            self._go_on(self._open, point, strange)
        elif any(self._certain(kind, seen) for kind, seen in strange.items()):
            self._begin(point, strange)
        if self._open is None and not strange:
            self._signals.learn(point)
        return self._open.last if self._open is not None else None

    def _certain(self, kind: Kind, seen: Strange) -> bool:
        """Strange for long enough, or too strange to wait; a silence has lasted already."""
        held = self._streaks[kind] >= self.sensitivity.hold_minutes
        return held or kind is Kind.STOP or seen.deviations >= 1.6 * self.sensitivity.deviations

    def _begin(self, point: Point, strange: dict[Kind, Strange]) -> None:
        kind = primary(strange)
        seen = strange.get(kind) or max(strange.values())
        held = (self._streaks.get(kind, 1) - 1) * MINUTE_S
        since = point.at - held
        if kind is Kind.STOP:
            since = point.at - (int(seen.value) - 1) * MINUTE_S
        elif kind is Kind.SLOW_LEAK:
            since = point.at - seen.window * MINUTE_S
        finding = self._told(kind, point.at, since, point.at, seen, strange)
        self._open = _Incident(kind, point.at, since, seen, finding)

    def _go_on(self, incident: _Incident, point: Point, strange: dict[Kind, Strange]) -> None:
        incident.quiet = 0 if strange else incident.quiet + 1
        aged = point.at - incident.opened >= self.sensitivity.accept_minutes * MINUTE_S
        if aged:
            self._signals.forget()
        if aged or incident.quiet >= self.sensitivity.quiet_minutes:
            self._open = None
            return
        seen = strange.get(incident.kind)
        if seen is None:
            incident.last = replace(incident.last, at=point.at)
        else:
            incident.last = self._told(
                incident.kind, point.at, incident.since, incident.opened, seen, strange
            )

    def _told(
        self, kind: Kind, at: int, since: int, opened: int, seen: Strange, strange: dict[Kind, Strange]
    ) -> Finding:
        window = WINDOWS[0] if kind is not Kind.SLOW_LEAK else WINDOWS[-1]
        excess = max(self._signals.excess(window), 0)
        evidence: dict[str, str | int | float] = {
            "unit": UNITS[kind],
            "window_minutes": seen.window,
            "deviations": round(seen.deviations, 1),
        }
        others = sorted(other for other in strange if other is not kind)
        if others:
            evidence["also"] = ", ".join(others)
        return Finding(
            kind=kind,
            subject=self.subject,
            at=at,
            since=since,
            opened=opened,
            severity=1 - math.exp(-seen.deviations / 10),
            excess_pico_per_hour=excess,
            value=seen.value,
            baseline=seen.baseline,
            evidence=evidence,
        )

    def to_dict(self) -> State:
        """Everything it remembers; an open incident with its name and kind."""
        incident = self._open
        return {
            "version": self.VERSION,
            "subject": [list(pair) for pair in self.subject],
            "signals": self._signals.to_dict(),
            "at": self._at,
            "streaks": {str(kind): streak for kind, streak in self._streaks.items()},
            "open": None
            if incident is None
            else {
                "kind": str(incident.kind),
                "opened": incident.opened,
                "since": incident.since,
                "first": list(incident.first),
                "quiet": incident.quiet,
                "excess": incident.last.excess_pico_per_hour,
                "evidence": dict(incident.last.evidence),
            },
        }

    @classmethod
    def from_dict(cls, state: State, sensitivity: Sensitivity | None = None) -> Self:
        """The watch that wrote ``state``.

        Raises:
            ValueError: it was written by another version.
        """
        if state.get("version") != cls.VERSION:
            raise ValueError(f"not a state of this version: {state.get('version')!r}")
        watch = cls(tuple((name, value) for name, value in state["subject"]), sensitivity)
        watch._signals = Signals.from_dict(state["signals"], watch.sensitivity)
        watch._at = state["at"]
        watch._streaks = {Kind(kind): streak for kind, streak in state["streaks"].items()}
        saved = state["open"]
        if saved is not None:
            first, kind = Strange(*saved["first"]), Kind(saved["kind"])
            finding = watch._told(kind, state["at"], saved["since"], saved["opened"], first, {})
            finding = replace(finding, excess_pico_per_hour=saved["excess"], evidence=saved["evidence"])
            watch._open = _Incident(kind, saved["opened"], saved["since"], first, finding, saved["quiet"])
        return watch

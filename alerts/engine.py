"""From signals to alerts: looks at every rule, keeps every alert, and says what is so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from alerts.evaluation import Vector, met
from alerts.rules import Rule
from alerts.samples import Samples
from alerts.signals import Labels, Signal, id_of, key_of, of_rule
from alerts.transitions import AT_ONCE, INACTIVE, Alert, Phase, Sample, Timing, transition

MOST_ALERTS = 1000
"""Alerts kept at once; signals beyond it are counted and left out."""
MOST_OF_A_RULE = 200
"""Label sets of one rule."""
LONGEST_WARMUP_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracked:
    """An alert with what is known of it."""

    labels: Mapping[str, str]
    annotations: Mapping[str, str] = field(default_factory=dict)
    alert: Alert = INACTIVE
    timing: Timing = AT_ONCE
    usd_per_hour: Decimal = Decimal(0)
    began_at: float = 0.0
    """Since when it is so, seconds since 1970; never later than when it was first seen."""
    unsure_until: float = 0.0
    """Until when not seeing it proves nothing, because its samples were lost with a restart."""

    @property
    def key(self) -> Labels:
        """Names it."""
        return key_of(self.labels)

    @property
    def id(self) -> str:
        """Names it for people."""
        return id_of(self.key)

    @property
    def name(self) -> str:
        """Of the rule or the kind."""
        return self.labels.get("alertname", "")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
            "phase": str(self.alert.phase),
            "active_at": self.alert.active_at,
            "fired_at": self.alert.fired_at,
            "last_true_at": self.alert.last_true_at,
            "resolved_at": self.alert.resolved_at,
            "value": self.alert.value,
            "fired": self.alert.fired,
            "timing": [self.timing.for_s, self.timing.keep_firing_s, self.timing.remember_s],
            "usd_per_hour": str(self.usd_per_hour),
            "began_at": self.began_at,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Tracked":
        """The same again.

        Raises:
            KeyError, TypeError, ValueError, ArithmeticError: it is none.
        """
        times = ("active_at", "fired_at", "last_true_at", "resolved_at", "value")
        for_s, keep_s, remember_s = map(float, given["timing"])
        return cls(
            labels={str(name): str(value) for name, value in given["labels"].items()},
            annotations={str(name): str(value) for name, value in given["annotations"].items()},
            alert=Alert(
                phase=Phase(given["phase"]),
                fired=int(given["fired"]),
                **{name: float(given[name]) for name in times},
            ),
            timing=Timing(for_s=for_s, keep_firing_s=keep_s, remember_s=remember_s),
            usd_per_hour=Decimal(given["usd_per_hour"]),
            began_at=float(given["began_at"]),
        )


class Engine:
    """Holds the alerts; told the time, never asks for it.

    Args:
        rules: what is looked at.
        extra: labels that every alert gets.
    """

    def __init__(self, rules: Iterable[Rule], extra: Mapping[str, str] | None = None) -> None:
        self.rules = list(rules)
        self._extra = dict(extra or {})
        self._alerts: dict[Labels, Tracked] = {}
        self.refused = 0
        """Signals left out for want of room."""

    @property
    def alerts(self) -> list[Tracked]:
        """Every alert that is not inactive."""
        return list(self._alerts.values())

    def firing(self) -> list[Tracked]:
        """Those that somebody should know of."""
        return [tracked for tracked in self._alerts.values() if tracked.alert.firing]

    def look(self, samples: Samples, at: float, others: Iterable[Signal] = ()) -> list[Tracked]:
        """Look at every rule and take in the signals of ``others``; the alerts that moved."""
        signals = {signal.key: signal for signal in others}
        for rule in self.rules:
            for signal in self._signals(rule, samples, at):
                signals.setdefault(signal.key, signal)
        moved = []
        for key in [*signals, *(key for key in self._alerts if key not in signals)]:
            before = self._alerts.get(key)
            after = self._step(before, signals.get(key), at)
            if after is None:
                self._alerts.pop(key, None)
                continue
            self._alerts[key] = after
            if before is None or before.alert.phase is not after.alert.phase:
                moved.append(after)
        return moved

    def restore(self, tracked: Iterable[Tracked], at: float) -> None:
        """Take up alerts of an earlier run. Until samples are there again, not seeing one proves nothing."""
        for one in list(tracked)[:MOST_ALERTS]:
            self._alerts[one.key] = replace(one, unsure_until=at + LONGEST_WARMUP_S)

    def _signals(self, rule: Rule, samples: Samples, at: float) -> list[Signal]:
        first, *rest = rule.conditions
        holding: Vector = met(first, rule.by, samples, at)
        for condition in rest:
            if not holding:
                return []
            also = met(condition, rule.by, samples, at)
            holding = {labels: value for labels, value in holding.items() if labels in also}
        if len(holding) > MOST_OF_A_RULE:
            self.refused += len(holding) - MOST_OF_A_RULE
        kept = sorted(holding.items())[:MOST_OF_A_RULE]
        return [of_rule(rule, labels, value, self._extra) for labels, value in kept]

    def _step(self, before: Tracked | None, signal: Signal | None, at: float) -> Tracked | None:
        """One alert at one look; None when nothing is left of it."""
        if signal is not None:
            if before is None:
                if len(self._alerts) >= MOST_ALERTS:
                    self.refused += 1
                    return None
                before = Tracked(labels=signal.labels)
            alert = transition(before.alert, Sample(at=at, active=True, value=signal.value), signal.timing)
            ongoing = before.alert.phase in (Phase.PENDING, Phase.FIRING)
            starts = (signal.since, before.began_at if ongoing else 0.0, alert.active_at)
            began = min(filter(None, starts), default=at)
            return replace(
                before,
                annotations=signal.annotations,
                alert=alert,
                timing=signal.timing,
                usd_per_hour=signal.usd_per_hour,
                began_at=began,
                unsure_until=0.0,
            )
        assert before is not None
        if at < before.unsure_until:
            return before
        alert = transition(before.alert, Sample(at=at, active=False), before.timing)
        return None if alert.phase is Phase.INACTIVE else replace(before, alert=alert)

"""How an alert moves: inactive, pending, firing, resolved. A function of what was and what is seen.

```
             true                  true for `for_s`
  inactive ────────► pending ──────────────────────► firing ◄──┐ true again, or false for less
      ▲                │ false                         │       │ than `keep_firing_s`
      └────────────────┘                               │ ──────┘
      ▲                                                │ false for `keep_firing_s`
      └──────────── after `remember_s` ── resolved ◄───┘
```

The times are those of Prometheus (`rules/alerting.go`): an alert fires at the first look at which it has
held for ``for_s``, and a resolved one is remembered for a while so that its end is told more than once.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

REMEMBER_RESOLVED_S = 900.0
"""How long the end of an alert is told; Prometheus' own figure."""


class Phase(StrEnum):
    """Where an alert stands."""

    INACTIVE = "inactive"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient an alert is, in seconds."""

    for_s: float = 0.0
    keep_firing_s: float = 0.0
    remember_s: float = REMEMBER_RESOLVED_S


AT_ONCE = Timing()
"""No patience at all: for signals that were weighed before they came here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What was seen at one look."""

    at: float
    """Seconds since 1970."""
    active: bool
    value: float = 0.0
    """Of the signal; kept from the last look that was active."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert at one moment; the times are seconds since 1970."""

    phase: Phase = Phase.INACTIVE
    active_at: float = 0.0
    """Since when the condition holds."""
    fired_at: float = 0.0
    last_true_at: float = 0.0
    resolved_at: float = 0.0
    value: float = 0.0
    fired: int = field(default=0, compare=False)
    """How often it began to fire, for those who judge flapping."""

    @property
    def firing(self) -> bool:
        """Whether somebody should know."""
        return self.phase is Phase.FIRING


INACTIVE = Alert()


def transition(alert: Alert, sample: Sample, timing: Timing) -> Alert:
    """The alert after ``sample``. Samples that are not newer than the last one change nothing."""
    if sample.active:
        return _after_true(alert, sample, timing)
    return _after_false(alert, sample, timing)


def _after_true(alert: Alert, sample: Sample, timing: Timing) -> Alert:
    if alert.phase in (Phase.INACTIVE, Phase.RESOLVED):
        alert = replace(alert, phase=Phase.PENDING, active_at=sample.at, resolved_at=0.0)
    if sample.at < alert.last_true_at:
        return alert
    seen = replace(alert, last_true_at=sample.at, value=sample.value)
    if seen.phase is Phase.PENDING and sample.at - seen.active_at >= timing.for_s:
        return replace(seen, phase=Phase.FIRING, fired_at=sample.at, fired=seen.fired + 1)
    return seen


def _after_false(alert: Alert, sample: Sample, timing: Timing) -> Alert:
    match alert.phase:
        case Phase.PENDING:
            return replace(INACTIVE, fired=alert.fired)
        case Phase.FIRING if sample.at - alert.last_true_at >= timing.keep_firing_s:
            return replace(alert, phase=Phase.RESOLVED, resolved_at=sample.at)
        case Phase.RESOLVED if sample.at - alert.resolved_at >= timing.remember_s:
            return replace(INACTIVE, fired=alert.fired)
        case _:
            return alert

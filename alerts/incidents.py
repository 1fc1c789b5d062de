"""What the ledger is told of an alert: a row when it fires, and one when it is over.

Rows of table ``anomalies`` in the collector, so that a report or a dashboard need not ask this process.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from alerts.alertmanager import instant
from alerts.detectors.finding import Kind
from alerts.engine import Tracked
from alerts.signals import KINDS
from alerts.transitions import Phase

_SIGNALS: Final[Mapping[str, Kind]] = {name: kind for kind, (name, _) in KINDS.items()}
_NOT_SCOPE: Final = frozenset({"alertname", "severity", "impact"})
MOST_DETAIL: Final = 8000
"""Characters; the collector takes a few more. The longest annotations go first."""


def told(tracked: Tracked, others: Iterable[Tracked], now: float) -> dict[str, Any] | None:
    """The row that says how ``tracked`` stands; None where there is nothing to say.

    Args:
        tracked: an alert that moved.
        others: every alert. An anomaly that became louder is another alert and the same incident: it is
            not over while one of them fires.
        now: seconds since 1970.
    """
    phase, incident = tracked.alert.phase, name_of(tracked)
    if phase not in (Phase.FIRING, Phase.RESOLVED) or tracked.labels.get("severity") == "none":
        return None
    is_open = phase is Phase.FIRING
    if not is_open and any(other.alert.firing and name_of(other) == incident for other in others):
        return None
    kind = _SIGNALS.get(tracked.name)
    row = {
        "anomaly_id": incident,
        "detected_at": instant(now),
        "since": instant(tracked.began_at or now),
        "until": None if is_open else instant(tracked.alert.resolved_at or now),
        "state": "open" if is_open else "closed",
        "detector": "learned" if kind else "injection" if tracked.name == INJECTION else "rule",
        "signal": str(kind) if kind else tracked.name,
        "scope": {name: value for name, value in tracked.labels.items() if name not in _NOT_SCOPE},
        "observed": tracked.alert.value,
        "alertname": tracked.name,
        "severity": tracked.labels.get("severity", ""),
        "usd_per_hour": str(tracked.usd_per_hour),
        "detail": _detail({**tracked.annotations, "alert": tracked.id}),
    }
    name = f"{incident}\n{row['state']}\n{row['severity']}\n{tracked.alert.fired_at!r}"
    return {**row, "event_id": hashlib.sha256(name.encode()).hexdigest()[:32]}


def name_of(tracked: Tracked) -> str:
    """Names the incident, from its beginning to its end."""
    return tracked.annotations.get("finding") or f"{tracked.id}-{tracked.began_at:.0f}"


INJECTION: Final = "PromptInjectionBurst"


def _detail(annotations: Mapping[str, str]) -> str:
    kept = dict(annotations)
    while len(text := msgspec.json.encode(kept, order="sorted").decode()) > MOST_DETAIL:
        del kept[max(kept, key=lambda name: len(kept[name]))]
    return text

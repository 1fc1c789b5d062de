"""What may become an alert: a rule that holds, an anomaly that a detector found, a page that nobody took.

All three end as a :class:`Signal`: labels that name it, the same from every process that sees it, and
annotations that explain it. The severity of an anomaly comes from the money at stake and from who is
hurt, and is held within the page budget.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from urllib.parse import urlencode

from alerts.detectors.finding import Finding, Kind
from alerts.rules import Rule, shown
from alerts.transitions import AT_ONCE, Timing

WEEK_S = 7 * 86400.0
ESCALATION = "PageUnacknowledged"

Labels = tuple[tuple[str, str], ...]
"""Sorted (name, value) pairs."""

KINDS: Mapping[Kind, tuple[str, str]] = MappingProxyType(
    {
        Kind.SPEND_RATE: ("SpendAnomaly", "cost"),
        Kind.CALL_RATE: ("CallRateAnomaly", "cost"),
        Kind.COST_PER_CALL: ("CostPerCallAnomaly", "cost"),
        Kind.UNIT_PRICE: ("UnitPriceAnomaly", "cost"),
        Kind.INPUT_PER_CALL: ("InputLengthAnomaly", "cost"),
        Kind.OUTPUT_PER_CALL: ("OutputLengthAnomaly", "cost"),
        Kind.RETRIES: ("RetryAnomaly", "cost"),
        Kind.ERROR_RATE: ("ErrorRateAnomaly", "users"),
        Kind.CACHE_HITS: ("CacheHitAnomaly", "cost"),
        Kind.LATENCY: ("LatencyAnomaly", "users"),
        Kind.STOP: ("TrafficStopped", "users"),
        Kind.SLOW_LEAK: ("SpendCreeping", "cost"),
        Kind.SATURATION: ("GpuSaturated", "users"),
        Kind.LEVEL: ("SeriesAnomaly", "cost"),
    }
)
"""The alert's name and whom it hurts, by what was found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """Something that is so at this moment and that somebody may have to know."""

    labels: Mapping[str, str]
    """With alertname, severity and impact. Never an instance, a process or a time."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    value: float = 0.0
    since: float = 0.0
    """When it began, seconds since 1970, where that is earlier than it was seen; 0 where unknown."""
    usd_per_hour: Decimal = Decimal(0)
    """Money an hour at stake."""
    timing: Timing = AT_ONCE

    @property
    def key(self) -> Labels:
        """Names the alert."""
        return key_of(self.labels)


def key_of(labels: Mapping[str, str]) -> Labels:
    """Labels as a key. Empty ones do not count, as in Alertmanager."""
    return tuple(sorted((name, value) for name, value in labels.items() if value))


def id_of(labels: Labels) -> str:
    """Short name of an alert for people: the same for the same labels, on any machine."""
    text = "\n".join(f"{name}={value}" for name, value in labels)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


# ---- rules ----------------------------------------------------------------------------------


def of_rule(rule: Rule, labels: Labels, value: float, extra: Mapping[str, str]) -> Signal:
    """The signal of ``rule`` for one set of its labels."""
    own = dict(labels)
    return Signal(
        labels={**extra, **own, **rule.labels},
        annotations={
            "summary": rule.text(rule.summary, own),
            "value": shown(value),
            "threshold": shown(rule.threshold),
            "about": " ".join(rule.about.split()),
            "advice": rule.text(rule.advice, own),
        },
        value=value,
        timing=Timing(for_s=rule.for_s, keep_firing_s=rule.keep_firing_s),
    )


# ---- anomalies ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class PagePolicy:
    """When an anomaly may page."""

    page_usd_per_hour: Decimal
    min_usd_per_hour: Decimal
    pages_per_week: float
    trusted: Mapping[str, float] = field(default_factory=dict)
    """By kind, the severity from which it may page: what a back-test on this history allowed. A kind
    that was not back-tested here is missing, and only warns."""


def grade(finding: Finding, policy: PagePolicy, paged_at: Sequence[float], now: float) -> tuple[str, str]:
    """How loud an anomaly may be (page, warn, info), and why it is not louder; "" where it is a page.

    Args:
        finding: what was found.
        policy: from which money and severity on, and how many pages a week.
        paged_at: when anomalies paged before, seconds since 1970.
        now: the same.
    """
    _, impact = KINDS[finding.kind]
    hurts_users = impact == "users"
    if not finding.confirmed:
        return "info", "a candidate that no other test confirmed"
    if not hurts_users and finding.usd_per_hour < policy.min_usd_per_hour:
        return "info", f"less than {policy.min_usd_per_hour} USD an hour at stake"
    if not hurts_users and finding.usd_per_hour < policy.page_usd_per_hour:
        return "warn", f"less than {policy.page_usd_per_hour} USD an hour at stake"
    wanted = policy.trusted.get(finding.kind)
    if wanted is None:
        return "warn", "this kind was not back-tested on this history yet (bursar alerts backtest)"
    if finding.severity < wanted:
        return (
            "warn",
            f"severity {finding.severity:.2f} is below the {wanted:.2f} that the page budget allows",
        )
    if sum(1 for at in paged_at if now - at < WEEK_S) >= policy.pages_per_week:
        return "warn", f"the page budget of {policy.pages_per_week:g} a week is used up"
    return "page", ""


def of_finding(
    finding: Finding, severity: str, held_back: str, extra: Mapping[str, str], dashboard: str = ""
) -> Signal:
    """The signal of an anomaly."""
    name, impact = KINDS[finding.kind]
    unit = str(finding.evidence.get("unit", ""))
    whose = ", ".join(f"{label} {value}" for label, value in finding.subject) or "all calls"
    annotations = {
        "summary": f"{KIND_TEXT[finding.kind]} ({whose})",
        "value": f"{shown(finding.value)} {unit}".strip(),
        "baseline": f"{shown(finding.baseline)} {unit}".strip(),
        "usd_per_hour": f"{finding.usd_per_hour:.2f}",
        "since": finding.since_time.isoformat().replace("+00:00", "Z"),
        "finding": finding.id,
    }
    if held_back:
        annotations["not_a_page"] = held_back
    if dashboard:
        annotations["dashboard"] = dashboard_link(dashboard, finding)
    return Signal(
        labels={**extra, **finding.labels, "alertname": name, "severity": severity, "impact": impact},
        annotations=annotations,
        value=finding.value,
        since=float(finding.since),
        usd_per_hour=finding.usd_per_hour,
    )


KIND_TEXT: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.SPEND_RATE: "Spends more an hour than it ever does at this time",
        Kind.CALL_RATE: "Calls far more often than usual",
        Kind.COST_PER_CALL: "A call costs more than it did",
        Kind.UNIT_PRICE: "The same tokens cost more than they did",
        Kind.INPUT_PER_CALL: "Inputs are longer than they were",
        Kind.OUTPUT_PER_CALL: "Outputs are longer than they were",
        Kind.RETRIES: "Calls need more attempts than they did",
        Kind.ERROR_RATE: "More calls fail than usual",
        Kind.CACHE_HITS: "Less of the input comes from the prompt cache than usual",
        Kind.LATENCY: "Calls take longer than usual",
        Kind.STOP: "No calls where there always are some",
        Kind.SLOW_LEAK: "Spending creeps up",
        Kind.SATURATION: "Requests wait for a place on the GPU",
        Kind.LEVEL: "Behaves as it never did",
    }
)


_DASHBOARD_NAMES = {"model": "request_model", "user": "user_id", "key": "key_id"}


def dashboard_link(base: str, finding: Finding) -> str:
    """The dashboard's view of the subject, over the shortest range that shows when it began."""
    span = "24h" if finding.at - finding.since < 20 * 3600 else "7d"
    labels = {_DASHBOARD_NAMES.get(name, name): value for name, value in finding.subject}
    return f"{base.rstrip('/')}/?{urlencode({'range': span, **labels})}"


# ---- pages that nobody took -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """An alert as Alertmanager lists it."""

    labels: Mapping[str, str]
    starts_at: float
    """Seconds since 1970."""
    silenced: bool = False
    inhibited: bool = False


def escalations(listed: Sequence[Listed], now: float, after_s: float) -> list[Signal]:
    """A signal for each page that is as old as ``after_s`` and that nobody silenced.

    A silence is how a person says "I have it": Alertmanager knows no other acknowledgement. An inhibited
    page has a louder one that stands for it.
    """
    found = []
    for alert in listed:
        labels = alert.labels
        if labels.get("severity") != "page" or labels.get("alertname") == ESCALATION:
            continue
        if after_s <= 0 or alert.silenced or alert.inhibited or now - alert.starts_at < after_s:
            continue
        name = labels.get("alertname", "")
        found.append(
            Signal(
                labels={**labels, "alertname": ESCALATION, "incident": name},
                annotations={
                    "summary": f"Nobody has taken {name} for {(now - alert.starts_at) / 60:.0f} minutes",
                    "advice": "Silence it in Alertmanager to say that you have it, or resolve it.",
                },
                since=alert.starts_at,
            )
        )
    return found

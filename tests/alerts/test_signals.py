"""How loud an anomaly may be, and which pages are escalated."""

from decimal import Decimal

import pytest

from alerts.detectors.finding import Finding, Kind, subject
from alerts.signals import (
    ESCALATION,
    KIND_TEXT,
    KINDS,
    WEEK_S,
    Listed,
    PagePolicy,
    escalations,
    grade,
    id_of,
    key_of,
    of_finding,
)

NOW = 1_000_000.0
POLICY = PagePolicy(
    page_usd_per_hour=Decimal(5),
    min_usd_per_hour=Decimal("0.1"),
    pages_per_week=2,
    trusted={Kind.SPEND_RATE: 0.8, Kind.ERROR_RATE: 0.5},
)


def finding(kind: Kind = Kind.SPEND_RATE, usd: float = 10, severity: float = 0.9, **more: object) -> Finding:
    given: dict[str, object] = {
        "kind": kind,
        "subject": subject(agent="crawler"),
        "at": int(NOW),
        "since": int(NOW) - 600,
        "severity": severity,
        "excess_pico_per_hour": int(usd * 10**12),
    }
    return Finding(**{**given, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "paged_at", "severity", "why"),
    [
        (finding(), [], "page", ""),
        (finding(confirmed=False), [], "info", "confirmed"),
        (finding(usd=0.05), [], "info", "0.1 USD"),
        (finding(usd=3), [], "warn", "5 USD"),
        (finding(kind=Kind.COST_PER_CALL), [], "warn", "back-tested"),
        (finding(severity=0.7), [], "warn", "0.80"),
        (finding(), [NOW - 10, NOW - 20], "warn", "page budget"),
        (finding(), [NOW - WEEK_S - 1, NOW - 20], "page", ""),
        (finding(kind=Kind.ERROR_RATE, usd=0), [], "page", ""),
    ],
)
def test_an_anomaly_is_as_loud_as_money_trust_and_the_page_budget_allow(
    found: Finding, paged_at: list[float], severity: str, why: str
) -> None:
    said, held_back = grade(found, POLICY, paged_at, NOW)
    assert said == severity
    assert why in held_back


def test_every_kind_has_a_name_of_its_own_and_a_text() -> None:
    assert set(KINDS) == set(KIND_TEXT) == set(Kind)
    assert len({name for name, _ in KINDS.values()}) == len(KINDS)


def test_an_anomaly_is_named_by_whose_it_is_and_not_by_when() -> None:
    early = of_finding(finding(opened=1), "page", "", {})
    late = of_finding(finding(opened=2, since=5), "page", "", {})
    assert early.key == late.key
    assert dict(early.labels) == {
        "alertname": "SpendAnomaly", "severity": "page", "impact": "cost", "agent": "crawler",
    }  # fmt: skip


def test_a_label_without_a_value_does_not_tell_alerts_apart() -> None:
    assert id_of(key_of({"alertname": "A", "team": ""})) == id_of(key_of({"alertname": "A"}))


def listed(age_s: float, **more: object) -> Listed:
    labels = {"alertname": "SidecarDown", "severity": "page", "impact": "availability", "job": "j"}
    return Listed(**{"labels": labels, "starts_at": NOW - age_s, **more})  # type: ignore[arg-type]


def test_a_page_is_escalated_when_nobody_took_it_in_time() -> None:
    (found,) = escalations([listed(901)], NOW, 900)
    assert dict(found.labels) == {
        "alertname": ESCALATION, "incident": "SidecarDown", "severity": "page",
        "impact": "availability", "job": "j",
    }  # fmt: skip
    assert "15 minutes" in found.annotations["summary"]


@pytest.mark.parametrize(
    "alert",
    [
        listed(899),
        listed(9999, silenced=True),
        listed(9999, inhibited=True),
        listed(9999, labels={"alertname": "LatencyHigh", "severity": "warn"}),
        listed(9999, labels={"alertname": ESCALATION, "severity": "page"}),
    ],
)
def test_what_is_young_taken_covered_mild_or_an_escalation_is_not(alert: Listed) -> None:
    assert escalations([alert], NOW, 900) == []
    assert escalations([listed(9999)], NOW, 0) == []

"""One trouble is one page, whichever way the ledger is cut."""

from typing import Any

from alerts.detectors.finding import Finding, Kind, subject
from alerts.grouping import leaders


def found(kind: Kind = Kind.SPEND_RATE, since: int = 0, usd: int = 10, **labels: str) -> Finding:
    return Finding(
        kind=kind, subject=subject(**labels), at=since + 120, since=since, opened=since + 60,
        severity=0.9, excess_pico_per_hour=usd * 10**12,
    )  # fmt: skip


def named(findings: list[Finding], **options: Any) -> dict[str, str]:
    """Leaders by what they lead, in the words of the subjects."""
    words = {one.id: " ".join(f"{name}={value}" for name, value in one.subject) for one in findings}
    return {words[part]: words[of] for part, of in leaders(findings, options.get("loud", {})).items()}


AGENT = found(agent="crawler", team="search")
MODEL = found(model="large", usd=11)
UPSTREAM = found(upstream="openai", usd=12, since=240)


def test_of_money_the_one_who_spends_it_leads() -> None:
    assert named([UPSTREAM, MODEL, AGENT]) == {
        "model=large": "agent=crawler team=search",
        "upstream=openai": "agent=crawler team=search",
    }


def test_of_errors_what_they_have_in_common_leads() -> None:
    agents = [found(Kind.ERROR_RATE, agent=name, usd=0) for name in ("a", "b", "c")]
    shared = found(Kind.ERROR_RATE, upstream="openai", usd=0)
    assert set(named([*agents, shared]).values()) == {"upstream=openai"}
    assert len(named([*agents, shared])) == 3


def test_what_was_loud_first_stays_the_leader() -> None:
    assert named([AGENT, MODEL], loud={MODEL.id: 4}) == {"agent=crawler team=search": "model=large"}


def test_two_agents_at_once_are_two_incidents() -> None:
    other = found(agent="writer", team="search")
    parts = leaders([AGENT, other, MODEL], {})
    assert set(parts) == {MODEL.id}


def test_what_began_hours_apart_or_hurts_others_is_not_one_incident() -> None:
    assert named([AGENT, found(model="large", since=7200)]) == {}
    assert named([AGENT, found(Kind.LATENCY, upstream="openai")]) == {}


def test_one_subject_that_moves_in_two_ways_is_one_incident() -> None:
    dearer = found(Kind.COST_PER_CALL, agent="crawler", team="search", usd=3)
    assert list(leaders([dearer, AGENT], {})) == [dearer.id]

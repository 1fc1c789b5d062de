"""What the detectors would have said of this very history, and what they may page from now on.

A detector that was never tried on somebody's own traffic has no business waking them. So its findings of
the past weeks are listed, one an incident, as loud as they would have become; and the severity from which
anomalies page is set to the lowest at which the past would have kept within the page budget.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from alerts.detectors.finding import Finding, Kind, Subject
from alerts.grouping import one_trouble
from alerts.signals import KINDS, WEEK_S

LEAST_DAYS = 3.0
"""With less history nothing is trusted to page: there was no weekday to compare with another."""
LEAST_SEVERITY = 0.4
"""The mildest that a detector reports."""
ONE_PAGE_S = 3600
"""Incidents of one subject that begin within this time are one page: the louder inhibits the others."""
NEVER = 2.0
"""A severity that no finding reaches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One incident of the past."""

    kind: Kind
    subject: Subject
    since: int
    opened: int
    """When it would have been reported first, seconds since 1970."""
    ended: int
    """The last minute that it was reported."""
    severity: float
    """The highest it reached."""
    usd_per_hour: Decimal
    """The most it cost."""
    confirmed: bool

    def may_page(self, page_usd_per_hour: Decimal) -> bool:
        """Whether anything but severity and the budget stood between it and a page."""
        return self.confirmed and (KINDS[self.kind][1] == "users" or self.usd_per_hour >= page_usd_per_hour)


class Episodes:
    """Gathers findings, minute by minute, into incidents."""

    def __init__(self) -> None:
        self._found: dict[str, Episode] = {}

    def add(self, finding: Finding) -> None:
        """One finding of one minute."""
        before = self._found.get(finding.id)
        self._found[finding.id] = Episode(
            kind=finding.kind,
            subject=finding.subject,
            since=finding.since,
            opened=before.opened if before else finding.at,
            ended=finding.at,
            severity=max(finding.severity, before.severity if before else 0.0),
            usd_per_hour=max(finding.usd_per_hour, before.usd_per_hour if before else Decimal(0)),
            confirmed=finding.confirmed or (before is not None and before.confirmed),
        )

    def all(self) -> list[Episode]:
        """Every incident, oldest first."""
        return sorted(self._found.values(), key=lambda one: (one.opened, one.subject, one.kind))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The outcome of a back-test."""

    days: float
    """How much history it saw."""
    pages_per_week: float
    """The budget it was made for."""
    threshold: float
    """Severity from which an anomaly pages; :data:`NEVER` where history is too short or too wild."""
    pages: int
    """How many there would have been at that."""
    incidents: int
    reason: str

    def trusted(self) -> dict[str, float]:
        """By kind, the severity from which it may page."""
        return {} if self.threshold >= NEVER else dict.fromkeys(map(str, Kind), self.threshold)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "days": self.days,
            "pages_per_week": self.pages_per_week,
            "threshold": self.threshold,
            "pages": self.pages,
            "incidents": self.incidents,
            "reason": self.reason,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Tuning":
        """The same again.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        return cls(
            days=float(given["days"]),
            pages_per_week=float(given["pages_per_week"]),
            threshold=float(given["threshold"]),
            pages=int(given["pages"]),
            incidents=int(given["incidents"]),
            reason=str(given["reason"]),
        )


def tune(
    episodes: Sequence[Episode], *, days: float, pages_per_week: float, page_usd_per_hour: Decimal
) -> Tuning:
    """The lowest severity at which ``episodes`` would have kept within the budget.

    Args:
        episodes: incidents of the past.
        days: how much of it was looked at.
        pages_per_week: the budget.
        page_usd_per_hour: money an hour from which an anomaly is worth a page.
    """

    def outcome(threshold: float, pages: int, reason: str) -> Tuning:
        return Tuning(
            days=days,
            pages_per_week=pages_per_week,
            threshold=threshold,
            pages=pages,
            incidents=len(episodes),
            reason=reason,
        )

    if days < LEAST_DAYS:
        return outcome(NEVER, 0, f"{days:.1f} days of history are too few; {LEAST_DAYS:g} are needed")
    most = math.floor(pages_per_week * days * 86400 / WEEK_S)
    candidates = [one for one in episodes if one.may_page(page_usd_per_hour)]
    # Severities are tried from the mildest up; just above the highest nothing pages at all.
    for threshold in sorted({LEAST_SEVERITY, *(one.severity for one in candidates)}):
        if threshold < LEAST_SEVERITY:
            continue
        pages = _pages([one for one in candidates if one.severity >= threshold])
        if pages <= most:
            return outcome(threshold, pages, f"{pages} pages in {days:.1f} days, of {most} allowed")
    return outcome(NEVER, 0, f"even the most severe anomalies came more often than {pages_per_week:g} a week")


def _pages(episodes: Iterable[Episode]) -> int:
    """How many pages these are: one trouble is one, and so is a subject that is back within the hour."""
    paged: list[Episode] = []
    for one in sorted(episodes, key=lambda one: one.opened):
        if not any(_same_page(before, one) for before in paged):
            paged.append(one)
    return len(paged)


def _same_page(before: Episode, one: Episode) -> bool:
    if before.subject == one.subject:
        return one.opened - before.opened < ONE_PAGE_S
    return one_trouble(before, one)

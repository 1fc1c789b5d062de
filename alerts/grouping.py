"""One trouble, one page: the same money shows in the agent that spends it, its model and its upstream.

Findings that began together and are told apart in different ways are one incident. It has one leader, the
finding that says most: of money, who spends it; of errors and waiting, what they all have in common.
Whatever was loud already stays the leader, so that an incident is not paged again under another name.
The others are listed beside it. Two agents at once are two incidents: neither is part of the other.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from alerts.detectors.finding import Finding, Kind, Subject
from alerts.signals import KINDS

TOGETHER_S = 1800
"""How far apart the beginnings of one incident may lie: windows see it after 5, 30 or 120 minutes."""

_DETAIL = {"conversation": 5, "task": 5, "agent": 4, "key": 4, "user": 4, "team": 3, "model": 2, "tenant": 2}
"""How much a label says about who it is; others say less."""


class Trouble(Protocol):
    """What findings and past incidents have in common."""

    @property
    def kind(self) -> Kind:
        """What moved."""

    @property
    def subject(self) -> Subject:
        """Whose it is."""

    @property
    def since(self) -> int:
        """When it began, seconds since 1970."""


def leaders(findings: Sequence[Finding], loud: Mapping[str, int]) -> dict[str, str]:
    """For each finding that is part of another's incident, by id, the leader's id.

    Args:
        findings: every incident that is open.
        loud: by id, how loud one has been already; higher is louder.
    """
    ranked = sorted(findings, key=lambda one: (-loud.get(one.id, 0), *_order(one)))
    leading: list[Finding] = []
    parts: dict[str, str] = {}
    for finding in ranked:
        of = next((leader for leader in leading if one_trouble(leader, finding)), None)
        if of is None:
            leading.append(finding)
        else:
            parts[finding.id] = of.id
    return parts


def _order(finding: Finding) -> tuple[float, ...]:
    detail = max((_DETAIL.get(name, 1) for name, _ in finding.subject), default=0)
    first = detail if _hurts_users(finding) else -detail
    return not finding.confirmed, first, -finding.excess_pico_per_hour, -finding.severity, finding.since


def _hurts_users(trouble: Trouble) -> bool:
    return KINDS[trouble.kind][1] == "users"


def one_trouble(leader: Trouble, other: Trouble) -> bool:
    """Whether ``other`` is another view of what ``leader`` says."""
    if abs(leader.since - other.since) > TOGETHER_S:
        return False
    if _hurts_users(leader) is not _hurts_users(other):
        return False
    mine, theirs = dict(leader.subject), dict(other.subject)
    if any(mine[name] != theirs[name] for name in mine.keys() & theirs.keys()):
        return False
    return mine != theirs or leader.kind is not other.kind

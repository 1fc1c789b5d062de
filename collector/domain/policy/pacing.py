"""Spending that lasts until the window's end, by downgrading a share of the calls.

A budget runs ahead when a larger part of it is spent than of its window has passed. The share of
calls downgraded is that lead, measured against what is left of the window; where it settles, the part of
the budget that is left is the part of the window that is left, less a share of that. So something is left at
every instant before the end, and no more calls are downgraded than must be.
"""

from collections.abc import Sequence
from zlib import crc32

from collector.domain.policy.budget import WHOLE

_BAND = 2_000
"""Lead at which every call is downgraded: a fifth of what is left of the window."""
_FREE = 200
"""A lead of two percent of what is left is no lead: every window begins with one."""


def pace_share(spent: int, limit: int, now_us: int, starts_us: int, ends_us: int) -> int:
    """The share of calls to downgrade, of :data:`~collector.domain.policy.budget.WHOLE`."""
    if limit <= 0:
        return WHOLE
    length = ends_us - starts_us
    passed = min(max(now_us - starts_us, 0), length)
    left = (length - passed) * WHOLE // length
    lead = spent * WHOLE // limit - (WHOLE - left) - _FREE * left // WHOLE
    if lead <= 0:
        return 0
    return min(WHOLE, lead * WHOLE * WHOLE // max(1, _BAND * left))


def place_of(call_id: str) -> int:
    """Where a call stands among all calls: evenly spread over 0 to WHOLE, and always the same."""
    return crc32(call_id.encode()) % WHOLE


def rung_of(place: int, share: int, rungs: int) -> int:
    """How many rungs down the ladder a call goes; 0 for none.

    The share moves all calls to the first rung before it moves any to the second: the smallest loss of
    quality first.
    """
    reach = share * rungs
    return sum(1 for rung in range(rungs) if place < reach - rung * WHOLE)


def pick(ladder: Sequence[str], call_id: str, share: int) -> tuple[str, ...]:
    """The models to try for a call, the best of them first; empty when it stays as it is."""
    rung = rung_of(place_of(call_id), share, len(ladder))
    return tuple(ladder[rung - 1 :]) if rung else ()

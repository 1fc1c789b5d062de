"""Whether a call is tried again, and how long it waits before that.

Retries are paid from a budget, so that a provider in trouble never sees a multiple of its ordinary load:
every call adds a part of a retry, every retry takes a whole one (as Finagle and Envoy do). Waits grow by
powers of two with full jitter (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
"""

from typing import NamedTuple

FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 8.0
RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504, 529})
"""What may succeed when it is asked again."""
TURNED_AWAY_STATUS = frozenset({429, 503, 529})
"""What was not begun there, so that asking again costs nothing twice."""
ELSEWHERE_STATUS = frozenset({500, 502, 503, 504, 529})
"""What speaks against one replica, not against the account."""


class RetryBudget(NamedTuple):
    """How many retries may be made now."""

    tokens: float = 10.0


def deposited(budget: RetryBudget, *, share: float, most: float) -> RetryBudget:
    """More calls were made: ``share`` of a retry for each of them together, up to ``most``."""
    return RetryBudget(min(budget.tokens + share, most))


def withdrawn(budget: RetryBudget) -> RetryBudget | None:
    """One retry is made; None where there is none left."""
    return RetryBudget(budget.tokens - 1) if budget.tokens >= 1 else None


def pause_s(retry: int, draw: float, asked_s: float | None, *, elsewhere: bool) -> float:
    """How long to wait before a retry, in seconds.

    Args:
        retry: 0 for the first one of a call.
        draw: a number from [0, 1).
        asked_s: what the provider asked to wait (``Retry-After``); None where it did not.
        elsewhere: it goes to a replica that has said nothing of the sort.
    """
    if elsewhere:
        return 0.0 if not retry else draw * FIRST_PAUSE_S
    grown = draw * min(FIRST_PAUSE_S * 2.0**retry, LONGEST_PAUSE_S)
    if asked_s is None:
        return max(grown, FIRST_PAUSE_S / 10)
    # A little later than asked, or all who were told the same come at once.
    return asked_s + draw * FIRST_PAUSE_S

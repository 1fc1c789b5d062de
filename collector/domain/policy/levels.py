"""Which thresholds of a budget are reached: one step at a time, once in each direction."""

from collections.abc import Sequence

from collector.domain.policy.budget import WHOLE, Threshold

SLACK = 200
"""How far spending must fall below a threshold before it counts as left: two percent of the limit."""


def level_after(
    thresholds: Sequence[Threshold], level: int, spent: int, limit: int, slack: int = SLACK
) -> int:
    """How many of the thresholds are reached now, ``level`` having been reached before.

    Exact at the boundary: spending of just half of the limit reaches 50 %. Spending falls when a
    charge is corrected or the limit is raised; a threshold is left only ``slack`` below it, so nothing
    that wavers around one fires it again and again.
    """
    used = spent * WHOLE
    while level < len(thresholds) and used >= thresholds[level].share * limit:
        level += 1
    while level and used < (thresholds[level - 1].share - slack) * limit:
        level -= 1
    return level

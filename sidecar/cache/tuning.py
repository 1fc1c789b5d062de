"""What other distances would save, and how often they would be wrong: from what was compared and given.

Within a step of distance what was compared stands for all that was near, whether it was given or not: which
calls are compared is drawn by lot. The error up to a distance is that of its steps, each weighed by all that
was near in it, and so are the ends of their intervals: that is wider than the interval of a plain share.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from sidecar.cache.bound import wilson


class Step(NamedTuple):
    """What was seen at one distance."""

    distance: float
    """Up to which; its steps are 0.01 wide."""
    compared: int
    wrong: int
    asked_usd: Decimal
    """What the calls cost that were compared: had the similar answer been given, it would have been saved."""
    given: int
    saved_usd: Decimal

    @property
    def near(self) -> int:
        """Calls that a similar answer was there for."""
        return self.compared + self.given


class Point(NamedTuple):
    """What all up to one distance would come to."""

    distance: float
    near: int
    compared: int
    saving_usd: Decimal
    error: float | None
    """Share of answers that would be wrong; None where nothing was compared."""
    error_low: float
    error_high: float
    """Between the two it lies; each side at 95 %."""


def steps_of(rows: Iterable[Mapping[str, Any]], likenesses: Iterable[str]) -> list[Step]:
    """The steps of some likenesses together, nearest first, from rows of the question ``similar_curve``."""
    wanted = set(likenesses)
    found: dict[float, Step] = {}
    for row in rows:
        if row["likeness"] in wanted:
            distance = float(row["distance"])
            before = found.get(distance, Step(distance, 0, 0, Decimal(0), 0, Decimal(0)))
            found[distance] = Step(
                distance,
                before.compared + int(row["compared"]),
                before.wrong + int(row["wrong"]),
                before.asked_usd + Decimal(str(row["asked_usd"])),
                before.given + int(row["given"]),
                before.saved_usd + Decimal(str(row["saved_usd"])),
            )
    return [found[distance] for distance in sorted(found)]


def curve(steps: Iterable[Step]) -> list[Point]:
    """Saving and error up to each distance."""
    points: list[Point] = []
    seen: list[Step] = []
    for step in steps:
        seen.append(step)
        near, compared = sum(one.near for one in seen), sum(one.compared for one in seen)
        saving = sum((one.asked_usd + one.saved_usd for one in seen), Decimal(0))
        error, low, high = None, 0.0, 1.0
        if compared:
            # Of a step that was given only, nothing is known: its error is anything.
            shares = [one.wrong / one.compared if one.compared else 0.5 for one in seen]
            ends = [wilson(one.wrong, one.compared) for one in seen]
            weights = [one.near / near for one in seen]
            error = sum(weight * share for weight, share in zip(weights, shares, strict=True))
            low = sum(weight * end[0] for weight, end in zip(weights, ends, strict=True))
            high = sum(weight * end[1] for weight, end in zip(weights, ends, strict=True))
        points.append(Point(step.distance, near, compared, saving, error, low, high))
    return points


def widest(points: Iterable[Point], max_error: float) -> Point | None:
    """The one farthest out at which no more than ``max_error`` are wrong for sure; None where none is."""
    good = [point for point in points if point.error is not None and point.error_high <= max_error]
    return max(good, key=lambda point: point.distance, default=None)

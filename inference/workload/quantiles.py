"""A distribution as the few numbers that were fitted.

The values at fixed probabilities, straight lines between them on a logarithmic
scale. This follows bends and steps (prompts have both) where a log-normal law
cannot, and stays readable: the fitted numbers are the quantiles themselves.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log1p
from random import Random

PROBABILITIES = (
    0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75,
    0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A fitted distribution.

    Raises:
        ValueError: knots are missing, negative, or fall.
    """

    knots: tuple[float, ...]
    """Values at :data:`PROBABILITIES`."""

    def __post_init__(self) -> None:
        if len(self.knots) != len(PROBABILITIES):
            raise ValueError(f"{len(PROBABILITIES)} knots are needed, not {len(self.knots)}")
        if self.knots[0] < 0 or any(b < a for a, b in zip(self.knots, self.knots[1:], strict=False)):
            raise ValueError("knots must not be negative, and must not fall")

    @classmethod
    def fit(cls, values: Sequence[float]) -> "Quantiles":
        """The quantiles of a sample, by linear interpolation between its values."""
        ordered = sorted(values)
        return cls(tuple(_quantile(ordered, probability) for probability in PROBABILITIES))

    def at(self, probability: float) -> float:
        """The value below which this share of draws falls."""
        place = min(bisect_right(PROBABILITIES, probability), len(PROBABILITIES) - 1)
        low, high = PROBABILITIES[place - 1], PROBABILITIES[place]
        start, end = log1p(self.knots[place - 1]), log1p(self.knots[place])
        return exp(start + (end - start) * (probability - low) / (high - low)) - 1

    def draw(self, random: Random) -> float:
        """One value."""
        return self.at(random.random())

    def draw_whole(self, random: Random, at_least: int = 0) -> int:
        """One value, rounded to a whole number."""
        return max(at_least, round(self.at(random.random())))


def ks_distance(sample: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference between two samples' distribution functions, from 0 to 1."""
    first, second = sorted(sample), sorted(other)
    worst = 0.0
    # The distance is largest just at, or just before, a value of the smaller sample.
    if len(second) < len(first):
        first, second = second, first
    for place, value in enumerate(first):
        at, before = bisect_right(second, value), bisect_left(second, value)
        upper = bisect_right(first, value, place)
        lower = bisect_left(first, value, 0, place + 1)
        worst = max(
            worst,
            abs(upper / len(first) - at / len(second)),
            abs(lower / len(first) - before / len(second)),
        )
    return worst


def _quantile(ordered: Sequence[float], probability: float) -> float:
    place = probability * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

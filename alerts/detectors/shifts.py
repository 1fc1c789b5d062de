"""One signal of a series against its own past: rates, per-call means, proportions, silence.

Each test keeps a few dozen values of its signal, taken one window apart so that they are
independent, and answers how many of their own deviations the newest window lies off. The
deviation has a floor, in log, so that a series that never varied does not cry at a tenth more.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Self

DAY_MINUTES = 1440


class Shift(NamedTuple):
    """How far a signal has moved."""

    deviations: float
    """Of its own past; signed."""
    value: float
    baseline: float


def median(values: Sequence[float]) -> float:
    """The middle value; of an even number, the upper of the two in the middle."""
    return sorted(values)[len(values) // 2]


def spread(values: Sequence[float], middle: float) -> float:
    """A standard deviation that a few outliers do not move: 1.48 median absolute deviations."""
    return 1.4826 * median([abs(value - middle) for value in values])


class Samples:
    """The log of a signal over windows of one length, one sample a window."""

    def __init__(self, *, floor: float, fewest: int = 6, keep: int = 48) -> None:
        self._floor = floor
        self._fewest = fewest
        self._values: deque[float] = deque(maxlen=keep)
        self._middle = 0.0
        self._deviation = floor

    @property
    def known(self) -> bool:
        """Whether there are samples enough to judge by."""
        return len(self._values) >= self._fewest

    def learn(self, log_value: float) -> None:
        """One more window of the past."""
        self._values.append(log_value)
        self._middle = median(self._values)
        scale = spread(self._values, self._middle)
        self._deviation = math.hypot(scale, self._floor)

    def shift(self, log_value: float, *, noise: float = 0.0) -> Shift:
        """How far off ``log_value`` is; ``noise`` is the variance that counting alone brings."""
        off = log_value - self._middle
        deviation = math.sqrt(self._deviation**2 + noise)
        return Shift(off / deviation, math.exp(log_value), math.exp(self._middle))

    @property
    def highest(self) -> float:
        """The largest log value remembered."""
        return max(self._values)

    @property
    def lowest(self) -> float:
        """The smallest log value remembered."""
        return min(self._values)

    def forget(self) -> None:
        """Start anew: what was strange has become the rule."""
        self._values.clear()

    def to_list(self) -> list[float]:
        """The samples, oldest first."""
        return list(self._values)

    def restore(self, values: Sequence[float]) -> None:
        """Take up the samples of :meth:`to_list`."""
        for value in values:
            self.learn(float(value))


def surprise(hits: float, total: float, expected: float) -> float:
    """Log likelihood ratio, in nats, of ``hits`` out of ``total`` against a share ``expected``.

    Signed: below 0 where there were fewer than expected.
    """
    expected = min(max(expected, 1e-4), 1 - 1e-4)
    share = hits / total
    ratio = 0.0
    if hits > 0:
        ratio += hits * math.log(share / expected)
    if hits < total:
        ratio += (total - hits) * math.log((1 - share) / (1 - expected))
    return ratio if share >= expected else -ratio


@dataclass(slots=True)
class Proportion:
    """A slow memory of a share, such as failed calls; half of it is a day old."""

    hits: float = 0.2
    total: float = 20.0
    """Twenty calls with one in a hundred, so that the first failure of a new series is no certainty."""

    _FADE: ClassVar[float] = 0.5 ** (1 / DAY_MINUTES)

    def learn(self, hits: float, total: float) -> None:
        """One more minute."""
        self.hits = self.hits * self._FADE + hits
        self.total = self.total * self._FADE + total

    @property
    def share(self) -> float:
        """What is usual."""
        return self.hits / self.total if self.total else 0.0


@dataclass(slots=True)
class Silence:
    """Minutes without a call, against the longest gaps known and against chance."""

    quiet: int = 0
    minutes: int = 0
    busy: float = 0.0
    """Part of the minutes that have a call, over about the last two hours of them."""
    gaps: list[float] = field(default_factory=lambda: [0.0] * 24)
    """For each hour of the day, the longest gap in minutes; fades by a tenth a day."""

    def observe(self, hour: int, calls: int) -> float:
        """The silence as a multiple of what is allowed: 1 and more is a stop."""
        self.minutes += 1
        if calls:
            self.gaps[hour] = max(self.gaps[hour], float(self.quiet))
            self.quiet = 0
        else:
            self.quiet += 1
        allowed = self.allowed(hour)
        if self.quiet < allowed:
            # A silence that is a stop already says nothing about how busy the subject is.
            weight = max(1 / self.minutes, 1 / 120)
            self.busy += ((1.0 if calls else 0.0) - self.busy) * weight
        if self.minutes % DAY_MINUTES == 0:
            self.gaps = [gap * 0.9 for gap in self.gaps]
        return self.quiet / allowed if self.minutes > 60 else 0.0

    def allowed(self, hour: int) -> float:
        """Minutes of silence that say nothing yet."""
        day_known = self.minutes > DAY_MINUTES
        nearby = max(self.gaps[(hour + lag) % 24] for lag in (-1, 0, 1)) if day_known else max(self.gaps)
        # As many quiet minutes in a row as chance makes once in ten million minutes.
        quiet = min(max(1 - self.busy, 1e-6), 1 - 1e-6)
        by_chance = 7 * math.log(10) / -math.log(quiet)
        return max(4.0, 2 * nearby + 1, by_chance)

    def to_list(self) -> list[Any]:
        """Everything it knows."""
        return [self.quiet, self.minutes, self.busy, self.gaps]

    @classmethod
    def from_list(cls, saved: Sequence[Any]) -> Self:
        """What :meth:`to_list` saved."""
        quiet, minutes, busy, gaps = saved
        return cls(quiet, minutes, busy, list(gaps))

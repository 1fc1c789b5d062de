"""Has anything like the last few minutes been seen before? Nearest past windows, tail-calibrated.

For several window lengths the distance from the window that ends now to the nearest one of the
past is kept up to date for all past windows at once: from one point to the next, each squared
distance gains the newest difference and loses the one that left, so a point costs one pass over
the history whatever the length. How rare that distance is among earlier ones
(:mod:`alerts.detectors.tails`) makes the lengths comparable; the score is half their mean, half
their largest, so one length may speak alone, but louder.

Level is the signal here, so windows are compared as they are: normalising each to its own mean,
as matrix profiles do, loses two thirds of the incidents of operational series.

Needs numpy (extra ``alerts``), imported when a detector is made.
"""

import math
from typing import TYPE_CHECKING, Any, Self

from alerts.detectors.finding import State
from alerts.detectors.tails import Tail

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

LENGTHS = (1, 6, 24, 48)
"""Points per window. Chosen on the published series of the Numenta benchmark that were at hand;
(1, 24), (1, 12, 48) and (1, 6, 12, 24) score within two points."""


class NearestWindows:
    """Scores a series, point by point, by how far it is from everything it did before.

    Args:
        lengths: window lengths in points.
        keep: points of history; at least this many, at most twice as many are compared.
    """

    VERSION = 1

    def __init__(self, *, lengths: tuple[int, ...] = LENGTHS, keep: int = 4096) -> None:
        import numpy

        self._np: Any = numpy
        self._lengths = lengths
        self._keep = keep
        self._size = 0
        self._values: FloatArray = numpy.zeros(2 * keep)
        self._gaps: list[FloatArray] = [numpy.zeros(2 * keep) for _ in lengths]
        self._tails = [Tail(keep=2 * keep) for _ in lengths]

    def score(self, value: float) -> float:
        """How strange the series has become with this value: 0 usual; from about 1.6 on an incident."""
        if self._size == 2 * self._keep:
            self._forget_oldest()
        size, values = self._size, self._values
        steps = self._np.square(values[:size] - value)
        rarities = []
        for length, gaps, tail in zip(self._lengths, self._gaps, self._tails, strict=True):
            distance = self._advance(value, length, gaps, steps)
            if distance is None:
                rarities.append(0.0)
                continue
            rarities.append(tail.rarity(distance))
            tail.learn(distance)
        values[size] = value
        self._size = size + 1
        return (sum(rarities) / len(rarities) + max(rarities)) / 2

    def _advance(self, value: float, length: int, gaps: "FloatArray", steps: "FloatArray") -> float | None:
        """Distance per point to the nearest past window that shares no point with this one.

        ``gaps[j]`` is the squared distance between the windows ending now and at ``j``.
        """
        size = self._size
        if size == 0:
            return None
        gaps[1:size] = gaps[: size - 1]
        gaps[0] = 0.0
        gaps[:size] += steps
        if size > length:
            gaps[length:size] -= self._np.square(self._values[: size - length] - self._values[size - length])
        last = size - length
        if last < length - 1:
            return None
        nearest = max(float(self._np.min(gaps[length - 1 : last + 1])), 0.0)
        return math.sqrt(nearest / length)

    def _forget_oldest(self) -> None:
        keep = self._keep
        for array in (self._values, *self._gaps):
            array[:keep] = array[keep : 2 * keep]
        self._size = keep

    def to_dict(self) -> State:
        """The history; distances between its windows are worked out anew."""
        return {
            "version": self.VERSION,
            "lengths": list(self._lengths),
            "keep": self._keep,
            "values": self._values[: self._size].tolist(),
            "tails": [tail.to_dict() for tail in self._tails],
        }

    @classmethod
    def from_dict(cls, state: State) -> Self:
        """The scorer that wrote ``state``.

        Raises:
            ValueError: it was written by another version.
        """
        if state.get("version") != cls.VERSION:
            raise ValueError(f"not a state of this version: {state.get('version')!r}")
        scorer = cls(lengths=tuple(state["lengths"]), keep=state["keep"])
        size = len(state["values"])
        scorer._values[:size] = state["values"]
        scorer._size = size
        for length, gaps in zip(scorer._lengths, scorer._gaps, strict=True):
            scorer._measure(length, gaps)
        for tail, saved in zip(scorer._tails, state["tails"], strict=True):
            tail.restore(saved)
        return scorer

    def _measure(self, length: int, gaps: "FloatArray") -> None:
        """Distances as they stood after the last point, from the points alone."""
        size, values = self._size, self._values
        for lag in range(min(length, size)):
            ends = slice(lag, size)
            gaps[ends] += self._np.square(values[: size - lag] - values[size - 1 - lag])

"""How rare a value is among those seen before: empirical below, extreme-value tail above.

The largest values of almost any law decay, seen from a high quantile on, like an exponential
or slower (Pickands 1975; the use on streams follows Siffer et al., "Anomaly detection in
streams with extreme value theory", KDD 2017). The exponential is the one member of that
family whose single parameter can be had from a handful of excesses: their mean.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from typing import Self

from alerts.detectors.finding import State


class Tail:
    """Turns scores of any scale into ``-log10`` of how often one as large is expected.

    Args:
        quantile: where the tail begins, among the values kept.
        warm: values before anything counts as rare.
        keep: values remembered, the youngest.
        refit: values between two estimates of the tail.
    """

    def __init__(self, *, quantile: float = 0.95, warm: int = 50, keep: int = 8192, refit: int = 10) -> None:
        self._quantile = quantile
        self._warm = warm
        self._refit = refit
        self._recent: deque[float] = deque(maxlen=keep)
        self._sorted: list[float] = []
        self._start: float | None = None
        self._mean_excess = 0.0
        self._share = 1.0
        self._unfitted = 0

    def rarity(self, value: float) -> float:
        """0 for an ordinary value, 2 for one in a hundred, 3 for one in a thousand, ...; no limit."""
        if len(self._sorted) < self._warm:
            return 0.0
        if self._start is None or self._unfitted >= self._refit:
            self._fit()
        assert self._start is not None
        if value <= self._start:
            return 0.0
        return -math.log10(self._share) + (value - self._start) / self._mean_excess / math.log(10)

    def learn(self, value: float) -> None:
        """Remember ``value`` as one that occurs."""
        if len(self._recent) == self._recent.maxlen:
            del self._sorted[bisect_left(self._sorted, self._recent[0])]
        self._recent.append(value)
        insort(self._sorted, value)
        self._unfitted += 1

    def _fit(self) -> None:
        self._unfitted = 0
        size = len(self._sorted)
        place = min(int(self._quantile * size), size - 1)
        start = self._sorted[place]
        beyond = bisect_left(self._sorted, math.nextafter(start, math.inf), place)
        excesses = self._sorted[beyond:]
        self._start = start
        # Values that never vary leave no tail to measure; a twentieth of their size stands in for one.
        mean = math.fsum(excesses) / len(excesses) - start if excesses else abs(start) / 20
        self._mean_excess = max(mean, abs(start) / 50, 1e-9)
        self._share = max(len(excesses), 1) / size

    def to_dict(self) -> State:
        """The values kept, oldest first, and the tail as it was last measured."""
        fit = [self._start, self._mean_excess, self._share, self._unfitted]
        return {"values": list(self._recent), "fit": fit}

    def restore(self, state: State) -> Self:
        """Remember the values of a saved tail, none of its settings."""
        self._recent.extend(float(value) for value in state["values"])
        self._sorted = sorted(self._recent)
        self._start, self._mean_excess, self._share, self._unfitted = state["fit"]
        return self

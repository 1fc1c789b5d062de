"""A level that is strange both for the last hours and for this time of day.

Operational counts have a scale of their own, a rhythm of the day, and bursts. A value counts as
strange only as far as it is strange against *both* the recent past and the same hour of the past
week: the morning rise is usual for the hour, the slow week is usual for the day. Values enter
the recent baseline no larger than a few deviations, so that one incident does not hide the next;
counts carry at least the scatter that counting itself brings, so that the third sale of a quiet
night is no incident.

Standard library only; a few microseconds a point.
"""

from collections import deque
from typing import Self

from alerts.detectors.finding import State

DAY_S = 86_400
HOUR_S = 3_600


class _Sums:
    """Running sums over a sliding window, so that any stretch of it is two look-ups away."""

    def __init__(self, keep: int) -> None:
        self.keep = keep
        self.values: deque[float] = deque(maxlen=keep)
        self._total = [0.0]
        self._squares = [0.0]
        self._first = 0
        """Steps that have left the two lists at their front."""
        self.size = 0
        self._origin = 0.0

    def append(self, value: float) -> None:
        if not self.size:
            # Squares are taken from the first value on: large levels would drown their scatter.
            self._origin = value
        self.values.append(value)
        centred = value - self._origin
        self._total.append(self._total[-1] + centred)
        self._squares.append(self._squares[-1] + centred * centred)
        self.size += 1
        if len(self._total) > 2 * self.keep:
            gone = len(self._total) - self.keep - 1
            self._rebase(gone)

    def _rebase(self, gone: int) -> None:
        base, squares = self._total[gone], self._squares[gone]
        self._total = [total - base for total in self._total[gone:]]
        self._squares = [square - squares for square in self._squares[gone:]]
        self._first += gone

    def stretch(self, since: int, until: int) -> tuple[int, float, float]:
        """(count, sum, sum of squares) of steps ``[since, until)``, both about the origin."""
        since, until = max(since, self._first), min(until, self.size)
        if since >= until:
            return 0, 0.0, 0.0
        a, b = since - self._first, until - self._first
        return until - since, self._total[b] - self._total[a], self._squares[b] - self._squares[a]

    def mean_and_variance(self, count: int, total: float, squares: float) -> tuple[float, float]:
        mean = total / count
        return mean + self._origin, max(squares / count - mean * mean, 0.0)


class UnusualLevel:
    """Scores a series of levels or counts by their distance from both baselines, in deviations.

    Args:
        step_s: seconds between points.
        window: points of the recent past. Seven days of hours, three hours of minutes.
        days: days of which the same time is looked at.
        clip: deviations beyond which a value is taken as this far off when it is learnt.
    """

    VERSION = 1
    THRESHOLD = 4.75
    """Deviations from which on a level is an incident; 4.5 to 5 serve the same end."""
    _COUNTING = 4.0
    """Variance of a count, in counts: events come in clumps, so more than the one of Poisson's law."""
    _RELATIVE = 0.02
    """Least deviation, as a part of the level: less is never worth a word."""
    _WARM = 10

    def __init__(self, *, step_s: int, window: int = 168, days: int = 7, clip: float = 6.0) -> None:
        self._step_s = step_s
        self._window = window
        self._days = days
        self._clip = clip
        self._per_day = max(DAY_S // step_s, 1)
        self._around = max(HOUR_S // step_s, 1)
        self._recent = _Sums(window)
        self._past = _Sums(days * self._per_day + self._around + 1)
        self._counting = True
        self._last = 0.0

    def score(self, value: float | None) -> float:
        """Deviations from the nearer of the two baselines; None repeats the last value."""
        if value is None:
            value = self._last
        self._last = value
        self._counting = self._counting and value >= 0 and value == int(value)
        recent = self._against_recent(value)
        score = 0.0
        learnt = value
        if recent is not None:
            mean, deviation = recent
            score = abs(value - mean) / deviation
            seasonal = self._against_season(value)
            if seasonal is not None:
                score = min(score, seasonal)
            if self._recent.size >= 3 * self._WARM:
                # Thrice the level may always be learnt, or a series that was flat could never move.
                limit = max(self._clip * deviation, 3 * abs(mean))
                learnt = min(max(value, mean - limit), mean + limit)
        self._recent.append(learnt)
        self._past.append(value)
        return score

    def _deviation(self, mean: float, variance: float) -> float:
        if self._counting:
            variance += self._COUNTING * max(abs(mean), 1.0)
        relative = self._RELATIVE * mean
        return float((variance + relative * relative) ** 0.5) + 1e-9

    def _against_recent(self, value: float) -> tuple[float, float] | None:
        sums = self._recent
        stretch = sums.stretch(sums.size - self._window, sums.size)
        if stretch[0] < self._WARM:
            return None
        mean, variance = sums.mean_and_variance(*stretch)
        return mean, self._deviation(mean, variance)

    def _against_season(self, value: float) -> float | None:
        """Deviations from this hour of the past days; None before two days are known."""
        now = self._past.size
        count, total, squares, days = 0, 0.0, 0.0, 0
        for day in range(1, self._days + 1):
            middle = now - day * self._per_day
            if middle - self._around < 0:
                break
            n, s, q = self._past.stretch(middle - self._around, middle + self._around + 1)
            count, total, squares, days = count + n, total + s, squares + q, days + 1
        if days < 2 or not count:
            return None
        mean, variance = self._past.mean_and_variance(count, total, squares)
        return abs(value - mean) / self._deviation(mean, variance)

    def to_dict(self) -> State:
        """Both baselines."""
        return {
            "version": self.VERSION,
            "settings": [self._step_s, self._window, self._days, self._clip],
            "recent": [self._recent.size, list(self._recent.values)],
            "past": list(self._past.values),
            "counting": self._counting,
            "last": self._last,
        }

    @classmethod
    def from_dict(cls, state: State) -> Self:
        """The scorer that wrote ``state``.

        Raises:
            ValueError: it was written by another version.
        """
        if state.get("version") != cls.VERSION:
            raise ValueError(f"not a state of this version: {state.get('version')!r}")
        step_s, window, days, clip = state["settings"]
        scorer = cls(step_s=step_s, window=window, days=days, clip=clip)
        for value in state["recent"][1]:
            scorer._recent.append(value)
        for value in state["past"]:
            scorer._past.append(value)
        scorer._counting, scorer._last = state["counting"], state["last"]
        return scorer

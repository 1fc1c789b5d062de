"""The recent samples of the series that rules look at: bounded, in memory.

A series that was there at the last scrape and is not at this one has ended: that is noted, as
Prometheus notes it, so that an old value is not taken for a current one.
"""

import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping

LOOKBACK_S = 300.0
"""How old the last sample of a series may be and still be its value: Prometheus' default."""

Labels = tuple[tuple[str, str], ...]
"""Sorted (name, value) pairs, without the metric's name."""

_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)="((?:[^"\\]|\\.)*)",?')
_LINE = re.compile(
    r'([A-Za-z_:][A-Za-z0-9_:]*)(?:\{((?:[A-Za-z_][A-Za-z0-9_]*="(?:[^"\\]|\\.)*",?)*)\})?'
    r"[ \t]+(\S+)(?:[ \t]+-?\d+)?"
)
_ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
_ESCAPE = re.compile(r"\\[\\\"n]")


class Series:
    """Times and values of one series, oldest first; a value that is NaN marks its end."""

    __slots__ = ("labels", "times", "values")

    def __init__(self, labels: Labels) -> None:
        self.labels = dict(labels)
        self.times = array("d")
        self.values = array("d")

    def add(self, at: float, value: float, keep_s: float) -> None:
        """Append a sample and forget what is older than ``keep_s``."""
        if self.times and at <= self.times[-1]:
            return
        self.times.append(at)
        self.values.append(value)
        old = bisect_left(self.times, at - keep_s)
        # Moving an array's tail costs as much as there is left, so not for every sample.
        if old > 64 or old * 2 > len(self.times):
            del self.times[:old]
            del self.values[:old]

    def at(self, at: float) -> float | None:
        """The value at a time: the last sample not older than the look-back; None when there is none."""
        last = bisect_right(self.times, at) - 1
        if last < 0 or self.times[last] <= at - LOOKBACK_S or math.isnan(self.values[last]):
            return None
        return self.values[last]

    def within(self, start: float, end: float) -> list[tuple[float, float]]:
        """The samples after ``start``, up to and including ``end``."""
        first, last = bisect_right(self.times, start), bisect_right(self.times, end)
        pairs = zip(self.times[first:last], self.values[first:last], strict=True)
        return [(time, value) for time, value in pairs if not math.isnan(value)]


class Samples:
    """Every series that ``keep_s`` names.

    Args:
        keep_s: by metric, how long its samples are needed; others are not kept.
        most_series: room; series beyond it are counted in ``refused`` and left out.
    """

    def __init__(self, keep_s: Mapping[str, float], most_series: int = 20_000) -> None:
        self._keep_s = dict(keep_s)
        self._most = most_series
        self._series: dict[str, dict[Labels, Series]] = defaultdict(dict)
        self._count = 0
        self._present: dict[str, set[tuple[str, Labels]]] = {}
        self.refused = 0

    @property
    def metrics(self) -> frozenset[str]:
        """What is kept at all."""
        return frozenset(self._keep_s)

    def __len__(self) -> int:
        return self._count

    def select(self, metric: str) -> Iterable[Series]:
        """The series of a metric."""
        return self._series[metric].values() if metric in self._series else ()

    def take(self, target: str, at: float, found: Iterable[tuple[str, Labels, float]]) -> None:
        """Take in one scrape of ``target``; series of its that are not in ``found`` have ended."""
        present: set[tuple[str, Labels]] = set()
        for metric, labels, value in found:
            if metric in self._keep_s and self._add(metric, labels, at, value):
                present.add((metric, labels))
        for metric, labels in self._present.get(target, set()) - present:
            self._add(metric, labels, at, math.nan)
        self._present[target] = present

    def forget_before(self, at: float) -> None:
        """Drop series that nobody can ask about any more."""
        for metric, family in self._series.items():
            limit = at - self._keep_s[metric] - LOOKBACK_S
            for labels in [labels for labels, series in family.items() if series.times[-1] < limit]:
                del family[labels]
                self._count -= 1

    def _add(self, metric: str, labels: Labels, at: float, value: float) -> bool:
        family = self._series[metric]
        series = family.get(labels)
        if series is None:
            if self._count >= self._most:
                self.refused += 1
                return False
            series = family[labels] = Series(labels)
            self._count += 1
        series.add(at, value, self._keep_s[metric] + LOOKBACK_S)
        return True


def parse_exposition(
    text: str, wanted: Callable[[str], bool], extra: Mapping[str, str]
) -> Iterator[tuple[str, Labels, float]]:
    """The samples of a scrape whose metric is ``wanted``, with the labels ``extra`` added.

    A label of the scrape that has the name of an extra one is kept as ``exported_NAME``, as Prometheus
    does it. Lines that are no samples are passed over.
    """
    # Not splitlines(): a label value may hold any of the characters that it takes for line ends.
    for line in text.split("\n"):
        if not line or line[0] == "#":
            continue
        name_end = len(line)
        for mark in ("{", " ", "\t"):
            found = line.find(mark, 0, name_end)
            name_end = found if found >= 0 else name_end
        if not wanted(line[:name_end]):
            continue
        match = _LINE.fullmatch(line.strip(" \t\r"))
        if match is None:
            continue
        labels = {}
        for name, value in _LABEL.findall(match[2] or ""):
            plain = _ESCAPE.sub(lambda found: _ESCAPES[found[0]], value) if "\\" in value else value
            if plain:
                labels[f"exported_{name}" if name in extra else name] = plain
        try:
            number = float(match[3])
        except ValueError:
            continue
        yield match[1], tuple(sorted({**labels, **extra}.items())), number

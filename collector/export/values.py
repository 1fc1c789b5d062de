"""Gauges and counters that parts of the program set themselves, under the names of :mod:`.families`."""

import operator
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from math import isnan

from collector.export.exposition import Number, header, label_text, number
from collector.export.families import FAMILIES, Family

_MOST_SERIES = 500
"""Of one family; the rest is counted as dropped."""

_MERGES: dict[str, Callable[[Decimal, Decimal], Decimal]] = {"sum": operator.add, "max": max, "min": min}

_Key = tuple[str, ...]
ValueRows = list[tuple[str, list[str], str]]
"""Metric name, label values, and the value as it is written."""


class SetValues:
    """The samples of every such family."""

    def __init__(self) -> None:
        self._families: dict[str, dict[_Key, Number]] = {}

    def set_gauge(self, name: str, labels: Mapping[str, str], value: Number) -> None:
        """Set a gauge; ValueError when there is none of that name with those labels. NaN is no value."""
        if isinstance(value, float) and isnan(value):
            return
        key = _key(name, labels, "gauge")
        series = self._families.setdefault(name, {})
        if key in series or self._has_room(series):
            series[key] = value

    def clear_gauge(self, name: str) -> None:
        """Forget all series of a gauge."""
        self._families.pop(name, None)

    def add(self, name: str, labels: Mapping[str, str], amount: Number) -> None:
        """Raise a counter; ValueError when there is none of that name with those labels."""
        if amount < 0:
            raise ValueError(f"{name} is a counter and cannot go down by {amount}")
        key = _key(name, labels, "counter")
        series = self._families.setdefault(name, {})
        before = series.get(key)
        if before is not None:
            series[key] = _sum(before, amount)
        elif self._has_room(series):
            series[key] = amount

    def rows(self) -> ValueRows:
        """Every sample as plain data; decimals keep every digit."""
        return [
            (name, list(key), number(value))
            for name, series in self._families.items()
            for key, value in series.items()
        ]

    def absorb(self, rows: ValueRows) -> None:
        """Join the samples of another process: added up, or the larger or smaller, as the family says.

        Raises:
            ValueError: a metric is not one of ours.
        """
        for name, labels, text in rows:
            family = FAMILIES.get(name)
            if family is None or len(labels) != len(family.labels):
                raise ValueError(f"there is no metric {name} with {len(labels)} labels")
            series = self._families.setdefault(name, {})
            key, value = tuple(labels), Decimal(text)
            mine = series.get(key)
            if mine is not None:
                series[key] = _MERGES[family.merge](_decimal(mine), value)
            elif self._has_room(series):
                series[key] = value

    def chunks(self) -> Iterator[str]:
        """The text of each family; without samples only its head."""
        for name, family in FAMILIES.items():
            series = self._families.get(name)
            if series or family.announced:
                yield _text(family, series or {})

    def _has_room(self, series: dict[_Key, Number]) -> bool:
        if len(series) < _MOST_SERIES:
            return True
        dropped = self._families.setdefault("bursar_dropped_total", {})
        refused = ("metrics", "series_limit")
        dropped[refused] = _sum(dropped.get(refused, 0), 1)
        return False


def _key(name: str, labels: Mapping[str, str], kind: str) -> _Key:
    family = FAMILIES.get(name)
    if family is None or family.kind != kind:
        raise ValueError(f"there is no {kind} {name}")
    if len(labels) != len(family.labels) or any(label not in labels for label in family.labels):
        raise ValueError(f"{name} has the labels {family.labels}, not {tuple(labels)}")
    return tuple([labels[label] for label in family.labels])


def _decimal(value: Number) -> Decimal:
    return Decimal(number(value))


def _sum(one: Number, other: Number) -> Number:
    """The sum, exact unless both are binary fractions."""
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        return _decimal(one) + _decimal(other)
    return one + other


def _text(family: Family, series: Mapping[_Key, Number]) -> str:
    lines = []
    for key, value in series.items():
        labels = f"{{{label_text(family.labels, key)}}}" if key else ""
        lines.append(f"{family.name}{labels} {number(value)}\n")
    return header(family.name, family.kind, family.help) + "".join(lines)

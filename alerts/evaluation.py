"""Computing expressions over samples as Prometheus does, without Prometheus.

The functions follow Prometheus' `promql/functions.go` and `promql/quantile.go` (2.42), extrapolation
included; a test holds every shipped rule against a real one on the same samples. Windows are open at
their start, as Prometheus 3 has them; that differs from 2 only for a sample at that very instant.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise

from alerts.expressions import (
    OPERATORS,
    Absent,
    Always,
    Arithmetic,
    Condition,
    Expression,
    Leaf,
    Matcher,
    Quantile,
)
from alerts.samples import Labels, Samples, Series

Vector = dict[Labels, float]
"""A value for each set of the rule's labels."""

_Pairs = list[tuple[float, float]]
_GATHER: dict[str, Callable[[list[float]], float]] = {"sum": math.fsum, "max": max, "min": min}


def evaluate(expression: Expression, by: tuple[str, ...], samples: Samples, at: float) -> Vector:
    """The value of ``expression`` at a time, for each set of the labels ``by``."""
    match expression:
        case Always():
            return {(): 1.0}
        case Absent():
            present = any(series.at(at) is not None for series in _selected(samples, expression))
            return {} if present else {tuple(sorted(expression.labels.items())): 1.0}
        case Leaf():
            return _gathered(expression, by, samples, at)
        case Quantile():
            return _quantiles(expression, by, samples, at)
        case Arithmetic():
            return _computed(expression, by, samples, at)


def met(condition: Condition, by: tuple[str, ...], samples: Samples, at: float) -> Vector:
    """The values that meet ``condition``."""
    values = evaluate(condition.value, by, samples, at)
    return {labels: value for labels, value in values.items() if condition.holds(value)}


def _selected(samples: Samples, leaf: Leaf | Absent) -> Iterable[Series]:
    return _matching(samples.select(leaf.metric), leaf.where)


def _matching(series: Iterable[Series], where: tuple[Matcher, ...]) -> Iterable[Series]:
    return (one for one in series if all(matcher.holds(one.labels) for matcher in where))


def _key(labels: dict[str, str], by: tuple[str, ...]) -> Labels:
    """The rule's labels of a series; empty ones do not count, as in Prometheus."""
    return tuple(sorted((name, value) for name in by if (value := labels.get(name, ""))))


def _gathered(leaf: Leaf, by: tuple[str, ...], samples: Samples, at: float) -> Vector:
    groups: dict[Labels, list[float]] = defaultdict(list)
    for series in _selected(samples, leaf):
        value = _one(leaf, series, at)
        if value is not None:
            groups[_key(series.labels, by)].append(value)
    gather = _GATHER[leaf.gather]
    return {labels: gather(values) for labels, values in groups.items()}


def _one(leaf: Leaf, series: Series, at: float) -> float | None:
    if leaf.function == "last":
        return series.at(at)
    if leaf.function == "counted":
        now = series.at(at)
        if now is not None and series.at(at - leaf.over_s) is None:
            return now
        return extrapolated(series.within(at - leaf.over_s, at), at, leaf.over_s, counter=True)
    pairs = series.within(at - leaf.over_s, at)
    match leaf.function:
        case "increase" | "rate":
            risen = extrapolated(pairs, at, leaf.over_s, counter=True)
            return risen if risen is None or leaf.function == "increase" else risen / leaf.over_s
        case "delta":
            return extrapolated(pairs, at, leaf.over_s, counter=False)
        case "deriv":
            return slope(pairs)
    if not pairs:
        return None
    values = [value for _, value in pairs]
    match leaf.function:
        case "highest":
            return max(values)
        case "lowest":
            return min(values)
    return math.fsum(values) / len(values)


def extrapolated(pairs: _Pairs, end: float, window_s: float, *, counter: bool) -> float | None:
    """How much a series rose over the window, as if it had been sampled at its ends.

    A counter that goes down was set back to 0. None when there are fewer than two samples.
    """
    if len(pairs) < 2:
        return None
    (first_at, first), (last_at, last) = pairs[0], pairs[-1]
    risen = last - first
    if counter:
        risen += sum(before for (_, before), (_, after) in pairwise(pairs) if after < before)
    sampled = last_at - first_at
    between = sampled / (len(pairs) - 1)
    to_start, to_end = first_at - (end - window_s), end - last_at
    if counter and risen > 0 and first >= 0:
        # A counter cannot have been below 0: it is not extended to before it was.
        to_start = min(to_start, sampled * (first / risen))
    reach = sampled
    reach += to_start if to_start < between * 1.1 else between / 2
    reach += to_end if to_end < between * 1.1 else between / 2
    return risen * (reach / sampled)


def slope(pairs: _Pairs) -> float | None:
    """The slope of a least-squares line, by the second; None when there are fewer than two samples."""
    if len(pairs) < 2:
        return None
    origin, count = pairs[0][0], len(pairs)
    xs = [time - origin for time, _ in pairs]
    ys = [value for _, value in pairs]
    sum_x, sum_y = math.fsum(xs), math.fsum(ys)
    covariance = math.fsum(x * y for x, y in zip(xs, ys, strict=True)) - sum_x * sum_y / count
    variance = math.fsum(x * x for x in xs) - sum_x * sum_x / count
    return covariance / variance if variance else math.nan


def _quantiles(expression: Quantile, by: tuple[str, ...], samples: Samples, at: float) -> Vector:
    groups: dict[Labels, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for series in _matching(samples.select(f"{expression.metric}_bucket"), expression.where):
        risen = extrapolated(series.within(at - expression.over_s, at), at, expression.over_s, counter=True)
        if risen is not None and "le" in series.labels:
            groups[_key(series.labels, by)][float(series.labels["le"])].append(risen / expression.over_s)
    found: Vector = {}
    for labels, buckets in groups.items():
        counts = [(bound, math.fsum(values)) for bound, values in sorted(buckets.items())]
        found[labels] = quantile_of(counts, expression.quantile)
    return found


def quantile_of(buckets: list[tuple[float, float]], quantile: float) -> float:
    """A quantile from cumulative buckets (upper bound, count), linear within a bucket; NaN without any."""
    if len(buckets) < 2 or buckets[-1][0] != math.inf or buckets[-1][1] <= 0:
        return math.nan
    bounds = [bound for bound, _ in buckets]
    counts: list[float] = []
    for _, count in buckets:
        # Processes are not scraped at one instant: a bucket may seem to hold fewer than the one below.
        counts.append(max(count, counts[-1]) if counts else count)
    rank = quantile * counts[-1]
    place = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(bounds) - 1)
    if place == len(bounds) - 1:
        return bounds[-2]
    if place == 0 and bounds[0] <= 0:
        return bounds[0]
    below, start = (counts[place - 1], bounds[place - 1]) if place else (0.0, 0.0)
    return start + (bounds[place] - start) * ((rank - below) / (counts[place] - below))


def _computed(expression: Arithmetic, by: tuple[str, ...], samples: Samples, at: float) -> Vector:
    apply = OPERATORS[expression.word][1]
    left = evaluate(expression.left, by, samples, at)
    if isinstance(expression.right, float):
        number = expression.right
        return {labels: apply(value, number) for labels, value in left.items()}
    right = evaluate(expression.right, by, samples, at)
    return {labels: apply(value, right[labels]) for labels, value in left.items() if labels in right}

"""How good the detectors are on labelled series: scored as the data's own READMEs say.

    python tests/bench/anomalies.py [--data ../shared/data] [--part odd|even]

prints the three profiles of the Numenta benchmark, F1 and false alarms on the labelled cloud
telemetry, and found faults and false alarms on the rates of real clients with faults added.
Every detector reads a series once, in order, with one setting for all series of all sets.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from alerts.detectors.levels import UnusualLevel
from alerts.detectors.rates import RateTests
from alerts.detectors.windows import NearestWindows

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"

NAB_THRESHOLD = 1.6
"""Of :class:`NearestWindows`. From 1.5 to 2.2 every threshold scores within four points of the best."""
NAB_REST = 150
"""Rows after a detection in which another one is the same incident: half a day at five minutes."""
PROFILES = {
    "standard": (1.0, 1.0, 0.11),
    "reward_low_FP": (1.0, 1.0, 0.22),
    "reward_low_FN": (1.0, 2.0, 0.11),
}


def rows(path: Path, *columns: str) -> list[tuple[Any, ...]]:
    """The columns of a parquet file, row by row."""
    import pyarrow.parquet as parquet

    table = parquet.read_table(path, columns=list(columns))
    return list(zip(*(table.column(name).to_pylist() for name in columns), strict=True))


def grouped(found: Iterable[tuple[Any, ...]]) -> dict[Any, list[tuple[Any, ...]]]:
    """Rows by their first column, in order."""
    groups: dict[Any, list[tuple[Any, ...]]] = {}
    for key, *rest in found:
        groups.setdefault(key, []).append(tuple(rest))
    return groups


# -- Numenta anomaly benchmark ---------------------------------------------------------------------


@dataclass
class NabSeries:
    """One file: its values, and the windows as (first row, last row)."""

    values: list[float]
    windows: list[tuple[int, int]]

    @property
    def run_in(self) -> int:
        return min(int(0.15 * len(self.values)), 750)


def nab_series(data: Path) -> dict[str, NabSeries]:
    folder = data / "anomaly_nab"
    windows = json.loads((folder / "windows.json").read_text())
    found = {}
    for name, series in grouped(rows(folder / "series.parquet", "file", "timestamp", "value")).items():
        at = [row[0] for row in series]
        places = []
        for first, last in windows.get(name, []):
            begin = at.index(datetime.fromisoformat(first))
            end = len(at) - 1 - at[::-1].index(datetime.fromisoformat(last))
            places.append((begin, end))
        found[name] = NabSeries([float(row[1]) for row in series], places)
    return found


def nab_detections(values: Sequence[float], threshold: float, rest: int = NAB_REST) -> list[int]:
    """Rows at which an incident is reported."""
    detector = NearestWindows()
    reported: list[int] = []
    for place, value in enumerate(values):
        if detector.score(value) >= threshold and (not reported or place - reported[-1] > rest):
            reported.append(place)
    return reported


def _sigmoid(y: float) -> float:
    return -1.0 if y > 3 else 2 / (1 + math.exp(5 * y)) - 1


def nab_points(series: NabSeries, detections: Sequence[int], profile: tuple[float, float, float]) -> float:
    """What the benchmark gives one file for these detections."""
    tp, fn, fp = profile
    windows = [window for window in series.windows if window[1] >= series.run_in]
    counted = [row for row in detections if row >= series.run_in]
    points = 0.0
    for first, last in windows:
        inside = [row for row in counted if first <= row <= last]
        if not inside:
            points -= fn
            continue
        width = last - first + 1
        points += tp * max(_sigmoid(-(last - row + 1) / width) for row in inside) / _sigmoid(-1)
    for row in counted:
        if any(first <= row <= last for first, last in windows):
            continue
        before = [window for window in windows if window[1] < row]
        if not before:
            points -= fp
        else:
            first, last = before[-1]
            points += fp * _sigmoid((row - last) / (last - first))
    return points


def nab_scores(series: Mapping[str, NabSeries], detections: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """The benchmark's three figures, 0 for silence and 100 for perfection."""
    count = sum(window[1] >= one.run_in for one in series.values() for window in one.windows)
    scores = {}
    for name, profile in PROFILES.items():
        null = -profile[1] * count
        total = sum(nab_points(series[file], detections[file], profile) for file in series)
        scores[name] = 100 * (total - null) / (profile[0] * count - null)
    return scores


# -- labelled cloud telemetry ----------------------------------------------------------------------


def runs(flags: Sequence[bool], gap: int = 0) -> list[tuple[int, int]]:
    """Stretches of True as (first, last); those at most ``gap`` rows apart are one."""
    found: list[tuple[int, int]] = []
    for place, flag in enumerate(flags):
        if flag and found and place - found[-1][1] <= gap + 1:
            found[-1] = (found[-1][0], place)
        elif flag:
            found.append((place, place))
    return found


@dataclass
class Tally:
    """Found and missed events, false alarms, and the days they came in."""

    found: int = 0
    events: int = 0
    false: int = 0
    days: float = 0.0
    flagged: float = 0.0
    """Largest part of a series that was flagged: a detector that flags everything finds everything."""

    @property
    def recall(self) -> float:
        return self.found / max(self.events, 1)

    @property
    def f1(self) -> float:
        precision = self.found / max(self.found + self.false, 1)
        return 2 * precision * self.recall / max(precision + self.recall, 1e-9)

    @property
    def false_a_day(self) -> float:
        return self.false / max(self.days, 1e-9)


def cloud_tally(data: Path, keep: Callable[[int], bool] = lambda _: True) -> Tally:
    """UnusualLevel on every series that ``keep`` keeps, by its own threshold."""
    tally = Tally()
    series = grouped(rows(data / "anomaly_cloud" / "series.parquet", "file", "timestamp", "value", "label"))
    for number, points in enumerate(series.values()):
        if not keep(number):
            continue
        step = statistics.median((b[0] - a[0]).total_seconds() for a, b in pairwise(points))
        detector = UnusualLevel(step_s=int(step))
        flags = [
            detector.score(None if value is None or math.isnan(value) else float(value)) >= detector.THRESHOLD
            for _, value, _ in points
        ]
        run_in = int(0.2 * len(points))
        flags[:run_in] = [False] * run_in
        labels = [bool(label) and place >= run_in for place, (_, _, label) in enumerate(points)]
        events = runs(labels)
        near = {row for first, last in events for row in range(first - 3, last + 4)}
        tally.events += len(events)
        tally.found += sum(any(flags[max(first - 3, 0) : last + 4]) for first, last in events)
        tally.false += sum(near.isdisjoint(range(first, last + 1)) for first, last in runs(flags, gap=3))
        tally.days += (points[-1][0] - points[run_in][0]).total_seconds() / 86_400
        tally.flagged = max(tally.flagged, sum(flags) / len(flags))
    return tally


# -- rates of real clients with faults added -------------------------------------------------------


def faults(data: Path) -> dict[tuple[str, int], list[tuple[str, int, int, float]]]:
    """By client, the faults to add: kind, first and last second, factor."""
    found: dict[tuple[str, int], list[tuple[str, int, int, float]]] = {}
    lines = (data / "llm_traces" / "servegen_injections.csv").read_text().splitlines()
    for line in lines[1:]:
        model, client, kind, start, end, factor, _ = line.split(",")
        found.setdefault((model, int(client)), []).append((kind, int(start), int(end), float(factor)))
    return found


def client_tally(data: Path, keep: Callable[[int], bool] = lambda _: True) -> dict[str, Tally]:
    """RateTests on every client with faults that ``keep`` keeps; a tally a kind, and one of all.

    The first week has no faults and is learnt from. Up to an hour after a fault belongs to it.
    """
    planted = faults(data)
    rates = grouped(
        ((model, client), at, rate)
        for model, client, at, rate in rows(
            data / "llm_traces" / "servegen_client_rates.parquet", "model", "client", "t_s", "rate_rps"
        )
    )
    tallies = {kind: Tally() for kind in ("spike", "drop", "ramp", "all")}
    for number, (client, kinds) in enumerate(sorted(planted.items())):
        if not keep(number):
            continue
        series = sorted(rates[client])
        tests, opened = RateTests(step_s=600), []
        for at, rate in series:
            if tests.score(faulty(kinds, at, rate) * 600).opened and at >= 7 * 86_400:
                opened.append(at)
        for kind, start, end, _ in kinds:
            hit = any(start <= at <= end + 600 for at in opened)
            for tally in (tallies[kind], tallies["all"]):
                tally.events += 1
                tally.found += hit
        tallies["all"].false += sum(
            not any(start <= at <= end + 3600 for _, start, end, _ in kinds) for at in opened
        )
        tallies["all"].days += (series[-1][0] - 7 * 86_400) / 86_400
    return tallies


def faulty(kinds: Sequence[tuple[str, int, int, float]], at: int, rate: float) -> float:
    """The rate with the faults of this second in it."""
    for kind, start, end, factor in kinds:
        if start <= at <= end:
            part = (at - start) / (end - start) if kind == "ramp" else 1.0
            rate *= 1 + (factor - 1) * part
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--part", choices=("all", "odd", "even"), default="all", help="every other series")
    arguments = parser.parse_args()
    rest = {"all": None, "odd": 1, "even": 0}[arguments.part]

    def keep(number: int) -> bool:
        return rest is None or number % 2 == rest

    series = {
        name: one for number, (name, one) in enumerate(nab_series(arguments.data).items()) if keep(number)
    }
    began = time.process_time()
    detections = {name: nab_detections(one.values, NAB_THRESHOLD) for name, one in series.items()}
    spent = (time.process_time() - began) / sum(len(one.values) for one in series.values())
    print(f"anomaly_nab, threshold {NAB_THRESHOLD}, {spent * 1e6:.0f} us a point")
    for name, score in nab_scores(series, detections).items():
        print(f"  {name:15} {score:5.1f}")
    cloud = cloud_tally(arguments.data, keep)
    print(
        f"anomaly_cloud: F1 {cloud.f1:.3f} at {cloud.false_a_day:.3f} false alarms a series-day "
        f"({cloud.found} of {cloud.events} found, at most {cloud.flagged:.1%} of a series flagged)"
    )
    clients = client_tally(arguments.data, keep)
    every = clients.pop("all")
    kinds = ", ".join(f"{kind} {tally.found}/{tally.events}" for kind, tally in clients.items())
    print(
        f"servegen: {every.recall:.1%} of faults at {every.false_a_day:.3f} false alarms a client-day"
        f" ({kinds})"
    )


if __name__ == "__main__":
    main()

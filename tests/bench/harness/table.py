"""The figures that matter, side by side: medians over all rounds, against what they must and should be."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OURS = "bursar"
BUSY_PCT = 10
"""Share of the gateway's core that others may take before the figures are called into question."""
Result = Mapping[str, Any]
"""One gateway in one round: ``target``, ``round``, ``start_s``, ``memory``, and figures by phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure, and what it has to be for us."""

    label: str
    path: tuple[str | int, ...]
    """Where it stands in a result."""
    digits: int
    must: float
    aim: float | None
    more_is_better: bool = False
    against_router: float | None = None
    """It must also be at most this many times vllm-router's, where that was measured."""

    def reached(self, value: float, goal: float) -> bool:
        """Whether ``value`` is as good as ``goal``."""
        return value >= goal if self.more_is_better else value <= goal

    def goal(self, value: float) -> str:
        """A goal as it is written."""
        return f"{'≥' if self.more_is_better else '≤'} {value:g}"


ROWS = (
    Row(
        label="CPU µs a call, 64 connections",
        path=("sat64", "us_per_call"),
        digits=1,
        must=100,
        aim=60,
        against_router=1.1,
    ),
    Row(
        label="calls/s of one core, until recorded",
        path=("sat64", "calls_per_s"),
        digits=0,
        must=10_000,
        aim=16_000,
        more_is_better=True,
    ),
    Row(
        label="CPU µs a streamed chunk, 16 streams x 50/s",
        path=("stream16", "us_per_chunk"),
        digits=1,
        must=45,
        aim=32,
    ),
    Row(
        label="1,000 streams x 10/s: delivered on time, %",
        path=("stream1000", "delivered_pct"),
        digits=1,
        must=99,
        aim=None,
        more_is_better=True,
    ),
    Row(
        label="1,000 streams x 10/s: chunk delay p99, ms",
        path=("stream1000", "delay_p99_ms"),
        digits=1,
        must=10,
        aim=None,
    ),
    Row(
        label="time to first chunk p50, 16 at once, ms",
        path=("stream16", "first_chunk_p50_ms"),
        digits=2,
        must=1.3,
        aim=0.8,
    ),
    Row(label="latency p50, 1 connection, ms", path=("sat1", "p50_ms"), digits=3, must=0.25, aim=0.13),
    Row(label="latency p99, 1 connection, ms", path=("sat1", "p99_ms"), digits=2, must=2, aim=0.5),
    Row(
        label="CPU µs a 36 kB request, 16 connections",
        path=("big16", "us_per_call"),
        digits=1,
        must=160,
        aim=110,
    ),
    Row(label="start to first answer, s", path=("start_s",), digits=2, must=0.5, aim=0.2),
    Row(label="resident MiB after load: sidecar", path=("resident", 0), digits=0, must=60, aim=45),
    Row(label="resident MiB after load: all processes", path=("resident_all",), digits=0, must=220, aim=150),
)

FURTHER = (
    ("CPU µs a call, of which the sidecar's", ("sat64", "first_process_us_per_call"), 1),
    ("CPU µs a call besides, put off until later", ("sat64", "deferred_us_per_call"), 1),
    ("CPU µs a 36 kB request besides, put off until later", ("big16", "deferred_us_per_call"), 1),
    ("CPU µs a call, 16 connections", ("sat16", "us_per_call"), 1),
    ("CPU µs a call, 1 connection", ("sat1", "us_per_call"), 1),
    ("CPU µs a call at 50 a second", ("rate", "us_per_call"), 0),
    ("latency p50 at 50 a second, ms", ("rate", "p50_ms"), 2),
    ("CPU µs a chunk, 1,000 streams", ("stream1000", "us_per_chunk"), 1),
    ("chunk delay p99, 16 streams, ms", ("stream16", "delay_p99_ms"), 2),
    ("resident MiB before load", ("resident_idle", 0), 0),
    ("of the gateway's core, taken by other work, %", ("sat64", "others_pct"), 0),
)
"""Figures without a goal: label, place, digits."""


def at(result: Result, path: Sequence[str | int]) -> float | None:
    """The number at ``path``; None when this result has none there."""
    value: Any = result
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
        if value is None:
            return None
    return float(value)


def median(results: Iterable[Result], path: Sequence[str | int]) -> float | None:
    """The median over rounds; None when no round has the figure."""
    values = [value for result in results if (value := at(result, path)) is not None]
    return statistics.median(values) if values else None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one row for us."""

    row: Row
    value: float | None
    missed: str
    """Why the "must" is missed; empty when it is reached."""
    aim_reached: bool

    @property
    def mark(self) -> str:
        """One or two words for the table."""
        if self.value is None:
            return "not measured"
        if self.missed:
            return "MISSED"
        return "aim" if self.aim_reached else "pass"


def judge(row: Row, ours: float | None, router: float | None) -> Verdict:
    """Hold our figure against its goals."""
    if ours is None:
        return Verdict(row, None, "", False)
    missed = []
    if not row.reached(ours, row.must):
        missed.append(f"{ours:.{row.digits}f} is not {row.goal(row.must)}")
    if row.against_router is not None and router is not None and ours > row.against_router * router:
        limit = f"{row.against_router:g} x vllm-router's {router:.{row.digits}f}"
        missed.append(f"{ours:.{row.digits}f} is more than {limit}")
    return Verdict(row, ours, "; ".join(missed), row.aim is not None and row.reached(ours, row.aim))


def verdicts(results: Sequence[Result]) -> list[Verdict]:
    """Each row's verdict for us."""
    ours = [result for result in results if result["target"] == OURS]
    router = [result for result in results if result["target"] == "vllm-router"]
    return [judge(row, median(ours, row.path), median(router, row.path)) for row in ROWS]


def render(results: Sequence[Result]) -> str:
    """The table in Markdown, with everything that failed below it."""
    names = list(dict.fromkeys(result["target"] for result in results))
    by_name = {name: [result for result in results if result["target"] == name] for name in names}
    references = [name for name in ("nginx", "vllm-router") if name in names]
    head = ["what", *names, *(f"x {name}" for name in references), "must", "aim", ""]
    lines = [head]
    for verdict in verdicts(results):
        row = verdict.row
        values = {name: median(by_name[name], row.path) for name in names}
        ratios = [_ratio(verdict.value, values[name]) for name in references]
        aim = row.goal(row.aim) if row.aim is not None else ""
        cells = [_number(values[name], row.digits) for name in names]
        lines.append([row.label, *cells, *ratios, row.goal(row.must), aim, verdict.mark])
    for label, path, digits in FURTHER:
        values = {name: median(by_name[name], path) for name in names}
        if any(value is not None for value in values.values()):
            ratios = [_ratio(values.get(OURS), values[name]) for name in references]
            lines.append([label, *(_number(values[name], digits) for name in names), *ratios, "", "", ""])
    text = _markdown(lines)
    for result in results:
        if "failed" in result:
            text += f"\n{result['target']}, round {result['round']}: {result['failed']}"
    text += "".join(f"\n{name}: {bad} calls went wrong" for name in names if (bad := _bad(by_name[name])))
    taken = {name: median(by_name[name], ("sat64", "others_pct")) or 0.0 for name in names}
    if busy := [f"{name} {share:.0f} %" for name, share in taken.items() if share > BUSY_PCT]:
        text += f"\nOther work took its share of the gateway's core ({', '.join(busy)}): rates, latencies and"
        text += "\ndelays say little, and CPU figures are high for all alike. Measure on a quiet machine."
    rounds = max((len(rows) for rows in by_name.values()), default=0)
    return f"{text}\n\nMedians of {rounds} round{'s' if rounds != 1 else ''}.\n"


def _bad(results: Iterable[Result]) -> int:
    """Calls that failed or were refused, over all phases."""
    phases = [value for result in results for value in result.values() if isinstance(value, Mapping)]
    return sum(int(figures.get("bad", 0)) for figures in phases)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _ratio(ours: float | None, other: float | None) -> str:
    return "–" if ours is None or not other else f"{ours / other:.2f}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def written(line: Sequence[str]) -> str:
        first, *rest = line
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        return f"| {' | '.join(cells)} |"

    rules = ["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])]
    return "\n".join([written(lines[0]), f"|{'|'.join(rules)}|", *(written(line) for line in lines[1:])])

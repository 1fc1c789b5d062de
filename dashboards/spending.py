"""The figures of the spend page: what to ask, and how the answers fit together.

Every breakdown is completed with what it left out, so that its parts add up to the total
exactly. The total itself is the collector's own sum over the ledger. However many agents
there are, no answer is long: the course over time is asked for once as a whole, and once
for the few values that get a colour; what remains between the two is ``All others``.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property

from dashboards import charts, data
from dashboards.charts import MAX_BARS, MAX_SERIES, REMAINDER, Bar, Series
from dashboards.display import step
from dashboards.filters import zone
from dashboards.scope import DIMENSIONS, Scope, steps

BREAKDOWNS = ("request_model", "agent", "team", "upstream")
"""Always shown side by side."""

TAG = "tag:"
"""Begins a split by a tag: ``tag:env``."""

MAX_ROWS = 100
"""Rows of one breakdown; what lies beyond is one row, ``All others``."""

MAX_ATTEMPTS = 2


@dataclass(frozen=True, kw_only=True)
class Spending:
    """All answers of one drawing of the page."""

    scope: Scope
    split: str
    totals: data.Answer
    earlier: data.Answer
    course: data.Answer
    """Every step of time."""
    parts: data.Answer
    """Every step of time, by the largest values of ``split``."""
    breakdowns: dict[str, data.Answer]

    @property
    def answers(self) -> list[data.Answer]:
        """All of them, for notices."""
        return [self.totals, self.earlier, self.course, self.parts, *self.breakdowns.values()]

    @cached_property
    def total(self) -> data.Row:
        """The row of totals."""
        return self.totals.row

    @property
    def spend(self) -> Decimal:
        """Effective cost of every call in scope, USD, exact."""
        return data.money(self.total.get("effective_cost_usd"))

    @property
    def spend_before(self) -> Decimal:
        """The same of the window that it is compared with."""
        return data.money(self.earlier.row.get("effective_cost_usd"))

    @cached_property
    def disagreement(self) -> int:
        """By how many calls the parts differ from the total; 0 when the page adds up."""
        calls = int(self.total["calls"])
        complete = [answer for answer in self.breakdowns.values() if answer.table.num_rows < MAX_ROWS]
        counted = [sum(int(row["calls"]) for row in answer.rows) for answer in (self.course, *complete)]
        return max(abs(calls - number) for number in counted)

    def amounts(self, dimension: str) -> list[Bar]:
        """Spend by value of ``dimension``, the largest first, completed to the total."""
        by_value = by_values(self.breakdowns[dimension], dimension)
        costing = {value: amount for value, amount in by_value.items() if amount} or by_value
        bars = [Bar(value, costing[value]) for value in charts.top(costing, MAX_BARS)]
        rest = self.spend - sum((bar.amount for bar in bars), Decimal(0))
        return [*bars, Bar(REMAINDER, rest, is_remainder=True)] if rest > 0 else bars

    def series(self) -> tuple[list[str], list[Series]]:
        """The steps of time by name, and spend in each: a series per large value, then the rest."""
        window, reader = self.scope.window, zone()
        starts = list(steps(window, reader))
        rest = [Decimal(0)] * len(starts)
        for row in self.course.rows:
            rest[_position(starts, row["bucket"])] += data.money(row["effective_cost_usd"])
        figures: dict[str, list[Decimal]] = {}
        for row in self.parts.rows:
            line = figures.setdefault(str(row[column_of(self.split)] or ""), [Decimal(0)] * len(starts))
            line[_position(starts, row["bucket"])] += data.money(row["effective_cost_usd"])
        sums = {value: sum(line, Decimal(0)) for value, line in figures.items()}
        series = [Series(value, figures[value]) for value in charts.top(sums, MAX_SERIES)]
        for part in series:
            rest = [left - amount for left, amount in zip(rest, part.figures, strict=True)]
        if any(amount > 0 for amount in rest):
            series.append(Series(REMAINDER, [max(amount, Decimal(0)) for amount in rest], is_remainder=True))
        return [step(start, window.bucket, reader) for start in starts], series


def spending(scope: Scope, split: str, alongside: Sequence[data.Question] = ()) -> Spending:
    """The figures of ``scope``, its course split by ``split``.

    ``alongside`` are questions that the page will ask as well: asked at the same time, they
    are answered from the cache then.

    The answers are given one after the other while calls keep arriving. When they do not
    agree they are asked for once more, past the cache.

    Raises:
        data.CollectorError: there is no answer.
    """
    found = _asked(scope, split, 0, alongside)
    for attempt in range(1, MAX_ATTEMPTS):
        if not found.disagreement or any(answer.trouble for answer in found.answers):
            break
        found = _asked(scope, split, attempt)
    return found


def column_of(split: str) -> str:
    """The column of an answer that tells the values of ``split``."""
    return "tag" if split.startswith(TAG) else split


def title_of(split: str) -> str:
    """What people call it."""
    return f"Tag {split.removeprefix(TAG)}" if split.startswith(TAG) else DIMENSIONS[split]


def by_values(answer: data.Answer, split: str) -> dict[str, Decimal]:
    """What each value of ``split`` cost, in USD."""
    column = column_of(split)
    return {str(row[column] or ""): data.money(row["effective_cost_usd"]) for row in answer.rows}


def _asked(scope: Scope, split: str, attempt: int, alongside: Sequence[data.Question] = ()) -> Spending:
    dimensions = BREAKDOWNS if split in BREAKDOWNS else (*BREAKDOWNS, split)
    bucket = scope.window.bucket
    questions = [
        data.about("totals", scope),
        data.about("totals", scope, scope.compared),
        data.about("spend_over_time", scope, bucket=bucket),
        *(_breakdown(scope, name, split) for name in dimensions),
    ]
    totals, earlier, course, *rest = data.ask_all(
        [replace(question, attempt=attempt) for question in questions], alongside
    )
    breakdowns = dict(zip(dimensions, rest, strict=True))
    largest = charts.top(by_values(breakdowns[split], split), MAX_SERIES)
    parts = data.about("spend_over_time", _narrowed(scope, split, largest), bucket=bucket, by=split)
    return Spending(
        scope=scope,
        split=split,
        totals=totals,
        earlier=earlier,
        course=course,
        parts=data.ask(replace(parts, attempt=attempt)),
        breakdowns=breakdowns,
    )


def _breakdown(scope: Scope, dimension: str, split: str) -> data.Question:
    """How long calls took is shown of the chosen split alone."""
    if dimension == split:
        return data.about("spend_by", scope, by=dimension, limit=MAX_ROWS)
    return data.about("spend_by", scope, by=dimension, limit=MAX_ROWS, without="latency")


def _narrowed(scope: Scope, split: str, values: Sequence[str]) -> Scope:
    """The calls of ``values`` alone. Of a tag it is all: filters on tags are alternatives."""
    return scope if split.startswith(TAG) else scope.only(split, values)


def _position(starts: Sequence[datetime], bucket: datetime) -> int:
    """Which step a bucket belongs to: the last that starts at or before it, so that none is lost.

    The ledger keeps UTC, with or without saying so.
    """
    instant = bucket.replace(tzinfo=UTC) if bucket.tzinfo is None else bucket
    return max(0, bisect_right(starts, instant) - 1)

"""The figures of the spend page: what to ask, and how the answers fit together.

Every breakdown is completed with what it left out, so that its parts add up to the total
exactly. The total itself is the collector's own sum over the ledger.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property

from dashboards import charts, data
from dashboards.charts import REMAINDER, Bar, Series
from dashboards.display import step
from dashboards.filters import zone
from dashboards.scope import Scope, steps

BREAKDOWNS = ("request_model", "agent", "team")
"""Always shown side by side."""

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
    over_time: data.Answer
    breakdowns: dict[str, data.Answer]

    @property
    def answers(self) -> list[data.Answer]:
        """All of them, for notices."""
        return [self.totals, self.earlier, self.over_time, *self.breakdowns.values()]

    @cached_property
    def total(self) -> data.Row:
        """The row of totals."""
        return self.totals.row

    @property
    def spend(self) -> Decimal:
        """Effective cost of every call in scope, USD, exact."""
        return data.money(self.total.get("effective_cost_usd"))

    @cached_property
    def disagreement(self) -> int:
        """By how many calls the parts differ from the total; 0 when the page adds up."""
        calls = int(self.total["calls"])
        complete = [answer for answer in self.breakdowns.values() if answer.table.num_rows < MAX_ROWS]
        counted = [sum(int(row["calls"]) for row in answer.rows) for answer in (self.over_time, *complete)]
        return max(abs(calls - number) for number in counted)

    def amounts(self, dimension: str) -> list[Bar]:
        """Spend by value of ``dimension``, the largest first, completed to the total."""
        rows = self.breakdowns[dimension].rows
        by_value = {str(row[dimension] or ""): data.money(row["effective_cost_usd"]) for row in rows}
        kept = charts.top(by_value, charts.MAX_BARS)
        bars = [Bar(value, by_value[value]) for value in kept]
        rest = self.spend - sum((bar.amount for bar in bars), Decimal(0))
        return [*bars, Bar(REMAINDER, rest, is_remainder=True)] if rest > 0 else bars

    def series(self) -> tuple[list[str], list[Series]]:
        """The steps of time by name, and spend in each, one series per value of ``split``."""
        window, reader = self.scope.window, zone()
        starts = list(steps(window, reader))
        figures: dict[str, list[Decimal]] = {}
        for row in self.over_time.rows:
            value = str(row[self.split] or "")
            line = figures.setdefault(value, [Decimal(0)] * len(starts))
            line[_position(starts, row["bucket"])] += data.money(row["effective_cost_usd"])
        sums = {value: sum(line, Decimal(0)) for value, line in figures.items()}
        kept = charts.top(sums, charts.MAX_SERIES)
        rest = [line for value, line in figures.items() if value not in kept]
        series = [Series(value, figures[value]) for value in kept]
        if rest:
            remainder = [sum(column, Decimal(0)) for column in zip(*rest, strict=True)]
            series.append(Series(REMAINDER, remainder, is_remainder=True))
        return [step(start, window.bucket, reader) for start in starts], series


def spending(scope: Scope, split: str) -> Spending:
    """The figures of ``scope``, its course split by ``split``.

    The answers are given one after the other while calls keep arriving. When they do not
    agree they are asked for once more, past the cache.

    Raises:
        data.CollectorError: there is no answer.
    """
    questions = [
        data.about("totals", scope),
        data.about("totals", scope, scope.window.before),
        data.about("spend_over_time", scope, bucket=scope.window.bucket, by=split),
        *(data.about("spend_by", scope, by=name, limit=MAX_ROWS) for name in _dimensions(split)),
    ]
    found = _asked(scope, split, questions)
    for attempt in range(1, MAX_ATTEMPTS):
        if not found.disagreement or any(answer.trouble for answer in found.answers):
            break
        found = _asked(scope, split, [replace(question, attempt=attempt) for question in questions])
    return found


def _asked(scope: Scope, split: str, questions: Sequence[data.Question]) -> Spending:
    totals, earlier, over_time, *rest = data.ask_all(questions)
    breakdowns = dict(zip(_dimensions(split), rest, strict=True))
    return Spending(
        scope=scope, split=split, totals=totals, earlier=earlier, over_time=over_time, breakdowns=breakdowns
    )


def _dimensions(split: str) -> tuple[str, ...]:
    return BREAKDOWNS if split in BREAKDOWNS else (*BREAKDOWNS, split)


def _position(starts: Sequence[datetime], bucket: datetime) -> int:
    """Which step a bucket belongs to: the last that starts at or before it, so that none is lost.

    The ledger keeps UTC, with or without saying so.
    """
    instant = bucket.replace(tzinfo=UTC) if bucket.tzinfo is None else bucket
    return max(0, bisect_right(starts, instant) - 1)

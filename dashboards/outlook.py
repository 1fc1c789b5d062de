"""How spend stands now, today and this month, where the month is heading, and which budgets limit it.

None of it depends on the chosen time range; the filters hold. "Now" is the last quarter of an hour. A
figure is compared with the same part of the day before, or of the month before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from decimal import Decimal
from zoneinfo import ZoneInfo

from dashboards import data
from dashboards.budgeting import Budget, patterns, scope_of
from dashboards.control import Standings
from dashboards.forecast import LOOKS_BACK, Forecast, forecast
from dashboards.scope import Scope, Window

NOW_OVER = timedelta(minutes=15)
_AN_HOUR = Decimal(4)
"""Of these quarters make an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Amounts in USD, exact."""

    now_per_hour: Decimal
    before_per_hour: Decimal
    """In the quarter of an hour before."""
    days: dict[date, Decimal]
    """Of the last four weeks and the whole month so far, today included."""
    today: date
    yesterday: Decimal
    """Until this time of the day."""
    last_month: Decimal
    """Until this day and time, or to its end where it was shorter."""
    heading: Forecast | None
    answers: tuple[data.Answer, ...]

    @property
    def spent_today(self) -> Decimal:
        """Since midnight."""
        return self.days.get(self.today, Decimal(0))

    @property
    def spent_this_month(self) -> Decimal:
        """Since the first."""
        first = self.today.replace(day=1)
        return sum((usd for day, usd in self.days.items() if day >= first), Decimal(0))


def outlook(scope: Scope, zone: ZoneInfo, now: datetime) -> Outlook:
    """How the calls that the scope's filters let through stand at ``now``.

    Raises:
        data.CollectorError: there is no answer.
    """
    spans = _windows(zone, now)
    days_asked, *others = data.ask_all(
        [
            data.about("spend_over_time", scope, spans["days"], bucket="day"),
            *(data.about("totals", scope, spans[name]) for name in ("now", "before", "yesterday", "month")),
        ]
    )
    recent, before, yesterday, month = (data.money(one.row.get("effective_cost_usd")) for one in others)
    days: dict[date, Decimal] = {}
    for row in days_asked.rows:
        day = _utc(row["bucket"]).astimezone(zone).date()
        days[day] = days.get(day, Decimal(0)) + data.money(row["effective_cost_usd"])
    today = now.astimezone(zone).date()
    return Outlook(
        now_per_hour=recent * _AN_HOUR,
        before_per_hour=before * _AN_HOUR,
        days=days,
        today=today,
        yesterday=yesterday,
        last_month=month,
        heading=forecast(days, today, days.get(today, Decimal(0)), _passed(zone, now)),
        answers=(days_asked, *others),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A budget in USD that counts exactly the calls that are looked at."""

    name: str
    window: str
    """``hour``, ``day``, ``week``, ``month``, ..."""
    usd: Decimal


def limits(scope: Scope, found: Standings) -> list[Limit]:
    """The budgets over exactly the calls of ``scope``, raises included; the tightest first."""
    raised = {one.budget: one.limit for one in found.counters if not one.subject}
    fitting = [
        Limit(name=one.name, window=one.window, usd=raised.get(one.name, one.limit))
        for one in found.budgets
        if one.unit == "usd" and not one.each and _is_over(one, scope)
    ]
    return sorted(fitting, key=lambda limit: (limit.window, limit.usd, limit.name))


def _is_over(budget: Budget, scope: Scope) -> bool:
    if patterns(budget.match):
        return False  # What it is over depends on which names there are.
    counted = scope_of(budget.match, scope.window, {}, scope.zone_name)
    return counted is not None and set(counted.filters) == set(scope.filters)


def cumulated(amounts: Sequence[Decimal], start: Decimal = Decimal(0)) -> list[Decimal]:
    """The running sum."""
    sums: list[Decimal] = []
    for amount in amounts:
        start += amount
        sums.append(start)
    return sums


def _windows(zone: ZoneInfo, now: datetime) -> dict[str, Window]:
    """What is asked for, each ending just after now, or as long before."""
    until = now.astimezone(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    today = now.astimezone(zone).date()
    first = today.replace(day=1)
    last_first = (first - timedelta(days=1)).replace(day=1)
    since = min(first, today - timedelta(days=LOOKS_BACK))
    month_since = _midnight(last_first, zone)
    month_until = min(month_since + (until - _midnight(first, zone)), _midnight(first, zone))

    def span(name: str, start: datetime, end: datetime) -> Window:
        return Window(since=start, until=max(end, start + timedelta(minutes=1)), name=name)

    day = timedelta(days=1)
    return {
        "now": span("now", until - NOW_OVER, until),
        "before": span("now_before", until - 2 * NOW_OVER, until - NOW_OVER),
        "days": span("days", _midnight(since, zone), until),
        "yesterday": span("yesterday", _midnight(today - day, zone), until - day),
        "month": span("last_month", month_since, month_until),
    }


def _passed(zone: ZoneInfo, now: datetime) -> Decimal:
    """How much of today is over; a day on which the clocks change is shorter or longer."""
    today = now.astimezone(zone).date()
    start, end = _midnight(today, zone), _midnight(today + timedelta(days=1), zone)
    return Decimal(round((now - start).total_seconds())) / Decimal(round((end - start).total_seconds()))


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, clock(), zone).astimezone(UTC)


def _utc(instant: datetime) -> datetime:
    return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant

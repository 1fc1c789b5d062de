"""What a month will have cost by its end: a forecast with an interval, and how it is made. Pure.

A remaining day is expected to cost what the same weekday cost on average in the last four weeks; while
fewer than two whole weeks are known, what a day cost on average. How far days strayed from those averages
gives the interval: days stray independently of one another, and the averages themselves are known only as
well as the days behind them allow. For n remaining days, m known ones and days that stray by s, the sum
strays by s * sqrt(n + n^2 / m) (the prediction interval of a sum around an estimated mean); four in five
sums end within 1.2816 times that. What is spent already is never forecast away.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from itertools import accumulate

LEAST_DAYS = 3
"""Whole days that must be known."""
WEEKDAYS_FROM = 14
"""Whole days from which weekdays are told apart."""
LOOKS_BACK = 28
"""Days; older ones say little about the next."""

_WITHIN = Decimal("1.2816")
"""Standard deviations on both sides of a normal distribution's mean that hold 80 % of it."""

METHOD = (
    "Each remaining day is expected to cost what the same weekday cost on average in the last four weeks "
    "(all days alike until two weeks are known); four months in five should end within the interval, if "
    "days go on to stray from those averages as they did."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """A month's spend at its end, USD."""

    spent: Decimal
    """So far."""
    expected: Decimal
    low: Decimal
    high: Decimal
    """Four times in five it ends between the two."""
    days: tuple[Decimal, ...]
    """What is expected of what remains of today, then of each day until the month ends."""
    margins: tuple[Decimal, ...]
    """By how much the sum of these days may be more, or less, after each of them."""
    known_days: int
    """Whole days that it stands on."""


def month_end(today: date) -> date:
    """The last day of the month."""
    return (today.replace(day=1) + timedelta(days=32)).replace(day=1) - timedelta(days=1)


def forecast(
    history: Mapping[date, Decimal], today: date, today_so_far: Decimal, day_passed: Decimal
) -> Forecast | None:
    """What the month of ``today`` will have cost; None while fewer than ``LEAST_DAYS`` whole days are known.

    Args:
        history: USD of each day, whole days before today; days between the first and today that are
            missing cost nothing.
        today: the reader's date.
        today_so_far: USD of today.
        day_passed: how much of today is over, 0 to 1.
    """
    known = _whole_days(history, today)
    if len(known) < LEAST_DAYS:
        return None
    by_weekday = len(known) >= WEEKDAYS_FROM
    means = _means(known, by_weekday=by_weekday)
    remaining = [today + timedelta(days=n) for n in range((month_end(today) - today).days + 1)]
    shares = [1 - day_passed, *[Decimal(1)] * (len(remaining) - 1)]
    days = tuple(means[day.weekday()] * share for day, share in zip(remaining, shares, strict=True))
    spent = today_so_far + sum(
        (usd for day, usd in history.items() if day.replace(day=1) == today.replace(day=1) and day < today),
        Decimal(0),
    )
    expected = spent + sum(days, Decimal(0))
    strays, m = _strays_by(known, means, by_weekday=by_weekday), Decimal(len(known))
    margins = tuple(_WITHIN * strays * (n + n * n / m).sqrt() for n in accumulate(shares))
    return Forecast(
        spent=spent,
        expected=expected,
        low=max(spent, expected - margins[-1]),
        high=expected + margins[-1],
        days=days,
        margins=margins,
        known_days=len(known),
    )


def _whole_days(history: Mapping[date, Decimal], today: date) -> dict[date, Decimal]:
    """The last days before today, without gaps, from the first one known."""
    past = [day for day in history if day < today]
    if not past:
        return {}
    count = min((today - min(past)).days, LOOKS_BACK)
    days = (today - timedelta(days=back) for back in range(count, 0, -1))
    return {day: history.get(day, Decimal(0)) for day in days}


def _means(known: Mapping[date, Decimal], *, by_weekday: bool) -> Sequence[Decimal]:
    """What a day costs on average, by weekday, Monday first."""
    everything = sum(known.values(), Decimal(0)) / len(known)
    if not by_weekday:
        return [everything] * 7
    groups = [[usd for day, usd in known.items() if day.weekday() == weekday] for weekday in range(7)]
    return [sum(group, Decimal(0)) / len(group) for group in groups]


def _strays_by(known: Mapping[date, Decimal], means: Sequence[Decimal], *, by_weekday: bool) -> Decimal:
    """The standard deviation of a day from its mean; each estimated mean costs a degree of freedom."""
    squares = sum(((usd - means[day.weekday()]) ** 2 for day, usd in known.items()), Decimal(0))
    return (squares / (len(known) - (7 if by_weekday else 1))).sqrt()

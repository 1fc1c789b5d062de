"""The forecast of a month, against figures worked out by hand."""

from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as some

from dashboards.forecast import forecast, month_end

USD = Decimal


def test_with_few_days_every_remaining_day_is_the_average_one() -> None:
    # 27, 28 and 29 November cost 10, 14 and 12: 12 on average. Today is the 30th, a quarter of it over.
    history = {date(2026, 11, 27): USD(10), date(2026, 11, 28): USD(14), date(2026, 11, 29): USD(12)}
    found = forecast(history, date(2026, 11, 30), USD(4), USD("0.25"))
    assert found is not None
    assert found.spent == 40  # 10 + 14 + 12 + 4
    assert found.days == (USD(9),)  # three quarters of 12
    assert found.expected == 49
    # They stray by sqrt((4 + 4 + 0) / (3 - 1)) = 2; n = 0.75: 2 * sqrt(0.75 + 0.5625 / 3) = 1.936492;
    # 1.2816 times that is 2.481808.
    assert round(found.high, 5) == USD("51.48181")
    assert round(found.low, 5) == USD("46.51819")


def test_with_two_weeks_each_weekday_is_expected_to_be_like_itself() -> None:
    # Two weeks from Monday 2 to Sunday 15 November: 10 on weekdays, 2 on weekend days, to the cent.
    first = date(2026, 11, 2)
    history = {
        day: USD(2) if day.weekday() >= 5 else USD(10) for day in (first + timedelta(n) for n in range(14))
    }
    found = forecast(history, date(2026, 11, 16), USD(0), USD(0))
    assert found is not None
    # 16 to 30 November is 15 days: 11 weekdays and the weekends of the 21st and the 28th.
    assert sum(found.days) == 11 * 10 + 4 * 2
    assert found.spent == 10 * 10 + 4 * 2
    assert found.expected == 226
    assert found.low == found.high == found.expected  # days that never stray


def test_what_is_spent_is_never_forecast_away() -> None:
    history = {date(2026, 11, 1) + timedelta(n): USD(100 * (n % 2)) for n in range(10)}
    found = forecast(history, date(2026, 11, 11), USD(1000), USD("0.5"))
    assert found is not None
    assert found.low >= found.spent == 1500


def test_a_day_without_calls_counts_as_one_that_cost_nothing() -> None:
    history = {date(2026, 11, 26): USD(30), date(2026, 11, 29): USD(0)}
    found = forecast(history, date(2026, 11, 30), USD(0), USD(0))
    assert found is not None
    assert (found.known_days, found.days) == (4, (USD("7.5"),))  # 30 over four days


def test_days_of_the_month_before_teach_but_are_not_counted() -> None:
    history = {date(2026, 10, 29) + timedelta(n): USD(6) for n in range(3)}
    found = forecast(history, date(2026, 11, 1), USD(1), USD(0))
    assert found is not None
    assert (found.spent, found.expected) == (1, 1 + 30 * 6)


def test_two_days_are_too_few_to_forecast_from() -> None:
    history = {date(2026, 11, 28): USD(6), date(2026, 11, 29): USD(6)}
    assert forecast(history, date(2026, 11, 30), USD(0), USD(0)) is None
    assert forecast({}, date(2026, 11, 30), USD(0), USD(0)) is None


def test_a_month_ends_on_its_last_day() -> None:
    assert month_end(date(2028, 2, 3)) == date(2028, 2, 29)
    assert month_end(date(2026, 12, 31)) == date(2026, 12, 31)


@given(
    some.lists(some.integers(0, 10**9), min_size=3, max_size=40),
    some.integers(0, 10**9),
    some.decimals(0, 1, places=3),
)
def test_the_interval_holds_what_is_expected(days: list[int], so_far: int, passed: Decimal) -> None:
    today = date(2026, 11, 20)
    history = {today - timedelta(n + 1): USD(usd) for n, usd in enumerate(days)}
    found = forecast(history, today, USD(so_far), passed)
    assert found is not None
    assert found.spent <= found.low <= found.expected <= found.high

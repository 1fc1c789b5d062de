"""How spend stands now, today and this month."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.budgeting import Budget, Counter
from dashboards.control import Standings
from dashboards.outlook import limits, outlook
from dashboards.scope import Scope, recent

Visit = Callable[..., AppTest]
NOW = datetime(2026, 11, 17, 10, 30, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")  # 11:30 there


def scope(**filters: str) -> Scope:
    chosen = tuple((name, (value,)) for name, value in filters.items())
    return Scope(window=recent("24h", NOW), filters=chosen, zone_name="Europe/Berlin")


def at(collector: Any, instant: datetime, cost: str) -> None:
    collector.book(cost=cost)["started_at"] = instant.astimezone(UTC).replace(tzinfo=None)


def test_now_today_and_the_month_are_told_by_the_reader_s_clock(collector: Any) -> None:
    at(collector, NOW - timedelta(minutes=5), "1")
    at(collector, NOW - timedelta(minutes=20), "2")  # a quarter of an hour before
    at(collector, datetime(2026, 11, 17, 0, 10, tzinfo=BERLIN), "4")  # today there, yesterday in UTC
    at(collector, datetime(2026, 11, 16, 23, 50, tzinfo=BERLIN), "8")  # yesterday, after 11:30
    at(collector, datetime(2026, 11, 16, 11, 0, tzinfo=BERLIN), "16")
    at(collector, datetime(2026, 11, 1, 0, 10, tzinfo=BERLIN), "32")
    at(collector, datetime(2026, 10, 17, 11, 0, tzinfo=BERLIN), "64")
    at(collector, datetime(2026, 10, 17, 12, 0, tzinfo=BERLIN), "128")  # later in that month than now
    found = outlook(scope(), BERLIN, NOW)
    assert (found.now_per_hour, found.before_per_hour) == (4, 8)  # four quarters
    assert (found.spent_today, found.yesterday) == (1 + 2 + 4, 16)
    assert (found.spent_this_month, found.last_month) == (1 + 2 + 4 + 8 + 16 + 32, 64)
    assert found.heading is not None
    assert found.heading.spent == found.spent_this_month


def test_a_budget_limits_what_is_looked_at_when_it_counts_just_that() -> None:
    def budget(name: str, **more: Any) -> Budget:
        given = {
            "limit": Decimal(10),
            "unit": "usd",
            "window": "month",
            "match": {},
            "each": "",
            "mode": "hard",
            "at": (),
        }
        return Budget(name=name, **given | more)  # fmt: skip

    raised = Counter(
        budget="all", subject="", window="month", unit="usd", limit=Decimal(15), spent=Decimal(1),
        held=Decimal(0), remaining=Decimal(14), starts_at=None, resets_at=None, exact=True,
    )  # fmt: skip
    found = Standings(
        budgets=[
            budget("all"),
            budget("each", each="agent"),
            budget("tokens", unit="tokens"),
            budget("search", match={"team": ("search",)}),
            budget("models", match={"model": ("gpt-*",)}),
        ],
        counters=[raised],
        orders=[],
        may_operate=False,
        at=NOW,
    )
    assert [(one.name, one.usd) for one in limits(scope(), found)] == [("all", 15)]
    assert [one.name for one in limits(scope(team="search"), found)] == ["search"]
    assert limits(scope(agent="planner"), found) == []


def test_the_page_tells_now_today_and_the_month_whatever_the_range(collector: Any, visit: Visit) -> None:
    collector.book(timedelta(minutes=2), cost="0.25")
    app = visit(range="90d")
    shown = {metric.label: metric.value.replace("\\", "") for metric in app.metric}
    assert shown["Now"] == "$1.00/h"
    assert shown["Month's end, forecast"] == "–"


def test_the_month_is_drawn_with_what_is_expected(collector: Any, visit: Visit) -> None:
    for day in range(1, 9):
        collector.book(timedelta(days=day), cost="2")
    app = visit(range="30d", look="This month")
    assert any("are expected, between" in caption.value for caption in app.caption)
    forecast = next(metric for metric in app.metric if metric.label.startswith("Month's end"))
    assert forecast.value != "–"


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/New_York"])
def test_the_address_may_name_another_time_zone(collector: Any, visit: Visit, zone: str) -> None:
    collector.book()
    line = next(c.value for c in visit(tz=zone).caption if c.value.startswith("Ledger"))
    assert datetime.now(ZoneInfo(zone)).tzname() in line.replace("\\", "")

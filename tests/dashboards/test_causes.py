"""Why spend changed: exact to the last pico-dollar."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from streamlit.testing.v1 import AppTest

from collector.domain.attribution import Factor
from dashboards import charts, spend_charts
from dashboards.causes import causes, in_words
from dashboards.scope import Scope, recent

Visit = Callable[..., AppTest]


def day() -> Scope:
    return Scope(window=recent("24h", datetime.now(UTC)))


def test_twice_the_calls_at_the_same_price_are_all_volume(collector: Any) -> None:
    collector.book(timedelta(hours=30), cost="0.000000000003")
    for _ in range(2):
        collector.book(timedelta(hours=1), cost="0.000000000003")
    found = causes(day(), "agent")
    assert found.change == Decimal("0.000000000003")
    assert {factor: amount for factor, amount in found.parts if amount} == {Factor.VOLUME: found.change}


def test_a_dearer_model_for_the_same_calls_is_all_mix(collector: Any) -> None:
    for hours, model, cost in ((30, "small", "1"), (30, "large", "5"), (1, "large", "5"), (1, "large", "5")):
        collector.book(timedelta(hours=hours), request_model=model, cost=cost)
    found = causes(day(), "team")
    assert {factor: amount for factor, amount in found.parts if amount} == {Factor.MIX: Decimal(4)}  # 10 - 6
    assert in_words(found) == "Spend rose by $4.00: mix of models +$4.00."


def test_whatever_moved_the_parts_and_the_changes_sum_to_the_change(collector: Any) -> None:
    for number in range(60):
        collector.book(
            timedelta(minutes=45 * number),
            agent=f"agent-{number % 17}",
            request_model=f"model-{number % 5}",
            cost=f"0.{number * number:012d}",
            input_tokens=1000 + 13 * number,
            cache_read_input_tokens=7 * number,
            output_tokens=number,
        )
    found = causes(day(), "agent")
    assert found.now - found.before == found.change != 0
    assert sum(amount for _, amount in found.parts) == found.change
    assert sum(bar.amount for bar in found.changes) == found.change
    assert found.changes[-1].is_remainder  # seventeen agents, eight of them named


def test_the_page_says_what_moved_against_the_window_it_is_compared_with(
    collector: Any, visit: Visit
) -> None:
    collector.book(timedelta(hours=1), cost="3")
    collector.book(timedelta(days=7, hours=1), cost="1")
    app = visit(look="Why it changed", compare="vs week before")
    told = " ".join(element.value for element in app.markdown).replace("\\", "")
    assert "Spend rose by $2.00" in told
    spend = next(metric for metric in app.metric if metric.label == "Spend")
    assert spend.delta == "+200 %"


def test_spend_is_told_by_a_tag_with_what_has_none(collector: Any, visit: Visit) -> None:
    collector.book(tags={"env": "prod"}, cost="2")
    collector.book(tags={"env": "dev"}, cost="1")
    collector.book(cost="4")
    table = visit(split="tag:env").dataframe[0].value
    assert dict(zip(table["tag"], table["effective_cost_usd"], strict=True)) == {
        "(none)": 4.0,
        "prod": 2.0,
        "dev": 1.0,
    }


def test_areas_within_areas_sum_to_the_whole(collector: Any, visit: Visit) -> None:
    for number in range(9):
        collector.book(team=f"t{number % 2}", agent=f"a{number % 3}", cost=str(number))
    app = visit(look="Map")
    assert any("Teams, their agents" in element.value for element in app.markdown)
    leaves = [spend_charts.Leaf(("t", f"a{n}"), Decimal(n)) for n in range(3)]
    (node,) = spend_charts.treemap(leaves)["series"][0]["data"]
    assert (node["name"], node["value"]) == ("t", 3.0)
    assert [child["value"] for child in node["children"]] == [2.0, 1.0, 0.0]


def test_a_bridge_steps_from_nothing_to_the_change_and_through_zero() -> None:
    parts = [charts.Bar("up", Decimal(3)), charts.Bar("down", Decimal(-5)), charts.Bar("none", Decimal(0))]
    option = spend_charts.bridge(parts, charts.Bar("Change", Decimal(-2)))
    assert option["xAxis"]["data"] == ["up", "down", "Change"]
    under, above, beneath, below = ([
        one["value"] if isinstance(one, dict) else one for one in series["data"]
    ] for series in option["series"])  # fmt: skip
    assert (under, above) == ([0.0, 0.0, 0.0], [3.0, 3.0, 0.0])  # down: from 3 to -2
    assert (beneath, below) == ([0.0, 0.0, 0.0], [0.0, -2.0, -2.0])

"""The spend page: what it adds up to, and what it says when it cannot."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

Visit = Callable[..., AppTest]

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "evil\u202egnp.exe",
    "**bold** $x^2$ :red[red] :material/bolt:",
    "=cmd()|'/c calc'!A0",
]


def tile(app: AppTest, title: str) -> str:
    return next(metric.value for metric in app.metric if metric.label == title)


def ledger_line(app: AppTest) -> str:
    line: str = next(caption.value for caption in app.caption if caption.value.startswith("Ledger"))
    return line.replace("\\", "")


def open_panel(app: AppTest) -> AppTest:
    app.session_state["filters"] = True
    return app.run()


def notices(app: AppTest) -> str:
    return " ".join(element.value for kind in (app.error, app.warning, app.info) for element in kind)


def test_the_total_is_the_ledger_s_own_to_the_last_digit(collector: Any, visit: Visit) -> None:
    collector.book(cost="0.000000000001")
    collector.book(cost="0.333333333333")
    collector.book(cost="1234.000000000009", team="support")
    app = visit()
    # 0.000000000001 + 0.333333333333 + 1234.000000000009
    assert ledger_line(app).startswith(
        "Ledger: 1,234.333333333343 USD spent · 1,234.333333333343 USD at list"
    )
    assert "3 calls" in ledger_line(app)
    assert tile(app, "Spend").replace("\\", "") == "$1,234.33"


def test_every_breakdown_adds_up_to_the_total(collector: Any, visit: Visit) -> None:
    for number in range(30):
        collector.book(timedelta(minutes=number), agent=f"agent-{number}", cost=f"0.00{number:02d}00000001")
    app = visit(split="agent")
    table = app.dataframe[0].value
    assert list(table["agent"])[:2] == ["agent-29", "agent-28"]
    assert table["calls"].sum() == 30
    total = sum(row["effective_cost_usd"] for row in collector.calls)
    assert sum(Decimal(f"{cost:.12f}") for cost in table["effective_cost_usd"]) == total
    assert f"{total:.12f}" in ledger_line(app)


def test_tiles_tell_calls_tokens_cache_and_what_is_not_certain(collector: Any, visit: Visit) -> None:
    collector.book(input_tokens=900, output_tokens=100, cache_read_input_tokens=300)
    collector.book(input_tokens=100, output_tokens=0, cache_read_input_tokens=0, usage_grade="estimated")
    collector.book(input_tokens=0, output_tokens=0, cache_read_input_tokens=0, price_grade="prior")
    collector.book(input_tokens=0, output_tokens=0, cache_read_input_tokens=0, outcome="failed")
    app = visit()
    assert tile(app, "Calls") == "4"
    assert tile(app, "Tokens") == "1,100"
    assert tile(app, "Cached input").replace("\\", "") == "30.0 %"  # 300 of 1,000
    assert tile(app, "Estimated").replace("\\", "") == "25.0 %"
    assert tile(app, "Unpriced").replace("\\", "") == "25.0 %"


def test_a_tile_compares_with_the_period_before(collector: Any, visit: Visit) -> None:
    collector.book(timedelta(hours=1), cost="3")
    collector.book(timedelta(hours=30), cost="2")
    app = visit()
    spend = next(metric for metric in app.metric if metric.label == "Spend")
    assert spend.delta == "+50.0 %"


def test_a_filter_in_the_address_narrows_the_page(collector: Any, visit: Visit) -> None:
    collector.book(team="search", cost="1")
    collector.book(team="support", cost="2")
    collector.book(team="", cost="4")
    assert "7.000000000000 USD spent" in ledger_line(visit())
    assert "2.000000000000 USD spent" in ledger_line(visit(team="support"))
    assert "3.000000000000 USD spent" in ledger_line(visit(team=["support", "search"]))
    assert "4.000000000000 USD spent" in ledger_line(visit(team="(none)"))


def test_choosing_and_clearing_a_filter_draws_the_page_anew(collector: Any, visit: Visit) -> None:
    collector.book(agent="planner", cost="1")
    collector.book(agent="triage", cost="2")
    app = open_panel(visit())
    app.multiselect(key="filter_agent").set_value(["planner"]).run()
    assert "1.000000000000 USD spent" in ledger_line(app)
    assert [text.value for text in app.text] == ["Agent: planner"]
    app.button(key="clear_filters").click().run()
    assert "3.000000000000 USD spent" in ledger_line(app)
    assert not app.text


def test_the_time_range_decides_what_counts(collector: Any, visit: Visit) -> None:
    collector.book(timedelta(minutes=30), cost="1")
    collector.book(timedelta(hours=5), cost="2")
    collector.book(timedelta(days=3), cost="4")
    app = visit(range="1h")
    assert "1.000000000000 USD spent" in ledger_line(app)
    app.segmented_control(key="range").set_value("7d").run()
    assert "7.000000000000 USD spent" in ledger_line(app)
    app.segmented_control(key="range").set_value("custom").run()
    assert "7.000000000000 USD spent" in ledger_line(app)  # by default the last seven days
    assert not app.exception


def test_the_filter_panel_asks_for_values_only_when_it_is_open(collector: Any, visit: Visit) -> None:
    collector.book(team="search")
    collector.book(team="")
    app = visit()
    closed = collector.asked["values"]
    open_panel(app)
    assert collector.asked["values"] > closed
    assert set(app.multiselect(key="filter_team").options) == {"search", "(none)"}


def test_names_are_shown_as_the_characters_they_are(collector: Any, visit: Visit) -> None:
    """I04."""
    for name in HOSTILE:
        collector.book(agent=name, team=name, request_model=name, cost="0.5")
    app = visit(split="agent", team=HOSTILE[3])
    assert list(app.dataframe[0].value["agent"]) == [HOSTILE[3]]
    app = visit(split="agent")
    shown = set(app.dataframe[0].value["agent"])
    assert shown == {name.replace("\u202e", "⟨U+202E⟩") for name in HOSTILE}
    markup = [element.value for kind in (app.markdown, app.caption) for element in kind]
    assert not [text for text in markup for name in HOSTILE if name in text]


def test_without_calls_the_page_says_how_to_get_some(collector: Any, visit: Visit) -> None:
    app = visit()
    assert "No calls in the last 24 hours" in notices(app)
    assert "bursar demo" in notices(app)
    assert not app.metric


def test_filters_that_match_nothing_are_told_apart_from_an_empty_ledger(collector: Any, visit: Visit) -> None:
    collector.book(team="search")
    app = visit(team="nobody")
    assert "No call matches these filters" in notices(app)


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        ("busy", "Try again in a moment"),
        ("broken", "Check that the address is that of a Bursar collector"),
        ("old", "different versions"),
    ],
)
def test_a_collector_in_trouble_is_said_with_what_to_do(
    collector: Any, visit: Visit, trouble: str, says: str
) -> None:
    collector.trouble = trouble
    app = visit()
    assert "No figures" in notices(app)
    assert says in notices(app)
    assert not app.metric


def test_a_collector_that_is_down_is_said_with_how_to_start_it(
    collector: Any, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURSAR_COLLECTOR_URL", "http://127.0.0.1:1")
    app = visit()
    assert "bursar collector" in notices(app)
    monkeypatch.setenv("BURSAR_COLLECTOR_URL", collector.url)
    collector.book(cost="1")
    app.button(key="try_again").click().run()
    assert "1.000000000000 USD spent" in ledger_line(app)


def test_figures_of_a_collector_that_went_away_are_kept_and_marked_as_old(
    collector: Any, visit: Visit
) -> None:
    collector.book(cost="1")
    app = visit()
    from dashboards import data

    data.forget()
    collector.trouble = "busy"
    app.run()
    assert "1.000000000000 USD spent" in ledger_line(app)
    assert "These figures are of" in notices(app)
    assert any("These four are of" in caption.value for caption in app.caption)


def test_simulated_calls_are_announced_by_upstream_provider_or_tag(collector: Any, visit: Visit) -> None:
    collector.book()
    assert "Simulated" not in notices(visit())
    for sign in ({"upstream": "simulator"}, {"provider_name": "simulator"}, {"tags": {"simulated": "true"}}):
        collector.calls.clear()
        collector.book(**sign)
        from dashboards import data

        data.forget()
        assert "Simulated models" in notices(visit())


def test_calls_that_arrive_while_the_page_asks_are_counted_once_more_or_confessed(
    collector: Any, visit: Visit
) -> None:
    collector.book(cost="1")
    app = visit()
    assert not [caption for caption in app.caption if "arrived" in caption.value]
    from dashboards import data

    data.forget()
    collector.arriving = lambda: collector.book(cost="1")
    app = visit()
    assert [caption for caption in app.caption if "arrived while this page was asking" in caption.value]


def test_a_second_drawing_asks_nothing_anew(collector: Any, visit: Visit) -> None:
    collector.book()
    app = visit()
    asked = dict(collector.asked)
    app.run()
    visit()
    assert dict(collector.asked) == asked

"""The budgets page: how they stand, who eats them, when they run out, and what is done about it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.views import budget
from tests.dashboards.drawn import facts

Visit = Callable[..., AppTest]

EVENTS = pa.schema(
    [("happened_at", pa.timestamp("us", "UTC"))]
    + [(name, pa.string()) for name in ("budget", "counter", "action", "call_id")]
    + [(name, pa.decimal128(38, 12)) for name in ("limit_usd", "spent_usd", "held_usd")]
    + [(name, pa.string()) for name in ("detail", "tenant", "event_id")]
)


@pytest.fixture(autouse=True)
def no_history(collector: Any) -> None:
    collector.tables["budget_events"] = EVENTS.empty_table()


def day(hours_ago: float = 10, hours_left: float = 14) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "starts_at": (now - timedelta(hours=hours_ago)).isoformat(),
        "resets_at": (now + timedelta(hours=hours_left)).isoformat(),
    }


def rows(app: AppTest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = app.dataframe[0].value.to_dict("records")
    return found


def test_a_counter_is_shown_with_its_rate_of_the_last_hour_and_when_it_runs_out(
    collector: Any, visit: Visit
) -> None:
    collector.control.configures("agents", each="agent")
    collector.control.counts("agents", "planner", spent="7.5", **day())
    collector.book(timedelta(minutes=30), agent="planner", cost="1.25")
    collector.book(timedelta(hours=3), agent="planner", cost="100")  # too long ago for the rate
    collector.book(timedelta(minutes=30), agent="triage", cost="50")  # another counter's
    [row] = rows(visit("budgets"))
    assert (row["budget"], row["subject"], row["share"]) == ("agents", "planner", 75.0)
    assert (row["limit"], row["spent"], row["remaining"], row["per_hour"]) == (
        "$10.00", "$7.50", "$2.50", "$1.25",
    )  # fmt: skip
    assert row["lasts"] == "runs out in 2.0 h"  # 2.50 USD left at 1.25 USD an hour


def test_a_budget_that_resets_before_it_runs_out_lasts(collector: Any, visit: Visit) -> None:
    collector.control.configures("all")
    collector.control.counts("all", **day(hours_left=1))
    collector.book(timedelta(minutes=30), cost="1")
    app = visit("budgets")
    assert rows(app)[0]["lasts"] == "lasts until it resets"
    assert next(tile.value for tile in app.metric if tile.label == "Runs out first") == "–"


def test_the_calls_that_a_pattern_matches_make_its_rate(collector: Any, visit: Visit) -> None:
    collector.control.configures("search", match={"agent": ["p*"], "team": ["search"]})
    collector.control.counts("search", **day())
    collector.book(agent="planner", cost="2")
    collector.book(agent="triage", cost="30")
    collector.book(agent="picker", team="support", cost="500")
    assert rows(visit("budgets"))[0]["per_hour"] == "$2.00"


def test_a_budget_of_calls_is_counted_in_calls(collector: Any, visit: Visit) -> None:
    collector.control.configures("few", unit="calls", limit=100)
    collector.control.counts("few", unit="calls", **day())
    for _ in range(3):
        collector.book()
    [row] = rows(visit("budgets"))
    assert (row["limit"], row["spent"], row["per_hour"]) == ("100 calls", "25 calls", "3 calls")


def test_the_one_that_is_used_up_most_comes_first_and_says_what_is_in_force(
    collector: Any, visit: Visit
) -> None:
    ladder = [{"share": 0.5, "action": "notify"}, {"share": 0.8, "action": "downgrade"}]
    collector.control.configures("a", at=ladder)
    collector.control.configures("b", each="agent", at=ladder)
    collector.control.counts("a", spent="6")
    collector.control.counts("b", "planner", spent="9.5", held="0.5")
    collector.control.directives.append(
        {"id": "d-1", "kind": "pause", "match": {"agent": ["planner"]}, "expires_us": 2 * 10**15,
         "source": "ann", "reason": "it loops"}
    )  # fmt: skip
    app = visit("budgets")
    assert [(row["budget"], row["state"]) for row in rows(app)] == [
        ("b", "downgrade, pause"),
        ("a", "notify"),
    ]
    tiles = {tile.label: tile.value for tile in app.metric}
    assert tiles["Used up"] == "1"
    assert tiles["Past a threshold"] == "1"


def test_the_address_opens_one_counter_with_its_exact_figures_and_who_spends_it(
    collector: Any, visit: Visit
) -> None:
    collector.control.configures("agents", each="agent")
    collector.control.counts("agents", "planner", spent="2.500000001000", **day())
    collector.book(agent="planner", cost="1.5")
    collector.book(agent="planner", request_model="other", cost="1.000000000001")
    collector.book(agent="triage", cost="7")
    app = visit("budgets")
    app.query_params["budget"], app.query_params["subject"] = "agents", "planner"
    app.run()
    assert facts(app)["Spent"] == "2.500000001000 USD"
    assert facts(app)["Left"] == "7.499999999000 USD"
    line = next(caption.value for caption in app.caption if caption.value.startswith("Ledger"))
    assert "2.500000000001 USD · 2 calls" in line.replace("\\", "")


def chosen(visit: Visit) -> AppTest:
    app = visit("budgets")
    app.query_params["budget"], app.query_params["subject"] = "agents", "planner"
    return app.run()


def test_a_raise_is_asked_for_with_exactly_the_amount_that_was_typed(collector: Any, visit: Visit) -> None:
    collector.control.configures("agents", each="agent")
    collector.control.counts("agents", "planner", **day())
    app = chosen(visit)
    app.number_input(key="raise_amount").set_value(0.1)
    app.selectbox(key="raise_for").set_value("4 hours")
    app.text_input(key="raise_why").set_value("month end")
    next(button for button in app.button if button.label == "Raise the limit").click()
    app.run()
    assert collector.control.done == [
        ("POST", "raises",
         {"budget": "agents", "subject": "planner", "amount": "0.1 USD", "for_s": 14400,
          "reason": "month end", "source": "dashboard"})
    ]  # fmt: skip
    assert "0\\.1 USD more" in app.success[0].value


def test_a_pause_is_asked_for_and_taken_back(collector: Any, visit: Visit) -> None:
    collector.control.configures("agents", each="agent")
    collector.control.counts("agents", "planner", **day())
    app = chosen(visit)
    next(button for button in app.button if button.label == "Pause").click()
    collector.control.directives.append(
        {"id": "d/1", "kind": "pause", "match": {"agent": ["planner"]}, "expires_us": 2 * 10**15,
         "source": "dashboard", "reason": ""}
    )  # fmt: skip
    app.run()
    [(method, kind, said)] = collector.control.done
    assert (method, kind, said["action"], said["budget"], said["subject"], said["expires_in_s"]) == (
        "POST", "directives", "pause", "agents", "planner", 3600,
    )  # fmt: skip
    app.button(key="back_d/1").click().run()
    assert collector.control.done[-1] == ("DELETE", "directives", "d/1")


def test_calls_that_name_nobody_have_a_counter_of_their_own_that_cannot_be_paused(
    collector: Any, visit: Visit
) -> None:
    collector.control.configures("agents", each="agent")
    collector.control.counts("agents", "", **day())
    collector.book(agent="", cost="2")
    collector.book(agent="planner", cost="50")
    app = visit("budgets")
    assert (rows(app)[0]["subject"], rows(app)[0]["per_hour"]) == ("(no agent)", "$2.00")
    app.query_params["budget"] = "agents"
    app.run()
    line = next(caption.value for caption in app.caption if caption.value.startswith("Ledger"))
    assert "2.000000000000 USD · 1 call" in line.replace("\\", "")
    assert not [button for button in app.button if button.label == "Pause"]


def test_what_the_sidecar_refuses_is_told_in_its_words(collector: Any, visit: Visit) -> None:
    collector.control.configures("agents", each="agent")
    collector.control.counts("agents", "planner", **day())
    collector.control.trouble = "refusing"
    app = chosen(visit)
    app.number_input(key="raise_amount").set_value(1)
    next(button for button in app.button if button.label == "Raise the limit").click()
    app.run()
    assert "must be more than nothing" in app.error[0].value.replace("\\", "")
    assert not app.success


def test_the_history_tells_what_was_done_by_whom(collector: Any, visit: Visit) -> None:
    collector.control.configures("agents", each="agent")
    collector.control.counts("agents", "<b>x")
    event = {
        "happened_at": datetime(2026, 11, 29, 9), "budget": "agents", "counter": "planner day",
        "action": "downgrade", "detail": "80% reached", "limit_usd": Decimal(10), "spent_usd": Decimal(8),
        "call_id": "", "tenant": "", "held_usd": None, "event_id": "e",
    }  # fmt: skip
    collector.tables["budget_events"] = pa.Table.from_pylist([event], EVENTS)
    app = visit("budgets")
    assert rows(app)[0]["subject"] == "<b>x"
    row = app.dataframe[1].value.iloc[0]
    assert (row["action"], row["detail"]) == ("downgrade", "80% reached")
    assert row["amounts"] == "$8.00 of $10.00"


def test_without_budgets_the_page_says_how_to_have_one(collector: Any, visit: Visit) -> None:
    assert "No budget is configured" in visit("budgets").info[0].value


def test_without_a_sidecar_the_page_says_what_to_start(
    collector: Any, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURSAR_CONTROL_URL", "http://127.0.0.1:1")
    app = visit("budgets")
    assert "control plane" in app.error[0].value
    assert "bursar sidecar" in app.error[0].value


def test_a_control_plane_of_another_kind_is_an_error_and_no_empty_page(collector: Any, visit: Visit) -> None:
    collector.control.trouble = "odd"
    app = visit("budgets")
    assert "No figures" in app.error[0].value
    assert not app.info


def test_the_history_tells_counters_and_amounts_in_words() -> None:
    assert budget.counted_for("coding-agent day:2026-11-29") == "coding-agent (day 2026-11-29)"
    assert budget.counted_for("month:2026-11-01") == "month 2026-11-01"
    assert budget.counted_for("agent a: b") == "agent a: b"  # no window: as it stands
    said = "5 steps brought nothing new (score 4.50 of 8.00, 2.491788000000 USD)"
    assert budget.shortened(said) == "5 steps brought nothing new (score 4.50 of 8.00, 2.491788 USD)"
    assert budget.shortened("0.500000000000 USD") == "0.50 USD"
    assert budget.shortened("0.000000000001 USD") == "0.000000000001 USD"

"""The alerts page: what is open, why, and the course of one incident."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from streamlit.testing.v1 import AppTest

from dashboards.views import incidents
from tests.dashboards.drawn import facts

Visit = Callable[..., AppTest]


def tell(collector: Any, state: str, agent: str = "planner", identity: str = "i-1") -> None:
    """One row of an incident of ``agent`` that costs 1.50 USD an hour."""
    at = datetime(2026, 11, 28, 9, 30)
    collector.told.append(
        {
            "anomaly_id": identity, "alertname": "SpendAnomaly", "severity": "page", "state": state,
            "signal": "spend", "detail": '{"summary": "calls went up"}', "scope": [("agent", agent)],
            "usd_per_hour": Decimal("1.5"), "detected_at": at, "since_at": at, "until_at": None,
        }
    )  # fmt: skip


def test_an_open_incident_is_shown_with_whose_it_is_why_and_what_it_costs(
    collector: Any, visit: Visit
) -> None:
    tell(collector, "open")
    tell(collector, "closed", identity="i-2")
    app = visit("incidents")
    row = app.dataframe[0].value.iloc[0]
    assert (row["whose"], row["why"], row["usd_per_hour"]) == ("agent=planner", "calls went up", "$1.50")
    assert any("1 open, 1 ended" in caption.value for caption in app.caption)


def test_what_is_open_is_counted_and_drawn_over_time_and_never_added_up(collector: Any, visit: Visit) -> None:
    tell(collector, "open")
    tell(collector, "open", agent="triage", identity="i-2")
    tell(collector, "closed", identity="i-3")
    app = visit("incidents", range="90d")
    assert {metric.label: metric.value for metric in app.metric} == {
        "Open": "2", "of which page": "2", "The dearest, an hour": "\\$1\\.50", "False alarms": "–",
    }  # fmt: skip


def test_what_is_open_comes_first_then_the_severest_then_the_dearest() -> None:
    noon = datetime(2026, 11, 28, 12)
    told = [("closed", "page", 9), ("open", "info", 8), ("open", "page", 1), ("open", "page", 2)]
    rows = [
        {"state": state, "severity": severity, "usd_per_hour": Decimal(usd), "since_at": noon}
        for state, severity, usd in told
    ]
    assert [int(row["usd_per_hour"]) for row in incidents.ranked(rows)] == [2, 1, 8, 9]


def test_an_incident_counts_from_its_beginning_to_its_end() -> None:
    nine, ten, eleven = (datetime(2026, 11, 28, hour, tzinfo=UTC) for hour in (9, 10, 11))
    row = {"since_at": nine.replace(tzinfo=None, minute=30), "until_at": None}
    assert incidents._was_open(row, nine, ten)
    assert incidents._was_open(row, ten, eleven)
    assert not incidents._was_open(row | {"since_at": ten}, nine, ten)
    assert not incidents._was_open(row | {"until_at": nine.replace(minute=45)}, ten, eleven)


def test_the_address_opens_the_course_of_one_incident(collector: Any, visit: Visit) -> None:
    tell(collector, "open")
    tell(collector, "closed")
    app = visit("incidents")
    app.query_params["incident"] = "i-1"
    app.run()
    assert len(app.table) == 2
    assert facts(app)["What"] == "calls went up"
    assert facts(app)["USD an hour"] == "1.500000000000 USD"
    app.button(key="close_incident").click().run()
    assert not app.table
    assert "incident" not in app.query_params


def test_names_in_an_incident_are_text_with_nothing_hidden(collector: Any, visit: Visit) -> None:
    tell(collector, "open", agent="<b>\u202eevil")
    assert visit("incidents").dataframe[0].value.iloc[0]["whose"] == "agent=<b>⟨U+202E⟩evil"


def test_without_incidents_the_page_says_that_none_is_open(collector: Any, visit: Visit) -> None:
    assert "No incident is open" in visit("incidents").success[0].value


def test_without_an_answer_the_page_does_not_say_that_all_is_well(collector: Any, visit: Visit) -> None:
    collector.trouble = "broken"
    app = visit("incidents")
    assert "No figures" in app.error[0].value
    assert not app.success


def act(collector: Any, action: str, counter: str = "agent=planner", alert: str = "a-1") -> None:
    """One line of what was done to calls, or said of an incident."""
    detail = {"alert": alert, "reason": "runaway", "outcome": "the sidecar took it"}
    collector.events.append(
        {"happened_at": datetime.now(UTC).replace(tzinfo=None), "event_id": str(len(collector.events)),
         "budget": "", "counter": counter, "action": action, "detail": json.dumps(detail)}
    )  # fmt: skip


def shown(app: AppTest, column: str) -> Any:
    return next(frame.value for frame in app.dataframe if column in frame.value.columns)


def test_the_filters_of_the_page_stand_in_the_address(collector: Any, visit: Visit) -> None:
    tell(collector, "open")
    tell(collector, "closed", agent="triage", identity="i-2")
    app = visit("incidents")
    app.multiselect(key="alert_state").set_value(["closed"]).run()
    assert list(shown(app, "whose")["whose"]) == ["agent=triage"]
    app.multiselect(key="alert_severity").set_value(["info"]).run()
    assert "No incident matches" in app.info[0].value


def test_what_was_done_because_of_an_incident_is_told_with_it(collector: Any, visit: Visit) -> None:
    tell(collector, "open")
    collector.told[-1]["detail"] = '{"summary": "loops", "alert": "a-1"}'
    act(collector, "directive_raised:pause:dry_run")
    act(collector, "directive_raised:cut", alert="another")
    app = visit("incidents")
    assert shown(app, "done")["done"].iloc[0] == "pause raised (on paper only)"
    app.query_params["incident"] = "i-1"
    app.run()
    row = shown(app, "outcome").iloc[0]
    assert (row["what"], row["whose"], row["why"]) == (
        "pause raised (on paper only)", "agent=planner", "runaway"
    )  # fmt: skip


def test_a_person_says_that_it_was_a_false_alarm_and_the_last_word_counts(
    collector: Any, visit: Visit
) -> None:
    tell(collector, "open")
    app = visit("incidents")
    app.query_params["incident"] = "i-1"
    app.run()
    app.text_input(key="verdict_note").set_value("nightly batch").run()
    app.button(key="say_false_alarm").click().run()
    said = collector.events[-1]
    assert (said["action"], said["counter"]) == ("false_alarm", "i-1")
    assert json.loads(said["detail"]) == {"note": "nightly batch", "by": "dashboard"}
    assert shown(app, "verdict")["verdict"].iloc[0] == "false alarm"
    assert any("1 was a false alarm" in caption.value for caption in app.caption)
    app.button(key="say_real_alarm").click().run()
    assert shown(app, "verdict")["verdict"].iloc[0] == "real"


def test_a_word_that_is_not_taken_is_told(collector: Any, visit: Visit) -> None:
    tell(collector, "open")
    app = visit("incidents")
    app.query_params["incident"] = "i-1"
    app.run()
    collector.trouble = "refusing"
    app.button(key="say_false_alarm").click().run()
    assert "Not taken" in app.error[0].value
    assert collector.events == []

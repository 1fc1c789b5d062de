"""The alerts page: what is open, why, and the course of one incident."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

from streamlit.testing.v1 import AppTest

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


def test_the_address_opens_the_course_of_one_incident(collector: Any, visit: Visit) -> None:
    tell(collector, "open")
    tell(collector, "closed")
    app = visit("incidents")
    app.query_params["incident"] = "i-1"
    app.run()
    courses = [frame.value for frame in app.dataframe if list(frame.value.columns) == ["what", "value"]]
    assert len(courses) == 2
    assert "calls went up" in set(courses[0]["value"])


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

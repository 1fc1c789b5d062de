"""The calls page: which calls, page by page, and everything about one."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from streamlit.testing.v1 import AppTest

from tests.dashboards.drawn import facts

Visit = Callable[..., AppTest]


def shown_ids(app: AppTest) -> list[str]:
    return list(app.dataframe[0].value["call_id"])


def test_calls_are_listed_newest_first_and_read_page_by_page(collector: Any, visit: Visit) -> None:
    for number in range(120):
        collector.book(timedelta(minutes=number))
    newest_first = [row["call_id"] for row in collector.calls]
    app = visit("calls")
    assert shown_ids(app) == newest_first[:50]
    assert app.button(key="newer").disabled
    app.button(key="older").click().run()
    assert shown_ids(app) == newest_first[50:100]
    app.button(key="older").click().run()
    assert shown_ids(app) == newest_first[100:]
    assert app.button(key="older").disabled
    assert any("page 3 of 3" in caption.value.replace("\\", "") for caption in app.caption)
    app.button(key="newer").click().run()
    app.button(key="newer").click().run()
    assert shown_ids(app) == newest_first[:50]


def test_another_selection_starts_at_the_first_page(collector: Any, visit: Visit) -> None:
    for number in range(120):
        collector.book(timedelta(minutes=number), agent="planner" if number % 2 else "triage")
    app = visit("calls")
    app.button(key="older").click().run()
    app.query_params["agent"] = ["planner"]
    app.run()
    assert set(app.dataframe[0].value["agent"]) == {"planner"}
    assert app.button(key="newer").disabled


def test_the_line_above_the_table_is_the_exact_sum_of_all_pages(collector: Any, visit: Visit) -> None:
    for number in range(70):
        collector.book(timedelta(minutes=number), cost="0.000000000007")
    app = visit("calls")
    line = app.caption[0].value.replace("\\", "")
    assert line.startswith("Ledger: 0.000000000490 USD · 70 calls")  # 70 x 7 pico-dollars


def test_an_address_with_a_call_opens_it_to_the_pico_dollar(collector: Any, visit: Visit) -> None:
    row = collector.book(
        cost="0.001234567891", price_version="2026-11-01", trace_id="f" * 32, tags={"env": "prod"},
        reasoning_output_tokens=20,
    )  # fmt: skip
    app = visit("calls", call=row["call_id"])
    found = facts(app)
    assert found["Really owed"] == "0.001234567891 USD"
    assert found["Price is"] == "listed"
    assert found["Price version"] == "2026-11-01"
    assert (found["Input"], found["of which cache read"]) == ("1,000", "400")
    assert (found["Output"], found["of which reasoning"]) == ("100", "20")
    assert found["Usage is"] == "reported"
    assert found["Trace"] == "f" * 32
    assert found["Conversation"] == "c-1"
    assert found["Tags"] == "env=prod"
    assert found["Took"] == "1.23 s"
    assert found["Added by Bursar"] == "180 µs"
    attempts = next(frame.value for frame in app.dataframe if "replica" in frame.value.columns)
    assert list(attempts["replica"]) == ["api.example:443"]


def test_a_call_that_was_never_sent_has_no_attempt(collector: Any, visit: Visit) -> None:
    row = collector.book(outcome="refused", http_status=402, cost="0", usage_grade="", price_grade="")
    app = visit("calls", call=row["call_id"])
    assert any("no model was asked" in caption.value for caption in app.caption)
    assert facts(app)["Usage is"] == "nothing was consumed"
    assert facts(app)["Really owed"] == "0.000000000000 USD"


def test_a_call_that_the_ledger_does_not_have_is_said_so(collector: Any, visit: Visit) -> None:
    collector.book()
    app = visit("calls", call="[x](javascript:alert(1))")
    assert "no call of this id" in app.info[0].value
    assert app.code[0].value == "[x](javascript:alert(1))"


def test_a_call_can_be_sought_by_its_id(collector: Any, visit: Visit) -> None:
    row = collector.book(agent="planner")
    app = visit("calls")
    app.text_input(key="call_sought").set_value(f" {row['call_id']} ").run()
    assert facts(app)["Agent"] == "planner"


def test_calls_are_sought_by_a_text_that_stands_in_the_address(collector: Any, visit: Visit) -> None:
    for number in range(104):
        collector.book(timedelta(minutes=number), error_type="rate_limit" if number % 2 else "")
    of_them = [row["call_id"] for row in collector.calls if row["error_type"]]
    app = visit("calls", search=" Rate_LIM ")
    assert shown_ids(app) == of_them[:50]
    assert "104 calls, shown are those with “Rate_LIM”" in app.caption[0].value.replace("\\", "")
    app.button(key="older").click().run()
    assert shown_ids(app) == of_them[50:]
    app.text_input(key="search").set_value("").run()
    assert shown_ids(app) == [row["call_id"] for row in collector.calls[:50]]  # from the first page on


def test_a_text_that_no_call_has_is_told_apart_from_an_empty_ledger(collector: Any, visit: Visit) -> None:
    collector.book()
    app = visit("calls", search="<b>nobody")
    assert r"No call has “\<b\>nobody”" in app.info[0].value
    assert not app.dataframe


def test_from_one_call_to_its_whole_conversation(collector: Any, visit: Visit) -> None:
    row = collector.book(conversation_id="c-7")
    collector.book(conversation_id="c-7")
    collector.book(conversation_id="c-8")
    app = visit("calls", call=row["call_id"])
    app.button(key="whole_conversation").click().run()
    assert len(shown_ids(app)) == 2
    assert [text.value for text in app.text] == ["Conversation: c-7"]


def test_what_came_with_a_call_is_shown_as_text(collector: Any, visit: Visit) -> None:
    name = "<b>x</b>[y](javascript:z)\u202e"
    row = collector.book(agent=name, team=name, conversation_id=name, outcome_reason=name, error_type=name)
    app = visit("calls", call=row["call_id"])
    visible = name.replace("\u202e", "⟨U+202E⟩")
    assert app.dataframe[0].value["agent"][0] == visible
    assert facts(app)["Agent"] == facts(app)["because"] == facts(app)["Conversation"] == visible
    markup = [element.value for kind in (app.markdown, app.caption) for element in kind]
    assert not [text for text in markup if "javascript" in text]


def test_an_empty_ledger_and_a_collector_in_trouble_are_said_here_too(collector: Any, visit: Visit) -> None:
    assert "No calls in the last" in visit("calls").info[0].value
    from dashboards import data

    data.forget()
    collector.trouble = "old"
    app = visit("calls", range="1h")
    assert "No figures" in app.error[0].value

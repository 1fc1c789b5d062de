"""The page of budgets over two workers: one count of both, and a raise and a pause that both heed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest
from support.stack import Stack, wait_for
from support.upstream import Answer, ScriptedUpstream

from tests.dashboards.drawn import facts
from tests.scenarios.budget_scenes import chat_reply
from tests.scenarios.test_workers import both_there, shown, statuses, two_workers

APP = Path(__file__).resolve().parents[2] / "dashboards" / "app.py"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def page() -> AppTest:
    """Budgets, with the one of this test opened."""
    st.cache_data.clear()
    app = AppTest.from_file(str(APP), default_timeout=120)
    app.query_params["budget"], app.query_params["subject"] = "all", ""
    app.run()
    app.switch_page("views/budgets.py").run()
    assert not app.exception
    return app


def test_both_workers_are_counted_on_one_page_and_heed_what_is_done_there(
    upstream: ScriptedUpstream, stack_for: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=two_workers("30 calls"))
    monkeypatch.setenv("BURSAR_COLLECTOR_URL", stack.collector_url)
    monkeypatch.setenv("BURSAR_CONTROL_URL", stack.control_url)
    both_there(stack)
    assert statuses(stack, 12) == [200] * 12
    wait_for("all settled", lambda: shown(stack)["spent"] == 12)
    stack.calls(12)

    app = page()
    row = app.dataframe[0].value.iloc[0]
    assert (row["budget"], row["spent"], row["remaining"], row["share"]) == (
        "all", "12 calls", "18 calls", 40
    )  # fmt: skip
    assert facts(app)["Spent"] == "12 calls"
    assert any("12 calls" in one.value for one in app.caption)  # the ledger's word on who spent it

    app.number_input(key="raise_amount").set_value(10)
    next(button for button in app.button if button.label == "Raise the limit").click().run()
    assert any("has 10 calls more" in one.value for one in app.success)
    wait_for("the raise", lambda: shown(stack)["limit"] == 40)
    assert statuses(stack, 28) == [200] * 28
    wait_for("both to refuse", lambda: statuses(stack, 8) == [402] * 8)
    assert facts(page())["Left"] == "0 calls"


def test_a_pause_on_the_page_stops_both_workers_until_it_is_taken_back(
    upstream: ScriptedUpstream, stack_for: Callable[..., Stack], monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.script = lambda seen: Answer(pieces=[chat_reply()])
    stack = stack_for(upstream, settings=two_workers("1000 calls"))
    monkeypatch.setenv("BURSAR_COLLECTOR_URL", stack.collector_url)
    monkeypatch.setenv("BURSAR_CONTROL_URL", stack.control_url)
    both_there(stack)
    assert statuses(stack, 8) == [200] * 8
    wait_for("all settled", lambda: shown(stack)["spent"] == 8)
    stack.calls(8)

    app = page()
    next(button for button in app.button if button.label == "Pause").click().run()
    assert any("is paused" in one.value for one in app.success)
    wait_for("both to refuse", lambda: set(statuses(stack, 16)).isdisjoint({200}))
    app = page()
    next(button for button in app.button if button.label == "Take back").click().run()
    wait_for("both to serve", lambda: statuses(stack, 16) == [200] * 16)

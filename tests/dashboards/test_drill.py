"""A click on a part of a chart, and what is looked at then."""

from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st

from dashboards import drill


@pytest.fixture
def clicked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a session keeps; its address is ``st.query_params``."""
    kept: dict[str, Any] = {}
    monkeypatch.setattr(st, "session_state", kept)
    monkeypatch.setattr(st, "query_params", {})
    return kept


def test_a_point_is_a_series_and_a_place_in_it_and_is_not_taken_twice(clicked: dict[str, Any]) -> None:
    key = drill.key("bars")
    group = {"series_index": 2, "data_indices": [5]}
    clicked[key] = SimpleNamespace(selection=SimpleNamespace(selected=[group], areas=[]))
    assert drill.point(key) == (2, 5)
    assert drill.key("bars") != key  # The next drawing is of another chart, with nothing chosen.


def test_a_click_that_takes_the_choice_back_narrows_nothing(clicked: dict[str, Any]) -> None:
    key = drill.key("bars")
    clicked[key] = SimpleNamespace(selection=SimpleNamespace(selected=[], areas=[]))
    assert drill.point(key) is None


def test_what_is_narrowed_to_stands_in_the_address(clicked: dict[str, Any]) -> None:
    drill.narrow({"team": "search", "agent": ""})
    assert st.query_params == {"team": ["search"], "agent": ["(none)"]}


@pytest.mark.parametrize(
    ("split", "value", "wanted"),
    [
        ("agent", "planner", {"agent": "planner"}),
        ("agent", "", {"agent": ""}),
        ("tag:env", "prod=eu", {"tag": "env=prod=eu"}),
        ("tag:env", "", {}),  # The ledger cannot be asked for calls without a tag.
    ],
)
def test_a_part_is_narrowed_to_by_its_dimension_or_tag(
    split: str, value: str, wanted: dict[str, str]
) -> None:
    assert drill.wanted(split, value) == wanted

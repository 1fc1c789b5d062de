"""The models page: what each model's calls and tokens came to, and how long they took."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from streamlit.testing.v1 import AppTest

from dashboards.views import models

Visit = Callable[..., AppTest]


def test_price_and_speed_of_each_model_stand_side_by_side(collector: Any, visit: Visit) -> None:
    # 0.30 USD over 2 calls is 0.15 a call; over 2 * (1000 + 500) tokens it is 100 USD a million.
    for duration in (400.0, 900.0):
        collector.book(request_model="big", cost="0.15", output_tokens=500, duration_ms=duration)
    # 0.10 USD over 1 call of 1000 + 1000 tokens is 50 USD a million.
    collector.book(request_model="small", cost="0.10", output_tokens=1000, duration_ms=80.0)
    table = visit("models").dataframe[0].value.set_index("request_model")
    assert list(table.index) == ["big", "small"]
    assert list(table.loc["big", ["calls", "spend", "spend_share", "per_call", "per_mtok", "p95_ms"]]) == [
        2, "$0.300", "75.0 %", "$0.150", "$100.00", 900.0
    ]  # fmt: skip
    assert list(table.loc["small", ["spend", "per_call", "per_mtok", "p50_ms"]]) == [
        "$0.100", "$0.100", "$50.00", 80.0
    ]  # fmt: skip


def test_the_shared_filters_narrow_the_models(collector: Any, visit: Visit) -> None:
    collector.book(request_model="big", team="search")
    collector.book(request_model="small", team="ads")
    app = visit("models", team=["ads"])
    assert list(app.dataframe[0].value["request_model"]) == ["small"]


def test_a_model_without_tokens_has_no_price_a_token_rather_than_zero() -> None:
    row = {"calls": 1, "input_tokens": 0, "output_tokens": 0, "effective_cost_usd": Decimal("0.5")}
    assert models.usd_per_mtok(row) is None
    assert models.usd_per_call(row) == Decimal("0.5")


def test_a_models_name_is_text_with_nothing_hidden(collector: Any, visit: Visit) -> None:
    collector.book(request_model="<b>\u202emodel")
    assert visit("models").dataframe[0].value.iloc[0]["request_model"] == "<b>⟨U+202E⟩model"


def test_without_calls_the_page_says_what_to_do(collector: Any, visit: Visit) -> None:
    app = visit("models")
    assert "No calls" in app.info[0].value
    assert not app.dataframe


def test_without_an_answer_the_page_shows_no_figures(collector: Any, visit: Visit) -> None:
    collector.trouble = "broken"
    app = visit("models")
    assert "No figures" in app.error[0].value
    assert not app.dataframe


def test_earlier_figures_are_marked_when_the_collector_stops_answering(collector: Any, visit: Visit) -> None:
    collector.book(request_model="big")
    app = visit("models")
    collector.trouble = "broken"
    models.data.forget()
    app.run()
    assert any("These figures are of" in warning.value for warning in app.warning)
    assert list(app.dataframe[0].value["request_model"]) == ["big"]

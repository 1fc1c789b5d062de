"""The models page: what each model's calls and tokens came to, and how long they took."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
from streamlit.testing.v1 import AppTest

from collector.domain.price import TokenPrice
from collector.pricing.book import PriceBook
from dashboards import whatif
from dashboards.views import models, worth

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
    assert worth.usd_per_mtok(row) is None
    assert worth.usd_per_call(row) == Decimal("0.5")


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


def test_how_well_a_model_does_stands_beside_what_it_costs(collector: Any, visit: Visit) -> None:
    collector.book(request_model="big", cost="3")
    collector.tables["quality"] = pa.table(
        {
            "request_model": ["big"], "tasks": [20], "successes": [15], "success_rate": [0.75],
            "success_rate_low": [0.531], "success_rate_high": [0.888], "usd_per_success": [0.2],
            "effective_cost_usd": pa.array([Decimal(3)], pa.decimal128(38, 12)),
        }
    )  # fmt: skip
    row = visit("models").dataframe[0].value.iloc[0]
    assert (row["tasks"], row["success"], row["per_success"]) == (20, "75 % (53–89)", "$0.200")
    assert row["spend"] == "$3.00"  # of all calls, not of judged tasks alone


def test_a_model_stands_where_its_price_and_its_speed_and_success_put_it() -> None:
    row = {
        "request_model": "big", "calls": 2, "input_tokens": 1000, "output_tokens": 500, "p50_ms": 900.0,
        "effective_cost_usd": Decimal("0.15"),
    }  # fmt: skip
    judged = row | {"tasks": 4, "success_rate": 0.75, "success_rate_low": 0.3, "success_rate_high": 0.95}
    (timed,) = worth.timed_spots([row], Decimal("0.60"))
    assert (timed.name, timed.usd, timed.got, timed.share) == ("big", 100.0, 900.0, 0.25)  # 0.15 / 1500
    (good,) = worth.judged_spots([row, judged], Decimal("0.60"))  # nothing was said of the first
    assert (good.got, good.between) == (75.0, (30.0, 95.0))


def test_a_model_that_only_embeds_stands_in_for_none_that_writes(collector: Any, visit: Visit) -> None:
    collector.book(request_model="embeds", output_tokens=0, cost="0.0001")
    collector.book(request_model="small", cost="0.001")
    collector.book(request_model="big", cost="0.1")
    app = visit("models")
    assert app.selectbox(key="instead").options == ["small", "big"]  # the cheapest is proposed
    assert len(app.dataframe[0].value) == 3  # and is told of in the table all the same


def test_what_another_model_would_have_cost_is_worked_out_from_its_price(
    collector: Any, visit: Visit
) -> None:
    # 1000 tokens in, 400 of them cached, 100 out, twice; on gpt-4o-mini 600 x $0.15 + 400 x $0.075
    # + 100 x $0.60 a million make $0.00018 each.
    for _ in range(2):
        collector.book(request_model="dear", cost="0.5", reasoning_output_tokens=0)
    book = PriceBook.load()
    collector.tables["prices"] = price_rows(book, "gpt-4o-mini")
    collector.book(request_model="gpt-4o-mini", cost="0.00018")  # the cheapest is proposed
    app = visit("models")
    saving = next(frame.value for frame in app.dataframe if "saved" in frame.value.columns).iloc[0]
    assert (saving["model"], saving["spent"], saving["instead"]) == ("dear", "$1.00", "$0.000360")
    assert saving["saved"] == "$1.000"  # 1 - 0.00036, to four digits


def test_a_fee_for_each_call_is_asked_for_each_of_them() -> None:
    row = {"calls": 3, "input_tokens": 10, "output_tokens": 0, "cache_read_input_tokens": 0}
    assert (
        whatif.instead(row, TokenPrice(input=7, output=0, per_request=100))
        == Decimal(10 * 7 + 3 * 100) / 10**12
    )


def test_prices_that_changed_are_told_with_what_they_were(collector: Any, visit: Visit) -> None:
    collector.book(request_model="house")
    usd = pa.decimal128(18, 12)
    change = {
        "changed_at": pa.array([datetime(2026, 11, 28)], pa.timestamp("us")), "kind": ["revised"],
        "provider_name": [""], "model": ["house"],
        **{f"{name}_usd{when}": pa.array([Decimal(value)], usd) for name, before, now in (
            ("input", "0.000001", "0.000002"), ("cache_read", "0.000001", "0.000001"),
            ("output", "0.000004", "0.000004"),
        ) for when, value in (("_before", before), ("", now))},
    }  # fmt: skip
    collector.tables["price_changes"] = pa.table(change)
    shown = next(frame.value for frame in visit("models").dataframe if "input" in frame.value.columns).iloc[0]
    assert (shown["input"], shown["output"]) == ("$1.00 → $2.00", "$4.00")
    assert shown["provider"] == "your configuration"


def price_rows(book: PriceBook, model: str) -> pa.Table:
    """Rows as the ledger has them."""
    rates = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "per_request")
    return pa.Table.from_pylist(
        [
            {"price_version": row.price_version, "provider_name": row.provider_name, "model": row.model,
             "price_grade": str(row.price_grade), "source": row.source, "terms": row.terms,
             **{f"{name}_usd": Decimal(getattr(row, name)) / 10**12 for name in rates}}
            for row in book.rows() if row.model == model
        ]
    )  # fmt: skip

"""Which prices a call was charged by, to the pico-dollar."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from collector.pricing.book import PriceBook
from dashboards.bill import bill_of, rows_question
from dashboards.views.call import trace_link

Visit = Callable[..., AppTest]
PICO = Decimal("1E-12")
RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "per_request")


def rows_of(book: PriceBook, *models: str) -> list[dict[str, Any]]:
    """Rows as the ledger has them."""
    return [
        {"price_version": row.price_version, "provider_name": row.provider_name, "model": row.model,
         "effective_from": row.effective_from, "price_grade": str(row.price_grade), "source": row.source,
         "terms": row.terms, **{f"{name}_usd": getattr(row, name) * PICO for name in RATES}}
        for row in book.rows() if row.model in models
    ]  # fmt: skip


def attempt(book: PriceBook, **more: Any) -> dict[str, Any]:
    given = {
        "attempt": 1, "provider_name": "openai", "request_model": "gpt-4o-mini", "input_tokens": 1000,
        "output_tokens": 100, "cache_read_input_tokens": 400, "cache_write_input_tokens": 0,
        "cache_write_1h_input_tokens": 0, "reasoning_output_tokens": 0, "price_version": book.version,
        "started_at": datetime(2026, 11, 20, tzinfo=UTC),
    }  # fmt: skip
    return given | more


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.load({"house": {"input": 1, "output": 2}})


def test_the_lines_sum_to_the_amount_of_the_ledger(book: PriceBook) -> None:
    # 600 at $0.15, 400 cached at $0.075 and 100 at $0.60 a million: 90 + 30 + 60 millionths of a dollar.
    owed = attempt(book, list_cost_usd=Decimal("0.000180000000"))
    found = bill_of(owed, rows_of(book, "gpt-4o-mini"))
    assert found is not None
    assert found.tallies
    assert found.row["provider_name"] == "openai"
    lines = [tuple(line.values()) for line in found.lines()]
    assert [(part, count, Decimal(str(rate)), cost) for part, count, rate, cost in lines] == [
        ("input", 600, Decimal("0.15"), "0.000090000000"),
        ("cache read", 400, Decimal("0.075"), "0.000030000000"),
        ("output", 100, Decimal("0.6"), "0.000060000000"),
    ]  # fmt: skip


def test_a_price_of_the_configuration_comes_first(book: PriceBook) -> None:
    owed = attempt(book, request_model="house", list_cost_usd=Decimal("0.001200"), cache_read_input_tokens=0)
    found = bill_of(owed, rows_of(book, "house"))
    assert found is not None
    assert (found.row["price_grade"], found.tallies) == ("configured", True)  # 1000 at $1, 100 at $2


def test_an_amount_that_no_row_gives_is_said_not_to_tally(book: PriceBook) -> None:
    found = bill_of(attempt(book, list_cost_usd=Decimal("0.1")), rows_of(book, "gpt-4o-mini"))
    assert found is not None
    assert not found.tallies
    assert bill_of(attempt(book, list_cost_usd=Decimal("0.1")), []) is None


def test_only_the_versions_and_names_that_may_be_meant_are_asked_for(book: PriceBook) -> None:
    question = rows_question([attempt(book), attempt(book, price_version="")])
    assert question is not None
    params = dict(question.params)
    assert params["price_version"] == book.version
    assert ("model", "gpt-4o-mini") in question.params
    assert rows_question([attempt(book, price_version="")]) is None


def test_one_call_shows_its_bill(collector: Any, visit: Visit, book: PriceBook) -> None:
    call = collector.book(request_model="gpt-4o-mini", price_version=book.version, cost="0.00018")
    call["list_cost_usd"] = Decimal("0.000180000000")
    call["reasoning_output_tokens"] = 0
    collector.tables["prices"] = pa.Table.from_pylist(rows_of(book, "gpt-4o-mini"))
    app = visit("calls", call=call["call_id"])
    app.query_params["call"] = call["call_id"]
    app.run()
    assert any("The lines sum to the ledger" in caption.value for caption in app.caption)


@pytest.mark.parametrize(
    ("template", "address"),
    [
        ("https://tempo.example/trace/{trace_id}?x={y}", "https://tempo.example/trace/0af%2F7?x={y}"),
        ("javascript:alert('{trace_id}')", ""),
        ("https://tempo.example/", ""),
        ("", ""),
    ],
)
def test_a_trace_is_linked_to_where_the_configuration_says(template: str, address: str) -> None:
    assert trace_link("0af/7", template) == address

"""Which prices a call was charged by, to the pico-dollar."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from collector.domain.price import TokenPrice
from collector.pricing.book import PriceBook
from dashboards import bill
from dashboards.bill import bill_of, rows_question
from dashboards.views.call import sums, trace_link

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


def test_images_and_a_region_have_lines_of_their_own(book: PriceBook) -> None:
    # gpt-5.4: 600 at $2.5, 400 cached at $0.25, 100 at $15 a million, and a tenth more in the EU.
    there = attempt(
        book, request_model="gpt-5.4", region="eu", charges='{"region":[1100,0,0]}',
        list_cost_usd=Decimal("0.00341"), effective_cost_usd=Decimal("0.00341"),
    )  # fmt: skip
    found = bill_of(there, rows_of(book, "gpt-5.4"))
    assert found is not None
    assert found.tallies
    assert [part.name for part in found.parts] == ["input", "cache_read", "output", "region eu"]
    # gpt-image-1.5: 960 at $5, 40 of images at $8, 1000 of images at $32 a million.
    drawn = attempt(
        book, request_model="gpt-image-1.5", cache_read_input_tokens=0, output_tokens=1000,
        charges='{"image_input":[40,0,0],"image_output":[1000,0,0]}',
        list_cost_usd=Decimal("0.03712"), effective_cost_usd=Decimal("0.03712"),
    )  # fmt: skip
    found = bill_of(drawn, rows_of(book, "gpt-image-1.5"))
    assert found is not None
    assert found.tallies
    assert not found.is_worked_out
    assert [part.name for part in found.parts] == ["input", "image_input", "image_output"]


def test_the_lines_sum_to_the_amount_of_the_ledger(book: PriceBook) -> None:
    # 600 at $0.15, 400 cached at $0.075 and 100 at $0.60 a million: 90 + 30 + 60 millionths of a dollar.
    owed = attempt(book, list_cost_usd=Decimal("0.000180000000"), effective_cost_usd=Decimal("0.00018"))
    found = bill_of(owed, rows_of(book, "gpt-4o-mini"))
    assert found is not None
    assert found.tallies
    assert found.is_owed
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


TERMS = {
    "input": 2, "output": 8, "cache_read": 1, "audio_input": 20, "audio_output": 40, "image_input": 5,
    "image_output": 30, "per_search": "0.01",
}  # fmt: skip


def bought(monkeypatch: pytest.MonkeyPatch, list_usd: str, owed_usd: str, **more: Any) -> Any:
    """The bill of 1000 tokens in, 400 of them cached, and 100 out, at `TERMS` and half of it as a batch."""
    pico = {
        name: int(Decimal(rate) * (10**12 if name == "per_search" else 10**6)) for name, rate in TERMS.items()
    }
    batch = TokenPrice(**{name: rate // 2 for name, rate in pico.items()})
    price = TokenPrice(**pico, service_tiers=(("batch", batch),))
    monkeypatch.setattr(bill, "price_of_row", lambda row, at: price)
    row = {"price_version": "v", "provider_name": "openai", "model": "gpt-4o-mini", "price_grade": "listed"}
    owed = attempt(PriceBook.load(), price_version="v", list_cost_usd=Decimal(list_usd),
                   effective_cost_usd=Decimal(owed_usd))  # fmt: skip
    return bill_of(owed, [row], **more)


def quantities(found: Any) -> dict[str, int]:
    return {str(line["part"]): int(line["quantity"]) for line in found.lines()}


# 600 in at 2, 400 cached at 1 and 100 out at 8 are 2400 millionths of a dollar.
@pytest.mark.parametrize(
    ("list_usd", "owed_usd", "more", "lines"),
    [
        # 50 of the input at 20 and 10 of the output at 40 are 50 x 18 + 10 x 32 more.
        ("0.003620", "0.003620", {"audio": (50, 10)}, {"audio input": 50, "audio output": 10, "input": 550}),
        ("0.002700", "0.002700", {}, {"image input": 100, "input": 500}),  # 100 x 3 more
        ("0.003082", "0.003082", {}, {"image output": 31, "output": 69}),  # 31 x 22 more
        ("0.002400", "0.032400", {}, {"per search": 3}),
        ("0.002400", "0.001200", {"service_tier": "batch"}, {"service tier batch": 1}),
        ("0.002400", "0.011200", {"service_tier": "batch"}, {"service tier batch": 1, "per search": 1}),
    ],
    ids=["audio", "images in", "images out", "searches", "another tier", "a tier and a search"],
)
def test_audio_images_searches_and_tiers_have_lines_that_sum_to_what_is_owed(
    monkeypatch: pytest.MonkeyPatch, list_usd: str, owed_usd: str, more: dict[str, Any], lines: dict[str, int]
) -> None:
    found = bought(monkeypatch, list_usd, owed_usd, **more)
    assert found.is_owed
    assert lines.items() <= quantities(found).items()
    assert found.is_worked_out == any("image" in name for name in lines)
    assert sum(Decimal(str(line["cost"])) for line in found.lines()) == Decimal(owed_usd)


def test_where_images_in_and_out_both_explain_an_amount_neither_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = bought(monkeypatch, "0.003060", "0.003060")  # 660 are 30 x 22, and 220 x 3
    assert not found.tallies
    assert "another row stood in" in sums(found)


def test_what_is_owed_for_another_reason_is_said_beside_the_list_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = bought(monkeypatch, "0.002400", "0.002401")  # such as of a GPU of one's own
    assert found.tallies
    assert not found.is_owed
    assert "at list price" in sums(found)


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

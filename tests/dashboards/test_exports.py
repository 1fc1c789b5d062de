"""Figures as files."""

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import exports
from dashboards.scope import Scope, Window

Visit = Callable[..., AppTest]


def rows_of(file: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(file.decode("utf-8-sig"), newline="")))


TABLE = pa.table(
    {
        "agent": pa.array(["=cmd()", "planner"]),
        "started_at": pa.array([datetime(2026, 1, 2), None], pa.timestamp("us")),
        "effective_cost_usd": pa.array([Decimal("1E-12"), Decimal("1234567")], pa.decimal128(38, 12)),
        "secret": pa.array(["x", "y"]),
    }
)
COLUMNS = ("agent", "effective_cost_usd", "started_at", "not there")


def test_a_csv_has_the_columns_shown_with_every_digit_and_no_formula() -> None:
    """I05."""
    first, second = rows_of(exports.as_csv(COLUMNS, TABLE))
    assert first == {
        "agent": "'=cmd()",
        "effective_cost_usd": "0.000000000001",
        "started_at": "2026-01-02T00:00:00",
    }
    assert (second["effective_cost_usd"], second["started_at"]) == ("1234567.000000000000", "")


def test_a_parquet_keeps_money_exact_names_whole_and_times_in_utc() -> None:
    table = pq.read_table(io.BytesIO(exports.as_parquet(COLUMNS, TABLE)))
    assert table.column_names == ["agent", "effective_cost_usd", "started_at"]
    assert table["effective_cost_usd"].to_pylist() == [Decimal("1E-12"), Decimal("1234567")]
    assert table["agent"].to_pylist() == ["=cmd()", "planner"]
    assert table.schema.field("started_at").type == pa.timestamp("us", tz="UTC")


def test_figures_worked_out_here_are_written_to_the_pico_dollar() -> None:
    table = exports.of_rows(
        [{"usd_per_call": Decimal(1) / 3, "calls": 3}, {"usd_per_call": None, "calls": 0}]
    )
    assert table["usd_per_call"].to_pylist() == [Decimal("0.333333333333"), None]


def test_focus_of_a_scope_sums_to_its_spend(collector: Any) -> None:
    now = datetime.now(UTC)
    for number in range(6):
        cost = f"0.00000000000{number}"
        collector.book(timedelta(hours=9 * number), agent=f"a{number % 2}", team="@team", cost=cost)
    collector.book(team="another", cost="5")
    scope = Scope(
        window=Window(since=now - timedelta(days=3), until=now, name="custom"),
        filters=(("team", ("@team",)),),
        zone_name="Asia/Tokyo",
    )
    charges = rows_of(exports.as_focus(scope))
    # 0 + 1 + 2 + 3 + 4 + 5 pico-dollars
    assert sum(Decimal(charge["EffectiveCost"]) for charge in charges) == Decimal("0.000000000015")
    assert {charge["SubAccountName"] for charge in charges} == {"'@team"}
    assert all(charge["ChargePeriodStart"].endswith("T00:00:00Z") for charge in charges)


@pytest.mark.parametrize(
    ("page", "files"),
    [
        ("spend", ["CSV", "Parquet", "FOCUS 1.2"]),
        ("calls", ["CSV", "Parquet", "FOCUS 1.2"]),
        ("models", ["CSV", "Parquet"]),
    ],
)
def test_a_page_offers_its_figures_as_files(
    collector: Any, visit: Visit, page: str, files: list[str]
) -> None:
    collector.book()
    assert [button.label for button in visit(page).get("download_button")] == files

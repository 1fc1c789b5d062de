"""Rows as text, and as files that nothing executes."""

import csv
import io
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as some

from dashboards import tables


@pytest.mark.parametrize(
    "text",
    [
        "=cmd()",
        "+1+1",
        "-2+3",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =1+1",
        "\u00a0=1",
        "＝1",
        "|calc",
        "\ufeff=1",
    ],
)
def test_text_that_a_spreadsheet_would_run_is_put_behind_an_apostrophe(text: str) -> None:
    assert tables.cell(text) == "'" + text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("gpt-5-mini", "gpt-5-mini"),
        (-5, "-5"),  # a number stays a number
        (Decimal("-0.000000000001"), "-0.000000000001"),
        (Decimal("1E-12"), "0.000000000001"),
        (None, ""),
        (True, "true"),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),
        ([("env", "prod")], "[('env', 'prod')]"),
    ],
)
def test_other_values_are_written_as_they_are(value: object, written: str) -> None:
    assert tables.cell(value) == written


@given(some.lists(some.text(), min_size=1, max_size=5))
def test_no_cell_of_a_file_starts_a_formula_and_none_is_lost(texts: list[str]) -> None:
    names = [f"c{i}" for i in range(len(texts))]
    written = tables.csv_bytes(names, [dict(zip(names, texts, strict=True))])
    header, row = csv.reader(io.StringIO(written.decode("utf-8-sig"), newline=""))
    assert header == names
    for text, cell in zip(texts, row, strict=True):
        assert cell in (text, "'" + text)
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


def test_a_table_is_shown_with_plain_text_utc_times_and_only_known_columns() -> None:
    table = pa.table(
        {
            "agent": pa.array(["a\u202eb", None]),
            "started_at": pa.array([datetime(2026, 1, 1), None], pa.timestamp("us")),
            "effective_cost_usd": pa.array([Decimal("0.000000000001"), Decimal("12")], pa.decimal128(18, 12)),
            "secret": pa.array(["x", "y"]),
        }
    )
    shown = tables.shown(
        table, {"effective_cost_usd": "Cost", "agent": "Agent", "started_at": "At", "nope": "No"}
    )
    assert shown.column_names == ["effective_cost_usd", "agent", "started_at"]
    assert shown["agent"].to_pylist() == ["a⟨U+202E⟩b", "(none)"]
    assert shown["effective_cost_usd"].to_pylist() == [1e-12, 12.0]
    assert shown.schema.field("started_at").type.tz == "UTC"

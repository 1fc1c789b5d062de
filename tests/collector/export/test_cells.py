"""Cells of files that nothing executes."""

import csv
import io
import re
from datetime import datetime
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as some

from collector.export import cells


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
    assert cells.cell(text) == "'" + text


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
    assert cells.cell(value) == written


@example(["-0"])
@given(some.lists(some.text(), min_size=1, max_size=5))
def test_no_cell_of_a_file_starts_a_formula_and_none_is_lost(texts: list[str]) -> None:
    names = [f"c{i}" for i in range(len(texts))]
    written = cells.csv_bytes(names, [dict(zip(names, texts, strict=True))])
    header, row = csv.reader(io.StringIO(written.decode("utf-8-sig"), newline=""))
    assert header == names
    for text, cell in zip(texts, row, strict=True):
        assert cell in (text, "'" + text)
        is_number = re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", cell)
        assert is_number or not cell.startswith(("=", "+", "-", "@", "\t", "\r"))


@pytest.mark.parametrize("text", ["-0.000000000001", "+3", "-1E-12"])
def test_a_number_written_as_text_stays_a_number(text: str) -> None:
    assert cells.cell(text) == text


@pytest.mark.parametrize("text", ["-inf", "-1_000", "-١", "-2+3", "+1-1"])
def test_what_only_looks_like_a_number_is_defused(text: str) -> None:
    assert cells.cell(text) == "'" + text

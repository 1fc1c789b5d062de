"""Values as cells of a file that a spreadsheet may open: none of them is run as a formula."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

_FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠|")
"""A cell of text that begins so is a formula, or a command, to some spreadsheet."""

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")


def csv_bytes(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV (UTF-8 with a byte order mark, which spreadsheets need to see it is UTF-8).

    Text that a spreadsheet would run is put behind an apostrophe. Money keeps every digit,
    times are ISO 8601, an absent value is empty.
    """
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_MINIMAL, lineterminator="\r\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(row.get(column)) for column in columns])
    return "\ufeff".encode() + out.getvalue().encode()


def cell(value: object) -> str:
    """One value as a cell; a number that is written as text stays the number it is."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    text = str(value)
    if _NUMBER.fullmatch(text) and text.isascii():
        return text
    return f"'{text}" if text.lstrip(" \u00a0\ufeff").startswith(_FORMULA_STARTS) else text

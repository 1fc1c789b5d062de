"""Figures as files: CSV that no spreadsheet runs, Parquet with exact types, and FOCUS for finance.

Files are made when their button is pressed, not before. Charts are saved as PNG by the browser
itself, from the button that every chart has (`charts.SAVE`).
"""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import streamlit as st

from collector.export import focus
from collector.export.cells import csv_bytes
from dashboards import data, viewer
from dashboards.scope import Scope

_EXACT = Decimal("1E-12")
"""Figures that were divided are written to the pico-dollar, like those of the ledger."""


def menu(
    name: str,
    columns: Sequence[str],
    table: Callable[[], pa.Table],
    scope: Scope | None = None,
    about: str = "",
) -> None:
    """A button that opens onto the files.

    Args:
        name: what the files are called.
        columns: of ``table`` that they have, in order; those it lacks are left out.
        table: makes the rows, with the ledger's own figures.
        scope: offer FOCUS of it, too.
        about: what is in them, where that is not all that is shown.
    """
    with st.popover("Export", key=f"{name}_export", width="content"):
        if about:
            st.caption(about)
        offers: list[tuple[str, str, str, Callable[[], bytes], str]] = [
            ("CSV", "csv", "text/csv", lambda: as_csv(columns, table()),
             "Text that a spreadsheet would run is put behind an apostrophe."),
            ("Parquet", "parquet", "application/vnd.apache.parquet", lambda: as_parquet(columns, table()),
             "Money as exact decimals, times in UTC."),
        ]  # fmt: skip
        if scope is not None:
            offers.append(
                ("FOCUS 1.2", "focus.csv", "text/csv", lambda: as_focus(scope),
                 "Rows for each day (UTC), model, team and agent, as finance tools read it.")
            )  # fmt: skip
        for label, ending, mime, make, meaning in offers:
            st.download_button(
                label,
                viewer.bound(make),
                file_name=f"{name}.{ending}",
                mime=mime,
                on_click="ignore",
                help=meaning,
                key=f"{name}_{ending}",
                width="stretch",
            )


def as_csv(columns: Sequence[str], table: pa.Table) -> bytes:
    """The columns as CSV, exact, with every text defused."""
    kept = [name for name in columns if name in table.column_names]
    return csv_bytes(kept, table.select(kept).to_pylist())


def as_parquet(columns: Sequence[str], table: pa.Table) -> bytes:
    """The columns as Parquet; times, which the ledger keeps in UTC, say so."""
    kept = {name: table.column(name) for name in columns if name in table.column_names}
    for name, column in kept.items():
        if pa.types.is_timestamp(column.type) and column.type.tz is None:
            kept[name] = column.cast(pa.timestamp("us", tz="UTC"))
    out = io.BytesIO()
    pq.write_table(pa.table(kept), out, compression="zstd")
    return out.getvalue()


def as_focus(scope: Scope) -> bytes:
    """What the scope's calls cost, by day, in the columns of FOCUS.

    Raises:
        data.CollectorError: there is no answer.
    """
    in_utc = replace(scope, zone_name="UTC")  # FOCUS counts its charge periods in UTC.
    by = ",".join(focus.DIMENSIONS)
    charges, spend = data.ask_all(
        [data.about(name, in_utc, bucket="day", by=by) for name in ("charges", "spend_over_time")]
    )
    out = io.StringIO()
    focus.write(spend.rows, out, charges.rows)
    return out.getvalue().encode()


def of_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows that were worked out here as a table; money to the pico-dollar."""
    return pa.Table.from_pylist(
        [
            {
                name: value.quantize(_EXACT) if isinstance(value, Decimal) else value
                for name, value in row.items()
            }
            for row in rows
        ]
    )

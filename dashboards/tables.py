"""Rows as tables that show text as text."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa
import streamlit as st

from dashboards.display import escaped, plain

OPEN = "open"
"""The column of buttons of :func:`openable`."""


def shown(table: pa.Table, columns: Mapping[str, str]) -> pa.Table:
    """The named columns of ``table`` that it has, made fit to be looked at.

    Text is made plain; amounts become floats, which a table can sort and which are exact to
    the pico-dollar up to about 1,000 USD. Exact amounts of any size are in the CSV.
    """
    kept = {name: _shown(table.column(name)) for name in columns if name in table.column_names}
    return pa.table(kept)


def column_config(columns: Mapping[str, str], zone_name: str = "UTC") -> dict[str, Any]:
    """How Streamlit draws the columns: title, unit and digits, judged by the column's name."""
    return {name: _drawn(name, title, zone_name) for name, title in columns.items()}


def openable(
    rows: pa.Table | Sequence[Mapping[str, object]],
    columns: Mapping[str, str],
    opened: Callable[[int], None],
    *,
    key: str,
    alt: str,
    zone_name: str = "UTC",
    word: str = "Open",
    height: int | Literal["auto"] = "auto",
    more: Mapping[str, Any] | None = None,
) -> None:
    """Draw a table each row of which can be opened: by its button, or by Shift+Space on the keyboard.

    Not by the choice of a cell: cells are chosen where the keyboard merely passes by.

    Args:
        rows: fit to be looked at.
        columns: name and title of those shown, in order.
        opened: told the place of the row, before anything is drawn.
        key: of the table.
        alt: what it is, for those who listen.
        zone_name: the reader's time zone.
        word: on the buttons.
        height: in pixels.
        more: how single columns are drawn, where not as usual.
    """
    length = rows.num_rows if isinstance(rows, pa.Table) else len(rows)
    # The key moves on with every row that was opened, so that none stays ticked.
    turns = f"{key}_turns"
    drawn = f"{key}_{st.session_state.get(turns, 0)}"
    pressed = f"{drawn}_open"

    def open_row(place: int) -> None:
        st.session_state[turns] = st.session_state.get(turns, 0) + 1
        if place < length:
            opened(place)

    def press() -> None:
        if click := st.session_state.get(pressed):
            open_row(click["row"])

    def tick() -> None:
        for place in st.session_state[drawn].selection.rows:
            open_row(place)

    button = st.column_config.ButtonColumn(
        "", type="tertiary", on_click=press, key=pressed, width=24 + 9 * len(word), pinned=True
    )
    words = pa.array([word] * length, pa.string())
    st.dataframe(
        rows.add_column(0, OPEN, words)
        if isinstance(rows, pa.Table)
        else [{OPEN: word, **row} for row in rows],
        hide_index=True,
        placeholder="–",
        column_order=[OPEN, *columns],
        column_config={OPEN: button, **column_config(columns, zone_name), **(more or {})},
        height=height,
        on_select=tick,
        selection_mode="single-row",
        key=drawn,
        alt=f"{alt}; Shift+Space opens a row",
    )


def remember(name: str, value: str) -> None:
    """Keep what was opened until the page is drawn; for callbacks, which cannot lead to another page."""
    st.session_state[name] = value


def facts(title: str, pairs: Mapping[str, object]) -> None:
    """Draw named facts as a table of two columns under ``title``, everything shown as the text it is.

    Long ones are broken into lines: they can be read whole on a phone.
    """
    values = [escaped(_listed(value), 500) for value in pairs.values()]
    st.table(
        pa.table(
            {
                escaped(title): pa.array([escaped(name) for name in pairs], pa.string()),
                " ": pa.array(values, pa.string()),
            }
        ),
        border="horizontal",
        hide_index=True,
        alt=title,
    )


def _listed(value: object) -> object:
    """Lists and maps in words: ``a, b`` and ``k=v``."""
    if isinstance(value, Mapping):
        value = list(value.items())
    if isinstance(value, list):
        return ", ".join("=".join(map(str, item)) if isinstance(item, tuple) else str(item) for item in value)
    return value


def _shown(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_decimal(column.type):
        return column.cast(pa.float64(), safe=False)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return pa.array([plain(value) for value in column.to_pylist()], pa.string())
    if pa.types.is_timestamp(column.type) and column.type.tz is None:
        return column.cast(pa.timestamp("us", tz="UTC"))  # The ledger keeps UTC without saying so.
    return column


WIDTHS = {
    "request_model": 150,
    "outcome": 98,
    "provider_name": 98,
    "usage_grade": 92,
    "counter": 150,
    "amounts": 130,
    "why": 340,
    "whose": 250,
    "detail": 640,
    "advice": 500,
}
"""Of columns, in pixels, whose rows differ much: the first ones alone would decide, and cut others off."""

WRITTEN_AMOUNTS = frozenset(
    {
        *("spend", "wasted", "avoided", "declared", "cost", "usd_per_hour", "took", "latency"),
        *("limit", "spent", "held", "remaining", "per_hour", "spend_share", "share", "share_of"),
        *(
            "instead",
            "saved",
            "per_call",
            "per_mtok",
            "per_conversation",
            "per_turn",
            "per_task",
            "per_success",
        ),
        *("meter", "charged", "idle", "unobserved", "busy", "tokens", "break_even", "energy", "amounts"),
        *("busy_per_mtok", "loaded_per_mtok", "alternative_per_mtok"),
    }
)
"""Columns of amounts that are written out with their units: text, which stands to the right as figures do."""


def _drawn(name: str, title: str, zone_name: str) -> Any:
    if name in WRITTEN_AMOUNTS:
        return st.column_config.TextColumn(title, alignment="right", width=WIDTHS.get(name))
    if name.endswith("_usd"):
        return st.column_config.NumberColumn(title, format="$%,.6f")
    if name.endswith("_at"):
        return st.column_config.DatetimeColumn(title, format="MMM D, HH:mm:ss", timezone=zone_name)
    if name.endswith(("_ms", "_us")):
        return st.column_config.NumberColumn(title, format="%,.0f")
    if name.endswith(("_tokens", "calls")):
        return st.column_config.NumberColumn(title, format="%,d")
    return st.column_config.Column(title, width=WIDTHS.get(name))

"""Rows as text."""

from datetime import datetime
from decimal import Decimal

import pyarrow as pa

from dashboards import tables


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

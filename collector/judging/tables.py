# ruff: noqa: S608  (names are our own; values are bound)
"""What is found of conversations, as rows of five tables; `collector.store.schema.JUDGED_TABLES`."""

from collections.abc import Collection, Sequence
from typing import Any, Final

import pyarrow as pa

from collector.domain.runs import Run, ToolUse
from collector.judging.rows import ALONE_LAYOUT, WHO, Alone
from collector.store.duckdb import Connection
from collector.store.staging import Staged

_WASTE: Final = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("waste", pa.string()),
        pa.field("cost_pico", pa.int64()),
        pa.field("whole", pa.bool_()),
        pa.field("because", pa.list_(pa.string())),
        pa.field("detail", pa.string()),
    ]
)
_BREAKS: Final = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("after_call_id", pa.string()),
        pa.field("cause", pa.string()),
        pa.field("block", pa.string()),
        pa.field("lost_tokens", pa.int64()),
        pa.field("cost_pico", pa.int64()),
    ]
)
_SIGNALS: Final = pa.schema([pa.field("call_id", pa.string()), pa.field("signal", pa.string())])
_RUNS: Final = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("began_at", pa.timestamp("us")),
        pa.field("ended_at", pa.timestamp("us")),
        *(pa.field(name, pa.int64()) for name in Run._fields),
    ]
)
_TOOLS: Final = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("tool", pa.string()),
        *(pa.field(name, pa.int64()) for name in ToolUse._fields if name != "tool"),
    ]
)
LAYOUTS: Final = {
    "waste": _WASTE,
    "cache_breaks": _BREAKS,
    "inferred_outcomes": _SIGNALS,
    "runs": _RUNS,
    "tool_uses": _TOOLS,
}
"""By table, what is found before the ledger says whose it is."""

Findings = dict[str, list[tuple[Any, ...]]]
"""Rows by table."""


def in_usd(column: str) -> str:
    """SQL for pico-USD as money of the ledger."""
    return f"CAST({column} * CAST(0.000000000001 AS DECIMAL(13,12)) AS DECIMAL(18,12))"


_USD: Final = in_usd("cost_pico")

_INSERTS: Final = {
    # The call may have been corrected since it was read: what it costs now is what it can have wasted.
    "waste": f"""
        INSERT INTO waste SELECT started_at, call_id, {WHO}, waste,
            CASE WHEN whole THEN effective_cost_usd ELSE least({_USD}, effective_cost_usd) END,
            whole, because, detail
        FROM staged_findings JOIN near_calls USING (call_id)""",
    "cache_breaks": f"""
        INSERT INTO cache_breaks SELECT started_at, call_id, {WHO}, after_call_id, cause, block, lost_tokens,
            {_USD}
        FROM staged_findings JOIN near_calls USING (call_id)""",
    "inferred_outcomes": f"""
        INSERT INTO inferred_outcomes SELECT started_at, call_id, {WHO}, signal
        FROM staged_findings JOIN near_calls USING (call_id)""",
    "runs": f"""
        INSERT INTO runs SELECT began_at, call_id, {WHO}, trace_id, ended_at, steps, turns, retries, looped,
            tool_calls, tool_errors, input_tokens, output_tokens, cache_read_tokens, {_USD},
            {in_usd("wasted_pico")}
        FROM staged_findings JOIN near_calls USING (call_id)""",
    "tool_uses": f"""
        INSERT INTO tool_uses SELECT started_at, call_id, {WHO}, tool, uses, repeats, errors, {_USD},
            {in_usd("declared_pico")}
        FROM staged_findings JOIN near_calls USING (call_id)""",
}
_NEAR: Final = f"""
    CREATE OR REPLACE TEMP TABLE near_calls AS
    SELECT started_at, call_id, {WHO}, trace_id, effective_cost_usd FROM calls
    WHERE started_at >= make_timestamp($1) AND call_id IN (SELECT call_id FROM staged_findings)"""

_ALONE: Final = {
    "waste": f"""
        INSERT INTO waste SELECT started_at, call_id, {WHO}, waste, cost_usd, true, because, detail
        FROM staged_alone WHERE waste IS NOT NULL""",
    "signals": f"""
        INSERT INTO inferred_outcomes SELECT started_at, call_id, {WHO}, signal
        FROM staged_alone WHERE signal IS NOT NULL""",
    "runs": f"""
        INSERT INTO runs SELECT started_at, call_id, {WHO}, trace_id, ended_at, steps, turns, 0, 0, 0, 0,
            input_tokens, output_tokens, cache_read_input_tokens, cost_usd,
            CASE WHEN waste IS NULL THEN 0 ELSE cost_usd END
        FROM staged_alone WHERE steps IS NOT NULL""",
}


def staged_alone(connection: Connection) -> Staged:
    """What writes down what is found of calls that stand alone; hold the writer's turn."""
    return Staged(connection, "alone", ALONE_LAYOUT, _ALONE)


def replace(connection: Connection, since_us: int, call_ids: Sequence[str], found: Findings) -> None:
    """Let ``found`` be what is said of ``call_ids``, none of which started before ``since_us``."""
    _forget(connection, since_us, call_ids)
    named = {row[0] for rows in found.values() for row in rows}
    if not named:
        return
    with _Seen(connection, "staged_findings", _ids(named)):
        connection.execute(_NEAR, [since_us])
    for table, rows in found.items():
        if rows:
            columns = zip(*rows, strict=True)
            layout = LAYOUTS[table]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, layout, strict=True)]
            with _Seen(connection, "staged_findings", pa.Table.from_arrays(arrays, schema=layout)):
                connection.execute(_INSERTS[table])
    connection.execute("DROP TABLE near_calls")


def add(connection: Connection, staged: Staged, since_us: int, found: Alone) -> None:
    """Write down what was found of calls that stand alone, of which nothing started before ``since_us``."""
    if found.said_before:
        _forget(connection, since_us, found.said_before)
    with staged.holding(found.rows.to_batches()):
        for name in _ALONE:
            staged.run(name)


def _forget(connection: Connection, since_us: int, call_ids: Sequence[str]) -> None:
    with _Seen(connection, "staged_ids", _ids(call_ids)):
        for table in LAYOUTS:
            connection.execute(
                f"DELETE FROM {table} WHERE started_at >= make_timestamp($1)"
                " AND call_id IN (SELECT call_id FROM staged_ids)",
                [since_us],
            )


def _ids(call_ids: Collection[str]) -> pa.Table:
    return pa.table({"call_id": pa.array(list(call_ids), pa.string())})


class _Seen:
    """Arrow rows that a connection's statements see under a name, as long as the context lasts."""

    def __init__(self, connection: Connection, name: str, rows: pa.Table) -> None:
        self._connection, self._name, self._rows = connection, name, rows

    def __enter__(self) -> None:
        self._connection.register(self._name, self._rows)

    def __exit__(self, *_: object) -> None:
        self._connection.unregister(self._name)

# ruff: noqa: S608  (table and column names are our own)
"""What is let go of, and when.

Rows are deleted a day at a time, oldest first. They were written in order of time, so a day
is a run of whole row groups, which the next checkpoint frees for new rows; the file does not
shrink and does not grow either. The sums by hour and day stay ten times as long.
"""

from typing import Any

from collector.store import machine_sums, noted
from collector.store.duckdb import Database, DatabaseError, told_apart
from collector.store.levels import ALL_LEVELS, DAY_US, MINUTE, TALK_DAYS, TALK_SUMS
from collector.store.rollups import load_marks

SINGLE = {
    "calls": "started_at",
    "attempts": "started_at",
    "contents": "started_at",
    "presumed": "started_at",
    "spans_received": "started_at",
    "span_calls": "started_at",
    "call_contexts": "started_at",
    "waste": "started_at",
    "cache_breaks": "started_at",
    "inferred_outcomes": "started_at",
    "runs": "started_at",
    "tool_uses": "started_at",
    "budget_events": "happened_at",
    "gpu_charges": "window_start",
    **{level.table: "bucket" for level in noted.LEVELS},
    machine_sums.GPUS.table: "bucket",
    machine_sums.ENGINES.table: "bucket",
}
"""Kept for the retention."""
SUMMED = {
    **{level.table: "bucket" for level in ALL_LEVELS if level is not MINUTE},
    TALK_DAYS.table: "bucket",
    TALK_SUMS.table: "bucket",
    "gpu_windows": "window_start",
    machine_sums.WINDOWS.table: "bucket",
    "outcomes": "reported_at",
    "similar_checks": "happened_at",
    "anomalies": "detected_at",
    "quarantined": "noted_at",
}
"""Kept ten times as long; minutes are forgotten by the sums themselves."""
SUMMED_FACTOR = 10
SAMPLED = {"gpu_samples": "sampled_at", "engine_samples": "sampled_at"}
"""One row a second of each GPU and replica: kept a tenth as long."""
SAMPLED_PART = 10


def let_go(database: Database, keep_us: int, now_us: int) -> int:
    """Delete what is older than ``keep_us``; the number of rows.

    A call that the sums have not taken in yet stays, whatever its age.

    Raises:
        StoreError: the rest is deleted another time.
    """
    deleted = 0
    with database.turn:
        marks = load_marks(database.connection)
    summed_until = min((mark.upto_us for mark in marks.values()), default=0)
    for tables, age_us in ((SINGLE, keep_us), (SUMMED, keep_us * SUMMED_FACTOR)):
        cutoff = min((now_us - age_us) // DAY_US * DAY_US, summed_until)
        for table, column in tables.items():
            deleted += _delete_before(database, table, column, cutoff)
    for table, column in SAMPLED.items():
        deleted += _delete_before(database, table, column, now_us - keep_us // SAMPLED_PART)
    with database.turn:
        if deleted:
            database.checkpoint()
    return deleted


def _delete_before(database: Database, table: str, column: str, cutoff_us: int) -> int:
    deleted = 0
    while True:
        with database.turn:
            connection = database.connection
            try:
                oldest = _oldest(connection, table, column)
                if oldest is None or oldest >= cutoff_us:
                    return deleted
                until = min(cutoff_us, (oldest // DAY_US + 1) * DAY_US)
                row = connection.execute(
                    f"DELETE FROM {table} WHERE {column} < make_timestamp($1)", [until]
                ).fetchone()
                deleted += int(row[0]) if row else 0
            except DatabaseError as error:
                raise told_apart(error, database.path) from error


def _oldest(connection: Any, table: str, column: str) -> int | None:
    row = connection.execute(f"SELECT epoch_us(min({column})) FROM {table}").fetchone()
    return None if row is None or row[0] is None else int(row[0])

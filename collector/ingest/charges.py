# ruff: noqa: S608  (columns are those declared in this file; values come as Arrow)
"""True costs on their way into the ledger: windows and charges as rows, attempts and calls at what they cost.

Everything of a movement is written in one transaction, so that at every instant, after whatever crash,
the charges in the ledger are the charged line of the windows in it, and the effective cost of a charged
attempt is the sum of its charges. The sums of the calls are corrected by a row that holds the difference.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from collector.probes.movements import Movement
from collector.store import machine_sums, rollups
from collector.store.schema import Kind


class Alternative(NamedTuple):
    """What a provider would have asked for the tokens of a window."""

    name: str = ""
    grade: str = ""
    pico: int | None = None


class Entry(NamedTuple):
    """A movement, and whose it is."""

    upstream: str
    replica: str
    model: str
    movement: Movement
    alternative: Alternative = Alternative()


def attempt_name(call_id: str, attempt: int) -> str:
    """How the books of replicas call an attempt."""
    return f"{call_id}:{attempt}"


_T, _I, _C, _R, _P, _M = Kind.TEXT, Kind.INSTANT, Kind.COUNT, None, Kind.PICO, Kind.THOUSANDTHS
_WINDOWS: tuple[tuple[str, Kind | None], ...] = (
    *(("window_start", _I), ("window_end", _I)),
    *((name, _T) for name in ("upstream", "replica", "model", "kind")),
    *((name, _P) for name in ("meter_usd", "charged_usd", "idle_usd", "unobserved_usd")),
    *((name, _M) for name in ("gpu_ms", "charged_gpu_ms", "idle_gpu_ms")),
    *((name, _M) for name in ("energy_j", "charged_energy_j", "idle_energy_j")),
    *(("busy_ms", _M), ("prompt_tokens", _C), ("cached_tokens", _C), ("output_tokens", _C)),
    *(("alternative", _T), ("alternative_grade", _T), ("alternative_usd", _P)),
    *(("method", _T), ("residual", _R), ("cache_saved_usd", _P)),
)
_CHARGES: tuple[tuple[str, Kind | None], ...] = (
    *(("window_start", _I), ("call_id", _T), ("attempt", _C), ("upstream", _T), ("replica", _T)),
    *(("busy_usd", _P), ("idle_share_usd", _P), ("gpu_ms", _M), ("energy_j", _M)),
    *(("method", _T), ("residual", _R)),
)


def _select(columns: Sequence[tuple[str, Kind | None]]) -> str:
    return ", ".join(f"{kind.expression(name)} AS {name}" if kind else name for name, kind in columns)


def _table(columns: Sequence[tuple[str, Kind | None]], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    schema = pa.schema([(name, kind.arrow if kind else pa.float64()) for name, kind in columns])
    values = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return pa.Table.from_arrays(
        [pa.array(column, field.type) for column, field in zip(values, schema, strict=True)], schema=schema
    )


def book(connection: Any, entries: Iterable[Entry], marks: dict[str, rollups.Mark]) -> None:
    """Write ``entries`` over the ledger's own connection, within its transaction."""
    entries = list(entries)
    charges = [row for entry in entries for row in _charges(entry)]
    connection.register("staged_windows", _table(_WINDOWS, [_window(entry) for entry in entries]))
    connection.register("staged_charges", _table(_CHARGES, charges))
    try:
        connection.execute(f"INSERT INTO gpu_windows BY NAME SELECT {_select(_WINDOWS)} FROM staged_windows")
        mark = marks.get(machine_sums.WINDOWS.name)
        if entries and mark is not None:
            windows = f"(SELECT {_select(_WINDOWS)} FROM staged_windows)"
            oldest_us = min(entry.movement.start_us for entry in entries)
            machine_sums.add_late(connection, machine_sums.WINDOWS, windows, oldest_us, mark.upto_us)
        if charges:
            _settle(connection, marks)
    finally:
        connection.unregister("staged_windows")
        connection.unregister("staged_charges")


def _window(entry: Entry) -> tuple[Any, ...]:
    moved, other = entry.movement, entry.alternative
    return (
        *(moved.start_us, moved.end_us, entry.upstream, entry.replica, entry.model),
        "window" if moved.total.gpu_us else "claim",
        *(moved.total.money_pico, moved.charged.money_pico),
        *(moved.idle.money_pico, moved.unobserved.money_pico),
        *(moved.total.gpu_us, moved.charged.gpu_us, moved.idle.gpu_us),
        *(moved.total.energy_mj, moved.charged.energy_mj, moved.idle.energy_mj),
        *(moved.busy_us, *moved.tokens),
        *(other.name, other.grade, other.pico),
        *(moved.method, moved.residual, moved.cache_saved_pico),
    )


def _charges(entry: Entry) -> Iterable[tuple[Any, ...]]:
    moved = entry.movement
    for one in moved.charges:
        call_id, _, attempt = one.attempt.rpartition(":")
        yield (
            *(moved.start_us, call_id, int(attempt), entry.upstream, entry.replica),
            *(one.charge.money_pico, one.idle_pico, one.charge.gpu_us, one.charge.energy_mj),
            *(moved.method, moved.residual),
        )


def _settle(connection: Any, marks: dict[str, rollups.Mark]) -> None:
    """Attempts, their calls and the sums: by how much each changes is worked out before anything does."""
    query = connection.execute
    query(f"INSERT INTO gpu_charges BY NAME SELECT {_select(_CHARGES)} FROM staged_charges")
    query(f"""
        CREATE OR REPLACE TEMP TABLE moved_attempts AS
        WITH fresh AS (
            SELECT call_id, attempt, sum(busy_usd) AS usd, sum(gpu_ms) AS gpu_ms, sum(energy_j) AS energy_j
            FROM (SELECT {_select(_CHARGES)} FROM staged_charges) GROUP BY ALL
        )
        SELECT call_id, attempt, fresh.gpu_ms AS gpu_ms, fresh.energy_j AS energy_j,
            CAST(usd - CASE WHEN tried.gpu_ms IS NULL THEN tried.effective_cost_usd ELSE 0 END
                AS DECIMAL(18,12)) AS more_usd
        FROM attempts tried JOIN fresh USING (call_id, attempt)""")
    query("""
        UPDATE attempts SET effective_cost_usd = effective_cost_usd + more_usd,
            gpu_ms = coalesce(attempts.gpu_ms, 0) + moved.gpu_ms,
            energy_j = coalesce(attempts.energy_j, 0) + moved.energy_j
        FROM moved_attempts moved
        WHERE attempts.call_id = moved.call_id AND attempts.attempt = moved.attempt""")
    query("""
        CREATE OR REPLACE TEMP TABLE moved_calls AS
        SELECT call_id, CAST(sum(more_usd) AS DECIMAL(18,12)) AS more_usd
        FROM moved_attempts GROUP BY call_id""")
    rollups.adjust(connection, "moved_calls", marks)
    query("""
        UPDATE calls SET effective_cost_usd = effective_cost_usd + more_usd
        FROM moved_calls moved WHERE calls.call_id = moved.call_id""")
    # What a call has wasted can be no more than it costs.
    query("""
        UPDATE waste SET effective_cost_usd = CASE WHEN whole THEN calls.effective_cost_usd
            ELSE CAST(least(waste.effective_cost_usd, calls.effective_cost_usd * 0.24) AS DECIMAL(18,12)) END
        FROM moved_calls moved JOIN calls USING (call_id) WHERE waste.call_id = moved.call_id""")
    query("DROP TABLE moved_attempts")
    query("DROP TABLE moved_calls")

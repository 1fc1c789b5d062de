# ruff: noqa: S608  (table and column names are our own; values are bound)
"""Sums of what was measured of our own GPUs and model servers, exact at every instant.

Each is sampled once a second, and what a replica cost is told every ten seconds: over ninety days these are
millions of rows, of which a picture shows three hundred steps. As the sums of the calls (`collector.store.
rollups`), a level holds the rows that began inside its mark; what is younger answers for itself, and what
comes late is added where it is booked. A row of a level is merged from rows of one shape: that of a single
measurement, as `MachineLevel.rows` selects it.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from collector.store.levels import DAY_US, HOUR_US, MINUTE_US


class Merged(NamedTuple):
    """One column: how it comes from a measurement, and how many become one."""

    name: str
    of_one: str
    merge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineLevel:
    """The sums of one table."""

    name: str
    table: str
    source: str
    """The table of measurements."""
    at: str
    """When a measurement began."""
    width_us: int
    lag_us: int
    """So old they are summed: by then all are there, but for a few."""
    keys: tuple[str, ...]
    columns: tuple[Merged, ...]

    def rows(self, source: str, kept: str) -> str:
        """SQL for measurements of ``source`` in the shape of this level's rows."""
        columns = ", ".join(f"{column.of_one} AS {column.name}" for column in self.columns)
        return f"SELECT {self.at} AS bucket, {', '.join(self.keys)}, {columns} FROM {source} WHERE {kept}"

    def adding(self, source: str) -> str:
        """The statement that adds the measurements of ``source`` in ``[$1, $2)``."""
        unit = {MINUTE_US: "minute", HOUR_US: "hour"}[self.width_us]
        columns = ", ".join(f"{column.merge} AS {column.name}" for column in self.columns)
        kept = f"{self.at} >= make_timestamp($1) AND {self.at} < make_timestamp($2)"
        return (
            f"INSERT INTO {self.table} SELECT date_trunc('{unit}', bucket) AS start, {', '.join(self.keys)},"
            f" {columns} FROM ({self.rows(source, kept)}) GROUP BY start, {', '.join(self.keys)}"
            f" ORDER BY ALL"
        )


def _summed(*names: str) -> tuple[Merged, ...]:
    return tuple(Merged(name, name, f"sum({name})") for name in names)


def _greatest(**columns: str) -> tuple[Merged, ...]:
    return tuple(Merged(name, of_one, f"max({name})") for name, of_one in columns.items())


def _averaged(*names: str) -> tuple[Merged, ...]:
    """Sums, and of how many: what was not measured does not count."""
    return tuple(
        column
        for name in names
        for column in (
            Merged(f"{name}_sum", f"CAST({name} AS DOUBLE)", f"sum({name}_sum)"),
            Merged(f"{name}_count", f"CAST({name} IS NOT NULL AS BIGINT)", f"sum({name}_count)"),
        )
    )


def _counted(**conditions: str) -> tuple[Merged, ...]:
    return tuple(
        Merged(name, f"CAST(coalesce({condition}, false) AS BIGINT)", f"sum({name})")
        for name, condition in conditions.items()
    )


def _latest(*names: str, at: str = "ended_at") -> tuple[Merged, ...]:
    return tuple(Merged(name, name, f"arg_max({name}, {at})") for name in names)


# CASE, not AND, tells what was lost: with AND the question took twice as long, as if all JSON were parsed.
_LOST = (
    "CASE WHEN contains(CAST(attributes AS VARCHAR), 'lost')"
    " THEN json_extract_string(attributes, '$.state') = 'lost' ELSE false END"
)
_THROTTLED = "len(throttle_reasons) > CAST(list_contains(throttle_reasons, 'gpu_idle') AS INTEGER)"

GPUS = MachineLevel(
    name="gpus_minute",
    table="gpus_by_minute",
    source="gpu_samples",
    at="sampled_at",
    width_us=MINUTE_US,
    lag_us=10 * MINUTE_US,
    keys=("host", "gpu"),
    columns=(
        Merged("name", "name", "any_value(name)"),
        *_averaged("utilisation_ratio", "power_watts", "sm_clock_hz"),
        *_greatest(
            memory_used_bytes="memory_used_bytes",
            memory_total_bytes="memory_total_bytes",
            temperature_celsius="temperature_celsius",
        ),
        *_counted(lost_samples=_LOST, throttled_samples=_THROTTLED, samples="true"),
    ),
)
ENGINES = MachineLevel(
    name="engines_minute",
    table="engines_by_minute",
    source="engine_samples",
    at="sampled_at",
    width_us=MINUTE_US,
    lag_us=10 * MINUTE_US,
    keys=("upstream", "replica"),
    columns=(
        Merged("model", "model", "any_value(model)"),
        *_averaged("running", "waiting", "kv_cache_usage_ratio"),
        *_greatest(most_waiting="waiting"),
        *_summed("computed_prompt_tokens", "cached_prompt_tokens", "generation_tokens", "preemptions"),
        *_counted(unreachable_samples="state <> 'ok'", restarts="restarted", samples="true"),
    ),
)
_ALTERNATIVE = "CASE WHEN alternative <> '' THEN {} END"
WINDOWS = MachineLevel(
    name="gpu_windows_hour",
    table="gpu_windows_by_hour",
    source="gpu_windows",
    at="window_start",
    width_us=HOUR_US,
    # An attempt of an hour still claims its part of the windows that it ran in.
    lag_us=80 * MINUTE_US,
    keys=("upstream", "replica"),
    columns=(
        *_summed("meter_usd", "charged_usd", "idle_usd", "unobserved_usd", "cache_saved_usd"),
        *_summed("alternative_usd", "gpu_ms", "idle_gpu_ms", "energy_j", "idle_energy_j"),
        *_summed("prompt_tokens", "cached_tokens", "output_tokens"),
        *_counted(windows="kind = 'window'"),
        *_latest("model", "method", "residual"),
        *(
            Merged(name, _ALTERNATIVE.format(name), f"arg_max({name}, alternative_at)")
            for name in ("alternative", "alternative_grade")
        ),
        *_greatest(ended_at="window_end", alternative_at=_ALTERNATIVE.format("window_end")),
    ),
)
MACHINE_LEVELS = (GPUS, ENGINES, WINDOWS)

_ROWS_A_STEP = 200_000


def add_late(connection: Any, level: MachineLevel, source: str, oldest_us: int, upto_us: int | None) -> None:
    """Add the measurements of ``source`` that began before ``upto_us``, where the level's mark is.

    Runs in the transaction that inserts them. ``oldest_us`` is the earliest: most often it is younger.
    """
    if upto_us is not None and oldest_us < upto_us:
        connection.execute(level.adding(source), [0, upto_us])


def advance(connection: Any, now_us: int, rows_a_step: int = _ROWS_A_STEP) -> bool:
    """Sum what has become old enough, one step in one transaction; whether anything was done."""
    marks = dict(
        connection.execute(
            "SELECT level, epoch_us(upto_at) FROM rollup_marks WHERE level IN (SELECT unnest($1))",
            [[level.name for level in MACHINE_LEVELS]],
        ).fetchall()
    )
    for level in MACHINE_LEVELS:
        upto_us = marks.get(level.name)
        last_us = (now_us - level.lag_us) // level.width_us * level.width_us
        if upto_us is None:
            _begin(connection, level, last_us)
            return True
        if last_us > upto_us:
            _step(connection, level, upto_us, last_us, rows_a_step)
            return True
    return False


def _begin(connection: Any, level: MachineLevel, last_us: int) -> None:
    """Set the mark to where the first measurement is; the level begins empty there."""
    ((oldest,),) = connection.execute(f"SELECT epoch_us(min({level.at})) FROM {level.source}").fetchall()
    start = min(last_us, last_us if oldest is None else oldest) // DAY_US * DAY_US
    connection.execute(
        "INSERT INTO rollup_marks VALUES ($1, make_timestamp($2), make_timestamp($2))", [level.name, start]
    )


def _step(connection: Any, level: MachineLevel, from_us: int, last_us: int, rows_a_step: int) -> None:
    within = f"{level.at} >= make_timestamp($1) AND {level.at} < make_timestamp($2)"
    target_us, rows = last_us, 0
    for length_us in (last_us - from_us, 10 * DAY_US, DAY_US, HOUR_US, level.width_us):
        target_us = min(last_us, from_us + max(length_us, level.width_us))
        ((rows,),) = connection.execute(
            f"SELECT count(*) FROM {level.source} WHERE {within}", [from_us, target_us]
        ).fetchall()
        if rows <= rows_a_step:
            break
    connection.execute("BEGIN")
    try:
        if rows:
            connection.execute(level.adding(level.source), [from_us, target_us])
        connection.execute(
            "UPDATE rollup_marks SET upto_at = make_timestamp($2) WHERE level = $1", [level.name, target_us]
        )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def step_us(since_us: int, until_us: int, steps: int = 300) -> int:
    """How long a step of the period is: about a part of ``steps``, whole seconds, minutes or hours of it."""
    step = max(1_000_000, (until_us - since_us) // steps)
    for width_us in (HOUR_US, MINUTE_US):
        if step > width_us:
            return -(-step // width_us) * width_us
    return step


def measured(
    level: MachineLevel, since_us: int, until_us: int, step: int, marks: dict[str, Any], where: str
) -> tuple[str, dict[str, int]]:
    """SQL for the rows of a period in the shape of a level, and what is bound to it.

    Args:
        level: of which machine.
        since_us: the period's beginning,
        until_us: and its end.
        step: of the answer; a level that is not as fine is of no use for it. 0 where there is none.
        marks: how far each level goes.
        where: further conditions that a row must meet, each with AND before it.
    """
    mark = marks.get(level.name)
    first = last = until_us
    if mark is not None and step % level.width_us == 0:
        first = -(-max(since_us, mark.since_us) // level.width_us) * level.width_us
        last = min(until_us, mark.upto_us) // level.width_us * level.width_us
    if first >= last:
        first = last = until_us
    values = {"since_machine": since_us, "first_machine": first}

    def between(at: str, start: str, end: str) -> str:
        return f"{at} >= make_timestamp(${start}) AND {at} < make_timestamp(${end}){where}"

    parts = [level.rows(level.source, between(level.at, "since_machine", "first_machine"))]
    if first < last:
        values |= {"last_machine": last, "until_machine": until_us}
        names = ", ".join(column.name for column in level.columns)
        kept = between("bucket", "first_machine", "last_machine")
        parts.append(f"SELECT bucket, {', '.join(level.keys)}, {names} FROM {level.table} WHERE {kept}")
        parts.append(level.rows(level.source, between(level.at, "last_machine", "until_machine")))
    return f"({' UNION ALL '.join(parts)})", values

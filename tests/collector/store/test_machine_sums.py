"""What is asked of GPUs and model servers is answered from sums as it is from every measurement."""

import random
from decimal import Decimal

import pytest

from collector.ingest.books import Books
from collector.store import machine_sums
from collector.store.asking import parse
from collector.store.duckdb import DatabaseConfig, arrow_table
from collector.store.levels import DAY_US, HOUR_US, MINUTE_US
from collector.store.machine_sums import ENGINES, GPUS, MACHINE_LEVELS, WINDOWS, step_us
from collector.store.opening import open_ledger
from collector.store.questions import CATALOGUE
from collector.store.reader import LedgerReader
from collector.store.rollups import load_marks
from collector.store.statements import statement

FIRST_US = 1_790_035_200_000_000 // DAY_US * DAY_US
NOW_US = FIRST_US + 15 * DAY_US + 7 * HOUR_US
QUESTIONS = ("gpu_costs", "gpu_costs_over_time", "gpus_over_time", "engines_over_time")


def measurements(noise: random.Random, number: int, from_us: int, to_us: int) -> dict[str, list[tuple]]:
    """Rows by table, some of them with gaps."""

    def some(value):
        return None if noise.random() < 0.1 else value

    found: dict[str, list[tuple]] = {"gpu_samples": [], "engine_samples": [], "gpu_windows": []}
    for _ in range(number):
        at, one = noise.randrange(from_us, to_us), noise.randrange(2)
        state = '{"state": "lost"}' if noise.random() < 0.1 else '{"state": "ok"}'
        reasons = some(["gpu_idle", "hot"][: noise.randrange(3)])
        found["gpu_samples"].append(
            (at, "host", f"GPU-{one}", "H200", some(noise.random()), some(one + 5), 9, some(noise.random()),
             some(60.0 + one), some(1_900_000_000), reasons, state)
        )  # fmt: skip
        found["engine_samples"].append(
            (at, "local", f"r{one}", "m", noise.choice(["ok", "unreachable"]), noise.random() < 0.1,
             some(noise.randrange(9)), some(noise.randrange(9)), some(noise.random()), some(7), some(3),
             some(2), some(1))
        )  # fmt: skip
        money = [Decimal(noise.randrange(10**9)) / 10**12 for _ in range(6)]
        found["gpu_windows"].append(
            (at, at + 10_000_000, "local", f"r{one}", f"m{noise.randrange(3)}",
             noise.choice(["window", "claim"]), *money[:4], some(noise.random()), some(noise.random()), 5, 4,
             3, noise.choice(["", "openai/x"]), noise.choice(["listed", "prior"]), some(money[4]), "work",
             some(noise.random()), some(money[5]))
        )  # fmt: skip
    return found


COLUMNS = {
    "gpu_samples": "sampled_at, host, gpu, name, utilisation_ratio, memory_used_bytes, memory_total_bytes,"
    " power_watts, temperature_celsius, sm_clock_hz, throttle_reasons, attributes",
    "engine_samples": "sampled_at, upstream, replica, model, state, restarted, running, waiting,"
    " kv_cache_usage_ratio, computed_prompt_tokens, cached_prompt_tokens, generation_tokens, preemptions",
    "gpu_windows": "window_start, window_end, upstream, replica, model, kind, meter_usd, charged_usd,"
    " idle_usd, unobserved_usd, gpu_ms, energy_j, prompt_tokens, cached_tokens, output_tokens, alternative,"
    " alternative_grade, alternative_usd, method, residual, cache_saved_usd",
}


def insert(connection, table: str, rows: list[tuple]) -> None:
    instants = 2 if table == "gpu_windows" else 1
    marks = ", ".join(
        f"make_timestamp(${n}::BIGINT)" if n <= instants else f"${n}" for n in range(1, len(rows[0]) + 1)
    )
    connection.execute("BEGIN")
    connection.executemany(f"INSERT INTO {table} ({COLUMNS[table]}) VALUES ({marks})", rows)
    connection.execute("COMMIT")


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Fifteen days, most of them summed; the last hours are younger than the sums, some rows came late."""
    database = open_ledger(tmp_path_factory.mktemp("machines"), DatabaseConfig()).database
    noise, connection = random.Random(5), database.connection
    for table, rows in measurements(noise, 60, FIRST_US, NOW_US).items():
        insert(connection, table, rows)
    books = Books(database, now_us=lambda: NOW_US)
    while books.advance_rollups():
        pass
    late = measurements(noise, 20, FIRST_US + DAY_US, NOW_US)
    for level in MACHINE_LEVELS:
        rows = late[level.source]
        insert(connection, level.source, rows)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE late AS FROM {level.source} ORDER BY rowid DESC LIMIT 20"
        )
        upto_us = load_marks(connection)[level.name].upto_us
        machine_sums.add_late(connection, level, "late", min(row[0] for row in rows), upto_us)
    yield database
    database.close()


PERIODS = [
    (FIRST_US, NOW_US),
    (FIRST_US + 5 * HOUR_US + 17, FIRST_US + 14 * DAY_US + 3),
    (NOW_US - DAY_US, NOW_US),
    (NOW_US - 2 * HOUR_US, NOW_US),
    (FIRST_US - DAY_US, FIRST_US + 20 * DAY_US),
]


@pytest.mark.parametrize("name", QUESTIONS)
def test_sums_say_what_every_measurement_says(database, name):
    for since_us, until_us in PERIODS:
        for given in ({}, {"gpu": ["GPU-1"]} if name == "gpus_over_time" else {"upstream": ["local", "x"]}):
            period = {"since": [str(since_us / 1e6)], "until": [str(until_us / 1e6)]}
            asked = parse(CATALOGUE[name], period | given, NOW_US)
            plain = statement(asked, {})
            expected = arrow_table(database.connection, plain.sql, plain.values).to_pylist()

            found = LedgerReader(database).answer(asked).to_pylist()

            assert found == [
                {
                    key: pytest.approx(value) if isinstance(value, float) else value
                    for key, value in row.items()
                }
                for row in expected
            ]


def test_levels_hold_most_of_it_in_fewer_rows_and_each_row_once(database):
    query = database.connection.execute
    for level, count in ((GPUS, "samples"), (ENGINES, "samples"), (WINDOWS, "windows")):
        mark = load_marks(database.connection)[level.name]
        assert mark.upto_us >= NOW_US - level.lag_us - level.width_us
        kept = f"{level.at} < make_timestamp({mark.upto_us})"
        of_all = "count(*)" if count == "samples" else "count(*) FILTER (WHERE kind = 'window')"
        assert (
            query(f"SELECT sum({count}) FROM {level.table}").fetchall()
            == query(f"SELECT {of_all} FROM {level.source} WHERE {kept}").fetchall()
        )


def test_a_step_is_whole_minutes_or_hours_where_it_is_longer_than_one():
    for period_us, step in (
        (MINUTE_US, 1_000_000),
        (HOUR_US, 12_000_000),
        (DAY_US, 5 * MINUTE_US),
        (7 * DAY_US, 34 * MINUTE_US),
        (90 * DAY_US, 8 * HOUR_US),
    ):
        assert step_us(FIRST_US, FIRST_US + period_us) == step

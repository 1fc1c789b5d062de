"""A ledger as large as wanted, made inside DuckDB: to see how questions and retention do at size.

    python tests/collector/store/generate.py FOLDER --calls 10000000 --days 90 --keys 200

It is not real traffic: sizes, prices and times of day follow fixed formulas of a call's number,
so the same command makes the same ledger. Calls are spread over the days with a daily swing,
keys by a power law, and conversations have eight turns.
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from collector.store import levels, rollups, schema
from collector.store.duckdb import Database, DatabaseConfig
from collector.store.migrate import migrate
from collector.store.opening import LIVE
from tests.collector.store.generate_findings import generate_findings

DAY_S = 86_400

# One random-looking number in [0, 1) for each purpose, from the call's number alone.
_U = "(hash(({n}) * 31 + {salt}) % 1000003 / 1000003.0::DOUBLE)"


def rows_sql() -> str:
    """Calls number $1 to $2 of $3, ending at $4, over $5 seconds, for $6 keys."""

    def u(salt: int, of: str = "n") -> str:
        return _U.format(n=of, salt=salt)

    columns = {
        "call_id": "printf('%08x-%04x-7%03x-8%03x-%012x', (epoch_ms(t) >> 16)::BIGINT,"
        " (epoch_ms(t) & 65535)::BIGINT, (hash(n) % 4096)::BIGINT, (hash(n + 1) % 4096)::BIGINT,"
        " (hash(n + 2) % 281474976710656)::BIGINT)",
        "started_at": "t",
        "duration_ms": f"200 + 9000 * pow({u(1)}, 3) + output_tokens * 8",
        "time_to_first_chunk_ms": f"120 + 1500 * pow({u(2)}, 4)",
        "tenant": "'tenant' || (key // 40)",
        "team": "'team' || (key // 10)",
        "user_id": f"'user' || floor({u(3, 'n // 8')} * 3000)::INTEGER",
        "agent": "'agent' || (key // 2)",
        "conversation_id": "printf('%016x', (hash(n // 8 * 7))::UBIGINT)",
        "conversation_source": "'header'",
        "tags": "MAP {'env': CASE WHEN key % 5 = 0 THEN 'dev' ELSE 'prod' END}",
        "key_id": "printf('vk_%06x', key)",
        "trace_id": "printf('%016x%016x', hash(n + 3)::UBIGINT, hash(n + 4)::UBIGINT)",
        "span_id": "printf('%016x', hash(n + 5)::UBIGINT)",
        "parent_span_id": "printf('%016x', hash(n + 6)::UBIGINT)",
        "gen_ai_span_id": "printf('%016x', hash(n + 7)::UBIGINT)",
        "api": "CASE WHEN model % 3 = 0 THEN 'anthropic.messages' ELSE 'openai.chat' END",
        "stream": "n % 4 > 0",
        "request_model": "'model-' || model",
        "response_model": "'model-' || model || '-2026-01-01'",
        "provider_name": "CASE WHEN model % 3 = 0 THEN 'anthropic' ELSE 'openai' END",
        "upstream": "CASE WHEN model % 3 = 0 THEN 'anthropic' ELSE 'openai' END",
        "outcome": f"CASE WHEN {u(4)} < 0.015 THEN 'failed'"
        f" WHEN {u(4)} < 0.02 THEN 'abandoned' ELSE 'served' END",
        "http_status": f"CASE WHEN {u(4)} < 0.015 THEN 503 ELSE 200 END",
        "error_type": f"CASE WHEN {u(4)} < 0.015 THEN 'server_error' ELSE '' END",
        "cache": "'miss'",
        "input_tokens": "input_tokens",
        "output_tokens": "output_tokens",
        "cache_read_input_tokens": f"(input_tokens * {u(6)} * 0.8)::BIGINT",
        "cache_write_input_tokens": "0",
        "cache_write_1h_input_tokens": "0",
        "reasoning_output_tokens": "output_tokens // 5",
        "audio_input_tokens": "0",
        "audio_output_tokens": "0",
        "usage_grade": f"CASE WHEN {u(4)} < 0.02 THEN 'estimated' ELSE 'reported' END",
        "price_grade": "CASE WHEN model = 11 THEN 'prior' ELSE 'listed' END",
        "price_version": "'2026-01-01'",
        "list_cost_usd": "cost",
        "effective_cost_usd": "cost",
        "avoided_cost_usd": "0",
        "overhead_us": f"(60 + 80 * {u(7)})::BIGINT",
        "response_id": "printf('chatcmpl-%016x', hash(n + 8)::UBIGINT)",
        "finish_reasons": "['stop']",
        "tool_names": "[]",
        "request_bytes": "input_tokens * 4",
        "response_bytes": "output_tokens * 5",
        "chunks": "output_tokens",
        "path": "'/v1/chat/completions'",
        "server_address": "'api.example.com'",
        "server_port": "443",
        "client_address": "'10.0.0.' || (key % 250)",
        "user_agent": "'openai-python/3.54'",
        "request_attributes": "'{\"max_tokens\":1000}'",
        "response_attributes": "'{}'",
        "message_hashes": "[(hash(n + 9) >> 1)::BIGINT, (hash(n + 10) >> 1)::BIGINT]",
        "last_message_hash": "(hash(n + 11) >> 1)::BIGINT",
        "attempt_count": "1",
    }
    talk = "n // 8"
    rows = ", ".join(f"{expression} AS {name}" for name, expression in columns.items())
    rates = ("CAST(0.000001250000 AS DECIMAL(18,12))", "CAST(0.00001 AS DECIMAL(18,12))")
    cost = f"input_tokens * {rates[0]} + output_tokens * {rates[1]}"
    return f"""
        INSERT INTO calls BY NAME
        SELECT {rows} FROM (
            SELECT *, CAST({cost} AS DECIMAL(18,12)) AS cost FROM (
                SELECT n,
                    make_timestamp($4::BIGINT - (($3 - n) * $5::DOUBLE / $3 * 1e6)::BIGINT
                        + (7200e6 * sin(n * 6.283185307 * $5 / 86400 / $3))::BIGINT) AS t,
                    floor(pow({u(8, talk)}, 2) * $6)::INTEGER AS key,
                    (floor(pow({u(9, talk)}, 2) * 6)::INTEGER
                        + floor(pow({u(8, talk)}, 2) * $6)::INTEGER) % 12 AS model,
                    (200 + 8000 * pow({u(10)}, 2))::BIGINT AS input_tokens,
                    (20 + 1200 * pow({u(11)}, 3))::BIGINT AS output_tokens
                FROM range($1::BIGINT, $2::BIGINT) AS numbers(n)
            )
        )"""


ATTEMPTS = """
    INSERT INTO attempts BY NAME
    SELECT call_id, 1 AS attempt, upstream, server_address || ':443' AS replica, provider_name, request_model,
        span_id, started_at, duration_ms, time_to_first_chunk_ms, http_status, error_type, input_tokens,
        output_tokens, cache_read_input_tokens, cache_write_input_tokens, cache_write_1h_input_tokens,
        reasoning_output_tokens, usage_grade, price_grade, price_version, list_cost_usd, effective_cost_usd
    FROM calls WHERE started_at >= make_timestamp($1) AND started_at < make_timestamp($2)"""


def generate(
    database: Database, calls: int, days: int, keys: int, until_s: int, *, attempts: bool = True
) -> None:
    """Fill ``database`` with ``calls`` calls that end at ``until_s``, and its sums with them."""
    connection = database.connection
    assert set(schema.CALL_NAMES) >= {"call_id", "started_at"}
    step = max(1, min(200_000, calls))
    for first in range(0, calls, step):
        last = min(calls, first + step)
        connection.execute(rows_sql(), [first, last, calls, until_s * 10**6, days * DAY_S, keys])
        database.checkpoint()
    while rollups.advance(connection, until_s * 10**6 + levels.HOUR_US, calls_a_step=500_000):
        if database.wal_bytes > 32 << 20:
            database.checkpoint()
    if attempts:
        end = until_s * 10**6 + levels.DAY_US
        for start in range(end - (days + 3) * levels.DAY_US, end, levels.DAY_US):
            connection.execute(ATTEMPTS, [start, start + levels.DAY_US])
            database.checkpoint()
    database.checkpoint()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--calls", type=int, default=10_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--no-attempts", action="store_true")
    parser.add_argument("--no-findings", action="store_true", help="only calls, attempts and sums")
    parser.add_argument("--until", type=int, default=int(time.time()), help="seconds since 1970")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    database = Database(arguments.folder / LIVE, DatabaseConfig(memory_limit_bytes=1 << 30, threads=2))
    migrate(database.connection)
    started = time.monotonic()
    generate(
        database,
        arguments.calls,
        arguments.days,
        arguments.keys,
        arguments.until,
        attempts=not arguments.no_attempts,
    )
    if not arguments.no_findings:
        generate_findings(database, arguments.days, arguments.until)
    took = time.monotonic() - started
    print(
        f"{arguments.calls} calls in {took:.0f} s, {database.size_bytes / arguments.calls:.0f} bytes a call"
    )
    database.close()


if __name__ == "__main__":
    main()

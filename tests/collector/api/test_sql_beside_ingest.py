"""I03: a statement that never ends is ended, and the books go on meanwhile."""

import asyncio
import time
from contextlib import suppress

import pytest
from support.collector_api import HERE, client_of, state_over

from collector.api.app import build_app
from collector.store.sandbox import SandboxLimits

CROSS_JOIN = "SELECT count(*) FROM range(300000) a, range(300000) b WHERE a.range * b.range % 7 = 3"
BOMB = "SELECT list(range) FROM range(1000000000)"


@pytest.mark.parametrize("statement", [CROSS_JOIN, BOMB], ids=["cross join", "list of everything"])
async def test_a_dear_statement_is_ended_while_calls_are_booked(tmp_path, database, journal, call, statement):
    state = state_over(database, tmp_path)
    now = time.time_ns() // 1000
    journal.write(call(started_at_us=now - 1_000_000), source="before")
    state.ledger.follower.catch_up()
    state.ledger.publisher.publish()
    async with client_of(build_app(state, HERE, None, SandboxLimits(seconds=3))) as client:
        asked = asyncio.create_task(client.post("/v1/sql", content=statement))
        await asyncio.sleep(0)  # It is on its way.
        for number in range(5):
            journal.write(call(started_at_us=now - number - 1), source=f"beside-{number}")
            await asyncio.to_thread(state.ledger.follower.catch_up)
        (row,) = (await client.get("/v1/questions/totals")).json()["rows"]
        assert row["calls"] == 6
        ended = await asked
    assert ended.status_code in (408, 413)
    assert str(tmp_path) not in ended.text


async def test_a_statement_that_is_killed_leaves_nothing_of_the_snapshot(tmp_path, database):
    state = state_over(database, tmp_path)
    state.ledger.publisher.publish()
    async with client_of(build_app(state, HERE, None, SandboxLimits(seconds=60))) as client:
        asked = asyncio.create_task(client.post("/v1/sql", content=CROSS_JOIN))
        until = time.monotonic() + 30
        while not list(tmp_path.glob(".sandbox-*/snapshot.duckdb")) and time.monotonic() < until:
            await asyncio.sleep(0.02)

        asked.cancel()
        with suppress(asyncio.CancelledError):
            await asked

    assert not list(tmp_path.glob(".sandbox-*"))

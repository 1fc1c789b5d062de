"""I03: a statement that never ends is ended, and the books go on meanwhile."""

import asyncio
import time
from contextlib import suppress

import pytest
from support.collector_api import HERE, client_of, state_over

from collector.api.app import MOST_SQL_AT_ONCE, MOST_SQL_WAITING, build_app
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


def running(folder):
    return list(folder.glob(".sandbox-*/snapshot.duckdb"))


async def until(true, seconds=30.0):
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        await asyncio.sleep(0.02)
    assert true()


class Visitor:
    """A client of the application that asks a statement and may leave."""

    def __init__(self, app, statement: str) -> None:
        self._parts = [{"type": "http.request", "body": statement.encode(), "more_body": False}]
        self._gone = asyncio.Event()
        self.status = 0
        self.asked = asyncio.create_task(app(SCOPE, self._receive, self._send))

    async def _receive(self):
        if self._parts:
            return self._parts.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message):
        self.status = message.get("status", self.status)

    def leave(self) -> None:
        self._gone.set()


SCOPE = {
    "type": "http",
    "http_version": "1.1",
    "method": "POST",
    "path": "/v1/sql",
    "raw_path": b"/v1/sql",
    "query_string": b"",
    "root_path": "",
    "scheme": "http",
    "server": ("127.0.0.1", 4010),
    "client": ("127.0.0.1", 1),
    "headers": [(b"host", b"127.0.0.1:4010")],
}


async def test_a_statement_ends_with_its_client_and_so_does_one_that_waits(tmp_path, database):
    state = state_over(database, tmp_path)
    state.ledger.publisher.publish()
    app = build_app(state, HERE, None, SandboxLimits(seconds=60))
    visitors = [Visitor(app, CROSS_JOIN) for _ in range(MOST_SQL_AT_ONCE + 2)]
    await until(lambda: len(running(tmp_path)) == MOST_SQL_AT_ONCE)

    for visitor in visitors:
        visitor.leave()
    await asyncio.wait_for(asyncio.gather(*(visitor.asked for visitor in visitors)), 20)

    assert not running(tmp_path)
    async with client_of(app) as client:
        assert (await client.post("/v1/sql", content="SELECT 1 AS one")).status_code == 200


async def test_statements_beyond_those_that_may_wait_are_told_to_come_back(tmp_path, database):
    state = state_over(database, tmp_path)
    state.ledger.publisher.publish()
    app = build_app(state, HERE, None, SandboxLimits(seconds=60))
    visitors = [Visitor(app, CROSS_JOIN) for _ in range(MOST_SQL_AT_ONCE + MOST_SQL_WAITING)]
    await until(lambda: len(running(tmp_path)) == MOST_SQL_AT_ONCE)

    async with client_of(app) as client:
        refused = await client.post("/v1/sql", content="SELECT 1")
    for visitor in visitors:
        visitor.leave()
    await asyncio.gather(*(visitor.asked for visitor in visitors))

    assert refused.status_code == 503
    assert refused.headers["retry-after"]

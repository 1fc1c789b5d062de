"""kill -9 of a real server while 64 streams run; it is started again, and gets calls again.

A process of gigabytes dies slowly: its memory is taken away first, and only then are its sockets closed,
which is the first that anybody hears of it. What failover adds begins there, and ends when a call is asked
elsewhere; how soon it is answered there is that engine's matter, with twice the streams it had.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from support.stack import Stack, wait_for
from support.vllm_servers import Servers

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

STREAMS = 64


class Seen(NamedTuple):
    call_id: str
    status: int
    whole: bool


@pytest.fixture
def pooled(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    replicas = [servers.url("one"), servers.url("two")]
    local = {"kind": "vllm", "replicas": replicas}
    settings = {
        "models": {"tiny": {"upstream": "local"}},
        "prices": {"tiny": {"input": "1", "output": "4", "cache_read": "0.1"}},
    }
    with Stack(tmp_path / "stack", {"local": local}, settings) as made:
        yield made


def process_of(port: int) -> int:
    """The process whose command line listens there: the server itself, not its workers."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"serve" in words and str(port).encode() in words:
            return int(folder.name)
    raise AssertionError(f"nobody serves at {port}")


def closed_at(connection: socket.socket) -> float:
    """When the other side closed a connection over which nothing is said."""
    with connection:
        assert connection.recv(1) == b""
        return time.time()


async def streams(stack: Stack, begun: list[float]) -> list[Seen]:
    async def one(client: httpx.AsyncClient, number: int) -> Seen:
        body = {
            "model": "tiny",
            "messages": [{"role": "user", "content": f"{number} talk"}],
            "max_tokens": 400,
            "ignore_eos": True,
            "stream": True,
        }
        async with client.stream("POST", f"{stack.url}/v1/chat/completions", json=body) as reply:
            said = b""
            try:
                async for data in reply.aiter_bytes():
                    if not said:
                        begun.append(time.time())
                    said += data
            except httpx.HTTPError:
                return Seen(reply.headers["x-bursar-call-id"], reply.status_code, False)
            return Seen(reply.headers["x-bursar-call-id"], reply.status_code, b"[DONE]" in said)

    async with httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_connections=STREAMS)) as client:
        return list(await asyncio.gather(*(one(client, number) for number in range(STREAMS))))


async def test_a_server_that_is_killed_loses_no_call(pooled: Stack, servers: Servers) -> None:
    begun: list[float] = []
    dead = f"127.0.0.1:{servers.ports['two']}"
    killed_at = 0.0

    async def kill() -> float:
        """When the server's death was to be seen."""
        nonlocal killed_at
        # 32 of its sequences run at once at most; some of the 64 streams wait for their first words.
        while len(begun) < STREAMS // 8:
            await asyncio.sleep(0.01)
        watched = socket.create_connection(("127.0.0.1", servers.ports["two"]), 60)
        process = process_of(servers.ports["two"])
        killed_at = time.time()
        os.kill(process, signal.SIGKILL)
        return await asyncio.to_thread(closed_at, watched)

    seen, dead_at = await asyncio.gather(streams(pooled, begun), kill())

    rows = {row["call_id"]: row for row in await asyncio.to_thread(pooled.calls, STREAMS)}
    assert set(rows) == {one.call_id for one in seen}
    again_at, gaps_s = [], []
    for one in seen:
        tried = pooled.ask("attempts", call_id=one.call_id)
        if one.whole:
            assert (one.status, rows[one.call_id]["outcome"]) == (200, "served")
            if len(tried) > 1:
                assert tried[0]["replica"] == dead
                first, second = (datetime.fromisoformat(row["started_at"]).timestamp() for row in tried[:2])
                again_at.append(second)
                gaps_s.append(second - first - tried[0]["duration_ms"] / 1000)
        else:
            # Its agent had seen words of it.
            assert (tried[-1]["replica"], rows[one.call_id]["outcome"]) == (dead, "failed")
            assert rows[one.call_id]["output_tokens"] > 0
    broken = sum(not one.whole for one in seen)
    undisturbed = STREAMS - broken - len(again_at)
    last_s = max(again_at, default=dead_at) - dead_at
    print(f"\n{STREAMS} streams: {undisturbed} undisturbed, {broken} broken off and booked as that,")
    print(
        f"{len(again_at)} asked again elsewhere, the last {last_s * 1000:.0f} ms after the server's sockets"
    )
    print(
        f"closed, which took {(dead_at - killed_at) * 1000:.0f} ms from the kill; of that between an end and"
    )
    print(f"the next attempt {max(gaps_s, default=0) * 1000:.1f} ms at most")
    assert last_s < 1
    # bursar inference starts it again, and health checks let it in again.
    await asyncio.to_thread(wait_for, "its return", lambda: servers.answers("two"), 300)

    async def comes_back() -> None:
        body = {"model": "tiny", "messages": [{"role": "user", "content": "back?"}], "max_tokens": 2}
        async with httpx.AsyncClient(timeout=60) as client:
            while True:
                reply = await client.post(f"{pooled.url}/v1/chat/completions", json=body)
                assert reply.status_code == 200
                if servers.metric("two", "vllm:request_success_total") > 0:
                    return

    await asyncio.wait_for(comes_back(), 120)

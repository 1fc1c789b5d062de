"""What an upstream answers, as the caller gets it: pushed, paused, closed, complete."""

import asyncio
import contextlib
import os
import time

import pytest

from sidecar.http import Deadlines, UpstreamError, UpstreamPool, UpstreamReply

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def ask(pool: UpstreamPool, body: bytes = b"{}") -> UpstreamReply:
    return await pool.request(b"POST", b"/v1/chat/completions", [(b"accept", b"*/*")], body)


async def failure(pool: UpstreamPool, body: bytes = b"{}") -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await (await ask(pool, body)).read(1 << 20)
    return caught.value


class Sunk:
    """Collects what a reply pushes."""

    def __init__(self, reply: UpstreamReply) -> None:
        self.calls: list[tuple[bytes, bool, UpstreamError | None]] = []
        self.over = asyncio.Event()
        reply.pipe(self)

    def __call__(self, data: bytes, done: bool, error: UpstreamError | None) -> None:
        assert not self.over.is_set(), "called after the end"
        assert data or done
        self.calls.append((data, done, error))
        if done:
            self.over.set()

    @property
    def body(self) -> bytes:
        return b"".join(call[0] for call in self.calls)

    @property
    def error(self) -> UpstreamError | None:
        return self.calls[-1][2]

    async def end(self) -> None:
        async with asyncio.timeout(5):
            await self.over.wait()


async def test_a_stream_is_pushed_read_by_read_and_ends_once(upstream, pool_to) -> None:
    step = asyncio.Semaphore(0)

    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(STREAM + b"3\r\none\r\n")
        for piece in (b"3\r\ntwo\r\n", b"5\r\nth", b"ree\r\n4\r\nfour\r\n", b"4\r\nlast\r\n0\r\n\r\n"):
            await step.acquire()
            writer.write(piece)
        await up.wait_for_end(reader)

    reply = await ask(pool_to(await upstream(script)))
    assert (reply.status, reply.length) == (200, None)
    sunk = Sunk(reply)
    for calls in (2, 3, 4, 5):
        step.release()
        async with asyncio.timeout(5):
            while len(sunk.calls) < calls:
                await asyncio.sleep(0.001)
    assert sunk.calls == [
        (b"one", False, None),
        (b"two", False, None),
        (b"th", False, None),
        (b"reefour", False, None),
        (b"last", True, None),
    ]


async def test_what_came_before_the_pipe_is_pushed_at_once(upstream, pool_to, scripts) -> None:
    reply = await ask(pool_to(await upstream(scripts(OK, hold=True))))
    await asyncio.sleep(0.02)
    assert Sunk(reply).calls == [(b"ok", True, None)]


@pytest.mark.parametrize("piece", [1, 3, 10, 60])
@pytest.mark.parametrize(
    "reply",
    [
        OK,
        STREAM + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nT: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        b"HTTP/1.0 200 OK\r\n\r\nok",
    ],
)
async def test_any_split_of_a_reply_gives_the_same(upstream, pool_to, reply: bytes, piece: int) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        for start in range(0, len(reply), piece):
            writer.write(reply[start : start + piece])
            await asyncio.sleep(0.0005)

    answer = await ask(pool_to(await upstream(script)))
    assert (answer.status, await answer.read(10)) == (200, b"ok")


@pytest.mark.parametrize("status", [204, 304])
async def test_a_reply_without_body_ends_with_its_head(upstream, pool_to, scripts, status: int) -> None:
    up = await upstream(scripts(b"HTTP/1.1 %d X\r\nContent-Length: 5\r\n\r\n" % status, hold=True))
    pool = pool_to(up)
    for _ in range(2):
        reply = await ask(pool)
        assert (reply.status, await reply.read(10)) == (status, b"")
    assert up.connections == 1


async def test_a_reply_to_head_ends_with_its_head(upstream, pool_to, scripts) -> None:
    up = await upstream(scripts(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", hold=True))
    pool = pool_to(up)
    for _ in range(2):
        reply = await pool.request(b"HEAD", b"/", [], b"")
        assert (reply.length, await reply.read(10)) == (5, b"")
    assert up.connections == 1


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503, 529])
async def test_a_providers_error_is_a_reply_like_any_other(upstream, pool_to, scripts, status: int) -> None:
    raw = b"HTTP/1.1 %d Whatever\r\nRetry-After: 7\r\nContent-Length: 4\r\n\r\noops" % status
    reply = await ask(pool_to(await upstream(scripts(raw))))
    assert (reply.status, reply.headers, await reply.read(10)) == (status, [(b"retry-after", b"7")], b"oops")


async def test_compressed_bytes_pass_unchanged(upstream, pool_to, scripts) -> None:
    noise = os.urandom(50_000)
    raw = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 50000\r\n\r\n" + noise
    reply = await ask(pool_to(await upstream(scripts(raw))))
    assert reply.headers == [(b"content-encoding", b"gzip")]
    assert await reply.read(50_000) == noise


async def test_fields_meant_for_one_connection_are_dropped_from_a_reply(upstream, pool_to, scripts) -> None:
    raw = (
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Upgrade: h2\r\nProxy-Authenticate: x\r\nX-Kept: 1\r\nContent-Length: 0\r\n\r\n"
    )
    reply = await ask(pool_to(await upstream(scripts(raw))))
    assert reply.headers == [(b"x-kept", b"1")]


async def test_an_upstream_that_keeps_its_socket_open_does_not_hold_us(upstream, pool_to, scripts) -> None:
    reply = await ask(pool_to(await upstream(scripts(STREAM + b"2\r\nok\r\n0\r\n\r\n", hold=True))))
    async with asyncio.timeout(1):
        assert await reply.read(10) == b"ok"


async def test_a_message_said_to_be_complete_ends_though_the_upstream_does_not_end_it(
    upstream, pool_to
) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(STREAM + b"e\r\ndata: [DONE]\n\n\r\n")
        await up.wait_for_end(reader)

    up = await upstream(script)
    pool = pool_to(up, deadlines=Deadlines(upstream_keep_alive_s=0.1))
    reply = await ask(pool)
    sunk = Sunk(reply)
    reply.expect_end(0.05)
    await sunk.end()
    assert (sunk.body, sunk.error) == (b"data: [DONE]\n\n", None)
    async with asyncio.timeout(5):
        await up.gone.wait()


async def test_a_message_said_to_be_complete_is_not_too_slow_to_end(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(STREAM + b"e\r\ndata: [DONE]\n\n\r\n")
        await up.wait_for_end(reader)

    pool = pool_to(await upstream(script), deadlines=Deadlines(idle_s=0.05))
    reply = await ask(pool)
    sunk = Sunk(reply)
    reply.expect_end(0.3)
    await sunk.end()
    assert (sunk.body, sunk.error) == (b"data: [DONE]\n\n", None)


async def test_a_reply_longer_than_one_wants_is_refused(upstream, pool_to, scripts) -> None:
    pool = pool_to(await upstream(scripts(OK, hold=True)))
    reply = await ask(pool)
    with pytest.raises(UpstreamError) as caught:
        await reply.read(1)
    assert caught.value.kind == "too_large"


async def test_an_endless_reply_is_cut_where_one_wants_no_more(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(STREAM)
        ending = asyncio.create_task(up.wait_for_end(reader))
        while not up.gone.is_set():
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
        await ending

    up = await upstream(script)
    reply = await ask(pool_to(up))
    with pytest.raises(UpstreamError) as caught:
        await reply.read(500_000)
    assert caught.value.kind == "too_large"
    async with asyncio.timeout(5):
        await up.gone.wait()


# Flow and cancellation


async def fast_stream(up, reader, writer) -> None:
    """As fast as the reader takes it; ``up.bodies`` counts pieces that were taken."""
    await up.read_request(reader)
    writer.write(STREAM)
    ending = asyncio.create_task(up.wait_for_end(reader))
    with contextlib.suppress(ConnectionError):
        while not up.gone.is_set():
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            up.bodies.append(b"")
            await asyncio.sleep(0)
    await ending


async def standing_still(up) -> int:
    """How many pieces were taken when no more are."""
    before = -1
    async with asyncio.timeout(5):
        while before != len(up.bodies):
            before = len(up.bodies)
            await asyncio.sleep(0.1)
    return before


async def test_pausing_a_reply_stops_the_upstream_and_resuming_goes_on(upstream, pool_to) -> None:
    up = await upstream(fast_stream)
    reply = await ask(pool_to(up))
    sunk = Sunk(reply)
    reply.pause()
    still = await standing_still(up)
    pushed = len(sunk.calls)
    reply.resume()
    async with asyncio.timeout(5):
        while len(up.bodies) < still + 20 or len(sunk.calls) < pushed + 20:
            await asyncio.sleep(0.005)
    reply.close()


async def test_a_reply_nobody_reads_stops_the_upstream(upstream, pool_to) -> None:
    up = await upstream(fast_stream)
    reply = await ask(pool_to(up))
    await standing_still(up)
    assert len(reply._early) <= 768 * 1024
    sunk = Sunk(reply)
    assert len(sunk.calls[0][0]) > 0
    reply.close()


async def test_a_paused_reply_is_not_the_upstreams_fault(upstream, pool_to) -> None:
    up = await upstream(fast_stream)
    reply = await ask(pool_to(up, deadlines=Deadlines(idle_s=0.1)))
    sunk = Sunk(reply)
    reply.pause()
    await asyncio.sleep(0.4)
    assert not sunk.over.is_set()
    reply.close()


async def never(up, reader, writer) -> None:
    await up.read_request(reader)
    await up.wait_for_end(reader)


async def test_cancelling_before_the_head_closes_the_socket_at_once(upstream, pool_to, eventually) -> None:
    up = await upstream(never)
    pool = pool_to(up)
    task = asyncio.create_task(ask(pool))
    await eventually(lambda: len(up.requests) == 1)
    cancelled_at = time.monotonic()
    task.cancel()
    async with asyncio.timeout(5):
        await up.gone.wait()
    assert time.monotonic() - cancelled_at < 0.25
    assert pool.inflight == 0


async def test_closing_a_reply_closes_the_socket_at_once_and_ends_the_pushing(upstream, pool_to) -> None:
    up = await upstream(fast_stream)
    pool = pool_to(up)
    reply = await ask(pool)
    sunk = Sunk(reply)
    reply.close()
    pushed = len(sunk.calls)
    async with asyncio.timeout(5):
        await up.gone.wait()
    assert len(sunk.calls) == pushed
    assert pool.inflight == 0
    reply.close()  # twice does no harm


async def test_cancelling_in_the_turn_in_which_the_head_arrives_leaks_nothing(upstream, pool_to) -> None:
    pool = pool_to(await upstream(fast_stream))
    task = asyncio.create_task(ask(pool))
    async with asyncio.timeout(5):
        while not any(connection._reply is not None for connection in pool._open):
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert pool.inflight == 0
    assert not pool._open


async def test_closing_the_pool_ends_what_runs_and_what_waits(upstream, pool_to, eventually) -> None:
    up = await upstream(never)
    pool = pool_to(up, connections=1)
    running, waiting = asyncio.create_task(failure(pool)), asyncio.create_task(failure(pool))
    await eventually(lambda: len(up.requests) == 1)
    await pool.close()
    assert (await running).kind == "reset"
    assert (await waiting).kind == "connect"
    assert (await failure(pool)).kind == "connect"

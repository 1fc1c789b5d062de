"""Both sides together, as the sidecar uses them: an agent, this package, an upstream."""

import asyncio
import time
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.http import Deadlines, Request, Responder, UpstreamError, UpstreamPool

GET = b"GET /v1/x HTTP/1.1\r\nHost: x\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def relaying(pool: UpstreamPool):
    """A handler that passes everything on, and stops asking when the agent leaves."""

    async def handler(request: Request, responder: Responder) -> None:
        task = asyncio.current_task()
        assert task is not None
        responder.on_disconnect(task.cancel)
        try:
            reply = await pool.request(request.method.encode(), request.path.encode(), [], request.body)
        except UpstreamError as error:
            responder.send(502, [], error.kind.encode())
            return
        over = asyncio.get_running_loop().create_future()

        def sink(data: bytes, done: bool, error: UpstreamError | None) -> None:
            if error is not None:
                responder.abort()
            elif done:
                responder.finish(data)
            else:
                responder.write(data)
            if done and not over.done():
                over.set_result(None)

        responder.start(reply.status, reply.headers, length=reply.length)
        responder.on_flow(reply.pause, reply.resume)
        reply.pipe(sink)
        try:
            await over
        finally:
            reply.close()

    return handler


async def test_bytes_pass_unchanged_at_any_chunking(serve, upstream, pool_to) -> None:
    pieces: list[bytes] = []
    cuts: list[int] = []

    async def script(up, reader, writer) -> None:
        while True:
            await up.read_request(reader)
            raw = STREAM + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
            marks = [0, *sorted(cut % len(raw) for cut in cuts), len(raw)]
            for start, stop in pairwise(marks):
                writer.write(raw[start:stop])
                await writer.drain()
                await asyncio.sleep(0)

    up = await upstream(script)
    running = await serve(relaying(pool_to(up)))
    client = await running.client()
    loop = asyncio.get_running_loop()
    bodies = st.lists(st.binary(min_size=1, max_size=3000), max_size=8)
    found: list[tuple[list[bytes], list[int]]] = []

    @given(bodies, st.lists(st.integers(0, 30_000), max_size=6))
    @settings(max_examples=80, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def collect(body: list[bytes], places: list[int]) -> None:
        found.append((body, places))

    await loop.run_in_executor(None, collect)
    for body, places in found:
        pieces[:], cuts[:] = body, places
        reply = await client.ask(GET, "GET")
        assert (reply.status, reply.complete, reply.body) == (200, True, b"".join(body))
    assert up.connections == 1
    assert running.server.connections == 1


async def test_connections_are_kept_on_both_sides(serve, upstream, pool_to, scripts) -> None:
    up = await upstream(scripts(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", hold=True))
    pool = pool_to(up, connections=100)
    running = await serve(relaying(pool))

    async def agent() -> None:
        client = await running.client()
        for _ in range(30):
            assert (await client.ask(GET, "GET")).body == b"ok"

    await asyncio.gather(*(agent() for _ in range(10)))
    assert len(up.requests) == 300
    assert up.connections == pool.opened_total <= 10
    assert pool.inflight == 0


@pytest.mark.parametrize(
    "after", [b"", STREAM, STREAM + b"4\r\none \r\n"], ids=["waiting", "head", "streaming"]
)
@pytest.mark.parametrize("way", ["leave", "reset"])
async def test_an_agent_that_leaves_closes_the_upstream_within_a_quarter_second(
    serve, upstream, pool_to, after: bytes, way: str
) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(after)
        await up.wait_for_end(reader)

    up = await upstream(script)
    pool = pool_to(up)
    running = await serve(relaying(pool))
    client = await running.client()
    await client.send(GET)
    await asyncio.sleep(0.05)
    left_at = time.monotonic()
    getattr(client, way)()
    async with asyncio.timeout(3):
        await up.gone.wait()
    assert time.monotonic() - left_at < 0.25
    assert pool.inflight == 0


async def test_an_upstream_that_breaks_off_leaves_the_agents_reply_visibly_incomplete(
    serve, upstream, pool_to, scripts
) -> None:
    up = await upstream(scripts(STREAM + b"4\r\none \r\n"))
    reply = await (await serve(relaying(pool_to(up)))).ask(GET, "GET")
    assert (reply.status, reply.complete, reply.body) == (200, False, b"one ")


async def test_a_slow_agent_slows_the_upstream_and_memory_stays_bounded(serve, upstream, pool_to) -> None:
    sent = 0

    async def script(up, reader, writer) -> None:
        nonlocal sent
        await up.read_request(reader)
        writer.write(STREAM)
        ending = asyncio.create_task(up.wait_for_end(reader))
        writer.transport.set_write_buffer_limits(high=0)
        while not up.gone.is_set():
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536
        await ending

    up = await upstream(script)
    running = await serve(relaying(pool_to(up)), deadlines=Deadlines(stalled_client_s=0.6))
    sock = await running.quiet_client()
    tracemalloc.start()
    try:
        await asyncio.get_running_loop().sock_sendall(sock, GET)
        async with asyncio.timeout(10):
            await up.gone.wait()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    sock.close()
    assert peak < 4 << 20
    assert sent < 32 << 20  # what the kernel holds on the way, and no more


async def test_a_chunked_request_is_passed_on_with_its_length(serve, upstream, pool_to, scripts) -> None:
    up = await upstream(scripts(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", hold=True))
    running = await serve(relaying(pool_to(up)))
    await running.ask(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    )
    assert up.bodies == [b"abc"]
    assert b"transfer-encoding" not in up.requests[0]


async def test_nothing_of_a_refused_request_reaches_an_upstream(serve, upstream, pool_to, scripts) -> None:
    up = await upstream(scripts(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", hold=True))
    running = await serve(relaying(pool_to(up)))
    smuggled = (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        + GET
    )
    assert (await running.ask(smuggled)).status == 400
    assert (await running.ask(GET.replace(b"/v1/x", b"http://evil/"), "GET")).status == 400
    assert up.connections == 0

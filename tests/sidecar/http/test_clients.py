"""Clients that are slow, silent, gone, or still there when we want to stop."""

import asyncio
import logging
import time
from dataclasses import replace

import pytest

from sidecar.http import Deadlines, Limits, Request, Responder

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = Deadlines(head_s=0.3, body_s=0.3, keep_alive_s=0.3, stalled_client_s=0.3, linger_s=0.2)


def post(length: int, body: bytes = b"") -> bytes:
    return b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (length, body)


# Deadlines


async def test_two_hundred_trickling_heads_are_each_cut_at_the_deadline_and_others_are_served(serve) -> None:
    # Where the machine is busy, whoever is served may pause between two requests.
    running = await serve(deadlines=replace(QUICK, keep_alive_s=30))
    started = time.monotonic()

    async def trickle() -> tuple[int, float]:
        client = await running.client()
        for byte in GET[:-1]:
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0.02)
            if client.reader._buffer or client.reader.at_eof():
                break
        status = (await client.reply("GET")).status
        return status, time.monotonic() - started

    trickling = [asyncio.create_task(trickle()) for _ in range(200)]
    normal = await running.client()
    for _ in range(20):
        assert (await normal.ask(GET, "GET")).status == 200
        await asyncio.sleep(0.005)
    ends = await asyncio.gather(*trickling)
    assert {status for status, _ in ends} == {408}
    assert min(end for _, end in ends) >= 0.3


async def test_a_connection_that_never_speaks_is_closed_without_a_word(serve) -> None:
    client = await (await serve(deadlines=QUICK)).client()
    assert await client.closed() == b""


async def test_a_trickling_body_gets_408(serve) -> None:
    client = await (await serve(deadlines=QUICK)).client()
    await client.send(post(1000))
    for _ in range(100):
        client.writer.write(b"x")
        await asyncio.sleep(0.02)
        if client.reader._buffer:
            break
    assert (await client.reply()).status == 408
    assert await client.closed() == b""


async def test_a_long_body_at_a_fair_pace_may_take_longer_than_the_deadline(serve) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        responder.send(200, [], b"%d" % len(request.body))

    running = await serve(handler, deadlines=QUICK)
    client = await running.client()
    await client.send(post(60_000))
    for _ in range(60):
        await client.send(b"x" * 1000)
        await asyncio.sleep(0.01)
    assert (await client.reply()).body == b"60000"


async def test_silence_after_expect_continue_ends_at_the_deadline(serve) -> None:
    client = await (await serve(deadlines=QUICK)).client()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.reply()).status == 408
    assert await client.closed() == b""


async def test_an_idle_kept_connection_is_closed(serve) -> None:
    running = await serve(deadlines=QUICK)
    client = await running.client()
    assert (await client.ask(GET, "GET")).status == 200
    started = time.monotonic()
    assert await client.closed() == b""
    assert time.monotonic() - started > 0.2


async def test_a_head_begun_on_a_kept_connection_has_its_own_deadline(serve) -> None:
    running = await serve(deadlines=Deadlines(head_s=0.2, keep_alive_s=30))
    client = await running.client()
    assert (await client.ask(GET, "GET")).status == 200
    await client.send(GET[:10])
    assert (await client.reply("GET")).status == 408


async def test_a_long_answer_is_not_cut_by_the_clients_deadlines(serve) -> None:
    async def slow(request: Request, responder: Responder) -> None:
        await asyncio.sleep(0.8)
        responder.send(200, [], b"late")

    assert (await (await serve(slow, deadlines=QUICK)).ask(GET, "GET")).body == b"late"


async def test_a_refused_client_that_never_reads_is_cut_off(serve, eventually) -> None:
    running = await serve(deadlines=QUICK)
    client = await running.client()
    await client.send(b"bad request\r\n\r\n")
    await eventually(lambda: running.server.connections == 1)
    await eventually(lambda: running.server.connections == 0)


# Slow readers


async def flood(responder: Responder, pieces: int, events: list[str]) -> None:
    """Write ``pieces`` of 64 KiB, holding back when told to, until the client is gone."""
    go = asyncio.Event()
    go.set()

    def pause() -> None:
        events.append("pause")
        go.clear()

    def resume() -> None:
        events.append("resume")
        go.set()

    def left() -> None:
        events.append("left")
        go.set()

    responder.on_flow(pause, resume)
    responder.on_disconnect(left)
    responder.start(200, [], length=pieces << 16)
    for n in range(pieces):
        responder.write(bytes([n % 256]) * 65536)
        await go.wait()
        if responder.client_gone:
            return
    responder.finish()


async def test_a_client_that_stops_reading_pauses_the_stream_and_is_cut_at_the_idle_limit(serve) -> None:
    events: list[str] = []
    buffered: list[int] = []
    over = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        transport = responder._transport
        responder.on_flow(lambda: None, lambda: None)
        task = asyncio.ensure_future(flood(responder, 10_000, events))
        while not task.done():
            if not responder.client_gone:
                buffered.append(transport.get_write_buffer_size())
            await asyncio.sleep(0.01)
        over.set()

    running = await serve(handler, deadlines=QUICK)
    sock = await running.quiet_client()
    await asyncio.get_running_loop().sock_sendall(sock, GET)
    async with asyncio.timeout(5):
        await over.wait()
    assert events[-2:] == ["pause", "left"]
    assert 0 < max(buffered) <= 1 << 20
    sock.close()


async def test_a_client_that_catches_up_gets_every_byte(serve, eventually) -> None:
    events: list[str] = []

    async def handler(request: Request, responder: Responder) -> None:
        await flood(responder, 200, events)

    running = await serve(handler)
    sock = await running.quiet_client()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, GET)
    await eventually(lambda: "pause" in events)
    taken = b""
    while len(taken) < 200 << 16 or not taken.endswith(bytes([199]) * 65536):
        async with asyncio.timeout(5):
            taken += await loop.sock_recv(sock, 1 << 20)
    assert taken.partition(b"\r\n\r\n")[2] == b"".join(bytes([n % 256]) * 65536 for n in range(200))
    assert "resume" in events
    sock.close()


async def test_a_stream_that_ignores_the_pause_is_cut_at_the_bound(serve) -> None:
    cut = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        responder.start(200, [], length=None)
        while not responder.client_gone:
            responder.write(b"x" * 65536)
            await asyncio.sleep(0)
        cut.set()

    running = await serve(handler, limits=Limits(write_buffer=500_000))
    sock = await running.quiet_client()
    await asyncio.get_running_loop().sock_sendall(sock, GET)
    async with asyncio.timeout(5):
        await cut.wait()
    sock.close()


async def test_a_slow_reader_that_makes_progress_is_not_cut(serve) -> None:
    body = b"x" * 24_000_000

    async def handler(request: Request, responder: Responder) -> None:
        responder.send(200, [], body)

    running = await serve(handler, deadlines=QUICK)
    sock = await running.quiet_client()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, GET)
    taken = 0
    started = time.monotonic()
    while taken < len(body):
        async with asyncio.timeout(2):
            data = await loop.sock_recv(sock, 300_000)
        assert data, f"cut off after {taken} bytes"
        taken += len(data)
        await asyncio.sleep(0.02)
    assert time.monotonic() - started > 1.2  # four times the deadline
    sock.close()


# Clients that leave


@pytest.mark.parametrize("way", ["leave", "reset"])
@pytest.mark.parametrize("started", [False, True], ids=["before the first byte", "in mid-stream"])
async def test_a_client_that_leaves_is_noticed_at_once(serve, way: str, started: bool) -> None:
    left = asyncio.Event()
    running_handler = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        responder.on_disconnect(left.set)
        if started:
            responder.start(200, [], length=None)
            responder.write(b"one")
        running_handler.set()
        await left.wait()
        responder.write(b"dropped") if started else None

    running = await serve(handler)
    client = await running.client()
    await client.send(GET)
    await running_handler.wait()
    gone_at = time.monotonic()
    getattr(client, way)()
    async with asyncio.timeout(2):
        await left.wait()
    assert time.monotonic() - gone_at < 0.25


# The end of a client is queued behind what it sent: only as much as the kernel takes may lie before it.
@pytest.mark.parametrize(("way", "ahead"), [("leave", 1000), ("reset", 10_000)])
async def test_a_client_that_leaves_is_noticed_while_its_pipelined_bytes_lie_unread(
    serve, way: str, ahead: int
) -> None:
    left = asyncio.Event()
    answering = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        responder.on_disconnect(left.set)
        answering.set()
        await left.wait()

    running = await serve(handler, limits=Limits(pipelined_bytes=1000))
    client = await running.client()
    await client.send(GET)
    await answering.wait()
    client.writer.write(GET * ahead)
    await asyncio.sleep(0.05)
    assert not left.is_set()
    gone_at = time.monotonic()
    getattr(client, way)()
    async with asyncio.timeout(2):
        await left.wait()
    assert time.monotonic() - gone_at < 0.25


async def test_a_finished_reply_sees_no_disconnect(serve, eventually) -> None:
    called: list[int] = []
    release = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        responder.on_disconnect(lambda: called.append(1))
        responder.send(200, [], b"all")
        await release.wait()

    running = await serve(handler)
    client = await running.client()
    assert (await client.ask(GET, "GET")).body == b"all"
    client.leave()
    await eventually(lambda: running.server.connections == 0)
    release.set()
    await eventually(lambda: running.server.requests == 0)
    assert called == []


async def test_asking_about_a_client_that_is_already_gone_answers_at_once(serve, eventually) -> None:
    told: list[str] = []

    async def handler(request: Request, responder: Responder) -> None:
        await eventually(lambda: responder.client_gone)
        responder.on_disconnect(lambda: told.append("gone"))
        assert told == ["gone"]

    running = await serve(handler)
    client = await running.client()
    await client.send(GET)
    await eventually(lambda: running.server.requests == 1)
    client.leave()
    await eventually(lambda: told == ["gone"])


async def test_a_client_that_leaves_inside_its_body_starts_no_handler(serve, eventually) -> None:
    called: list[int] = []

    async def handler(request: Request, responder: Responder) -> None:
        called.append(1)

    running = await serve(handler)
    client = await running.client()
    await client.send(post(100, b"half"))
    await eventually(lambda: running.server.connections == 1)
    client.leave()
    await eventually(lambda: running.server.connections == 0)
    assert called == []


# Stopping


async def test_a_drain_lets_running_replies_finish_and_closes_the_rest(serve) -> None:
    release = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        if request.path == "/":
            await release.wait()
        responder.send(200, [], b"done")

    running = await serve(handler)
    idle = await running.client()
    assert (await idle.ask(GET.replace(b"/ ", b"/x "), "GET")).status == 200
    busy = await running.client()
    await busy.send(GET)
    while running.server.requests < 1:
        await asyncio.sleep(0.001)
    draining = asyncio.create_task(running.server.drain(5))
    assert await idle.closed() == b""
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", running.port)
    release.set()
    reply = await busy.reply("GET")
    assert (reply.body, reply.header(b"connection")) == (b"done", b"close")
    await draining
    assert (running.server.connections, running.server.requests) == (0, 0)


async def test_a_drain_cuts_what_does_not_finish_in_time_and_tells_its_handler(serve) -> None:
    told = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        responder.on_disconnect(told.set)
        responder.start(200, [], length=None)
        responder.write(b"half")
        await told.wait()

    running = await serve(handler)
    client = await running.client()
    await client.send(GET)
    await client.reader.readuntil(b"half\r\n")
    started = time.monotonic()
    await running.server.drain(0.1)
    assert time.monotonic() - started < 20
    assert told.is_set()
    assert await client.closed() == b""


async def test_a_drain_cancels_a_handler_that_will_not_end(serve, caplog) -> None:
    cancelled = asyncio.Event()

    async def stubborn(request: Request, responder: Responder) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    running = await serve(stubborn)
    client = await running.client()
    await client.send(GET)
    while running.server.requests < 1:
        await asyncio.sleep(0.001)
    with caplog.at_level(logging.WARNING):
        await running.server.drain(0.05)
    assert cancelled.is_set()
    assert running.server.requests == 0

"""Upstreams that break off, stall, lie about their framing, or send us elsewhere."""

import asyncio
import socket
import time

import pytest

from sidecar.http import Deadlines, UpstreamError, UpstreamPool

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def replied(fields: bytes, body: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n" + body


async def failure(pool: UpstreamPool) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await (await pool.request(b"POST", b"/", [], b"{}")).read(1 << 20)
    return caught.value


CHUNKED = b"Transfer-Encoding: chunked\r\n"

NOT_HTTP: list[tuple[str, bytes]] = [
    ("length and chunked", replied(b"Content-Length: 2\r\n" + CHUNKED, b"2\r\nok\r\n0\r\n\r\n")),
    ("two lengths that differ", replied(b"Content-Length: 2\r\nContent-Length: 3\r\n", b"ok")),
    ("two lengths that agree", replied(b"Content-Length: 2\r\nContent-Length: 2\r\n", b"ok")),
    ("a length that is no number", replied(b"Content-Length: two\r\n", b"ok")),
    ("a negative length", replied(b"Content-Length: -2\r\n", b"ok")),
    ("another transfer coding", replied(b"Transfer-Encoding: gzip\r\n", b"ok")),
    ("two transfer codings", replied(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n")),
    ("chunked in HTTP/1.0", b"HTTP/1.0 200 OK\r\n" + CHUNKED + b"\r\n0\r\n\r\n"),
    ("a bad chunk size", replied(CHUNKED, b"xyz\r\n")),
    ("a chunk longer than its size", replied(CHUNKED, b"1\r\nab\r\n0\r\n\r\n")),
    ("a bare line feed", b"HTTP/1.1 200 OK\nContent-Length: 2\n\r\n\r\nok"),
    ("a folded field", replied(b"A: b\r\n c\r\nContent-Length: 2\r\n", b"ok")),
    ("space before the colon", replied(b"Content-Length : 2\r\n", b"ok")),
    ("NUL in a field", replied(b"A: b\0\r\nContent-Length: 2\r\n", b"ok")),
    ("a head of 33 kB", replied(b"A: " + b"b" * 33_000 + b"\r\n")),
    ("a head of 33 kB without end", b"HTTP/1.1 200 OK\r\nA: " + b"b" * 33_000),
    ("101 fields", replied(b"".join(b"A%d: b\r\n" % n for n in range(101)))),
    ("a status of two digits", b"HTTP/1.1 20 OK\r\n\r\n"),
    ("a status of four digits", b"HTTP/1.1 2000 OK\r\n\r\n"),
    ("status zero", b"HTTP/1.1 000 OK\r\n\r\n"),
    ("HTTP/2", b"HTTP/2.0 200 OK\r\n\r\n"),
    ("HTTP/0.9", b"<html>hello</html>\r\n\r\n"),
    ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    ("switching protocols", b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"),
    ("interim replies without end", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
]


@pytest.mark.parametrize("raw", [row[1] for row in NOT_HTTP], ids=[row[0] for row in NOT_HTTP])
async def test_a_reply_that_could_be_read_two_ways_is_refused(upstream, pool_to, scripts, raw: bytes) -> None:
    up = await upstream(scripts(raw, hold=True))
    pool = pool_to(up)
    error = await failure(pool)
    assert (error.kind, error.sent) == ("protocol", True)
    assert (pool.inflight, up.connections) == (0, 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"HTTP/1.1 200 O",
        LENGTH,
        LENGTH + b"four",
        STREAM,
        STREAM + b"5",
        STREAM + b"5\r\nfo",
        STREAM + b"4\r\nfour",
        STREAM + b"4\r\nfour\r\n",
        STREAM + b"4\r\nfour\r\n0\r\n",
        STREAM + b"4\r\nfour\r\n0\r\nTrailer: 1\r\n",
    ],
    ids=repr,
)
@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_reply_that_breaks_off_is_an_error_never_a_short_reply(
    upstream, pool_to, raw: bytes, way: str
) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(raw)
        await writer.drain()
        if way == "reset":
            await asyncio.sleep(0.02)
            writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            )
            writer.transport.abort()

    error = await failure(pool_to(await upstream(script)))
    assert (error.kind, error.sent) == ("reset", True)


async def test_a_reply_without_framing_is_whole_when_the_upstream_closes(upstream, pool_to, scripts) -> None:
    pool = pool_to(await upstream(scripts(b"HTTP/1.1 200 OK\r\n\r\nall of it")))
    reply = await pool.request(b"POST", b"/", [], b"{}")
    assert await reply.read(100) == b"all of it"


async def test_a_reply_without_framing_that_is_reset_is_an_error(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n\r\npart")
        await asyncio.sleep(0.05)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    assert (await failure(pool_to(await upstream(script)))).kind == "reset"


async def test_what_came_before_the_break_is_pushed_first(upstream, pool_to, scripts) -> None:
    pool = pool_to(await upstream(scripts(STREAM + b"4\r\nfour\r\n")))
    reply = await pool.request(b"POST", b"/", [], b"{}")
    calls: list[tuple[bytes, bool, UpstreamError | None]] = []
    over = asyncio.Event()

    def sink(data: bytes, done: bool, error: UpstreamError | None) -> None:
        calls.append((data, done, error))
        if done:
            over.set()

    reply.pipe(sink)
    async with asyncio.timeout(5):
        await over.wait()
    assert b"".join(call[0] for call in calls) == b"four"
    error = calls[-1][2]
    assert error is not None
    assert error.kind == "reset"


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["another origin", "the same origin", "a file"])
async def test_a_redirect_is_an_error_and_nobody_else_hears_of_it(
    upstream, pool_to, scripts, status: int, to: str
) -> None:
    other = await upstream(scripts(LENGTH + b"other"))
    places = {
        "another origin": b"http://127.0.0.1:%d/" % other.port,
        "the same origin": b"/v2",
        "a file": b"file:///",
    }
    raw = b"HTTP/1.1 %d Elsewhere\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, places[to])
    up = await upstream(scripts(raw, hold=True))
    error = await failure(pool_to(up))
    assert error.kind == "redirect"
    assert (other.connections, len(up.requests)) == (0, 1)


async def test_what_came_before_a_broken_chunk_is_read_and_then_the_reply_has_failed(
    upstream, pool_to, scripts, eventually
) -> None:
    up = await upstream(scripts(STREAM + b"5\r\nhello\r\nzz\r\n", hold=True))
    reply = await pool_to(up).request(b"POST", b"/", [], b"{}")
    await eventually(lambda: reply.broke_off)
    got: list[tuple[bytes, bool, str]] = []
    reply.pipe(lambda data, done, error: got.append((data, done, error.kind if error else "")))
    assert got == [(b"hello", True, "protocol")]


async def test_others_get_their_turn_while_a_reply_comes_in_small_chunks() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        client = listener.accept()[0]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        client.recv(65536)
        client.sendall(STREAM + b"a\r\n0123456789\r\n" * 600_000 + b"0\r\n\r\n")
        client.close()

    pool = UpstreamPool(
        "127.0.0.1", listener.getsockname()[1], tls=None, connections=1, deadlines=Deadlines()
    )
    sending = asyncio.create_task(asyncio.to_thread(answer))
    reply = await pool.request(b"POST", b"/", [], b"")
    reading = asyncio.create_task(reply.read(10_000_000))
    longest, before = 0.0, time.thread_time()
    while not reading.done():
        await asyncio.sleep(0.001)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    assert len(await reading) == 6_000_000
    await sending
    listener.close()
    await pool.close()
    # Of the processor: one read of 256 KiB takes a hundredth of a second, and 32 of them stood in one turn.
    assert longest < 0.2


# Time


async def refused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


async def test_a_refused_connection_is_told_and_nothing_was_sent() -> None:
    pool = UpstreamPool("127.0.0.1", await refused_port(), tls=None, connections=1, deadlines=Deadlines())
    error = await failure(pool)
    assert (error.kind, error.sent, pool.inflight) == ("connect", False, 0)


async def test_a_name_that_leads_nowhere_is_told() -> None:
    pool = UpstreamPool("nowhere.invalid", 80, tls=None, connections=1, deadlines=Deadlines())
    error = await failure(pool)
    assert (error.kind, error.sent) == ("connect", False)


async def test_a_black_hole_ends_at_the_connect_deadline() -> None:
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        address = hole.getsockname()
        fillers = []
        for _ in range(4):  # once its queue is full, further SYNs are dropped
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        pool = UpstreamPool(*address, tls=None, connections=1, deadlines=Deadlines(connect_s=0.2))
        error = await failure(pool)
        assert (error.kind, error.sent, pool.inflight) == ("timeout_connect", False, 0)
        for filler in fillers:
            filler.close()


QUICK = Deadlines(first_byte_s=0.15, idle_s=0.15)


@pytest.mark.parametrize(
    ("raw", "deadlines", "kind"),
    [
        (b"", QUICK, "timeout_first_byte"),
        (b"HTTP/1.1 200 OK\r\nA:", QUICK, "timeout_first_byte"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", QUICK, "timeout_first_byte"),
        (LENGTH + b"four", QUICK, "timeout_idle"),
        (STREAM + b"1\r\na\r\n", QUICK, "timeout_idle"),
        (STREAM + b"1\r\na\r\n", Deadlines(total_s=0.15), "timeout_total"),
        (b"", Deadlines(total_s=0.15), "timeout_total"),
    ],
)
async def test_silence_ends_at_its_deadline_and_closes_the_socket(
    upstream, pool_to, raw: bytes, deadlines: Deadlines, kind: str
) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(raw)
        await up.wait_for_end(reader)

    up = await upstream(script)
    pool = pool_to(up, deadlines=deadlines)
    async with asyncio.timeout(3):
        error = await failure(pool)
        await up.gone.wait()
    assert (error.kind, error.sent, pool.inflight) == (kind, True, 0)


async def test_a_stream_that_keeps_coming_outlives_the_idle_deadline(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(STREAM)
        for _ in range(10):
            await asyncio.sleep(0.05)
            writer.write(b"1\r\na\r\n")
        writer.write(b"0\r\n\r\n")

    pool = pool_to(await upstream(script), deadlines=Deadlines(idle_s=0.2))
    assert await (await pool.request(b"POST", b"/", [], b"")).read(100) == b"a" * 10


async def test_a_stream_without_end_is_cut_at_the_total_deadline_though_it_keeps_coming(
    upstream, pool_to
) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(STREAM)
        while True:
            await asyncio.sleep(0.01)
            writer.write(b"1\r\na\r\n")
            await writer.drain()

    assert (
        await failure(pool_to(await upstream(script), deadlines=Deadlines(total_s=0.2)))
    ).kind == "timeout_total"


async def test_an_early_refusal_of_a_large_upload_is_passed_on_and_its_connection_not_used_again(
    upstream, pool_to
) -> None:
    async def script(up, reader, writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        await asyncio.Event().wait()  # the rest of the upload stays on the wire

    up = await upstream(script)
    pool = pool_to(up)
    for connections in (1, 2):
        reply = await pool.request(b"POST", b"/", [], b"x" * 20_000_000)
        assert (reply.status, await reply.read(10)) == (413, b"big")
        assert (pool.inflight, up.connections) == (0, connections)

"""The pool as an upstream sees it: requests, connections, turns."""

import asyncio
import contextlib
import os
import socket

import pytest

from sidecar.http import Deadlines, Limits, UpstreamError, UpstreamPool, UpstreamReply
from sidecar.http.upstream import is_public

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


async def ask(pool: UpstreamPool, body: bytes = b"{}") -> UpstreamReply:
    return await pool.request(b"POST", b"/v1/chat/completions", [(b"accept", b"*/*")], body)


async def failure(pool: UpstreamPool, body: bytes = b"{}") -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await (await ask(pool, body)).read(1 << 20)
    return caught.value


# What is sent, and the connections it is sent over


async def test_the_request_goes_out_as_given_with_host_and_length(upstream, pool_to, scripts) -> None:
    up = await upstream(scripts(OK, hold=True))
    pool = pool_to(up)
    headers = [(b"authorization", b"Bearer k"), (b"x", b"1"), (b"x", b"2")]
    reply = await pool.request(b"POST", b"/v1/x?y=z", headers, b"body")
    assert await reply.read(10) == b"ok"
    assert up.requests == [
        b"POST /v1/x?y=z HTTP/1.1\r\nhost: 127.0.0.1:%d\r\nauthorization: Bearer k\r\nx: 1\r\nx: 2\r\n"
        b"content-length: 4\r\n\r\n" % up.port
    ]
    assert up.bodies == [b"body"]
    await (await pool.request(b"GET", b"/v1/models", [], b"")).read(10)
    assert up.requests[1] == b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % up.port
    assert reply.address == f"127.0.0.1:{up.port}"
    assert reply.headers == [(b"content-type", b"application/json")]
    assert 0 < reply.sent_ns <= reply.head_ns
    assert reply.length == 2


async def test_a_body_of_megabytes_arrives_whole(upstream, pool_to, scripts) -> None:
    up = await upstream(scripts(OK, hold=True))
    body = os.urandom(5_000_000)
    await (await ask(pool_to(up), body)).read(10)
    assert up.bodies == [body]


async def test_a_connection_is_used_again_and_again(upstream, pool_to, scripts) -> None:
    up = await upstream(scripts(OK, hold=True))
    pool = pool_to(up)
    for n in range(100):
        reply = await ask(pool)
        assert await reply.read(10) == b"ok"
        assert reply.reused == (n > 0)
    assert up.connections == pool.opened_total == 1
    assert pool.inflight == 0


async def test_a_connection_is_used_again_after_a_stream(upstream, pool_to, scripts) -> None:
    up = await upstream(scripts(STREAM + b"1\r\na\r\n0\r\nTrailer: 1\r\n\r\n", hold=True))
    pool = pool_to(up)
    for _ in range(10):
        assert await (await ask(pool)).read(10) == b"a"
    assert up.connections == 1


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"more",
        OK + OK,
        STREAM + b"2\r\nok\r\n0\r\n\r\nmore",
    ],
)
async def test_a_connection_is_not_used_again_after(upstream, pool_to, scripts, reply: bytes) -> None:
    up = await upstream(scripts(reply, hold=True))
    pool = pool_to(up)
    for _ in range(3):
        assert await (await ask(pool)).read(10) == b"ok"
    assert up.connections == 3


async def test_a_kept_connection_that_speaks_unasked_is_dropped(upstream, pool_to, eventually) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(OK)
        await asyncio.sleep(0.05)
        writer.write(OK)
        await up.wait_for_end(reader)

    up = await upstream(script)
    pool = pool_to(up)
    assert await (await ask(pool)).read(10) == b"ok"
    async with asyncio.timeout(5):
        await up.gone.wait()
    assert await (await ask(pool)).read(10) == b"ok"
    assert up.connections == 2


async def test_an_idle_connection_is_closed_in_time(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(OK)
        await up.wait_for_end(reader)

    up = await upstream(script)
    pool = pool_to(up, deadlines=Deadlines(upstream_keep_alive_s=0.1))
    assert await (await ask(pool)).read(10) == b"ok"
    async with asyncio.timeout(5):
        await up.gone.wait()


async def test_small_pieces_are_sent_at_once_to_upstreams(upstream, pool_to, scripts) -> None:
    pool = pool_to(await upstream(scripts(OK, hold=True)))
    await (await ask(pool)).read(10)
    sock = pool._idle[0]._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


async def test_a_reply_that_comes_before_its_request_has_left_ends_the_connection(upstream, pool_to) -> None:
    """Else the request would leave on a connection that others may use meanwhile."""

    async def script(up, reader, writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                await up.read_request(reader)
                writer.write(OK)

    up = await upstream(script)
    pool = pool_to(up)
    assert await (await ask(pool)).read(10) == b"ok"
    [connection] = pool._idle
    asking = asyncio.create_task(ask(pool, b"second"))
    await asyncio.sleep(0)  # its request waits for the end of this turn
    connection.data_received(OK)
    assert pool._idle == []
    assert await (await asking).read(10) == b"ok"
    assert await (await ask(pool, b"third")).read(10) == b"ok"
    assert up.bodies == [b"{}", b"third"]


async def test_a_request_on_a_connection_closed_meanwhile_is_sent_again_once(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        if up.connections == 1:
            writer.write(OK)
            await up.read_request(reader)
            return  # takes the second request and closes without a byte
        writer.write(OK)
        await up.wait_for_end(reader)

    up = await upstream(script)
    pool = pool_to(up, deadlines=Deadlines(stale_s=2.0))  # a machine may be busy
    connected: list[int] = []
    assert await (await ask(pool)).read(10) == b"ok"
    reply = await pool.request(b"POST", b"/", [], b"x", on_leaving=lambda: connected.append(1))
    assert await reply.read(10) == b"ok"
    assert not reply.reused
    assert connected == [1, 1]
    assert (up.connections, len(up.requests)) == (2, 3)


async def test_a_request_on_a_fresh_connection_is_never_sent_twice(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)

    up = await upstream(script)
    error = await failure(pool_to(up))
    assert (error.kind, error.sent, len(up.requests)) == ("reset", True, 1)


async def test_a_request_that_may_have_been_at_work_is_not_sent_twice(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(OK)
        await up.read_request(reader)
        await asyncio.sleep(0.2)

    up = await upstream(script)
    pool = pool_to(up)
    await (await ask(pool)).read(10)
    error = await failure(pool)
    assert (error.kind, len(up.requests)) == ("reset", 2)


async def test_a_request_that_got_part_of_a_head_is_not_sent_twice(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        writer.write(OK)
        await up.read_request(reader)
        writer.write(b"HTTP/1.1 2")
        await writer.drain()

    up = await upstream(script)
    pool = pool_to(up)
    await (await ask(pool)).read(10)
    error = await failure(pool)
    assert (error.kind, len(up.requests)) == ("reset", 2)


# Turns


async def test_no_more_connections_are_open_than_allowed_and_the_others_wait_in_order(
    upstream, pool_to
) -> None:
    release = asyncio.Semaphore(0)

    async def script(up, reader, writer) -> None:
        while True:
            body = await up.read_request(reader)
            await release.acquire()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    up = await upstream(script)
    pool = pool_to(up, connections=2)
    done: list[bytes] = []

    async def one(n: int) -> None:
        done.append(await (await ask(pool, b"%d" % n)).read(10))

    tasks = []
    for n in range(6):
        tasks.append(asyncio.create_task(one(n)))
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert (pool.inflight, pool.waiting, up.connections) == (2, 4, 2)
    for _ in range(6):
        release.release()
    await asyncio.gather(*tasks)
    assert sorted(up.bodies) == [b"%d" % n for n in range(6)]
    assert up.bodies[2:] == [b"2", b"3", b"4", b"5"]
    assert (pool.inflight, pool.waiting, up.connections) == (0, 0, 2)


async def test_waiting_too_long_or_in_too_long_a_queue_is_refused(upstream, pool_to) -> None:
    async def script(up, reader, writer) -> None:
        await up.read_request(reader)
        await up.wait_for_end(reader)

    pool = pool_to(
        await upstream(script), connections=1, deadlines=Deadlines(queue_s=0.1), limits=Limits(waiting=1)
    )
    first = asyncio.create_task(ask(pool))
    await asyncio.sleep(0)
    second = asyncio.create_task(failure(pool))
    await asyncio.sleep(0)
    third = await failure(pool)
    assert (third.kind, third.sent) == ("pool_full", False)
    error = await second
    assert (error.kind, error.sent) == ("pool_full", False)
    first.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await first
    assert pool.inflight == 0


async def test_one_who_leaves_the_queue_takes_no_turn(upstream, pool_to, scripts) -> None:
    pool = pool_to(await upstream(scripts(STREAM, hold=True)), connections=1)
    holding = await ask(pool)
    waiting = [asyncio.create_task(ask(pool)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    holding.close()
    await asyncio.sleep(0)
    waiting[1].cancel()  # in the very turn in which it may be its turn
    reply = await waiting[2]
    assert reply.status == 200
    reply.close()
    await asyncio.sleep(0)
    assert (pool.inflight, pool.waiting) == (0, 0)


# What is not sent


@pytest.mark.parametrize(
    ("method", "target", "field"),
    [
        (b"POST", b"/a b", (b"x", b"1")),
        (b"POST", b"/a\r\nx: y", (b"x", b"1")),
        (b"POST", b"http://evil/", (b"x", b"1")),
        (b"POST", b"", (b"x", b"1")),
        (b"PO ST", b"/", (b"x", b"1")),
        (b"POST", b"/", (b"x", b"1\r\ny: 2")),
        (b"POST", b"/", (b"x", b"1\ny: 2")),
        (b"POST", b"/", (b"x\r\ny", b"2")),
        (b"POST", b"/", (b"host", b"evil")),
        (b"POST", b"/", (b"Content-Length", b"3")),
        (b"POST", b"/", (b"transfer-encoding", b"chunked")),
    ],
)
async def test_a_request_that_could_split_is_not_sent(
    upstream, pool_to, scripts, method, target, field
) -> None:
    up = await upstream(scripts(OK))
    with pytest.raises(ValueError, match=r"origin-form|field|set here"):
        await pool_to(up).request(method, target, [field], b"")
    assert up.connections == 0


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("169.254.169.254", False),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("2002:7f00:1::", False),
    ],
)
def test_private_addresses_are_told_from_public_ones(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_public_origin_that_leads_home_is_refused_before_connecting(
    upstream, pool_to, scripts, host
) -> None:
    up = await upstream(scripts(OK))
    error = await failure(pool_to(up, host=host, public_only=True))
    assert (error.kind, error.sent, up.connections) == ("connect", False, 0)


async def test_proxy_settings_of_the_environment_are_ignored(upstream, pool_to, scripts, monkeypatch) -> None:
    proxy = await upstream(scripts(OK))
    up = await upstream(scripts(OK))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert await (await ask(pool_to(up))).read(10) == b"ok"
    assert (proxy.connections, up.connections) == (0, 1)

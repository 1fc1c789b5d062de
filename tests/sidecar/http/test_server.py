"""The server as a client sees it: connections, framing, order."""

import asyncio
import contextlib
import logging
import os
import resource
import socket
import time

import pytest

from sidecar.http import Deadlines, Limits, Request, Responder
from sidecar.http.server import affordable_connections
from sidecar.http.turns import FEW_AT_ONCE

GET = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes, path: bytes = b"/p", fields: bytes = b"") -> bytes:
    return b"POST %b HTTP/1.1\r\nHost: x\r\n%bContent-Length: %d\r\n\r\n%b" % (path, fields, len(body), body)


async def test_a_request_arrives_as_it_was_sent(serve) -> None:
    seen: list[Request] = []

    async def handler(request: Request, responder: Responder) -> None:
        seen.append(request)
        responder.send(200, [], b"ok")

    running = await serve(handler)
    await running.ask(
        b"POST /v1/x?q=1 HTTP/1.1\r\nHOST: x\r\nX-One: 1\r\nx-one:  2 \r\nAuthorization: Bearer k\r\n"
        b"Content-Length: 5\r\n\r\nhello"
    )
    request = seen[0]
    assert (request.method, request.path, request.query, request.body) == ("POST", "/v1/x", "q=1", b"hello")
    assert request.headers == [
        (b"host", b"x"),
        (b"x-one", b"1"),
        (b"x-one", b"2"),
        (b"authorization", b"Bearer k"),
        (b"content-length", b"5"),
    ]
    assert request.header(b"x-one") == b"1"
    assert request.header(b"absent") is None
    assert (request.client_address, request.http_version) == ("127.0.0.1", "1.1")
    assert request.received_ns > 0


async def test_a_connection_serves_many_requests(serve) -> None:
    running = await serve()
    client = await running.client()
    for n in range(50):
        reply = await client.ask(post(b"%d" % n))
        assert reply.body == b"POST /p? %d" % n
    assert running.server.connections == 1


async def test_of_clients_that_come_together_the_first_are_answered_before_the_last_are_accepted(
    serve,
) -> None:
    accepted: list[int] = []

    async def handler(request: Request, responder: Responder) -> None:
        accepted.append(running.server.connections)
        responder.send(200, [], b"")

    running = await serve(handler)
    many = 5 * FEW_AT_ONCE
    clients = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(many)]
    for client in clients:
        client.sendall(GET)
    for client in clients:
        assert (await asyncio.to_thread(client.recv, 100)).startswith(b"HTTP/1.1 200")
    for client in clients:
        client.close()
    assert accepted[0] == FEW_AT_ONCE
    assert accepted[-1] == many


async def test_pipelined_requests_are_answered_in_order(serve) -> None:
    async def slow_first(request: Request, responder: Responder) -> None:
        await asyncio.sleep(0.05 if request.body == b"0" else 0)
        responder.send(200, [], request.body)

    running = await serve(slow_first)
    client = await running.client()
    chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n2\r\n0\r\n\r\n"
    await client.send(post(b"0") + post(b"1") + chunked + post(b"3"))
    assert [(await client.reply()).body for _ in range(4)] == [b"0", b"1", b"2", b"3"]


async def test_a_pipeline_of_thousands_is_answered_within_bounded_memory_and_depth(serve) -> None:
    running = await serve(limits=Limits(pipelined_bytes=4096))
    client = await running.client()
    sending = asyncio.create_task(client.send(GET * 5000))
    for _ in range(5000):
        assert (await client.reply("GET")).status == 200
    await sending


async def test_reading_stops_while_a_request_is_answered_and_too_much_is_sent_ahead(serve) -> None:
    release = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        await release.wait()
        responder.send(200, [], b"")

    running = await serve(handler, limits=Limits(pipelined_bytes=4096))
    client = await running.client()
    await client.send(GET)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            while True:
                await client.send(b"x" * 65536)
    assert running.server.connections == 1
    release.set()
    assert (await client.reply("GET")).status == 200


async def test_a_client_that_sends_on_and_on_is_read_no_further_than_it_is_answered(serve) -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)  # little lies in the kernel
    listener.bind(("127.0.0.1", 0))
    running = await serve(sock=listener)
    client = await running.quiet_client()
    loop = asyncio.get_running_loop()
    sent = answered = furthest = 0

    async def send() -> None:
        nonlocal sent
        while True:
            await loop.sock_sendall(client, GET * 200)
            sent += 200

    sending = asyncio.create_task(send())
    while answered < 5000:
        answered += (await loop.sock_recv(client, 65536)).count(b"HTTP/1.1 200")
        furthest = max(furthest, (sent - answered) * len(GET))
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    client.close()
    assert furthest < 4_000_000  # the client's own socket takes a few megabytes


async def test_of_a_client_that_reads_nothing_no_more_requests_are_begun_than_fit(serve, eventually) -> None:
    begun = 0

    async def handler(request: Request, responder: Responder) -> None:
        nonlocal begun
        begun += 1
        responder.send(200, [], b"x" * 100_000)

    running = await serve(handler, limits=Limits(write_high_water=65536, pipelined_bytes=1000))
    client = await running.quiet_client()
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, GET * 300)
    await asyncio.sleep(0.3)
    assert begun < 100  # What the kernel holds back for it, and one or two.
    got = 0
    while got < 300 * 100_000:
        got += (await loop.sock_recv(client, 1 << 20)).count(b"x")
    assert begun == 300
    client.close()
    await eventually(lambda: running.server.connections == 0)


async def test_requests_that_come_one_by_one_wait_as_long_as_nobody_reads_the_replies(serve) -> None:
    begun = 0

    async def handler(request: Request, responder: Responder) -> None:
        nonlocal begun
        begun += 1
        responder.send(200, [], b"x" * 1_000_000)

    running = await serve(handler, limits=Limits(write_high_water=65536))
    client = await running.quiet_client()
    loop = asyncio.get_running_loop()
    for _ in range(30):
        await loop.sock_sendall(client, GET)
        await asyncio.sleep(0.01)
    assert begun < 15
    await running.server.drain(0.1)
    client.close()
    assert running.server.connections == 0


async def test_clients_that_wait_to_be_accepted_when_it_drains_are_answered(serve) -> None:
    running = await serve()
    clients = [socket.create_connection(("127.0.0.1", running.port)) for _ in range(200)]
    for client in clients:
        client.sendall(GET)
    # Nobody has been accepted yet: this task has held the loop since they came.
    assert running.server.connections == 0
    await running.server.drain(5.0)
    for client in clients:
        client.settimeout(5.0)
        reply = client.recv(65536)
        assert reply.startswith(b"HTTP/1.1 200") and b"connection: close" in reply.lower()
        assert client.recv(1) == b""
        client.close()


async def test_others_get_their_turn_while_a_body_comes_in_small_chunks(serve) -> None:
    running = await serve()
    client = socket.create_connection(("127.0.0.1", running.port))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
    small = b"20\r\n" + b"x" * 32 + b"\r\n"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    sending = asyncio.create_task(asyncio.to_thread(client.sendall, head + small * 200_000 + b"0\r\n\r\n"))
    client_reads = asyncio.create_task(asyncio.to_thread(client.recv, 100))
    others, longest, before = await running.client(), 0.0, time.thread_time()
    while not client_reads.done():
        assert (await others.ask(GET, "GET")).status == 200
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    await sending
    assert (await client_reads).startswith(b"HTTP/1.1 200")
    client.close()
    # Of the processor: one read of 256 KiB takes ten milliseconds, and 32 of them stood in one turn.
    assert longest < 0.15


async def test_a_client_that_reads_nothing_is_let_go_and_so_are_the_requests_that_wait(
    serve, eventually
) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        responder.send(200, [], b"x" * 1_000_000)

    running = await serve(
        handler, limits=Limits(write_high_water=65536), deadlines=Deadlines(stalled_client_s=0.3)
    )
    client = await running.quiet_client()
    await asyncio.get_running_loop().sock_sendall(client, GET * 1000)
    await eventually(lambda: running.server.connections == 1)
    await eventually(lambda: running.server.connections == 0)
    client.close()


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 50])
async def test_any_split_of_the_bytes_gives_the_same_requests(serve, piece: int) -> None:
    running = await serve()
    client = await running.client()
    chunked = b"POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: 1\r\n\r\n"
    data = post(b"hello") + chunked + GET
    for start in range(0, len(data), piece):
        client.writer.write(data[start : start + piece])
        await asyncio.sleep(0)
    bodies = [(await client.reply()).body for _ in range(3)]
    assert bodies == [b"POST /p? hello", b"POST /c? abcde", b"GET /a?b=c "]


async def test_continue_is_sent_when_the_client_waits_for_it(serve) -> None:
    running = await serve()
    client = await running.client()
    await client.send(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
    assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await client.ask(b"hi")).body == b"POST /? hi"


async def test_continue_is_not_sent_for_a_body_that_will_be_refused(serve) -> None:
    running = await serve(limits=Limits(body_bytes=1))
    reply = await running.ask(
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    )
    assert reply.status == 413


async def test_continue_is_not_sent_when_the_body_is_already_here(serve) -> None:
    running = await serve()
    client = await running.client()
    await client.send(post(b"hi", fields=b"Expect: 100-continue\r\n"))
    assert (await client.reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"


async def test_http_10_is_answered_and_closed(serve) -> None:
    running = await serve()
    client = await running.client()
    await client.send(b"POST /x HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi")
    answer = await client.closed()
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close" in answer
    assert answer.endswith(b"POST /x? hi")


async def test_a_stream_to_http_10_ends_with_the_connection(serve) -> None:
    async def stream(request: Request, responder: Responder) -> None:
        responder.start(200, [], length=None)
        responder.write(b"one ")
        responder.write(b"two")
        responder.finish()

    running = await serve(stream)
    client = await running.client()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    answer = await client.closed()
    assert b"transfer-encoding" not in answer
    assert answer.endswith(b"\r\n\r\none two")


async def test_a_broken_stream_to_http_10_ends_in_a_reset_not_a_plain_close(serve) -> None:
    async def breaks(request: Request, responder: Responder) -> None:
        responder.start(200, [], length=None)
        responder.write(b"one ")
        await asyncio.sleep(0.05)
        responder.abort()

    running = await serve(breaks)
    client = await running.client()
    await client.send(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        while await client.reader.read(65536):
            pass


async def test_connection_close_is_honoured(serve) -> None:
    running = await serve()
    client = await running.client()
    reply = await client.ask(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n")
    assert reply.header(b"connection") == b"close"
    assert await client.closed() == b""


async def test_upgrade_is_ignored_and_hides_no_body(serve) -> None:
    running = await serve()
    client = await running.client()
    upgrade = post(b"hi", fields=b"Connection: Upgrade\r\nUpgrade: h2c\r\n")
    await client.send(upgrade + GET)
    assert (await client.reply()).body == b"POST /p? hi"
    assert (await client.reply()).body == b"GET /a?b=c "


async def test_a_stream_is_chunked_and_arrives_as_written(serve) -> None:
    pieces = [b"data: 1\n\n", b"x" * 70_000, b"\r\n0\r\n\r\n", b"\0"]

    async def stream(request: Request, responder: Responder) -> None:
        responder.start(200, [(b"content-type", b"text/event-stream")], length=None)
        for piece in pieces:
            responder.write(piece)
            await asyncio.sleep(0)
        responder.finish()
        assert responder.bytes_written == sum(map(len, pieces))

    running = await serve(stream)
    client = await running.client()
    for _ in range(2):
        reply = await client.ask(GET, "GET")
        assert (reply.complete, reply.body) == (True, b"".join(pieces))
        assert reply.header(b"transfer-encoding") == b"chunked"


async def test_the_head_of_a_stream_does_not_wait_for_its_body(serve) -> None:
    go = asyncio.Event()

    async def stream(request: Request, responder: Responder) -> None:
        responder.start(200, [], length=None)
        await go.wait()
        responder.finish(b"end")

    running = await serve(stream)
    client = await running.client()
    await client.send(GET)
    async with asyncio.timeout(2):
        assert (await client.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    go.set()
    assert await client.reader.readexactly(13) == b"3\r\nend\r\n0\r\n\r\n"


async def test_the_head_and_the_first_bytes_leave_in_one_packet(serve) -> None:
    async def stream(request: Request, responder: Responder) -> None:
        responder.start(200, [], length=None)
        responder.write(b"first")
        await asyncio.sleep(0.05)
        responder.finish()

    running = await serve(stream)
    client = await running.client()
    await client.send(GET)
    assert (await client.reader.read(65536)).endswith(b"\r\n\r\n5\r\nfirst\r\n")


async def test_head_gets_the_head_alone(serve) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        responder.start(200, [], length=5)
        responder.write(b"hello")
        responder.finish()

    running = await serve(handler)
    client = await running.client()
    for _ in range(2):
        reply = await client.ask(GET.replace(b"GET", b"HEAD"), "HEAD")
        assert (reply.header(b"content-length"), reply.body, reply.complete) == (b"5", b"", True)


@pytest.mark.parametrize("status", [204, 304])
async def test_a_reply_without_body_has_no_framing(serve, status: int) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        responder.start(status, [], length=None)
        responder.write(b"never sent")
        responder.finish()

    running = await serve(handler)
    client = await running.client()
    for _ in range(2):
        reply = await client.ask(GET, "GET")
        assert (reply.status, reply.headers, reply.body, reply.complete) == (status, [], b"", True)


async def test_an_unregistered_status_is_passed_on(serve) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        responder.send(529, [], b"overloaded")

    assert (await (await serve(handler)).ask(GET, "GET")).status == 529


@pytest.mark.parametrize("written", [b"four", b"sixsix"])
async def test_a_body_that_misses_its_length_is_broken_off(serve, written: bytes) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        responder.start(200, [], length=5)
        with contextlib.suppress(ValueError):
            responder.write(written)
        responder.finish() if not responder.client_gone else None

    reply = await (await serve(handler)).ask(GET, "GET")
    assert not reply.complete


async def test_a_handler_that_fails_gives_500_and_the_next_request_is_served(serve, caplog) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        if request.path == "/p":
            raise LookupError("a bug")
        responder.send(200, [], b"fine")

    running = await serve(handler)
    client = await running.client()
    with caplog.at_level(logging.CRITICAL, logger="sidecar.http.connection"):
        assert (await client.ask(post(b""))).status == 500
    assert (await client.ask(GET, "GET")).body == b"fine"


async def test_a_handler_that_forgets_to_answer_gives_500(serve) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        return

    assert (await (await serve(handler)).ask(GET, "GET")).status == 500


async def test_a_handler_that_fails_in_mid_reply_leaves_it_visibly_incomplete(serve, caplog) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        responder.start(200, [], length=None)
        responder.write(b"half")
        raise LookupError("a bug")

    with caplog.at_level(logging.CRITICAL, logger="sidecar.http.connection"):
        reply = await (await serve(handler)).ask(GET, "GET")
    assert not reply.complete


@pytest.mark.parametrize(
    "field",
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x\r\ny", b"a"),
        (b"x", b"a\0"),
        (b"x y", b"a"),
        (b"", b"a"),
        (b"content-length", b"3"),
        (b"Transfer-Encoding", b"chunked"),
        (b"connection", b"close"),
    ],
)
async def test_a_reply_field_that_would_break_or_reframe_the_head_is_refused(serve, field, caplog) -> None:
    async def handler(request: Request, responder: Responder) -> None:
        with pytest.raises(ValueError, match=r"field|set here"):
            responder.send(200, [field], b"")
        responder.send(200, [], b"caught")

    assert (await (await serve(handler)).ask(GET, "GET")).body == b"caught"


async def test_small_pieces_are_sent_at_once_to_clients_and_silent_ones_are_probed(serve) -> None:
    found: list[int] = []

    async def handler(request: Request, responder: Responder) -> None:
        sock = responder._transport.get_extra_info("socket")
        found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        found.append(sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
        responder.send(200, [], b"")

    await (await serve(handler)).ask(GET, "GET")
    assert all(found)
    assert len(found) == 2


async def test_the_request_too_many_gets_503_and_the_others_go_on(serve, eventually) -> None:
    release = asyncio.Event()

    async def handler(request: Request, responder: Responder) -> None:
        await release.wait()
        responder.send(200, [], b"served")

    running = await serve(handler, limits=Limits(requests=2))
    busy = [await running.client() for _ in range(2)]
    for client in busy:
        await client.send(GET)
    extra = await running.client()
    await eventually(lambda: running.server.requests == 2)
    reply = await extra.ask(GET, "GET")
    assert (reply.status, reply.header(b"retry-after")) == (503, b"1")
    release.set()
    assert [(await client.reply("GET")).body for client in busy] == [b"served"] * 2
    assert (await extra.ask(GET, "GET")).status == 200  # its connection was kept


async def test_the_connection_too_many_gets_503_and_is_closed(serve, eventually) -> None:
    running = await serve(limits=Limits(connections=2))
    for _ in range(2):
        assert (await running.ask(GET, "GET")).status == 200
    extra = await running.client()
    reply = await extra.reply("GET")
    assert (reply.status, reply.header(b"retry-after")) == (503, b"1")
    running.clients[0].leave()
    await eventually(lambda: running.server.connections < 2)
    assert (await running.ask(GET, "GET")).status == 200


async def test_running_out_of_file_descriptors_is_survived(serve, eventually, caplog) -> None:
    running = await serve()
    waiting = socket.create_connection(("127.0.0.1", running.port))  # not accepted before we await
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    hoard: list[int] = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 10, hard))
        with contextlib.suppress(OSError):
            while True:
                hoard.append(os.open(os.devnull, os.O_RDONLY))
        await asyncio.sleep(0.05)
        assert running.server.connections == 0
        assert "accepting is paused" in caplog.text
    finally:
        for fd in hoard:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await eventually(lambda: running.server.connections == 1)
    waiting.close()
    assert (await running.ask(GET, "GET")).status == 200


def test_no_more_connections_are_offered_than_there_are_file_descriptors() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert affordable_connections(10) == 10
    assert affordable_connections(10**9) < max(soft, 10**9)


async def test_two_servers_can_share_a_port(serve) -> None:
    first = await serve(reuse_port=True)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", first.port))
    second = await serve(sock=sock)
    for _ in range(40):
        assert (await first.ask(GET, "GET")).status == 200
    assert first.server.connections + second.server.connections == 40
    assert second.server.connections > 0


@pytest.mark.parametrize("field", ["head_s", "body_s", "idle_s"])
def test_a_deadline_must_be_positive(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        Deadlines(**{field: 0})


def test_a_limit_must_be_positive() -> None:
    with pytest.raises(ValueError, match="body_bytes"):
        Limits(body_bytes=0)

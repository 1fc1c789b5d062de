"""A corpus of malformed and hostile requests, each sent to a running server.

Each gets a clean status and a closed connection, its handler is never called, and the
next client is served. So does each when it comes byte by byte.
"""

import asyncio

import pytest

from sidecar.http import Limits, Request, Responder

GOOD = b"POST /v1/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"


def post(fields: bytes, body: bytes = b"") -> bytes:
    return b"POST /v1/x HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n" + body


def line(request_line: bytes) -> bytes:
    return request_line + b"\r\nHost: x\r\n\r\n"


CHUNKED = b"Transfer-Encoding: chunked\r\n"

CORPUS: list[tuple[str, bytes, int]] = [
    # framing: A05, A06
    ("length and chunked", post(b"Content-Length: 3\r\n" + CHUNKED, b"0\r\n\r\n"), 400),
    ("chunked and length", post(CHUNKED + b"Content-Length: 3\r\n", b"0\r\n\r\n"), 400),
    ("two lengths that differ", post(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abcd"), 400),
    ("two lengths that agree", post(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), 400),
    ("a list of lengths", post(b"Content-Length: 3, 3\r\n", b"abc"), 400),
    ("a signed length", post(b"Content-Length: +3\r\n", b"abc"), 400),
    ("a negative length", post(b"Content-Length: -1\r\n"), 400),
    ("a hexadecimal length", post(b"Content-Length: 0x3\r\n", b"abc"), 400),
    ("a length with an underscore", post(b"Content-Length: 1_0\r\n", b"a" * 10), 400),
    ("an empty length", post(b"Content-Length: \r\n"), 400),
    ("a length beyond 64 bits", post(b"Content-Length: 99999999999999999999\r\n"), 400),
    ("a length in other digits", post("Content-Length: ٣\r\n".encode(), b"abc"), 400),
    ("chunked twice", post(CHUNKED + CHUNKED, b"0\r\n\r\n"), 400),
    ("chunked, chunked", post(b"Transfer-Encoding: chunked, chunked\r\n", b"0\r\n\r\n"), 400),
    ("gzip, chunked", post(b"Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 400),
    ("identity", post(b"Transfer-Encoding: identity\r\n"), 400),
    ("xchunked", post(b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"), 400),
    ("chunked with a vertical tab", post(b"Transfer-Encoding: \x0bchunked\r\n", b"0\r\n\r\n"), 400),
    ("chunked and a tab", post(b"Transfer-Encoding: chunked\t\r\n", b"0\r\n\r\n"), 400),
    ("chunked in quotes", post(b'Transfer-Encoding: "chunked"\r\n', b"0\r\n\r\n"), 400),
    ("chunked with a parameter", post(b"Transfer-Encoding: chunked;q=1\r\n", b"0\r\n\r\n"), 400),
    ("chunked in HTTP/1.0", b"POST / HTTP/1.0\r\nHost: x\r\n" + CHUNKED + b"\r\n0\r\n\r\n", 400),
    ("a bad chunk size", post(CHUNKED, b"zz\r\n"), 400),
    ("a chunk longer than its size", post(CHUNKED, b"1\r\nab\r\n0\r\n\r\n"), 400),
    ("a chunk size with a sign", post(CHUNKED, b"+1\r\na\r\n0\r\n\r\n"), 400),
    ("a chunk with a bare line feed", post(CHUNKED, b"1\na\n0\n\n"), 400),
    ("a chunk size beyond 60 bits", post(CHUNKED, b"1111111111111111\r\n"), 400),
    ("a bad trailer", post(CHUNKED, b"0\r\nX : 1\r\n\r\n"), 400),
    # fields: A06, A07, A08
    ("two hosts", post(b"Host: y\r\n"), 400),
    ("two hosts that agree", post(b"Host: x\r\n"), 400),
    ("no host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("an empty host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("a host with a path", b"GET / HTTP/1.1\r\nHost: x/?\r\n\r\n", 400),
    ("a host with a fragment", b"GET / HTTP/1.1\r\nHost: x#\r\n\r\n", 400),
    ("a host with dots and slashes", b"GET / HTTP/1.1\r\nHost: evil/..\r\n\r\n", 400),
    ("a host of nine kilobytes", b"GET / HTTP/1.1\r\nHost: " + b"h" * 9000 + b"\r\n\r\n", 400),
    ("bare line feeds", b"GET / HTTP/1.1\nHost: x\n\n", 400),
    ("one bare line feed", b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400),
    ("a bare carriage return", post(b"A: b\rC: d\r\n"), 400),
    ("space before the colon", post(b"Content-Length : 3\r\n", b"abc"), 400),
    ("tab before the colon", post(b"A\t: b\r\n"), 400),
    ("space in a name", post(b"A b: c\r\n"), 400),
    ("an empty name", post(b": c\r\n"), 400),
    ("no colon", post(b"abc\r\n"), 400),
    ("a name outside ASCII", post(b"\xc3\xa9: c\r\n"), 400),
    ("a folded field", post(b"A: b\r\n c\r\n"), 400),
    ("a fold before the first field", b"GET / HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    ("NUL in a value", post(b"A: b\0c\r\n"), 400),
    ("a control byte in a value", post(b"A: b\x01c\r\n"), 400),
    ("DEL in a value", post(b"A: b\x7f\r\n"), 400),
    ("101 fields", post(b"".join(b"A%d: b\r\n" % n for n in range(100))), 431),
    ("a head of 33 kB", post(b"A: " + b"b" * 33_000 + b"\r\n"), 431),
    ("a head of 33 kB without end", b"GET /" + b"a" * 33_000, 431),
    ("a compressed body", post(b"Content-Encoding: gzip\r\nContent-Length: 3\r\n", b"abc"), 415),
    ("an unknown expectation", post(b"Expect: 200-ok\r\n"), 417),
    # request lines and targets: A13, A16, A17
    ("TRACE", line(b"TRACE / HTTP/1.1"), 405),
    ("CONNECT", b"CONNECT evil:443 HTTP/1.1\r\nHost: evil:443\r\n\r\n", 405),
    ("an unknown method", line(b"FROB / HTTP/1.1"), 501),
    ("a method in small letters", line(b"post / HTTP/1.1"), 501),
    ("another host in absolute form", line(b"GET http://evil/v1/models HTTP/1.1"), 400),
    ("our host in absolute form", line(b"GET http://x/v1/models HTTP/1.1"), 400),
    ("asterisk form", line(b"OPTIONS * HTTP/1.1"), 400),
    ("authority form", line(b"GET evil:80 HTTP/1.1"), 400),
    ("a dot segment", line(b"GET /v1/../admin HTTP/1.1"), 400),
    ("an encoded dot segment", line(b"GET /v1/%2e%2e/admin HTTP/1.1"), 400),
    ("two slashes", line(b"GET //admin HTTP/1.1"), 400),
    ("a path parameter", line(b"GET /v1/models;x HTTP/1.1"), 400),
    ("an encoded slash", line(b"GET /v1%2fmodels HTTP/1.1"), 400),
    ("a path outside ASCII", line(b"GET /\xc3\xa9 HTTP/1.1"), 400),
    ("a control byte in the path", line(b"GET /\x01 HTTP/1.1"), 400),
    ("two spaces before the target", line(b"GET  / HTTP/1.1"), 400),
    ("two spaces before the version", line(b"GET /  HTTP/1.1"), 400),
    ("a tab for a space", line(b"GET\t/ HTTP/1.1"), 400),
    ("a space behind the version", line(b"GET / HTTP/1.1 "), 400),
    ("a blank line first", b"\r\n" + GOOD, 400),
    ("no version", line(b"GET /"), 400),
    ("a version in small letters", line(b"GET / http/1.1"), 400),
    ("HTTP/0.9", line(b"GET / HTTP/0.9"), 505),
    ("HTTP/1.2", line(b"GET / HTTP/1.2"), 505),
    ("HTTP/2.0", line(b"GET / HTTP/2.0"), 505),
    ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x12\x04\0\0\0\0\0", 505),
    ("ICE", line(b"SOURCE / ICE/1.0"), 400),
    ("a TLS ClientHello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), 400),
    ("an SSH greeting", b"SSH-2.0-OpenSSH_9.6\r\n", 400),
    ("binary noise", bytes(range(256)), 400),
]  # fmt: skip


@pytest.mark.parametrize(("data", "status"), [row[1:] for row in CORPUS], ids=[row[0] for row in CORPUS])
async def test_a_malformed_request_is_refused_and_the_connection_closed(
    serve, data: bytes, status: int
) -> None:
    handled: list[Request] = []

    async def handler(request: Request, responder: Responder) -> None:
        handled.append(request)
        responder.send(200, [], b"")

    running = await serve(handler)
    client = await running.client()
    reply = await client.ask(data, "GET")
    assert (reply.status, reply.complete) == (status, True)
    assert reply.header(b"connection") == b"close"
    assert await client.closed() == b""
    assert handled == []
    assert (await running.ask(GOOD)).status == 200
    assert len(handled) == 1


async def test_malformed_requests_are_refused_the_same_byte_by_byte(serve) -> None:
    running = await serve()

    async def drip(data: bytes) -> int:
        client = await running.client()
        for byte in data:
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
            if client.reader.at_eof():
                break
        return (await client.reply("GET")).status

    rows = [row for row in CORPUS if len(row[1]) < 400]
    found = await asyncio.gather(*(drip(data) for _, data, _ in rows))
    assert dict(zip((row[0] for row in rows), found, strict=True)) == {row[0]: row[2] for row in rows}


async def test_a_refusal_says_which_methods_are_served(serve) -> None:
    running = await serve()
    assert b"POST" in ((await running.ask(line(b"TRACE / HTTP/1.1"))).header(b"allow") or b"")


async def test_a_refusal_carries_the_path_so_that_it_can_be_worded_in_its_dialect(serve) -> None:
    running = await serve()
    reply = await running.ask(b"POST /v1/messages HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n")
    assert (reply.status, reply.header(b"x-path")) == (400, b"/v1/messages")


async def test_limits_are_exact(serve) -> None:
    running = await serve(limits=Limits(head_bytes=200, head_fields=3, body_bytes=10))
    head = b"POST / HTTP/1.1\r\nHost: x\r\nA: "
    fits = head + b"b" * (200 - len(head) - 4) + b"\r\n\r\n"
    assert len(fits) == 200
    assert (await running.ask(fits)).status == 200
    assert (await running.ask(fits.replace(b"A: ", b"A: b"))).status == 431
    assert (await running.ask(post(b"A: 1\r\nB: 2\r\n"))).status == 200
    assert (await running.ask(post(b"A: 1\r\nB: 2\r\nC: 3\r\n"))).status == 431
    assert (await running.ask(post(b"Content-Length: 10\r\n", b"x" * 10))).status == 200
    assert (await running.ask(post(b"Content-Length: 11\r\n", b"x" * 11))).status == 413


async def test_a_body_too_long_is_refused_before_it_is_read(serve) -> None:
    running = await serve()
    client = await running.client()
    reply = await client.ask(post(b"Content-Length: %d\r\n" % (21 << 20)))
    assert reply.status == 413
    assert await client.closed() == b""


async def test_a_refused_client_that_goes_on_sending_still_reads_the_refusal(serve) -> None:
    running = await serve()
    client = await running.client()
    await client.send(post(b"Content-Length: %d\r\n" % (21 << 20)) + b"x" * 300_000)
    await asyncio.sleep(0.02)
    await client.send(b"x" * 300_000)
    assert (await client.reply()).status == 413


async def test_a_chunked_body_too_long_is_refused_when_it_passes_the_limit(serve) -> None:
    running = await serve(limits=Limits(body_bytes=100_000))
    client = await running.client()
    await client.send(post(CHUNKED))
    for _ in range(11):
        await client.send(b"2710\r\n" + b"x" * 10_000 + b"\r\n")
    assert (await client.reply()).status == 413
    assert await client.closed() == b""


async def test_a_compressed_body_is_not_inflated(serve) -> None:
    running = await serve()
    reply = await running.ask(post(b"Content-Encoding: br\r\nContent-Length: 3\r\n", b"abc"))
    assert reply.status == 415
    assert (
        await running.ask(post(b"Content-Encoding: identity\r\nContent-Length: 2\r\n", b"ab"))
    ).status == 200

"""The server's side of HTTP/1.1, as small as it can be and still break things on command.

A framework would hide what the faults need: half a body, a reset connection, a
stream without an end. One request of a connection is answered at a time; those
behind it wait, and the socket is not read meanwhile.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

import httptools

MAX_BODY_BYTES = 64 << 20
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    413: "Content Too Large", 429: "Too Many Requests", 500: "Internal Server Error", 502: "Bad Gateway",
    503: "Service Unavailable", 529: "Overloaded",
}  # fmt: skip


@dataclass(slots=True)
class Request:
    """One request, wholly read."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    """By lower-case name; of several alike the last."""
    body: bytes = b""
    keep_alive: bool = True


class Exchange:
    """One request and the means to answer it."""

    def __init__(self, request: Request, connection: "_Connection") -> None:
        self.request = request
        self._connection = connection
        self._chunked = False

    def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The whole reply at once."""
        self._connection.write(
            _head(status, headers, f"content-length: {len(body)}\r\n", self._close()) + body
        )

    def start(self, status: int, headers: Mapping[str, str], *, length: int | None = None) -> None:
        """The head alone; without ``length`` the body is chunked."""
        self._chunked = length is None
        framing = "transfer-encoding: chunked\r\n" if length is None else f"content-length: {length}\r\n"
        self._connection.write(_head(status, headers, framing, self._close()))

    async def write(self, data: bytes) -> None:
        """A piece of the body; waits while the client reads too slowly."""
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        await self._connection.writable()

    def finish(self) -> None:
        """The end of a started body."""
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")

    def hang_up(self) -> None:
        """Close politely, whatever was promised."""
        self._connection.close()

    def reset(self) -> None:
        """Close so that the client sees a reset (RST), not an end."""
        self._connection.reset()

    def _close(self) -> str:
        return "" if self.request.keep_alive else "connection: close\r\n"


Handler = Callable[[Exchange], Awaitable[None]]


class _Connection(asyncio.Protocol):
    """Reads requests, hands them on one by one."""

    def __init__(self, handler: Handler, server: "HttpServer") -> None:
        self._handler = handler
        self._server = server
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._request = Request()
        self._body: list[bytes] = []
        self._size = 0
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self.draining = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have asyncio's methods but not its base class.
        self._transport = cast(asyncio.Transport, transport)
        self._server.opened(self)
        raw = transport.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.closed(self)
        if self._task is not None:
            self._task.cancel()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._transport.write(_head(400, {}, "content-length: 0\r\n", "connection: close\r\n"))
            self._transport.close()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    # the parser's side

    def on_message_begin(self) -> None:
        self._request = Request()
        self._body = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._request.headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            self._transport.write(_head(413, {}, "content-length: 0\r\n", "connection: close\r\n"))
            self._transport.close()
            return
        self._body.append(data)

    def on_message_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode("ascii")
        request.path = request.path.partition("?")[0]
        request.body = b"".join(self._body)
        # httptools answers this rightly only inside this callback.
        request.keep_alive = self._parser.should_keep_alive()
        self._body = []
        self._waiting.append(request)
        if self._task is None:
            self._next()
        else:
            self._transport.pause_reading()

    # the exchange's side

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def writable(self) -> None:
        if self._drained is not None:
            await self._drained

    def close(self) -> None:
        self._transport.close()

    def reset(self) -> None:
        raw = self._transport.get_extra_info("socket")
        with suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def close_when_idle(self) -> None:
        """Finish the running exchange, then close."""
        self.draining = True
        if self._task is None:
            self._transport.close()

    def _next(self) -> None:
        request = self._waiting.popleft()
        self._task = asyncio.get_running_loop().create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        await self._handler(Exchange(request, self))
        self._task = None
        if self.draining or not request.keep_alive:
            self._transport.close()
        elif self._waiting:
            self._next()
        elif not self._transport.is_closing():
            self._transport.resume_reading()


class HttpServer:
    """Listens, and ends without cutting anyone off while there is time."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._open: set[_Connection] = set()
        self._all_closed = asyncio.Event()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which matters when 0 was asked for."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._handler, self), host, port, backlog=1024
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, timeout_s: float = 2.0) -> None:
        """Stop listening, let running exchanges end for ``timeout_s`` seconds, then reset the rest."""
        if self._server is not None:
            self._server.close()
        for connection in list(self._open):
            connection.close_when_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s if self._open else 0):
                await self._all_closed.wait()
        for connection in list(self._open):
            connection.reset()

    def opened(self, connection: _Connection) -> None:
        """A client has connected."""
        self._open.add(connection)
        self._all_closed.clear()

    def closed(self, connection: _Connection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()


def _head(status: int, headers: Mapping[str, str], framing: str, connection: str) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\n{lines}{framing}{connection}\r\n".encode(
        "latin-1"
    )

"""A small HTTP/1.1 client for replays: keeps connections, reads streams, can leave in the middle.

An SDK would cost more than the calls it makes. Replies are not kept: only their
status, their size and their end matter here.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

_TAIL_BYTES = 96
_ENDINGS = (b"data: [DONE]", b'"type":"message_stop"', b'"type": "message_stop"')
_CLOSING_EVENTS = (b"event: response.completed", b"event: response.incomplete", b"event: response.failed")


@dataclass(slots=True)
class Reply:
    """What came back."""

    status: int = 0
    """0 when nothing did."""
    stream: bool = False
    whole: bool = False
    """The body ended as HTTP and, for a stream, as its dialect says it should."""
    left: bool = False
    """We closed the connection ourselves."""
    body_bytes: int = 0
    events: int = 0
    first_byte_s: float | None = None
    duration_s: float = 0.0
    retry_after_s: float | None = None


class _Connection(asyncio.Protocol):
    """One connection; answers one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.open = False
        self._done: asyncio.Future[None] | None = None
        self._reset(None)

    def _reset(self, leaves_after_events: int | None) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.reply = Reply()
        self._leaves_after = leaves_after_events
        self._tail = b""
        self._closing_event = False
        self._reusable = True

    async def exchange(self, request: bytes, leaves_after_events: int | None) -> Reply:
        """Send a request, read its reply to the end or to where we leave."""
        loop = asyncio.get_running_loop()
        self._reset(leaves_after_events)
        self._done = loop.create_future()
        started = loop.time()
        self._started = started
        self.transport.write(request)
        try:
            await self._done
        except asyncio.CancelledError:
            self.transport.abort()
            raise
        self.reply.duration_s = loop.time() - started
        if not self._reusable:
            self.transport.close()
            self.open = False
        return self.reply

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.open = True
        with suppress(OSError, AttributeError):
            raw = transport.get_extra_info("socket")
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._finish()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._reusable = False
            self.transport.abort()

    def on_status(self, status: bytes) -> None:
        self.reply.first_byte_s = asyncio.get_running_loop().time() - self._started

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"content-type":
            self.reply.stream = value.startswith(b"text/event-stream")
        elif lowered == b"retry-after":
            with suppress(ValueError):
                self.reply.retry_after_s = float(value)

    def on_headers_complete(self) -> None:
        self.reply.status = self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        reply = self.reply
        reply.body_bytes += len(data)
        if not reply.stream:
            return
        reply.events += data.count(b"\n\n")
        if not self._closing_event:
            seen = self._tail + data
            self._closing_event = any(ending in seen for ending in (*_ENDINGS, *_CLOSING_EVENTS))
            self._tail = seen[-_TAIL_BYTES:]
        if self._leaves_after is not None and reply.events >= self._leaves_after and not reply.left:
            reply.left = True
            self._reusable = False
            self.transport.abort()

    def on_message_complete(self) -> None:
        self.reply.whole = not self.reply.left and (self._closing_event or not self.reply.stream)
        # httptools answers this rightly only inside this callback.
        self._reusable = self._reusable and self._parser.should_keep_alive()
        self._finish()

    def _finish(self) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_result(None)


class Client:
    """Connections to one base URL.

    Raises:
        ValueError: the base URL is not http or https.
    """

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"a base URL such as http://127.0.0.1:4000 is needed, not {base_url!r}")
        self._host = parts.hostname
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._prefix = parts.path.rstrip("/").removesuffix("/v1")
        self._authority = parts.netloc.rpartition("@")[2]
        self._idle: list[_Connection] = []

    async def post(
        self, path: str, headers: dict[str, str], body: bytes, *, leaves_after_events: int | None = None
    ) -> Reply:
        """One request; a reply with status 0 when the connection could not be had or broke at once."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            f"POST {self._prefix}{path} HTTP/1.1\r\nhost: {self._authority}\r\n"
            f"{lines}content-length: {len(body)}\r\n\r\n"
        )
        try:
            connection = await self._connection()
        except OSError:
            return Reply()
        reply = await connection.exchange(head.encode("latin-1") + body, leaves_after_events)
        if connection.open:
            self._idle.append(connection)
        return reply

    async def close(self) -> None:
        """Close every idle connection."""
        for connection in self._idle:
            connection.transport.close()
        self._idle.clear()

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.open and not connection.transport.is_closing():
                return connection
        loop = asyncio.get_running_loop()
        made: Any = await loop.create_connection(_Connection, self._host, self._port, ssl=self._tls)
        return cast(_Connection, made[1])

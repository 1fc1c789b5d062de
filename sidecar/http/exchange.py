"""One request of a client and the way to answer it."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from sidecar.http.fields import HeaderList, field_lines
from sidecar.http.gate import Gate, Take
from sidecar.http.outbox import Outbox
from sidecar.http.turns import Endings


class Request:
    """One fully read request."""

    __slots__ = (
        "body", "client_address", "derived", "expects_continue", "fields", "headers", "http_version",
        "keep_alive", "length", "method", "path", "query", "received_ns",
    )  # fmt: skip

    def __init__(self, method: str, path: str, query: str, headers: HeaderList) -> None:
        self.method = method
        self.path = path
        """In its plain form (:mod:`sidecar.http.target`)."""
        self.query = query
        """Without the ``?``, as sent."""
        self.headers = headers
        self.fields: dict[bytes, bytes] | None = None
        """``headers`` by name, where no name comes twice."""
        self.derived: dict[object, Any] = {}
        """What others worked out from the head alone; requests with the same head share it."""
        self.body = b""
        self.client_address = ""
        self.http_version = "1.1"
        """``1.0`` or ``1.1``."""
        self.received_ns = 0
        """``time.monotonic_ns`` when the last byte was read."""
        self.length: int | None = 0
        """The body's bytes as announced; None when it came chunked."""
        self.keep_alive = True
        """Whether the client would send more requests on this connection."""
        self.expects_continue = False
        """Whether the client waits for our word before it sends the body."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of the field ``name`` (lower case)."""
        if self.fields is not None:
            return self.fields.get(name)
        for field, value in self.headers:
            if field == name:
                return value
        return None


_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_NO_BODY = frozenset((*range(100, 200), 204, 304))
_LAST_LENGTH = b"content-length: %d\r\nconnection: close\r\n\r\n"
_SIZE_LINES = [b"%x\r\n" % size for size in range(2048)]


def head_bytes(status: int, headers: HeaderList, framing: bytes) -> bytes:
    """A reply's head; ``framing`` is the finished lines that we add.

    Raises:
        ValueError: as :func:`sidecar.http.fields.field_lines`.
    """
    line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
    return b"".join((line, field_lines(headers), framing, b"\r\n"))


class Responder:
    """The client's side of one exchange.

    Nothing here waits: what the client's socket does not take at once is kept, up
    to a bound, and ``on_flow`` says when to hold back. Once the client is gone,
    writing does nothing.
    """

    __slots__ = (
        "_buffer_limit", "_chunked", "_disconnect", "_endings", "_gate", "_head", "_head_only", "_http_10",
        "_length", "_loop", "_outbox", "_pause", "_paused", "_resume", "_steady", "_transport", "_written",
        "finished", "keep_alive", "left_in", "own_lines", "started",
    )  # fmt: skip

    def __init__(
        self,
        transport: asyncio.WriteTransport | None,
        request: Request,
        buffer_limit: int,
        loop: asyncio.AbstractEventLoop,
        outbox: Outbox,
        endings: Endings,
    ) -> None:
        self._transport = transport
        self._outbox = outbox
        self._endings = endings
        self._buffer_limit = buffer_limit
        self._loop = loop
        self.left_in = -1
        """The turn of the outbox that the reply waits in, if it does."""
        self.started = False
        self.finished = False
        """Whether the reply is complete; stays False after :meth:`abort`."""
        self._written = 0  # body bytes, but for those that went by the gate since it was opened
        self.keep_alive = request.keep_alive
        """Whether the connection may serve another request; may be turned off before the reply starts."""
        self.own_lines = b""
        """Header lines of ours that every reply gets besides its own, each with its end."""
        self._head = b""  # waits for the first body bytes, to leave in one packet with them
        self._head_only = request.method == "HEAD"
        self._http_10 = request.http_version == "1.0"
        self._length: int | None = None
        self._chunked = self._paused = False
        self._steady = (
            False  # whether the reply is chunked, its head is out, and the client is here and keeps up
        )
        self._gate: Gate | None = None
        self._disconnect: Callable[[], object] | None = None
        self._pause: Callable[[], None] | None = None
        self._resume: Callable[[], None] | None = None

    @property
    def bytes_written(self) -> int:
        """Body bytes handed to the client's socket or its buffer."""
        return self._written + self._gate.passed if self._gate is not None else self._written

    @property
    def client_gone(self) -> bool:
        """Whether nothing more can reach the client: it left, or the reply was aborted."""
        return self._transport is None

    def send(self, status: int, headers: HeaderList, body: bytes) -> None:
        """Answer with a whole reply, at the end of this turn of the loop.

        Raises:
            RuntimeError: the reply has already been started.
            ValueError: a header field is malformed or not the caller's to set.
        """
        if self.started:
            raise RuntimeError("the reply has already been started")
        size = len(body)
        transport = self._transport
        if status in _NO_BODY or self._head_only or transport is None:
            head = self._begin(status, headers, size)
            self.finished = True
            if transport is not None:
                self.left_in = self._outbox.put(transport, head, b"")
            return
        ending = b"content-length: %d\r\n\r\n" if self.keep_alive else _LAST_LENGTH
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        head = b"".join((line, field_lines(headers), self.own_lines, ending % size))
        self.started = self.finished = True
        self._written = size
        self.left_in = self._outbox.put(transport, head, body)

    def start(self, status: int, headers: HeaderList, *, length: int | None) -> None:
        """Begin a reply whose body follows by :meth:`write`.

        Args:
            status: of the reply.
            headers: without ``Connection``, ``Content-Length`` and ``Transfer-Encoding``.
            length: the body's bytes; None sends it chunked (to HTTP/1.0, up to the end of the connection).

        Raises:
            RuntimeError: the reply has already been started.
            ValueError: a header field is malformed or not the caller's to set.
        """
        self._head = self._begin(status, headers, length)
        # A body that is not here yet must not hold back the head.
        self._loop.call_soon(self._send_head)

    def _begin(self, status: int, headers: HeaderList, length: int | None) -> bytes:
        if self.started:
            raise RuntimeError("the reply has already been started")
        if status in _NO_BODY:
            self._head_only = True
            framing = b""
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
            self._length = length
        elif self._http_10:
            framing = b""
            self.keep_alive = False
        else:
            framing = b"transfer-encoding: chunked\r\n"
            self._chunked = True
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        head = head_bytes(status, headers, self.own_lines + framing)
        self.started = True
        return head

    def _send_head(self) -> None:
        head = self._head
        if head and self._transport is not None:
            self._head = b""
            self._transport.write(head)

    def write(self, data: bytes) -> None:
        """Send body bytes.

        Raises:
            RuntimeError: the reply has not been started, or is finished.
            ValueError: more bytes than ``start`` announced; the reply is aborted.
        """
        transport = self._transport
        if self._steady and transport is not None and data:
            size = len(data)
            self._written += size
            line = _SIZE_LINES[size] if size < 2048 else b"%x\r\n" % size
            transport.write(b"".join((line, data, b"\r\n")))
            if self._paused:
                self._check_unsent(transport)
            return
        if self.finished or not self.started:
            raise RuntimeError("the reply is not open for writing")
        if transport is None or not data or self._head_only:
            return
        size = len(data)
        self._written += size
        if self._chunked:
            line = _SIZE_LINES[size] if size < 2048 else b"%x\r\n" % size
            if self._head:
                data = b"".join((self._head, line, data, b"\r\n"))
                self._head = b""
            else:
                data = b"".join((line, data, b"\r\n"))
        else:
            if self._length is not None and self._written > self._length:
                self.abort()
                raise ValueError(f"the body exceeds the {self._length} bytes announced")
            if self._head:
                data = self._head + data
                self._head = b""
        transport.write(data)
        if self._paused:
            self._check_unsent(transport)
        else:
            self._steady = self._chunked

    def open(self, gate: Gate, lane: object, told: Take) -> None:
        """Have chunks that ``lane`` reads sent as they come, for as long as this client keeps up."""
        transport = self._transport
        if self._steady and transport is not None:
            gate.lead(lane, transport.write, told)
            self._gate = gate

    def shut(self) -> None:
        """Have all that comes looked at again."""
        if self._gate is not None:
            self._written += self._gate.shut()
            self._gate = None

    def _unsteady(self) -> None:
        self._steady = False
        self.shut()

    def _let_go(self) -> None:
        """Nobody is to be called any more: those who would be hold on to us."""
        self._disconnect = self._pause = self._resume = None

    def _check_unsent(self, transport: asyncio.WriteTransport) -> None:
        """Break off towards a client that has fallen too far behind."""
        if self._transport is not None and transport.get_write_buffer_size() > self._buffer_limit:
            self.abort()

    def in_turn(self, end: Callable[[], None]) -> None:
        """Call ``end``, which is to finish the reply, after requests that have come by now."""
        self._endings.take(end)

    def finish(self, last: bytes = b"") -> None:
        """End the reply, after the body bytes ``last``, at the end of this turn of the loop.

        A body short of its length aborts it.
        """
        if self.finished:
            return
        if not self.started:
            raise RuntimeError("the reply has not been started")
        self._unsteady()
        self._let_go()
        if self._chunked and not self._head_only:
            transport = self._transport
            self.finished = True
            if transport is not None:
                size = len(last)
                self._written += size
                if size:
                    ending = b"".join((self._head, b"%x\r\n" % size, last, b"\r\n0\r\n\r\n"))
                else:
                    ending = self._head + b"0\r\n\r\n"
                self._head = b""
                self.left_in = self._outbox.put(transport, ending, b"")
            return
        self._outbox.flush()
        if last:
            self.write(last)
        self._send_head()
        if self._length is not None and self._written != self._length and not self._head_only:
            self.abort()
            return
        self.finished = True

    def abort(self) -> None:
        """Break the reply off: the connection closes so that the client sees it is incomplete."""
        if self.finished or self._transport is None:
            return
        self._outbox.flush()
        self.started = True
        transport = self._transport
        self._transport = None
        self._unsteady()
        self._let_go()
        self._head = b""
        if self._http_10:
            # Where the end of the connection ends the body, only a reset says that this was not the end.
            transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE
            )
        transport.abort()

    def on_disconnect(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once if the client goes away before the reply is finished; at once if it has."""
        if self._transport is None:
            callback()
        else:
            self._disconnect = callback

    def on_flow(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        """Call ``pause`` when the client falls behind, ``resume`` when it has caught up."""
        self._pause = pause
        self._resume = resume
        if self._paused:
            pause()

    # What the connection tells.

    def client_left(self) -> None:
        """The connection is gone; tell whoever asked, once."""
        if self._transport is None:
            return
        self._transport = None
        self._unsteady()
        self._head = b""
        callback = self._disconnect
        self._let_go()
        if callback is not None and not self.finished:
            callback()

    def flow(self, *, paused: bool) -> None:
        """The client's socket is full, or has emptied."""
        self._paused = paused
        self._unsteady()
        callback = self._pause if paused else self._resume
        if callback is not None and not self.finished:
            callback()


Handler = Callable[[Request, Responder], Awaitable[None]]
"""Answers one request: the reply must be finished or aborted when it returns."""

ErrorBody = Callable[[Request | None, str, int, str], tuple[HeaderList, bytes]]
"""Words a refusal of the server itself: request (None when its head could not be read), path ("" when
unknown), status, message; gives the header fields and the body."""

"""One connection to an upstream: one request at a time, its reply pushed on as it is read.

    IDLE ──► AWAITING_HEAD ──► LENGTH | CHUNKED | UNTIL_CLOSE ──► IDLE, or CLOSED

Nothing is believed of an upstream that HTTP leaves open to argument: a reply that
could be read in two ways ends as a ``protocol`` error and takes the connection with it.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

from sidecar.http.chunked import LONG_READ, REPLY_FRAMING, ChunkedDecoder, ChunkError
from sidecar.http.fields import HeaderList
from sidecar.http.gate import Gate, gate
from sidecar.http.head import HeadError, read_response_head
from sidecar.http.limits import Deadlines, Limits
from sidecar.http.outbox import Outbox
from sidecar.http.reply import UpstreamError, UpstreamErrorKind, UpstreamReply
from sidecar.http.sweep import Clock
from sidecar.http.tcp import prepare_transport

IDLE, AWAITING_HEAD, LENGTH, CHUNKED, UNTIL_CLOSE, CLOSED = range(6)
_INTERIM_REPLIES = 16
_NO_BODY = (204, 304)


class Owner(Protocol):
    """What a connection needs of its pool."""

    address: str
    limits: Limits
    deadlines: Deadlines
    clock: Clock
    outbox: Outbox

    def returned(self, connection: "UpstreamConnection") -> None:
        """The reply is over and the connection can serve another call."""

    def ended(self, connection: "UpstreamConnection", *, replying: bool) -> None:
        """The connection is closed; ``replying``: with a reply that had begun."""


class UpstreamConnection:
    """Speaks HTTP/1.1 with one upstream; see the module for its states.

    A protocol as asyncio knows it, without a class above it for the reason that
    :class:`sidecar.http.connection.ServerConnection` has none.
    """

    __slots__ = (
        "_body_left", "_decoder", "_end_by_ns", "_gate", "_head_only", "_held", "_interim", "_keep_alive",
        "_left_in", "_owner", "_paused", "_reply", "_resting", "_round_trip_s", "_sent_ns",
        "_since_ns", "_state", "_transport", "_waiter", "address", "data_received", "loop", "reply_buffer",
        "reused", "stale",
    )  # fmt: skip

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._gate = gate(self._read)
        self.data_received = self._gate.take
        self.loop = loop
        self.address = owner.address
        self.reply_buffer = owner.limits.reply_buffer
        self._transport: asyncio.Transport | None = None
        self._state = IDLE
        self._waiter: asyncio.Future[UpstreamReply] | None = None
        self._reply: UpstreamReply | None = None
        self._decoder: ChunkedDecoder | None = None
        self._body_left = 0
        self._held = b""  # a head begun
        self._left_in = -1  # the outbox's turn that the request waits in
        self._interim = 0  # 1xx replies seen before this one
        self._head_only = False
        self._keep_alive = False
        self._paused = False
        self._resting = False  # until others had their turn
        self._round_trip_s = 0.0
        self._sent_ns = 0
        self._since_ns = owner.clock()  # the last sign of life, as the sweep saw it
        self._end_by_ns = 0
        self.reused = False
        """Whether it has served a call before."""
        self.stale = False
        """Whether it was closed on a request in a way that says the request came too late to be seen."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP, and TLS where wanted, stand."""
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        self._round_trip_s = prepare_transport(transport.get_extra_info("socket"))

    def send(
        self,
        head: bytes,
        body: bytes,
        waiter: asyncio.Future[UpstreamReply],
        *,
        head_only: bool,
        leaves: Callable[[], None] | None = None,
    ) -> None:
        """Send a request; ``waiter`` gets the reply as soon as its head is here, or the error.

        It leaves at the end of this turn of the loop; ``leaves`` is called just before.
        """
        transport = self._transport
        if transport is None or self._state != IDLE:
            raise UpstreamError("reset", "the connection closed before the request was sent", sent=False)
        self._state = AWAITING_HEAD
        self._waiter = waiter
        self._head_only = head_only
        self._interim = 0
        self._end_by_ns = 0
        self._sent_ns = self._owner.clock()
        self._left_in = self._owner.outbox.put(transport, head, body, leaves)

    # Bytes in.

    @property
    def gate(self) -> Gate | None:
        """See :class:`sidecar.http.reply.Source`."""
        decoder = self._decoder
        return self._gate if decoder is not None and decoder.between else None

    def _read(self, data: bytes) -> None:
        """Bytes of the reply that are for us to read."""
        state = self._state
        if state == CHUNKED:
            self._read_chunks(data)
        elif state == AWAITING_HEAD:
            self._read_head(data)
        elif state in (IDLE, CLOSED):
            self._close()  # Nobody asked.
        else:
            self._read_body(data)

    def _read_chunks(self, data: bytes) -> None:
        reply, decoder = self._reply, self._decoder
        assert reply is not None and decoder is not None
        if len(data) >= LONG_READ:
            self._rest()
        gate = self._gate
        if gate.coded:
            decoder.passed(gate.coded, gate.bodies)
            gate.coded = gate.bodies = 0
        try:
            body = decoder.feed(data)
        except ChunkError as error:
            if error.before:
                reply.take(error.before)
            self._fail("protocol", f"the reply's chunked framing is broken: {error}")
            return
        if decoder.done:
            self._finish(body, clean=not decoder.rest)
        elif body:
            sink = reply.sink
            if sink is not None:
                sink(body, False, None)
            else:
                reply.take(body)

    def _read_body(self, data: bytes) -> None:
        reply = self._reply
        assert reply is not None
        if self._state == LENGTH:
            left = self._body_left - len(data)
            if left > 0:
                self._body_left = left
                reply.take(data)
            elif left == 0:
                self._finish(data, clean=True)
            else:
                self._finish(data[:left], clean=False)
        else:
            reply.take(data)

    def _read_head(self, data: bytes) -> None:
        limits = self._owner.limits
        start = 0
        if self._held:
            start = max(0, len(self._held) - 3)
            data = self._held + data
            self._held = b""
        while True:
            end = data.find(b"\r\n\r\n", start) + 4
            if end > limits.head_bytes or (end < 4 and len(data) > limits.head_bytes):
                self._fail("protocol", f"the reply's head is longer than {limits.head_bytes} bytes")
                return
            if end < 4:
                self._held = data
                return
            try:
                status, headers, length, chunked, self._keep_alive = read_response_head(
                    data[: end - 4], limits.head_fields
                )
            except HeadError as error:
                self._fail("protocol", error.message)
                return
            data = data[end:]
            if status >= 200:
                self._begin_reply(status, headers, length, chunked, data)
                return
            self._interim += 1
            if status == 101 or self._interim > _INTERIM_REPLIES:
                self._fail("protocol", f"the upstream sent an unwanted {status} reply")
                return
            start = 0

    def _begin_reply(
        self, status: int, headers: HeaderList, length: int | None, chunked: bool, data: bytes
    ) -> None:
        if 300 <= status < 400 and status != 304:
            self._fail("redirect", f"the upstream answered {status}; redirects are not followed")
            return
        waiter = self._waiter
        if waiter is None or waiter.done():
            self._close()  # Cancelled in this very turn of the loop.
            return
        self._waiter = None
        self._reply = reply = UpstreamReply(status, headers, length, self, self._sent_ns, self._owner.clock())
        waiter.set_result(reply)
        if self._head_only or status in _NO_BODY:
            self._finish(b"", clean=not data)
        elif chunked:
            self._state = CHUNKED
            self._decoder = ChunkedDecoder(REPLY_FRAMING)
            self._gate.coded = self._gate.bodies = 0
            if data:
                self._read_chunks(data)
        elif length is not None:
            self._state = LENGTH
            if len(data) == length:
                self._finish(data, clean=True)
            else:
                self._body_left = length
                if data:
                    self._read_body(data)
        else:
            self._state = UNTIL_CLOSE
            if data:
                reply.take(data)

    # Ends.

    def _finish(self, data: bytes, *, clean: bool) -> None:
        """The reply is whole; ``clean``: nothing came after it."""
        reply = self._reply
        assert reply is not None
        self._reply = None
        self._decoder = None
        self._gate.open = False
        transport = self._transport
        if (
            clean
            and self._keep_alive
            and transport is not None
            and not transport.is_closing()
            # A reply before the whole request was taken: what is left would be read as the next request.
            and not transport.get_write_buffer_size()
            and self._left_in != self._owner.outbox.turn
        ):
            if self._paused:
                self.resume()
            self._state = IDLE
            self._gate.stirred = True
            self.reused = True
            self._owner.returned(self)
        else:
            self._close(replying=True)
        reply.end(data)

    def _fail(self, kind: UpstreamErrorKind, message: str) -> None:
        """The reply will not be had; whoever waits for it is told."""
        error = UpstreamError(kind, message, sent=True)
        waiter = self._waiter
        reply = self._reply
        self._waiter = None
        self._reply = None
        self._close(replying=reply is not None)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)
        if reply is not None:
            reply.end(b"", error)

    def _close(self, *, replying: bool = False) -> None:
        if self._state == CLOSED:
            return
        self._state = CLOSED
        self._gate.open = False
        self._held = b""
        self._decoder = None
        if self._transport is not None:
            self._transport.abort()
        self._owner.ended(self, replying=replying)

    def shut_down(self) -> None:
        """Close the socket at once; whoever waits is told."""
        if self._state == IDLE:
            self._close()
        elif self._state != CLOSED:
            self._fail("reset", "the connection was closed from our side")

    def abandon(self) -> None:
        """Close the socket at once; nobody is told."""
        replying = self._reply is not None
        self._reply = None
        self._waiter = None
        self._close(replying=replying)

    def pause_writing(self) -> None:
        """A request waits in the socket's buffer whole, as it came: there is nothing to hold back."""

    def resume_writing(self) -> None:
        """See :meth:`pause_writing`."""

    def eof_received(self) -> None:
        """The upstream closed; for some replies that is their end."""
        if self._state == UNTIL_CLOSE:
            self._finish(b"", clean=False)
        else:
            self._lost()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, whoever closed it."""
        self._transport = None
        self._lost()
        self._gate.leave()

    def _lost(self) -> None:
        if self._state in (IDLE, CLOSED):
            self._close()
        elif self._state == AWAITING_HEAD:
            silent_s = (self._owner.clock() - self._sent_ns) / 1e9
            heard = self._interim or self._held
            late_s = self._owner.deadlines.stale_s + self._round_trip_s
            self.stale = self.reused and not heard and silent_s < late_s
            self._fail("reset", "the upstream closed the connection without an answer")
        else:
            self._fail("reset", "the upstream closed the connection before the reply was complete")

    # Flow and deadlines.

    def pause(self) -> None:
        """Stop reading; the upstream is not to blame for silence meanwhile."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._paused:
            self._paused = False
            self._gate.stirred = True
            if not self._resting and self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def _rest(self) -> None:
        """Read no more until others had their turn."""
        if not self._resting and self._transport is not None and not self._transport.is_closing():
            self._resting = True
            self._transport.pause_reading()
            self.loop.call_soon(self._rested)

    def _rested(self) -> None:
        self._resting = False
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def expect_end(self, within_s: float) -> None:
        """Take the reply as complete if it has not ended by then."""
        self._end_by_ns = self._owner.clock() + round(within_s * 1e9)

    def check(self, now_ns: int) -> None:
        """Give up if the upstream has let a deadline pass."""
        deadlines = self._owner.deadlines
        state = self._state
        if self._gate.stirred:
            self._gate.stirred = False
            self._since_ns = now_ns
        if state == IDLE:
            if (now_ns - self._since_ns) / 1e9 > deadlines.upstream_keep_alive_s:
                self._close()
            return
        if state == CLOSED:
            return
        running_s = (now_ns - self._sent_ns) / 1e9
        if self._end_by_ns and now_ns > self._end_by_ns:
            self._keep_alive = False
            self._finish(b"", clean=False)
        elif running_s > deadlines.total_s:
            self._fail("timeout_total", f"the reply took longer than {deadlines.total_s:g} s")
        elif state == AWAITING_HEAD:
            if running_s > deadlines.first_byte_s:
                self._fail("timeout_first_byte", f"no answer within {deadlines.first_byte_s:g} s")
        elif not self._paused and not self._end_by_ns and (now_ns - self._since_ns) / 1e9 > deadlines.idle_s:
            self._fail("timeout_idle", f"nothing more came for {deadlines.idle_s:g} s")

"""One client's connection: requests in, replies out, one at a time and in order.

    READING_HEAD ──► READING_BODY ──► ANSWERING ──► READING_HEAD (kept alive)
         │                │               │      └──► CLOGGED ──┘ (replies have piled up)
         └────────────────┴───────────────┴──► CLOSING ──► gone

While a request is being answered, bytes that arrive are the next requests': they
are kept up to a bound, then reading stops, and a hang-up is watched for by other
means. No request is begun while the replies before it wait to be taken: what a client
may ask for without reading is bounded by what is unsent. A refused request leaves its
unread bytes on the wire, so the connection closes in two steps (our end first), or the
refusal would be lost to a reset.
"""

import asyncio
import logging
from functools import partial
from typing import cast

from sidecar.http.body import IncomingBody
from sidecar.http.chunked import LONG_READ
from sidecar.http.exchange import Request, Responder, head_bytes
from sidecar.http.head import HeadError, LastHead, check_beginning, requested_path
from sidecar.http.service import STARTS_LATER, Service, extra_fields, start_task

logger = logging.getLogger(__name__)

READING_HEAD, READING_BODY, ANSWERING, CLOGGED, CLOSING = range(5)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class ServerConnection:
    """Speaks HTTP/1.1 with one client; see the module for its states. A protocol as asyncio knows it.

    Compiled ahead its fields lie in a row; a class that has one in Python above it has a dictionary instead.
    """

    __slots__ = (
        "_address", "_at", "_body", "_clogged", "_drained", "_held", "_last_head", "_left_in", "_reading",
        "_request", "_responder", "_scanned", "_service", "_since_ns", "_stalled_ns", "_started", "_state",
        "_task", "_transport",
    )  # fmt: skip

    def __init__(self, service: Service, address: str) -> None:
        self._service = service
        self._address = address
        self._transport: asyncio.Transport | None = None
        self._state = READING_HEAD
        self._since_ns = service.clock()  # when the present wait began
        self._started = True  # whether a head is awaited: its first byte came, or the connection is new
        self._held = b""  # read, not yet used, from ``_at`` on
        self._at = 0
        self._scanned = 0  # of those, looked through for the end of a head
        self._clogged = False  # more is unsent than the client may leave
        self._last_head = LastHead()
        self._reading = True
        self._request: Request | None = None  # its body is being read
        self._body: IncomingBody | None = None
        self._responder: Responder | None = None
        self._task: asyncio.Task[None] | None = None
        self._left_in = -1  # the outbox's turn that the last whole reply waited in
        self._drained = 0  # how far the client's taking of bytes had come when last looked at
        self._stalled_ns = 0  # since when it has not moved; 0: nothing waits

    # The life of the connection.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greets nobody: HTTP clients speak first."""
        high = self._service.limits.write_high_water
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=high, low=high // 4)
        self._service.connections.add(self)
        self._service.sweep.add(self)

    def eof_received(self) -> None:
        """The client closed its sending side: as for nginx, it is gone, and so is its request."""
        self._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, whoever closed it."""
        self._leave()
        self._transport = None
        self._held = b""
        self._body = None
        service = self._service
        service.connections.discard(self)
        service.sweep.discard(self)
        service.note_emptied()

    def _leave(self) -> None:
        self._unwatch()
        if self._state != ANSWERING:
            self._state = CLOSING
        if self._responder is not None:
            self._responder.client_left()

    def _hung_up(self) -> None:
        """Seen while not reading: what lies unread will not be answered."""
        if self._transport is not None:
            self._leave()
            self._transport.abort()

    @property
    def idle(self) -> bool:
        """Whether it waits for a request of which nothing has come."""
        return self._state == READING_HEAD and not self._held

    def cancel(self) -> None:
        """Stop answering; for what is still running when a drain's time is up."""
        if self._task is not None:
            self._task.cancel()

    def abort(self) -> None:
        """Close at once, whatever is unsent."""
        if self._transport is not None:
            self._transport.abort()

    def drain(self) -> None:
        """Close as soon as nothing is under way."""
        if self._responder is not None:
            self._responder.keep_alive = False
        elif self.idle or self._state == CLOGGED:
            self._close()

    # Bytes in.

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, of the body after it, or of the requests after that."""
        state = self._state
        if state == READING_HEAD:
            self._read_head(data)
        elif state == READING_BODY:
            self._read_body(data)
        elif state != CLOSING:
            self._hold(self._held[self._at :] + data, 0)  # They came before their turn.

    def _hold(self, data: bytes, at: int) -> None:
        """Keep ``data`` from ``at`` on for later, and read no more than may be kept.

        Walked through, and not cut after each of the many requests that may be in it.
        """
        self._held = data
        self._at = at
        ahead, most = len(data) - at, self._service.limits.pipelined_bytes
        if ahead > most:
            self._pause()
        elif not self._reading and ahead <= most // 4:
            self._resume()  # Not before: each time costs as much as a request.

    def _pause(self) -> None:
        transport = self._transport
        if self._reading and transport is not None and not transport.is_closing():
            self._reading = False
            transport.pause_reading()
            fd = transport.get_extra_info("socket").fileno()
            self._service.hangups.watch(fd, self._hung_up)

    def _resume(self) -> None:
        transport = self._transport
        if not self._reading and transport is not None:
            self._unwatch()
            transport.resume_reading()

    def _unwatch(self) -> None:
        if not self._reading and self._transport is not None:
            self._reading = True
            fd = self._transport.get_extra_info("socket").fileno()
            self._service.hangups.forget(fd)

    def _read_head(self, data: bytes) -> None:
        at = scanned = 0
        if self._held:
            at, scanned = self._at, self._scanned
            if data:
                data = self._held[at:] + data
                at = 0
            else:
                data = self._held
            self._held = b""
        end = data.find(b"\r\n\r\n", at + max(0, scanned - 3)) + 4
        limits = self._service.limits
        if end < 4:
            self._await_head(data[at:], scanned)
            return
        if end - at > limits.head_bytes:
            self._refuse(431, f"the head is longer than {limits.head_bytes} bytes", data[at:])
            return
        try:
            request = self._last_head.read(data[at : end - 4], limits.head_fields)
        except HeadError as error:
            self._refuse(error.status, error.message, data[at:])
            return
        length = request.length
        if length is None:
            self._begin_body(request, data[end:])
        elif length > limits.body_bytes:
            self._refuse(413, f"the body is longer than {limits.body_bytes} bytes", request=request)
        elif length <= len(data) - end:
            if length:
                stop = end + length
                request.body = data[end:stop]
                end = stop
            if end < len(data):
                self._hold(data, end)
            elif not self._reading:
                self._resume()
            self._answer(request)
        else:
            self._begin_body(request, data[end:])

    def _await_head(self, data: bytes, scanned: int) -> None:
        limits = self._service.limits
        if len(data) > limits.head_bytes:
            self._refuse(431, f"the head is longer than {limits.head_bytes} bytes", data)
            return
        try:
            check_beginning(data, scanned)
        except HeadError as error:
            self._refuse(error.status, error.message, data)
            return
        self._held = data
        self._at = 0
        self._scanned = len(data)
        self._resume()
        if not self._started:
            self._started = True
            self._since_ns = self._service.clock()

    def _begin_body(self, request: Request, data: bytes) -> None:
        self._state = READING_BODY
        self._since_ns = self._service.clock()
        self._request = request
        self._body = IncomingBody(request.length, self._service.limits.body_bytes)
        self._resume()
        if request.expects_continue and not data and self._transport is not None:
            self._service.outbox.flush()
            self._transport.write(_CONTINUE)
        if data:
            self._read_body(data)

    def _read_body(self, data: bytes) -> None:
        request, body = self._request, self._body
        assert request is not None and body is not None
        try:
            if not body.feed(data):
                if request.length is None and len(data) >= LONG_READ:
                    self._rest()
                return
        except HeadError as error:
            self._refuse(error.status, error.message, request=request)
            return
        request.body = bytes(body.data)
        self._hold(body.rest, 0)
        self._body = self._request = None
        self._answer(request)

    def _rest(self) -> None:
        """Read no more of a chunked body until others had their turn."""
        transport = self._transport
        if self._reading and transport is not None and not transport.is_closing():
            transport.pause_reading()
            self._service.loop.call_soon(self._rested)

    def _rested(self) -> None:
        transport = self._transport
        if self._reading and transport is not None and not transport.is_closing():
            transport.resume_reading()

    # Answers out.

    def _answer(self, request: Request) -> None:
        service = self._service
        if self._left_in == service.outbox.turn:
            service.outbox.flush()  # Nothing may overtake the reply before.
        request.client_address = self._address
        request.received_ns = service.clock()
        self._responder = responder = Responder(
            self._transport,
            request,
            service.limits.write_buffer,
            service.loop,
            service.outbox,
            service.endings,
        )
        if service.draining:
            responder.keep_alive = False
        self._state = ANSWERING
        self._started = False
        busy = service.busy
        busy.add(self)
        if len(busy) > service.limits.requests:
            self._send_error(responder, request, 503, "too many requests are being answered")
            self._answered(responder)
            return
        service.turns.take(partial(self._begin, request, responder), request.received_ns)

    def _begin(self, request: Request, responder: Responder) -> None:
        if responder.client_gone:
            self._answered(responder)  # It left while its request waited for others to be begun.
            return
        if STARTS_LATER and not self._service.turns.crowded:
            self._service.outbox.expect()
        task = start_task(self._handle(request, responder), loop=self._service.loop)
        if not task.done():
            self._task = task

    async def _handle(self, request: Request, responder: Responder) -> None:
        if STARTS_LATER:
            self._service.outbox.begun()
        try:
            await self._service.handler(request, responder)
        except Exception:
            logger.exception("the handler of %s %s failed", request.method, request.path)
        finally:
            if not responder.finished:
                self._leave_no_reply_open(request, responder)
            self._task = None
            self._answered(responder)

    def _leave_no_reply_open(self, request: Request, responder: Responder) -> None:
        if responder.client_gone:
            return
        if responder.started:
            responder.abort()
        else:
            self._send_error(responder, request, 500, "the call could not be answered")

    def _send_error(self, responder: Responder, request: Request, status: int, message: str) -> None:
        headers, body = self._service.error_body(request, request.path, status, message)
        responder.send(status, [*headers, *extra_fields(status)], body)

    def _answered(self, responder: Responder) -> None:
        """The reply is out and its handler has returned: on to the next request, if there is to be one."""
        service = self._service
        service.busy.discard(self)
        self._responder = None
        self._left_in = responder.left_in
        transport = self._transport
        if transport is None:
            service.note_emptied()
        elif transport.is_closing():
            self._state = CLOSING
        elif not responder.keep_alive:
            self._close()
        elif self._clogged:
            self._state = CLOGGED
        else:
            self._state = READING_HEAD
            self._since_ns = 0  # now, as soon as the sweep looks
            if self._held or not self._reading:
                # Not from here: a long pipeline would nest as deep as it is long.
                service.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing() or self._state != READING_HEAD:
            return
        self._scanned = 0
        if self._held:
            self._read_head(b"")
        else:
            self._resume()

    def _refuse(
        self, status: int, message: str, data: bytes = b"", *, request: Request | None = None
    ) -> None:
        """Answer what will not be handled, and close."""
        service = self._service
        service.outbox.flush()
        path = requested_path(data) if request is None else request.path
        headers, body = service.error_body(request, path, status, message)
        framing = b"content-length: %d\r\nconnection: close\r\n" % len(body)
        head = head_bytes(status, [*headers, *extra_fields(status)], framing)
        transport = self._transport
        if transport is not None:
            head_only = request.method == "HEAD" if request is not None else data.startswith(b"HEAD ")
            transport.write(head if head_only else head + body)
        self._close(unread=True)

    def _close(self, *, unread: bool = False) -> None:
        """Close once all is sent; with bytes ``unread`` in two steps, as the module says."""
        self._service.outbox.flush()
        transport = self._transport
        unread = unread or bool(self._held) or not self._reading
        self._state = CLOSING
        self._since_ns = self._service.clock()
        self._request = self._body = None
        self._held = b""
        if transport is None or transport.is_closing():
            return
        self._resume()
        if unread:
            transport.write_eof()
        else:
            transport.close()

    # Flow and deadlines.

    def pause_writing(self) -> None:
        """The client takes bytes slower than they come."""
        self._clogged = True
        if self._state == READING_HEAD:
            self._state = CLOGGED
        if self._responder is not None:
            self._responder.flow(paused=True)

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._clogged = False
        if self._state == CLOGGED:
            self._state = READING_HEAD
            self._since_ns = 0
            self._service.loop.call_soon(self._read_on)
        if self._responder is not None:
            self._responder.flow(paused=False)

    def check(self, now_ns: int) -> None:
        """Close or refuse if the client has let a deadline pass."""
        transport = self._transport
        if transport is None:
            return
        deadlines = self._service.deadlines
        unsent = transport.get_write_buffer_size()
        if unsent:
            if self._has_stalled(unsent, now_ns):
                transport.abort()
            return
        self._stalled_ns = 0
        if not self._since_ns:
            self._since_ns = now_ns
        waited_s = (now_ns - self._since_ns) / 1e9
        state = self._state
        if state == READING_HEAD:
            if self._started:
                if waited_s > deadlines.head_s:
                    if self._held:
                        self._refuse(408, f"no whole head within {deadlines.head_s:g} s", self._held)
                    else:
                        transport.close()
            elif waited_s > deadlines.keep_alive_s:
                transport.close()
        elif state == READING_BODY:
            if waited_s > deadlines.body_s:
                self._check_body(waited_s)
        elif state == CLOSING and waited_s > deadlines.linger_s:
            transport.abort()

    def _check_body(self, waited_s: float) -> None:
        come = len(self._body.data) if self._body is not None else 0
        if come < waited_s * self._service.deadlines.body_bytes_per_s:
            self._refuse(408, "the body came too slowly", request=self._request)

    def _has_stalled(self, unsent: int, now_ns: int) -> bool:
        """Whether the client has taken nothing of what waits for it, for too long."""
        written = self._responder.bytes_written if self._responder is not None else 0
        drained = written - unsent
        if not self._stalled_ns or drained > self._drained:
            self._stalled_ns = now_ns
        self._drained = drained
        return (now_ns - self._stalled_ns) / 1e9 > self._service.deadlines.stalled_client_s

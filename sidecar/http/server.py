"""Listens, and hands each connection to a :class:`~sidecar.http.connection.ServerConnection`.

Accepting is done here and not by the loop: uvloop closes a listening socket for
good when accepting fails for want of file descriptors.
"""

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from sidecar.http.connection import ServerConnection
from sidecar.http.exchange import ErrorBody, Handler, head_bytes
from sidecar.http.limits import Deadlines, Limits
from sidecar.http.outbox import Outbox
from sidecar.http.service import Service, start_task
from sidecar.http.sweep import Clock, Sweep, tick_for
from sidecar.http.tcp import INHERITED, prepare_socket
from sidecar.http.turns import few_of

logger = logging.getLogger(__name__)

_BACKLOG = 4096
_ACCEPT_BURST = 64
_ACCEPT_TURNS = 4
"""Turns of the loop until the requests of connections just accepted have left; then the next are accepted.

Of a thousand clients that come together the first had its first chunk after 50 ms instead of 70."""
_ACCEPT_AGAIN_S = 0.1
_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SPARE_DESCRIPTORS = 64
_CANCEL_GRACE_S = 1.0
_FIRST_READ_S = 0.05
_FIRST_READ_TURNS = 8
"""For the requests of connections that were accepted last to be read before idle connections are closed. Of a
process that was held up the time alone is over before it has looked at a socket."""


def affordable_connections(wanted: int) -> int:
    """At most ``wanted``, and no more than the file descriptors allow: a call takes two, files take some."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(8, (soft - _SPARE_DESCRIPTORS) // 2))


class Server:
    """Serves ``handler`` over HTTP/1.1 and HTTP/1.0.

    Args:
        handler: answers one request; runs as a task of its own.
        limits: bounds on memory.
        deadlines: how long clients may take.
        error_body: words the refusals that are the server's own.
        clock: monotonic nanoseconds.
        outbox: what whole replies leave through; one of its own without.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits,
        deadlines: Deadlines,
        error_body: ErrorBody,
        clock: Clock = time.monotonic_ns,
        outbox: Outbox | None = None,
    ) -> None:
        self._outbox = outbox or Outbox()
        self._handler = handler
        self._limits = limits
        self._deadlines = deadlines
        self._error_body = error_body
        self._clock = clock
        self._service: Service | None = None
        self._listeners: list[socket.socket] = []
        self._adoptions: set[asyncio.Task[None]] = set()
        self._accept_again: asyncio.TimerHandle | None = None
        self._connection_limit = limits.connections
        self._accepted = 0  # one after the other, as long as clients wait
        self._turns_to_wait = 0

    @property
    def connections(self) -> int:
        """Client connections open now."""
        return len(self._service.connections) if self._service is not None else 0

    @property
    def requests(self) -> int:
        """Requests being answered now."""
        return len(self._service.busy) if self._service is not None else 0

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens: host and port."""
        return [sock.getsockname()[:2] for sock in self._listeners]

    async def start(
        self, host: str, port: int, *, reuse_port: bool = False, sock: socket.socket | None = None
    ) -> None:
        """Listen on ``host`` and ``port`` (0: any free one), or on ``sock``, which is already bound.

        Raises:
            OSError: the address cannot be had.
        """
        loop = asyncio.get_running_loop()
        if self._service is None:
            deadlines = self._deadlines
            tick_s = tick_for(
                (
                    deadlines.head_s,
                    deadlines.body_s,
                    deadlines.keep_alive_s,
                    deadlines.stalled_client_s,
                    deadlines.linger_s,
                )
            )
            sweep = Sweep(loop, self._clock, tick_s)
            self._service = Service(
                loop,
                self._handler,
                self._limits,
                deadlines,
                self._error_body,
                self._clock,
                sweep,
                self._outbox,
            )
            self._connection_limit = affordable_connections(self._limits.connections)
        if sock is None:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=reuse_port)
        else:
            sock.listen(_BACKLOG)
        sock.setblocking(False)
        if INHERITED:
            prepare_socket(sock)
        self._listeners.append(sock)
        loop.add_reader(sock, self._accept, sock)

    def _accept(self, listener: socket.socket) -> None:
        assert self._service is not None
        if self._turns_to_wait:
            self._turns_to_wait -= 1
            return
        for _ in range(few_of(self._accepted, _ACCEPT_BURST)):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                self._accepted = 0
                return
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR:
                    raise
                self._pause_accepting(error)
                return
            self._accepted += 1
            self._welcome(sock, str(address[0]))
        self._turns_to_wait = _ACCEPT_TURNS

    def _welcome(self, sock: socket.socket, address: str) -> None:
        assert self._service is not None
        if len(self._service.connections) + len(self._adoptions) >= self._connection_limit:
            self._turn_away(sock)
        else:
            task = start_task(self._adopt(sock, address), loop=self._service.loop)
            self._adoptions.add(task)
            task.add_done_callback(self._adoptions.discard)

    def _accept_all(self, listener: socket.socket) -> None:
        """Accept whoever waits: closing the listener would reset those who have sent their request."""
        with contextlib.suppress(OSError):  # Nobody waits, or there is no file descriptor to be had.
            for _ in range(_BACKLOG):
                sock, address = listener.accept()
                self._welcome(sock, str(address[0]))

    async def _adopt(self, sock: socket.socket, address: str) -> None:
        service = self._service
        assert service is not None
        try:
            sock.setblocking(False)
            if not INHERITED:
                prepare_socket(sock)
            speaking: Callable[[], Any] = partial(ServerConnection, service, address)
            await service.loop.connect_accepted_socket(speaking, sock)
        except OSError:  # The client was gone before we looked.
            sock.close()

    def _turn_away(self, sock: socket.socket) -> None:
        """Refuse a connection too many, without waiting for anything."""
        headers, body = self._error_body(None, "", 503, "too many connections")
        framing = b"content-length: %d\r\nconnection: close\r\nretry-after: 1\r\n" % len(body)
        with contextlib.suppress(OSError):
            sock.setblocking(False)
            sock.send(head_bytes(503, headers, framing) + body)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(65536)  # unread bytes would turn the close into a reset, and lose the reply
        sock.close()

    def _pause_accepting(self, error: OSError) -> None:
        """Out of file descriptors: let those who wait wait, give up idle connections, look again soon."""
        assert self._service is not None
        if self._accept_again is not None:
            return
        logger.warning("accepting is paused: %s", error.strerror)
        for listener in self._listeners:
            self._service.loop.remove_reader(listener)
        for connection in [c for c in self._service.connections if c.idle][:_ACCEPT_BURST]:
            connection.drain()
        self._accept_again = self._service.loop.call_later(_ACCEPT_AGAIN_S, self._resume_accepting)

    def _resume_accepting(self) -> None:
        assert self._service is not None
        self._accept_again = None
        for listener in self._listeners:
            self._service.loop.add_reader(listener, self._accept, listener)

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections go on."""
        if self._accept_again is not None:
            self._accept_again.cancel()
            self._accept_again = None
        for listener in self._listeners:
            if self._service is not None:
                self._service.loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let running requests finish for up to ``timeout_s`` seconds, then close all.

        Requests still running then see their client go (``on_disconnect``), and are
        cancelled if they have not ended a second later.
        """
        service = self._service
        if service is not None:
            for listener in self._listeners:
                self._accept_all(listener)
        self.stop_accepting()
        if service is None:
            return
        service.draining = True
        if self._adoptions:
            await asyncio.wait(self._adoptions)
            await asyncio.sleep(_FIRST_READ_S)
            for _ in range(_FIRST_READ_TURNS):
                await asyncio.sleep(0)
        for connection in tuple(service.connections):
            connection.drain()
        await self._wait_until_empty(timeout_s)
        for connection in tuple(service.connections):
            connection.abort()
        await self._wait_until_empty(_CANCEL_GRACE_S)
        for connection in tuple(service.busy):
            connection.cancel()
        await self._wait_until_empty(_CANCEL_GRACE_S)
        service.hangups.close()

    async def _wait_until_empty(self, timeout_s: float) -> None:
        """Wait for the last connection and request to go, or for the time to be up."""
        service = self._service
        assert service is not None
        service.emptied.clear()
        service.note_emptied()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(service.emptied.wait(), timeout_s)

"""Connections to one upstream origin, kept and shared."""

import asyncio
import contextlib
import ipaddress
import re
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from sidecar.http.fields import HeaderList, field_lines
from sidecar.http.limits import Deadlines, Limits
from sidecar.http.outbox import Outbox
from sidecar.http.reply import UpstreamError, UpstreamReply
from sidecar.http.sweep import Clock, Sweep, tick_for
from sidecar.http.upstream_connection import UpstreamConnection
from sidecar.http.within import within

_REQUEST_LINE = re.compile(rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n")
_MARK = ord("?")
_METHODS_WITH_BODY = (b"POST", b"PUT", b"PATCH")
_TLS_SHUTDOWN_S = 1.0
_CLOSED = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError)
"""Not how a TCP connection is refused."""


def _request_line(method: bytes, target: bytes) -> bytes:
    # As in reading: a query may hold a key, and is seldom seen twice.
    return _known_request_line(method, target) if _MARK not in target else _new_request_line(method, target)


def _new_request_line(method: bytes, target: bytes) -> bytes:
    line = b"%b %b HTTP/1.1\r\n" % (method, target)
    if _REQUEST_LINE.fullmatch(line) is None:
        raise ValueError("not a method and an origin-form target")
    return line


_known_request_line = lru_cache(maxsize=1024)(_new_request_line)


def is_address(host: str) -> bool:
    """Whether ``host`` needs no looking up."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, IPv4 inside IPv6 included."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            ip = inner
    return ip.is_global and not ip.is_multicast


class UpstreamPool:
    """Sends requests to one origin over at most ``connections`` kept connections.

    Proxy settings of the environment are not looked at, and redirects are not followed.

    Args:
        host: name or address of the origin.
        port: of the origin.
        tls: context to speak TLS with (:func:`sidecar.http.tls.upstream_tls`); None for plain TCP.
        connections: most connections at once; further calls wait their turn.
        deadlines: how long the upstream may take.
        limits: bounds on memory.
        public_only: refuse an origin whose name leads to a private, loopback or link-local address.
        clock: monotonic nanoseconds.
        outbox: what requests leave through; one of its own without.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None,
        connections: int,
        deadlines: Deadlines,
        limits: Limits | None = None,
        public_only: bool = False,
        clock: Clock = time.monotonic_ns,
        outbox: Outbox | None = None,
    ) -> None:
        self.outbox = outbox or Outbox()
        self._host = host
        self._is_address = is_address(host)
        self._port = port
        self._tls = tls
        self._most = connections
        self._public_only = public_only
        self.deadlines = deadlines
        self.limits = limits or Limits()
        self.clock = clock
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        """``host:port`` of the origin."""
        default_port = 443 if tls is not None else 80
        authority = self.address if port != default_port else self.address.rpartition(":")[0]
        self._host_line = f"host: {authority}\r\n".encode("ascii")
        self._idle: list[UpstreamConnection] = []  # the last used at the end: it is the warmest
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._sweep: Sweep | None = None
        self._open: set[UpstreamConnection] = set()
        self._closed = False
        self.inflight = 0
        """Calls that have a connection, or are making one."""
        self.opened_total = 0
        """Connections ever made."""

    @property
    def waiting(self) -> int:
        """Calls waiting for a free connection."""
        return len(self._waiting)

    @property
    def has_room(self) -> bool:
        """Whether a call gets a connection at once."""
        return self.inflight < self._most

    async def warm(self, count: int) -> None:
        """Have ``count`` connections open, idle ones included; what cannot be opened now is left."""
        missing = min(count, self._most) - len(self._open)
        with contextlib.suppress(UpstreamError):
            for _ in range(missing):
                self._idle.insert(0, await self._connect())

    async def request(
        self,
        method: bytes,
        target: bytes,
        headers: HeaderList | bytes,
        body: bytes,
        *,
        on_leaving: Callable[[], None] | None = None,
    ) -> UpstreamReply:
        """The reply, as soon as its head is here.

        A request that meets a kept connection closed in the same moment is sent
        once more. Cancelling closes the socket at once.

        Args:
            method: upper case.
            target: path and query.
            headers: without ``Host``, ``Content-Length`` and other framing fields; or their lines,
                as :func:`sidecar.http.fields.field_lines` made them.
            body: may be empty.
            on_leaving: called just before the first byte is sent, and again should it be sent once more.

        Raises:
            UpstreamError: no reply; ``sent`` says whether the upstream may have seen the request.
            ValueError: method, target or a header field is malformed.
        """
        head = self._head(method, target, headers, body)
        fresh = False
        while True:
            if self.inflight < self._most:
                self.inflight += 1
            else:
                await self._wait_for_turn()
            # From here on the turn is ours to give back, until the head is here; then it is the connection's.
            try:
                if self._idle and not fresh:
                    connection = self._idle.pop()
                else:
                    connection = await self._connect()
                waiter: asyncio.Future[UpstreamReply] = connection.loop.create_future()
                connection.send(head, body, waiter, head_only=method == b"HEAD", leaves=on_leaving)
            except BaseException:
                self._pass_turn_on()
                raise
            try:
                return await waiter
            except UpstreamError:
                self._pass_turn_on()
                if not connection.stale:
                    raise
                fresh = True
            except asyncio.CancelledError:
                self._cancelled(connection, waiter)
                raise

    def _cancelled(self, connection: UpstreamConnection, waiter: asyncio.Future[UpstreamReply]) -> None:
        if waiter.cancelled():
            connection.abandon()
            self._pass_turn_on()
        elif waiter.exception() is not None:
            self._pass_turn_on()
        else:
            waiter.result().close()

    def _head(self, method: bytes, target: bytes, headers: HeaderList | bytes, body: bytes) -> bytes:
        line = _request_line(method, target)
        if body or method in _METHODS_WITH_BODY:
            framing = b"content-length: %d\r\n\r\n" % len(body)
        else:
            framing = b"\r\n"
        lines = headers if isinstance(headers, bytes) else field_lines(headers)
        return b"".join((line, self._host_line, lines, framing))

    # Turns: at most so many calls have a connection at once, the others wait in order.

    async def _wait_for_turn(self) -> None:
        if len(self._waiting) >= self.limits.waiting:
            raise UpstreamError("pool_full", f"too many calls are waiting for {self.address}", sent=False)
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        self._waiting.append((turn, self.clock()))
        self._watch(loop).add(self)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_turn_on()
            raise

    def _pass_turn_on(self) -> None:
        while self._waiting:
            turn, _ = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self.inflight -= 1

    def check(self, now_ns: int) -> None:
        """Turn away the calls that have waited too long."""
        waiting = self._waiting
        while waiting and (waiting[0][0].done() or (now_ns - waiting[0][1]) / 1e9 > self.deadlines.queue_s):
            turn, _ = waiting.popleft()
            if not turn.done():
                turn.set_exception(
                    UpstreamError(
                        "pool_full",
                        f"no connection to {self.address} became free within {self.deadlines.queue_s:g} s",
                        sent=False,
                    )
                )
        if not waiting and self._sweep is not None:
            self._sweep.discard(self)

    # Connections.

    def _watch(self, loop: asyncio.AbstractEventLoop) -> Sweep:
        if self._sweep is None:
            deadlines = self.deadlines
            tick_s = tick_for(
                (
                    deadlines.queue_s,
                    deadlines.first_byte_s,
                    deadlines.idle_s,
                    deadlines.total_s,
                    deadlines.upstream_keep_alive_s,
                )
            )
            self._sweep = Sweep(loop, self.clock, tick_s)
        return self._sweep

    async def _connect(self) -> UpstreamConnection:
        if self._closed:
            raise UpstreamError("connect", f"the pool for {self.address} is closed", sent=False)
        loop = asyncio.get_running_loop()
        try:
            connection = await within(self.deadlines.connect_s, self._dial(loop))
        except TimeoutError:
            raise UpstreamError(
                "timeout_connect",
                f"no connection to {self.address} within {self.deadlines.connect_s:g} s",
                sent=False,
            ) from None
        except ssl.SSLError as error:
            reason = getattr(error, "verify_message", "") or error.reason or "handshake failed"
            raise UpstreamError("tls", f"TLS with {self.address}: {reason}", sent=False) from None
        except OSError as error:
            if self._tls is not None and isinstance(error, _CLOSED):
                message = f"TLS with {self.address}: closed during the handshake"
                raise UpstreamError("tls", message, sent=False) from None
            reason = error.strerror or type(error).__name__
            raise UpstreamError("connect", f"no connection to {self.address}: {reason}", sent=False) from None
        self.opened_total += 1
        self._open.add(connection)
        self._watch(loop).add(connection)
        return connection

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> UpstreamConnection:
        if self._is_address:
            addresses = [self._host]
        else:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            addresses = [str(info[4][0]) for info in found]
        if self._public_only:
            addresses = [address for address in addresses if is_public(address)]
            if not addresses:
                raise OSError(0, "its name leads to a private address")
        failure: OSError | None = None
        connection: UpstreamConnection

        def speaking() -> Any:
            return UpstreamConnection(self, loop)

        for address in addresses:
            try:
                _, connection = await loop.create_connection(
                    speaking,
                    address,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls is not None else None,
                    ssl_shutdown_timeout=_TLS_SHUTDOWN_S if self._tls is not None else None,
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure or OSError(0, "its name leads nowhere")

    def returned(self, connection: UpstreamConnection) -> None:
        """``connection`` can serve another call."""
        self._idle.append(connection)
        if self._waiting:
            self._pass_turn_on()
        else:
            self.inflight -= 1

    def ended(self, connection: UpstreamConnection, *, replying: bool) -> None:
        """``connection`` is closed; ``replying``: with a reply that had begun."""
        self._open.discard(connection)
        if self._sweep is not None:
            self._sweep.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if replying:
            self._pass_turn_on()

    async def close(self) -> None:
        """Close every connection, whatever it is doing; calls under way end as ``reset``."""
        self._closed = True
        for turn, _ in self._waiting:
            if not turn.done():
                turn.set_exception(UpstreamError("connect", "the pool is closed", sent=False))
        self._waiting.clear()
        for connection in tuple(self._open):
            connection.shut_down()
        await asyncio.sleep(0)  # Sockets are closed in the loop's next turn.

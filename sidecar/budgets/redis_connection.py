"""One pipelined connection to a Redis server: commands go out as they come, replies return in order.

A reply that is late is given up on by whoever waited, and still awaited by the connection, so the
order is never lost. Measured: 2.6 us a script at 50 at once, against 48 through redis-py.
"""

import asyncio
import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

Reply = Any
"""What hiredis makes of a reply: bytes, int, list, None or ``hiredis.ReplyError``; or a ``RedisLost``."""
OnReply = Callable[[Reply], None]


def pack(parts: Sequence[str | bytes | int]) -> bytes:
    """A command as it goes over the wire."""
    return cast(bytes, hiredis.pack_command(tuple(parts)))  # type: ignore[arg-type]


LONGEST_PATH = 104
"""Bytes of a Unix socket's address, with its end: 108 on Linux, 104 elsewhere."""
MAX_WAITING = 100_000
"""Commands that wait for a reply; more would only fill memory."""


class RedisLost(Exception):
    """No answer: the connection broke, or the time was up."""


class RedisTimeout(RedisLost):
    """The time was up; the command may still be carried out."""


class RedisRefused(RedisLost):
    """Not sent at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisAddress:
    """Where a server is and how to enter."""

    host: str = "127.0.0.1"
    port: int = 6379
    path: str = ""
    """Of a Unix socket; wins over host and port."""
    tls: bool = False
    ca_file: str = ""
    """Whom to trust in place of the system's authorities."""
    username: str = ""
    password: str = ""
    database: int = 0

    def __str__(self) -> str:
        return f"unix:{self.path}" if self.path else f"{self.host}:{self.port}"


def parse_address(url: str) -> RedisAddress:
    """``redis://[user:password@]host[:port][/database]``, ``rediss://`` for TLS, ``unix:///path?db=0``.

    Raises:
        ValueError: it is none of these.
    """
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    unknown = query.keys() - {"db", "ca"}
    if parts.scheme not in ("redis", "rediss", "unix") or unknown or parts.fragment:
        raise ValueError(
            "not a Redis address: redis://, rediss:// or unix:// is expected, with db= and ca= at most"
        )
    database = query.get("db", "0")
    path = ""
    if parts.scheme == "unix":
        path = unquote(parts.path)
        if not path:
            raise ValueError("not a Redis address: unix:// names no socket")
    elif parts.path.strip("/"):
        database = parts.path.strip("/")
    if not database.isdigit():
        raise ValueError(f"not a Redis address: {database!r} is no database number")
    return RedisAddress(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 6379,
        path=path,
        tls=parts.scheme == "rediss",
        ca_file=query.get("ca", ""),
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=int(database),
    )


class _Waiting:
    __slots__ = ("deadline", "late", "on_reply")

    def __init__(self, on_reply: OnReply | None, late: OnReply | None, deadline: float) -> None:
        self.on_reply = on_reply
        self.late = late
        self.deadline = deadline


class RedisConnection(asyncio.Protocol):
    """Sends commands and hands out replies; made by ``connect``."""

    def __init__(self, on_lost: Callable[[], None], on_push: OnReply | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._on_lost = on_lost
        self._on_push = on_push
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[_Waiting] = deque()
        self._timer: asyncio.Handle | None = None
        self._sweeps_at = 0.0
        """When the timer strikes: uvloop's handle of a time that has passed does not tell."""
        self.timeouts = 0
        """Given up on since the last reply in time."""
        self.heard = self.loop.time()
        """When the server last said anything."""

    @property
    def open(self) -> bool:
        """Whether commands can be sent."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def waiting(self) -> int:
        """Commands whose replies are still to come."""
        return len(self._waiting)

    def send(self, command: bytes, on_reply: OnReply, timeout_s: float, late: OnReply | None = None) -> None:
        """Send ``command``; ``on_reply`` is called exactly once, within ``timeout_s``.

        ``late`` is called with a reply that comes after that, or once it can come no more.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or len(self._waiting) >= MAX_WAITING:
            on_reply(RedisRefused("there is no connection"))
            return
        deadline = self.loop.time() + timeout_s
        self._waiting.append(_Waiting(on_reply, late, deadline))
        if self._timer is None or deadline < self._sweeps_at:
            self._sweep_at(deadline)
        transport.write(command)

    async def ask(self, *command: str | bytes | int, timeout_s: float) -> Reply:
        """The reply to ``command``.

        Raises:
            RedisLost: none came within ``timeout_s``.
            hiredis.ReplyError: the server said no.
        """
        future: asyncio.Future[Reply] = self.loop.create_future()
        self.send(pack(command), lambda reply: fulfil(future, reply), timeout_s)
        return await future

    def close(self) -> None:
        """Close at once; whoever waits is told."""
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        # uvloop's transports are not of asyncio's class.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Hand out the replies in ``data``."""
        reader, waiting = self._reader, self._waiting
        self.heard = self.loop.time()
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not False:
                if self._on_push is not None and isinstance(reply, list):
                    self._on_push(reply)
                    continue
                if not waiting:
                    raise hiredis.ProtocolError("a reply that nobody asked for")
                due = waiting.popleft()
                if due.on_reply is not None:
                    self.timeouts = 0
                    due.on_reply(reply)
                elif due.late is not None:
                    due.late(reply)
        except hiredis.ProtocolError:
            # What follows cannot be told apart any more.
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell everyone who waits."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        lost = RedisLost("the connection to Redis broke")
        while self._waiting:
            due = self._waiting.popleft()
            told = due.on_reply or due.late
            if told is not None:
                told(lost)
        self._on_lost()

    def _sweep_at(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._sweeps_at = deadline
        self._timer = self.loop.call_at(deadline, self._sweep)

    def _sweep(self) -> None:
        now = self.loop.time()
        self._timer = None
        earliest: float | None = None
        expired = []
        for due in self._waiting:
            if due.on_reply is None:
                continue
            if due.deadline <= now:
                expired.append(due.on_reply)
                due.on_reply = None
            elif earliest is None or due.deadline < earliest:
                earliest = due.deadline
        if earliest is not None:
            self._sweep_at(earliest)
        self.timeouts += len(expired)
        for on_reply in expired:
            on_reply(RedisTimeout("Redis did not answer in time"))


def fulfil(future: asyncio.Future[Reply], reply: Reply) -> None:
    """Give ``reply`` to whoever awaits ``future``, if anyone still does."""
    if future.done():
        return
    if isinstance(reply, Exception):
        future.set_exception(reply)
    else:
        future.set_result(reply)


@contextlib.contextmanager
def short_path(path: str) -> Iterator[str]:
    """``path`` of a socket, as the system takes it: a hundred letters are all that an address has room for.

    Raises:
        OSError: it is too long, and this system has no other way to say it.
    """
    if len(os.fsencode(path)) < LONGEST_PATH:
        yield path
        return
    folder = os.open(Path(path).parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{Path(path).name}"
    finally:
        os.close(folder)


async def connect(
    address: RedisAddress, on_lost: Callable[[], None], *, timeout_s: float, on_push: OnReply | None = None
) -> RedisConnection:
    """A connection, authenticated and on the right database.

    Raises:
        OSError: nobody listens there, or not in time.
        RedisLost: the server does not answer.
        hiredis.ReplyError: it does not let us in.
    """
    loop = asyncio.get_running_loop()

    def made() -> RedisConnection:
        return RedisConnection(on_lost, on_push)

    async with asyncio.timeout(timeout_s):
        if address.path:
            with short_path(address.path) as path:
                _, connection = await loop.create_unix_connection(made, path)
        else:
            context = None
            if address.tls:
                import ssl

                context = ssl.create_default_context(cafile=address.ca_file or None)
            _, connection = await loop.create_connection(made, address.host, address.port, ssl=context)
    try:
        if address.password:
            who = [address.username] if address.username else []
            await connection.ask("AUTH", *who, address.password, timeout_s=timeout_s)
        if address.database:
            await connection.ask("SELECT", address.database, timeout_s=timeout_s)
    except BaseException:
        connection.close()
        raise
    return connection

"""A real server, raw clients, and upstreams that send exactly the bytes they are told to."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import h11
import pytest
import uvloop

from sidecar.http import Deadlines, Handler, HeaderList, Limits, Request, Responder, Server, UpstreamPool

PATIENCE_S = 5.0
"""How long a test waits for something that must happen; passing takes a fraction of it."""


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def error_body(request: Request | None, path: str, status: int, message: str) -> tuple[HeaderList, bytes]:
    return [(b"content-type", b"text/plain"), (b"x-path", path.encode())], message.encode()


async def echo(request: Request, responder: Responder) -> None:
    """Answers with what it understood."""
    head = f"{request.method} {request.path}?{request.query} ".encode()
    responder.send(200, [(b"content-type", b"text/plain")], head + request.body)


@dataclass
class Reply:
    """What a client got, read by h11."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    complete: bool

    def header(self, name: bytes) -> bytes | None:
        return next((value for key, value in self.headers if key == name), None)


class Client:
    """Sends raw bytes; reads replies with h11."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._early = b""

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, method: str = "POST") -> Reply:
        """The next reply; ``complete`` is False if the server broke it off."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        parser.send(h11.EndOfMessage())
        if self._early:
            parser.receive_data(self._early)
        status, headers, body = 0, [], b""
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError:
                return Reply(status, headers, body, False)
            if event is h11.NEED_DATA:
                try:
                    async with asyncio.timeout(PATIENCE_S):
                        data = await self.reader.read(65536)
                except ConnectionError:
                    return Reply(status, headers, body, False)
                parser.receive_data(data)
            elif isinstance(event, h11.Response):
                status, headers = event.status_code, list(event.headers)
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self._early = parser.trailing_data[0]
                return Reply(status, headers, body, True)
            elif isinstance(event, h11.ConnectionClosed):
                return Reply(status, headers, body, False)

    async def ask(self, data: bytes, method: str = "POST") -> Reply:
        await self.send(data)
        return await self.reply(method)

    async def closed(self) -> bytes:
        """What still comes until the server closes."""
        rest = self._early
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(ConnectionError):
                while data := await self.reader.read(65536):
                    rest += data
        return rest

    def leave(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        if not self.writer.transport.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Running:
    """A server under test and the clients made for it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = server.addresses[0][1]
        self.clients: list[Client] = []

    async def client(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes, method: str = "POST") -> Reply:
        return await (await self.client()).ask(data, method)

    async def quiet_client(self) -> socket.socket:
        """A bare socket: what is not asked for with ``sock_recv`` is not read."""
        sock = socket.create_connection(("127.0.0.1", self.port))
        sock.setblocking(False)
        return sock


Serve = Callable[..., Awaitable[Running]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a server: ``await serve(handler, limits=..., deadlines=...)``."""
    running: list[Running] = []

    async def start(
        handler: Handler = echo,
        *,
        limits: Limits | None = None,
        deadlines: Deadlines | None = None,
        **options: Any,
    ) -> Running:
        server = Server(
            handler, limits=limits or Limits(), deadlines=deadlines or Deadlines(), error_body=error_body
        )
        await server.start("127.0.0.1", 0, **options)
        running.append(Running(server))
        return running[-1]

    yield start
    for each in running:
        for client in each.clients:
            client.reset()
        await each.server.drain(0.5)
        assert each.server.connections == 0
        assert each.server.requests == 0


@dataclass
class Upstream:
    """A raw TCP server; ``script`` decides what each connection does."""

    script: Callable[["Upstream", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    """Heads received."""
    bodies: list[bytes] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a peer has closed while we waited for more."""
    port: int = 0

    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.create_task(self.serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await self.script(self, reader, writer)
        writer.close()

    async def stop(self) -> None:
        for task in tuple(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks)
        await asyncio.sleep(0)  # sockets are closed in the loop's next turn

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        body = await reader.readexactly(length)
        self.requests.append(head)
        self.bodies.append(body)
        return body

    async def wait_for_end(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                pass
        self.gone.set()


def answers(reply: bytes, *, hold: bool = False) -> Callable[..., Awaitable[None]]:
    """A script: ``reply`` to each request; without ``hold`` the connection closes after one."""

    async def script(up: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await up.read_request(reader)
            writer.write(reply)
            await writer.drain()
            if not hold:
                return

    return script


OpenUpstream = Callable[..., Awaitable[Upstream]]


@pytest.fixture
async def upstream() -> AsyncIterator[OpenUpstream]:
    """Start an upstream: ``await upstream(script, ssl=...)``."""
    servers: list[tuple[asyncio.Server, Upstream]] = []

    async def start(script: Callable[..., Awaitable[None]], **options: Any) -> Upstream:
        up = Upstream(script)
        server = await asyncio.start_server(up.connected, "127.0.0.1", 0, **options)
        up.port = server.sockets[0].getsockname()[1]
        servers.append((server, up))
        return up

    yield start
    for server, up in servers:
        server.close()
        await up.stop()


OpenPool = Callable[..., UpstreamPool]


@pytest.fixture
async def pool_to() -> AsyncIterator[OpenPool]:
    """Make a pool: ``pool_to(upstream, connections=..., deadlines=...)``."""
    pools: list[UpstreamPool] = []

    def make(up: Upstream, **options: Any) -> UpstreamPool:
        options = {"tls": None, "connections": 8, "deadlines": Deadlines(), "host": "127.0.0.1"} | options
        pool = UpstreamPool(options.pop("host"), up.port, **options)
        pools.append(pool)
        return pool

    yield make
    for pool in pools:
        await pool.close()
        assert pool.inflight == 0


Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def eventually() -> Eventually:
    """Wait until a condition holds: ``await eventually(lambda: ...)``."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.002)

    return wait


@pytest.fixture
def scripts() -> Callable[..., Callable[..., Awaitable[None]]]:
    """Makes upstream scripts: ``scripts(reply, hold=True)``."""
    return answers

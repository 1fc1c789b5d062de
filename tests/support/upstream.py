"""A scripted upstream: a raw TCP server that answers with exactly the bytes it was told to.

It runs in a thread of its own, so that a test may be synchronous, and it is not built on
the code under test.
"""

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self


@dataclass(slots=True)
class Seen:
    """A request as the upstream saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


@dataclass(slots=True)
class Answer:
    """What to answer: raw pieces of the body, and how to send them."""

    status: int = 200
    headers: Sequence[tuple[str, str]] = (("content-type", "application/json"),)
    pieces: Sequence[bytes] = (b"{}",)
    gap_s: float = 0.0
    """Wait between two pieces."""
    delay_s: float = 0.0
    """Wait before the head."""
    chunked: bool = False
    announced: int | None = None
    """Length to announce, where that is not the truth."""
    break_off: bool = False
    """Close the connection instead of ending the body."""
    hold: bool = False
    """Keep the body open until the client goes."""
    endless: bool = False
    """Begin with the pieces again after the last, until the client goes."""


@dataclass(slots=True)
class ScriptedUpstream:
    """Answers by ``script``; remembers what it saw."""

    script: Callable[[Seen], Answer]
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    gone: list[float] = field(default_factory=list)
    """Loop times at which a client closed while we were answering."""
    port: int = 0
    _loop: asyncio.AbstractEventLoop = field(init=False)
    _thread: threading.Thread | None = None
    _stop: asyncio.Event = field(default_factory=asyncio.Event)

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._thread is not None
        self._thread.join(10)

    def forget(self) -> None:
        """Begin as a new one, for another test: a connection that stays open tells this one nothing."""
        self.script, self.seen, self.gone, self.connections = (lambda seen: Answer()), [], [], 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _run(self, ready: threading.Event) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await self._stop.wait()
            server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._loop.run_until_complete(main())
        self._loop.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = [
            (name.lower(), value.strip())
            for name, _, value in (line.partition(":") for line in head[1:] if line)
        ]
        length = int(next((value for name, value in headers if name == "content-length"), "0"))
        request = Seen(method, target, headers, await reader.readexactly(length))
        self.seen.append(request)
        answer = self.script(request)
        gone = self.gone  # Of the test that asked: another may have begun when the client goes.

        async def left_within(wait_s: float) -> bool:
            if await _stays(reader, wait_s):
                return False
            gone.append(asyncio.get_running_loop().time())
            return True

        try:
            return await _answered(answer, writer, left_within)
        except ConnectionError:
            # A close that leaves bytes unread comes as a reset, which a write may be the first to see.
            gone.append(asyncio.get_running_loop().time())
            return False


async def _answered(
    answer: Answer, writer: asyncio.StreamWriter, left_within: Callable[[float], Awaitable[bool]]
) -> bool:
    """Send it; whether the connection can serve another request."""
    if answer.delay_s and await left_within(answer.delay_s):
        return False
    lines = [f"HTTP/1.1 {answer.status} X", *(f"{name}: {value}" for name, value in answer.headers)]
    body = sum(map(len, answer.pieces)) if answer.announced is None else answer.announced
    lines.append("transfer-encoding: chunked" if answer.chunked else f"content-length: {body}")
    writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
    for piece in itertools.cycle(answer.pieces) if answer.endless else answer.pieces:
        if answer.gap_s and await left_within(answer.gap_s):
            return False
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece) if answer.chunked else piece)
        await writer.drain()
        if answer.gap_s == 0:
            await asyncio.sleep(0)
    if answer.hold:
        await left_within(600)
        return False
    if answer.break_off:
        writer.transport.abort()
        return False
    if answer.chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


async def _stays(reader: asyncio.StreamReader, wait_s: float) -> bool:
    """Whether the client is still there after so long; False as soon as it closes."""
    try:
        data = await asyncio.wait_for(reader.read(1), wait_s)
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    if data:
        raise AssertionError("the client sent more before it was answered")
    return False

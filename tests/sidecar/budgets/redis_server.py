"""Real Redis servers that tests start, freeze, kill, empty and roll back."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from support.ports import free_port, is_free


def free_cluster_port() -> int:
    """A port with a free one 10,000 above, where nodes of a cluster talk to each other."""
    while not is_free((port := free_port()) + 10_000):
        pass
    return port


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for ``condition``; fails loudly when it does not come."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while not condition():
        assert loop.time() < deadline, "what was awaited did not come"
        await asyncio.sleep(0.005)


class RedisServer:
    """Debian's redis-server on a free port, with a folder of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.port = free_cluster_port() if "--cluster-enabled" in options else free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder)]
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers; where somebody took its port meanwhile, until that is free."""
        self.folder.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self.process is None or self.process.poll() is not None:
                self.process = subprocess.Popen(
                    [
                        *self.command,
                        "--save",
                        "",
                        "--appendonly",
                        "no",
                        "--loglevel",
                        "warning",
                        *self.options,
                    ],
                    stdout=subprocess.DEVNULL,
                )
            try:
                if b"PONG" in self.say("PING") and self.process.poll() is None:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        self.kill()
        raise AssertionError("redis-server did not start")

    def say(self, *words: str) -> bytes:
        """Send one command, and the beginning of its reply."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as sock:
            packed = b"".join(b"$%d\r\n%s\r\n" % (len(word.encode()), word.encode()) for word in words)
            sock.sendall(b"*%d\r\n" % len(words) + packed)
            return sock.recv(1 << 16)

    def freeze(self) -> None:
        """Stop it as a whole; connections stand, nothing answers."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it at once, without a chance to save."""
        if self.process is not None:
            self.thaw()
            self.process.kill()
            self.process.wait()
            self.process = None

    def save(self) -> Path:
        """A snapshot of now."""
        assert b"OK" in self.say("SAVE")
        copy = self.folder / "kept.rdb"
        shutil.copy(self.folder / "dump.rdb", copy)
        return copy

    def restore(self, snapshot: Path) -> None:
        """Kill it and start it again from ``snapshot``."""
        self.kill()
        shutil.copy(snapshot, self.folder / "dump.rdb")
        self.start()


class SlowProxy:
    """Passes bytes between a client and a server, late, or not at all."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self.delay_s = 0.0
        self.cut_after: int | None = None
        """Bytes of replies after which connections are cut."""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self.target)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass_on(reader, back, 0.0))
                group.create_task(self._pass_on(there, writer, None))
        except* (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            back.transport.abort()
            writer.transport.abort()
            self._tasks.discard(task)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, fixed_s: float | None
    ) -> None:
        loop = asyncio.get_running_loop()
        while data := await reader.read(1 << 16):
            delay_s = self.delay_s if fixed_s is None else fixed_s
            if fixed_s is None and self.cut_after is not None:
                writer.write(data[: self.cut_after])
                raise OSError("cut")
            if delay_s:
                loop.call_later(delay_s, writer.write, data)
            else:
                writer.write(data)
        raise OSError("closed")

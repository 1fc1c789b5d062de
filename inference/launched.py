"""A running server: started, watched, started again with growing pauses, its output kept in a bounded log."""

import asyncio
import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Literal

from collector import logs
from inference.launch import Launch
from inference.readiness import is_ready

_log = logs.get("inference")

FIRST_BACKOFF_S = 1.0
LONGEST_BACKOFF_S = 60.0
STEADY_S = 300.0
"""A server that was ready for so long starts again without waiting."""
INVALID = 2
"""What vLLM's argument parser ends with: starting again is no use."""
_LOOK_EVERY_S = 0.5
_LAST_LINES = 20

Phase = Literal["stopped", "starting", "ready", "not answering", "waiting", "given up"]


class LogFile:
    """What a server writes, in a file that never grows beyond a size; the one before is kept.

    Args:
        path: of the file.
        most_bytes: when a new one is begun.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path = path
        self._most = most_bytes
        self.last: deque[str] = deque(maxlen=_LAST_LINES)
        """The last lines, to show when it fails."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("ab")

    def write(self, line: bytes) -> None:
        """Add a line."""
        self.last.append(line.decode("utf-8", "replace").rstrip()[:500])
        with contextlib.suppress(OSError):
            if self._file.tell() + len(line) > self._most:
                self._file.close()
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                self._file = self.path.open("ab")
            self._file.write(line)
            self._file.flush()

    def close(self) -> None:
        """No more will come."""
        self._file.close()


class Server:
    """One server and the task that keeps it running.

    Args:
        launch: how to start it.
        log: where its output goes.
        ready_within_s: after which a server that is not ready is ended and started again.
        stop_within_s: how long it may take to end.
    """

    def __init__(
        self,
        launch: Launch,
        log: LogFile,
        *,
        ready_within_s: float,
        stop_within_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.launch = launch
        self.log = log
        self.phase: Phase = "stopped"
        self.restarts = 0
        self.process: asyncio.subprocess.Process | None = None
        self._ready_within_s = ready_within_s
        self._stop_within_s = stop_within_s
        self._clock = clock
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()

    def start(self) -> None:
        """Begin to keep it running."""
        self._task = asyncio.create_task(self._keep(), name=self.launch.name)

    async def stop(self) -> None:
        """End it, its workers too."""
        self._stopping.set()
        if self._task is not None:
            await self._task
        self.log.close()

    async def wait_for(self, *phases: Phase) -> Phase:
        """Wait until it is in one of ``phases``."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.phase in phases)
        return self.phase

    async def _enter(self, phase: Phase) -> None:
        if phase == self.phase:
            return
        _log.info("model server", component=self.launch.name, state=phase, url=self.launch.url)
        async with self._changed:
            self.phase = phase
            self._changed.notify_all()

    async def _keep(self) -> None:
        backoff = FIRST_BACKOFF_S
        while not self._stopping.is_set():
            code, steady = await self._run_once()
            if self._stopping.is_set():
                break
            for line in self.log.last:
                _log.error("model server said", component=self.launch.name, reason=line)
            if code == INVALID:
                await self._enter("given up")
                await self._stopping.wait()
                break
            if steady:
                backoff = FIRST_BACKOFF_S
            _log.error(
                "model server ended; starting again",
                component=self.launch.name,
                exit_code=code,
                retry_in_s=backoff,
            )
            await self._enter("waiting")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff)
            backoff = min(2 * backoff, LONGEST_BACKOFF_S)
            self.restarts += 1
        await self._enter("stopped")

    async def _run_once(self) -> tuple[int, bool]:
        """Start it and watch it until it ends; its exit code, and whether it had been ready for long."""
        self.launch.write()
        # A session of its own: a signal reaches its workers with it, and Ctrl-C reaches us alone.
        process = self.process = await asyncio.create_subprocess_exec(
            *self.launch.argv,
            env=dict(self.launch.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        await self._enter("starting")
        reading = asyncio.create_task(self._read(process))
        stopped = asyncio.create_task(self._stopping.wait())
        ready_at: float | None = None
        until = self._clock() + self._ready_within_s
        try:
            # Not `process.wait()`: that also waits for workers, which hold the same pipe, and may outlive it.
            while process.returncode is None and not stopped.done():
                # One without a head has nothing to ask: it works as long as it runs.
                ready = self.launch.is_headless or await is_ready(self.launch.url)
                if ready and ready_at is None:
                    ready_at = self._clock()
                if ready_at is None and self._clock() > until:
                    self.log.write(b"bursar: it did not become ready in time\n")
                    break
                await self._enter("ready" if ready else "starting" if ready_at is None else "not answering")
                await asyncio.wait({stopped}, timeout=_LOOK_EVERY_S)
            await self._end(process)
            code = await process.wait()
            return code, ready_at is not None and self._clock() - ready_at > STEADY_S
        finally:
            stopped.cancel()
            await asyncio.gather(reading, stopped, process.wait(), return_exceptions=True)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """End what is still there of it: politely, then not; its workers may outlive it."""
        until = self._clock() + self._stop_within_s
        if process.returncode is None:
            _signal(process.pid, signal.SIGTERM)
        while process.returncode is None and self._clock() < until:  # noqa: ASYNC110  (see above)
            await asyncio.sleep(0.05)
        _signal(process.pid, signal.SIGKILL)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                continue  # a line of more than 64 kB is dropped
            if not line:
                return
            self.log.write(line)


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)

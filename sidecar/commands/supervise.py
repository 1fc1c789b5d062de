"""Processes that belong together: started in order, restarted when they fall, stopped in order."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from collector.logs import get
from collector.settings import Address

log = get("bursar.supervisor")

FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
STEADY_S = 60.0
"""A process that ran this long starts again without waiting."""
HEAD_START_S = 2.0
"""How long those that follow wait at most for a part to listen."""
INVALID_CONFIGURATION = 2
"""Exit code after which starting again is no use."""


@dataclass(slots=True)
class Part:
    """One process."""

    name: str
    argv: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    stop_within_s: float = 10.0
    """How long it may take to end after SIGTERM."""
    log_file: Path | None = None
    """Where what it writes goes; None for where ours goes."""
    listens: Address | None = None
    """Once it listens here, the next part is started: before, that would take the processor from it."""
    niceness: int = 0
    """It gives way to those that have less, from its first instant on."""
    backoff_s: float = FIRST_BACKOFF_S
    """Before it is started again for the first time."""
    process: asyncio.subprocess.Process | None = None
    restarts: int = 0


def bursar(command: str, *arguments: str) -> list[str]:
    """The command line of one of our own processes."""
    return [sys.executable, "-m", "sidecar.cli", command, *arguments]


class Supervisor:
    """Keeps parts running until told to stop."""

    def __init__(self, parts: Sequence[Part], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.parts = list(parts)
        self.failed: str | None = None
        """Why everything was stopped, when a part could not be kept running."""
        self._clock = clock
        self._stopping = asyncio.Event()
        self._watchers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start all parts."""
        for part in self.parts:
            await self._spawn(part)
            self._watchers.append(asyncio.create_task(self._watch(part), name=part.name))
            if part.listens is not None:
                await self._head_start(part.listens)

    async def stopped(self) -> None:
        """Wait until somebody asked to stop, or a part cannot be kept running."""
        await self._stopping.wait()

    def ask_to_stop(self) -> None:
        """Stop soon; safe in a signal handler."""
        self._stopping.set()

    async def stop(self) -> None:
        """End the parts in the order they were given: who makes records before who takes them in."""
        self._stopping.set()
        for part in self.parts:
            process = part.process
            if process is None or process.returncode is not None:
                continue
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), part.stop_within_s)
            except TimeoutError:
                log.warning("killed: it did not end in time", component=part.name)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)

    async def _head_start(self, address: Address) -> None:
        until = self._clock() + HEAD_START_S
        while self._clock() < until and not self._stopping.is_set():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(address.host, address.port)
                writer.close()
                return
            await asyncio.sleep(0.01)

    async def _spawn(self, part: Part) -> None:
        environment = {**os.environ, **part.environment}
        with contextlib.ExitStack() as files:
            out = files.enter_context(part.log_file.open("ab")) if part.log_file is not None else None
            # A session of its own: Ctrl-C reaches us alone, and we stop the parts in order.
            part.process = await asyncio.create_subprocess_exec(
                *part.argv, env=environment, start_new_session=True, stdout=out, stderr=out
            )
        if part.niceness:
            with contextlib.suppress(OSError):
                own = os.getpriority(os.PRIO_PROCESS, 0)
                os.setpriority(os.PRIO_PROCESS, part.process.pid, max(own, part.niceness))

    async def _watch(self, part: Part) -> None:
        backoff = part.backoff_s
        while not self._stopping.is_set():
            assert part.process is not None
            began = self._clock()
            code = await part.process.wait()
            if self._stopping.is_set():
                return
            if code == INVALID_CONFIGURATION:
                self.failed = f"{part.name} cannot start: its configuration is invalid"
                self._stopping.set()
                return
            if self._clock() - began > STEADY_S:
                backoff = part.backoff_s
            log.error(
                "ended; starting again",
                component=part.name,
                exit_code=code,
                retry_in_s=backoff,
                file=str(part.log_file or ""),
            )
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff)
                return
            backoff = min(max(2 * backoff, FIRST_BACKOFF_S), LONGEST_BACKOFF_S)
            part.restarts += 1
            await self._spawn(part)


def stop_on_signals(supervisor: Supervisor) -> None:
    """Ctrl-C and SIGTERM ask ``supervisor`` to stop; a second one changes nothing."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, supervisor.ask_to_stop)

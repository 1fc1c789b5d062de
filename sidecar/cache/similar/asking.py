"""The finder, as the sidecar sees it: a process that may be slow, wrong or gone. No call waits long for it.

It is started when the first call comes that a similar answer may be given to, and started again, with pauses,
when it ends or says nothing for long. While it starts, or after a few answers that came too late, nobody
waits for it: every look-up is a miss at once.
"""

import asyncio
import contextlib
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Final, NamedTuple

import msgspec

from collector.logs import get
from sidecar.cache.similar.frames import LENGTH_BYTES, pack, unpack
from sidecar.cache.similar.settings import EmbeddingConfig

log = get("bursar.cache")

PAUSES_S: Final = (1.0, 5.0, 30.0, 120.0)
"""Before it is started again; the last one repeats."""
STARTS_WITHIN_S: Final = 60.0
MOST_WAITING: Final = 64
"""Questions that may be on their way; more would come late anyway."""
TRIPS: Final = 3
"""Answers in a row that come too late, after which none is waited for until one has come."""
PROBE_EVERY_S: Final = 1.0
"""How often it is asked all the same, by a call that does not wait."""
SILENT_S: Final = 30.0
"""How long it may owe an answer before it is held for dead."""
BACKGROUND_S: Final = 10.0
MOST_TEXT: Final = 20_000
"""Characters of an answer that are compared."""
MOST_LOST: Final = 1000
"""Keys in one frame."""
MOST_UNSENT: Final = 1 << 20
"""Bytes in the pipe that it has not read."""


class Near(NamedTuple):
    """A kept answer to a similar question."""

    key: bytes
    distance: float
    likeness: str
    """``same`` or ``rephrased``; see :class:`sidecar.cache.guards.Verdict`."""


class Similar:
    """Asks the finder.

    Args:
        more: what its assignment says besides the embedding's settings.
        on_used: told of tokens that an endpoint has read for it.
        on_edited: told of questions in Redis that somebody edited.
    """

    def __init__(
        self,
        config: EmbeddingConfig,
        more: dict[str, Any] | None = None,
        on_used: Callable[[int], None] = lambda tokens: None,
        on_edited: Callable[[int], None] = lambda questions: None,
    ) -> None:
        self.config = config
        self._on_told = {"used": on_used, "edited": on_edited}
        self._more = more or {}
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[int, tuple[asyncio.Future[Any], float]] = {}
        self._number = self._late = 0
        self._probe_at = 0.0
        self._patience_s = max(float(config.deadline), 0.01)
        self.runner = ""
        """What makes the vectors; empty while nothing does."""
        self.problem = ""
        """Why nothing does, or why it is not what was asked for."""
        self.lates = 0
        """Look-ups that were given up on."""

    @property
    def pid(self) -> int | None:
        """Of the process; None while there is none."""
        return self._process.pid if self._process is not None else None

    @property
    def quick(self) -> bool:
        """Whether look-ups are sent and waited for."""
        return bool(self.runner) and self._late < TRIPS

    async def near(self, scope: bytes, text: str, within: float) -> list[Near]:
        """Answers to questions that ask for the same, nearest first; none where they do not come in time."""
        until = time.monotonic() + self.config.deadline
        said = await self._ask(self.config.deadline, "find", scope, text, within, until)
        return [Near(bytes(key), float(distance), likeness) for key, distance, likeness in said or ()]

    async def agree(self, one: str, other: str) -> bool | None:
        """Whether two answers say the same; None where nobody can say."""
        said = await self._ask(BACKGROUND_S, "compare", one[:MOST_TEXT], other[:MOST_TEXT])
        return None if said is None else bool(said)

    def add(self, scope: bytes, owner: tuple[bytes, bytes], key: bytes, text: str, expires_at: float) -> None:
        """Find ``key`` near ``text`` from now on; nobody waits for it."""
        self._send(0, "add", scope, owner, key, text, expires_at)

    def drop(self, scope: bytes, owner: tuple[bytes, bytes], key: bytes) -> None:
        """Find ``key`` no more: its answer has left."""
        self._send(0, "drop", scope, owner, key)

    def forget(self, tenant: bytes | None, model: bytes | None) -> None:
        """Find nothing more of this tenant and model; None stands for all."""
        self._send(0, "forget", tenant, model)

    def lose(self, keys: Sequence[bytes]) -> None:
        """Find these no more, whatever they were asked in."""
        for start in range(0, len(keys), MOST_LOST):
            self._send(0, "lose", keys[start : start + MOST_LOST])

    async def close(self) -> None:
        """End the process."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def start(self) -> None:
        """Start the process, if it is not there; it takes a second until it answers."""
        if self._task is None:
            self._task = asyncio.create_task(self._tend(), name="finder")

    async def _ask(self, within_s: float, *asked: Any) -> Any:
        self.start()
        if not self.runner or len(self._waiting) >= MOST_WAITING:
            return None
        now = time.monotonic()
        if not self.quick:
            if now < self._probe_at:
                return None
            self._probe_at, within_s = now + PROBE_EVERY_S, 0.0
        self._number += 1
        number = self._number
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = (future, now)
        if not self._send(number, *asked):
            del self._waiting[number]
            return None
        if not within_s:
            return None  # A probe: its answer shows that the finder keeps up again.
        try:
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            self.lates += 1
            self._late += 1
            if self._late == TRIPS:
                log.warning("similar answers are not looked for: the finder is too slow", runner=self.runner)
            return None

    def _send(self, number: int, *asked: Any) -> bool:
        process = self._process
        if not self.runner or process is None or process.stdin is None or process.stdin.is_closing():
            return False
        if process.stdin.transport.get_write_buffer_size() > MOST_UNSENT:
            return False
        process.stdin.write(pack([number, *asked]))
        return True

    # -- keeping it alive

    async def _tend(self) -> None:
        attempt = 0
        while True:
            try:
                await self._serve()
            except (OSError, asyncio.IncompleteReadError, msgspec.MsgspecError, TimeoutError) as error:
                if self.runner:
                    attempt = 0
                if attempt == 0:
                    reason = self.problem or f"{type(error).__name__} {error}".strip()[:300]
                    log.warning("no similar answers: the finder does not run", reason=reason)
            finally:
                self.runner, self._late = "", 0
                for future, _ in self._waiting.values():
                    if not future.done():
                        future.set_result(None)
                self._waiting.clear()
                await self._end()
            await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])
            attempt += 1

    async def _serve(self) -> None:
        if find_spec("numpy") is None:
            self.problem = "similar answers need numpy: pip install '.[semantic]' in Bursar's clone"
            raise OSError(self.problem)
        wanted = ("PATH", "PYTHONPATH", "LANG", "HOME", "SSL_CERT_FILE", "BURSAR_NATIVE")
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "sidecar.cache.similar.finder",
            stdin=PIPE, stdout=PIPE,
            env={name: os.environ[name] for name in wanted if name in os.environ},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(pack(self.config.assignment() | self._more))
        async with asyncio.timeout(STARTS_WITHIN_S):
            said = await self._frame(process)
        if said["problem"] != self.problem:
            self.problem = said["problem"]
            if self.problem and said["runner"]:
                log.warning(f"similar answers are found by {said['runner']}", reason=self.problem)
        self.runner = said["runner"]
        while True:
            try:
                async with asyncio.timeout(SILENT_S):
                    said = await self._frame(process)
            except TimeoutError:
                oldest = min((sent for _, sent in self._waiting.values()), default=time.monotonic())
                if time.monotonic() - oldest >= SILENT_S:
                    raise TimeoutError(f"it owes an answer for {SILENT_S:.0f} s") from None
                continue
            if said[0] == 0:
                self._on_told[said[1]](said[2])
                continue
            waiting = self._waiting.pop(said[0], None)
            if waiting is not None and len(said) == 2 and time.monotonic() - waiting[1] <= self._patience_s:
                self._late = 0
            if waiting is not None and not waiting[0].done():
                waiting[0].set_result(said[1] if len(said) == 2 else None)
            if len(said) > 2:
                self._complain(said[2])

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            log.warning("the finder could not answer", reason=problem, runner=self.runner)

    async def _frame(self, process: Process) -> Any:
        assert process.stdout is not None
        size = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES))
        return unpack(await process.stdout.readexactly(size))

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()

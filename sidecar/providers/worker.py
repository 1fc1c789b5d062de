"""litellm's worker, as the sidecar sees it: started on first need, watched, started again.

The sidecar opens the listening socket and keeps it; the worker inherits it. So its address never
changes, a request that comes while it starts waits in the socket's queue, and nobody else can take
the port. A worker that ends is started again with growing pauses; one that does not answer for
:data:`WEDGED_S` is killed. What a call sees of all this is :class:`sidecar.errors.UpstreamFailed`.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process

import msgspec

from collector.logs import get
from sidecar import __version__
from sidecar.config import BursarConfig
from sidecar.errors import UpstreamFailed
from sidecar.http import Deadlines, UpstreamError, UpstreamPool
from sidecar.providers.litellm_settings import Account, Assignment, LitellmWorkerConfig, account_of

log = get("bursar.litellm")

START_WITHIN_S = 60.0
"""Importing litellm takes 3 to 10 s."""
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 30.0
STEADY_S = 60.0
"""A worker that ran this long is started again at once."""
LOOK_EVERY_S = 5.0
WEDGED_S = 20.0
"""A worker whose loop does not turn for this long will not turn again."""
STOP_WITHIN_S = 5.0
TRY_AGAIN_S = 5.0
"""How long one that could not be started is not tried again."""

INSTALL = "litellm is not installed here: pip install '.[litellm]' in Bursar's clone"

_KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""What of our environment the worker sees anyway: nothing by which litellm would find a key or an account."""


class LitellmWorker:
    """One process for all upstreams of kind litellm."""

    def __init__(
        self,
        config: LitellmWorkerConfig,
        accounts: list[Account],
        known_secrets: list[str],
        total_s: float,
        body_bytes: int,
    ) -> None:
        self.told = (config, accounts, known_secrets, total_s, body_bytes)
        """All that it depends on."""
        self._config = config
        self.token = secrets.token_hex(32)
        """Tells our requests from those of others on this machine."""
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self.socket.getsockname()[1]
        self.process: Process | None = None
        self.restarts = 0
        self._ready: asyncio.Future[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._failed_at = -TRY_AGAIN_S
        self._users = 0
        self._closing = False

    async def ready(self) -> None:
        """Wait until it serves; start it if nobody has.

        Raises:
            UpstreamFailed: it cannot be started, or takes too long.
        """
        ready = self._ready
        if ready is not None and ready.done() and not ready.cancelled() and ready.exception() is None:
            return
        running = self._watching is not None and not self._watching.done()
        if not running and time.monotonic() - self._failed_at >= TRY_AGAIN_S:
            self._ready = ready = asyncio.get_running_loop().create_future()
            self._watching = asyncio.create_task(self._watch(), name="litellm")
            self._watching.add_done_callback(self._ended)
        assert self._ready is not None
        try:
            await asyncio.wait_for(asyncio.shield(self._ready), START_WITHIN_S)
        except TimeoutError:
            raise UpstreamFailed(
                "litellm's process did not start in time; try again", code="litellm_starting", timed_out=True
            ) from None

    def join(self) -> None:
        """One more configuration makes use of it."""
        self._users += 1

    async def leave(self) -> None:
        """One configuration less does; the last one ends it, and whoever watches it."""
        self._users -= 1
        if self._users:
            return
        self._closing = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._end()
        self.socket.close()

    # -- keeping it running

    async def _watch(self) -> None:
        pause = 0.0
        while not self._closing:
            began = time.monotonic()
            try:
                process = await self._start()
                if process is None:
                    return
                pinging = asyncio.create_task(self._ping(process))
                try:
                    code = await process.wait()
                finally:
                    pinging.cancel()
                    await asyncio.gather(pinging, return_exceptions=True)
            finally:
                await self._end()
            self._ready = asyncio.get_running_loop().create_future()
            pause = (
                0.0
                if time.monotonic() - began > STEADY_S
                else min(2 * pause or FIRST_PAUSE_S, LONGEST_PAUSE_S)
            )
            log.error("litellm's process ended; starting again", exit_code=code, retry_in_s=pause)
            self.restarts += 1
            await asyncio.sleep(pause)

    def _ended(self, watching: asyncio.Task[None]) -> None:
        """Nobody watches any more: whoever waits is told."""
        broken = None if watching.cancelled() else watching.exception()
        if broken is not None:
            log.error("litellm's process is not watched any more", failure=broken)
        if self._ready is not None and not self._ready.done():
            failed = UpstreamFailed("litellm's process cannot be kept running", code="litellm_failed")
            self._ready.set_exception(failed)
            self._ready.exception()

    async def _start(self) -> Process | None:
        """A worker that is ready; None when there can be none, which ``ready`` then says."""
        assert self._ready is not None
        failed = ""
        try:
            async with asyncio.timeout(START_WITHIN_S):
                process, told = await self._spawn()
        except (OSError, TimeoutError) as error:
            failed, code = (
                f"litellm's process cannot be started: {error or 'it took too long'}",
                "litellm_failed",
            )
        else:
            if told.get("ready"):
                if not self._ready.done():
                    self._ready.set_result(None)
                return process
            code = "litellm_failed"
            if "missing" in told:
                failed, code = INSTALL, "litellm_missing"
                if told["missing"] != "litellm":
                    failed += f" ({told['missing']} is what it lacks)"
            elif "version" in told:
                failed = f"litellm's process is of Bursar {told['version']}, this is {__version__}"
            else:
                failed = "litellm's process ended as it started"
        log.error(failed)
        self._failed_at = time.monotonic()
        await self._end()
        if not self._ready.done():
            self._ready.set_exception(UpstreamFailed(failed, code=code))
            self._ready.exception()  # Whoever waits gets it; nobody else need.
        return None  # A later call tries again: it may have been installed meanwhile.

    async def _spawn(self) -> tuple[Process, dict[str, object]]:
        environment = {
            name: os.environ[name] for name in (*_KEPT, *self._config.environment) if name in os.environ
        }
        # Amazon's and Google's own look-ups of an account ask the machine; only when told to do they.
        environment.setdefault("AWS_EC2_METADATA_DISABLED", "true")
        environment.setdefault("NO_GCE_CHECK", "true")
        environment.setdefault("HOME", "/nonexistent")  # Where they look for files of credentials.
        self.process = process = await asyncio.create_subprocess_exec(
            str(self._config.python or sys.executable),
            "-P",
            "-m",
            "sidecar.providers.litellm_worker",
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=(self.socket.fileno(),),
            env=environment,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        _, accounts, known_secrets, total_s, body_bytes = self.told
        assignment = Assignment(
            version=__version__,
            token=self.token,
            listener=self.socket.fileno(),
            timeout_s=float(total_s + 60),
            body_bytes=int(body_bytes),
            accounts=accounts,
            secrets=[*known_secrets, self.token],
        )
        with contextlib.suppress(ConnectionError):
            process.stdin.write(msgspec.json.encode(assignment) + b"\n")
            await process.stdin.drain()
        line = await process.stdout.readline()
        try:
            told = msgspec.json.decode(line) if line else {}
        except msgspec.DecodeError:
            told = {}
        return process, told if isinstance(told, dict) else {}

    async def _ping(self, process: Process) -> None:
        """Kill ``process`` when its loop stops turning."""
        deadlines = Deadlines(connect_s=WEDGED_S, first_byte_s=WEDGED_S, total_s=WEDGED_S, idle_s=WEDGED_S)
        pool = UpstreamPool("127.0.0.1", self.port, tls=None, connections=1, deadlines=deadlines)
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                try:
                    reply = await pool.request(b"GET", b"/healthz", [], b"")
                    await reply.read(1024)
                except UpstreamError as error:
                    if error.kind.startswith("timeout"):
                        log.error("litellm's process does not answer; killed", after_s=WEDGED_S)
                        kill(process)
                        return
        finally:
            await pool.close()

    async def _end(self) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), STOP_WITHIN_S)
            except TimeoutError:
                kill(process)
                await process.wait()
        transport = getattr(process, "_transport", None)
        if transport is not None:
            transport.close()


def kill(process: Process) -> None:
    """End ``process`` at once, and what it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def worker_for(config: BursarConfig, running: LitellmWorker | None) -> LitellmWorker | None:
    """The worker that a configuration needs: ``running`` where it would be told the very same.

    None where no upstream goes through litellm.
    """
    accounts = [
        account_of(
            name, item.litellm, api_key=item.api_key, base_url=item.base_url or "", headers=item.headers
        )
        for name, item in config.upstreams.items()
        if item.kind == "litellm"
    ]
    if not accounts:
        return None
    told = (config.litellm, accounts, config.secrets, config.deadlines.total, config.limits.body)
    return running if running is not None and running.told == told else LitellmWorker(*told)

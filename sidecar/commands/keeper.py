"""The process that counts budgets for several workers where there is no Redis; watched over beside them.

It is one of two. The first follows the journals, and so has all that the work needs; the second is a copy
of it and answers the workers. When the second falls another is there in milliseconds, not in the half
second that a Python takes to start, and has nothing to read. When the first falls, the second works on
until a new pair takes over.
"""

import asyncio
import contextlib
import fcntl
import gc
import os
import select
import signal
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import IO, NamedTuple

import uvloop

from collector.logs import get
from sidecar.budgets.charges import charges_by
from sidecar.budgets.configured import policy_of
from sidecar.budgets.keeper.serving import Client, Store
from sidecar.budgets.keeper.tally import Tally, fill
from sidecar.budgets.redis_connection import parse_address, short_path
from sidecar.config import BursarConfig

log = get("bursar.keeper")

COUNT_S = 0.5
"""Between two looks at the journals: how much of them a second process has to add when one fell, at most."""
WRITE_S = 10.0
"""How much of the journals a start has to read again, at most."""
SWEEP_S = 1.0
TOO_SOON_S = 0.5
"""One that lived no longer than that has a reason that starting again at once does not remove."""
ORPHAN_S = 15.0
"""How long a second process works on that nobody watches over."""
TAKE_OVER_S = 5.0
"""How long such a one may take to end."""
_BACKLOG = 256
_ENDINGS = (signal.SIGTERM, signal.SIGINT)


def run(config: BursarConfig) -> int:
    """Keep the budgets of ``config`` until told to stop."""
    assert config.shared_store is not None
    policy = policy_of(config.budgets, config.downgrades, config.throttles, config.concurrency)
    tally = Tally(config.journal_dir, charges_by(lambda: policy))
    store = Store("")
    path = Path(parse_address(config.shared_store).path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("a+") as lock:
        # Both have it, so it is free only when both are gone.
        if not _alone(lock):
            sys.stderr.write(f"another process keeps the budgets in {config.data_dir}\n")
            return 1
        tally.restore()
        return _Watch(path, store, tally, lock).run()


class _Second(NamedTuple):
    """The process that works, as the first one knows it."""

    pid: int
    gone: int
    """Readable once it is gone."""
    here: int
    """It notices when this is closed."""


class _Watch:
    """The first process: follows the journals, and sees to it that a second one works."""

    def __init__(self, path: Path, store: Store, tally: Tally, lock: IO[str]) -> None:
        self._path = path
        self._store = store
        self._tally = tally
        self._lock = lock
        self._stop = False
        self._second: _Second | None = None

    def run(self) -> int:
        for number in _ENDINGS:
            signal.signal(number, self._end)
        while True:
            self._tally.count()
            began = time.monotonic()
            second = self._begin()
            self._follow_journals(second)
            self._second = None
            _, status = os.waitpid(second.pid, 0)
            os.close(second.gone)
            os.close(second.here)
            code = os.waitstatus_to_exitcode(status)
            if self._stop or code >= 0:
                self._write()
                return max(code, 0)
            log.error("ended; another takes its place", component="budget keeper", exit_code=code)
            if time.monotonic() - began < TOO_SOON_S:
                time.sleep(TOO_SOON_S)

    def _end(self, number: int, _: object) -> None:
        self._stop = True
        if self._second is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._second.pid, number)

    def _begin(self) -> _Second:
        gone, gone_there = os.pipe()
        here_there, here = os.pipe()
        # What is there by now is for both: looking for cycles in it would only make copies.
        gc.freeze()
        # A signal that comes meanwhile waits until both know what to do with it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
        pid = os.fork()
        if not pid:
            os.close(gone)
            os.close(here)
            code = 1
            try:
                code = uvloop.run(_work(self._path, self._store, self._tally, self._lock, here_there))
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        self._second = _Second(pid, gone, here)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)
        os.close(gone_there)
        os.close(here_there)
        return self._second

    def _follow_journals(self, second: _Second) -> None:
        """Until ``second`` is gone."""
        written = time.monotonic()
        while not select.select([second.gone], [], [], COUNT_S)[0]:
            if time.monotonic() - written > WRITE_S:
                written = time.monotonic()
                self._write()
            else:
                self._count()

    def _count(self) -> None:
        with contextlib.suppress(OSError):
            self._tally.count()

    def _write(self) -> None:
        try:
            self._tally.count()
            self._tally.write()
        except OSError as error:
            log.error("budgets not written down; the journals have them", reason=str(error))


async def _work(path: Path, store: Store, tally: Tally, lock: IO[str], first: int) -> int:
    """The second process: begin with what the journals say, then answer the workers.

    Args:
        path: of the socket.
        store: an empty one.
        tally: what the journals say.
        lock: where the first of another pair looks who works without one.
        first: readable once the first process is gone.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDINGS:
        loop.add_signal_handler(number, stop.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)

    def alone() -> None:
        loop.remove_reader(first)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        loop.call_later(ORPHAN_S, stop.set)

    loop.add_reader(first, alone)
    sock = bound(path)
    store.run_id = uuid.uuid4().hex
    fill(store.values, tally, store.run_id)
    server = await loop.create_unix_server(lambda: Client(store), sock=sock, backlog=_BACKLOG)
    log.info("keeping the budgets of all workers", count=len(tally.ledger.accounts))
    try:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_S):
                    await stop.wait()
            store.values.sweep()
    finally:
        server.close()
        for client in list(store.clients):
            client.close()
    return 0


def _alone(lock: IO[str]) -> bool:
    """Take the lock, from one that nobody watches over, too; whether we have it."""
    until = time.monotonic() + TAKE_OVER_S
    told = 0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            left = lock.read().strip()
            if not left.isdigit() or time.monotonic() > until:
                return False
            if told != int(left):
                told = int(left)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(told, signal.SIGTERM)
            time.sleep(0.002)
        else:
            lock.truncate(0)
            return True


def bound(path: Path) -> socket.socket:
    """A socket at ``path`` that only this user may open; in place of one that was left behind."""
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        with short_path(str(path)) as short:
            sock.bind(short)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    sock.setblocking(False)
    return sock

"""The process that counts budgets for several workers where there is no Redis; watched over beside them."""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import sys
import uuid
from pathlib import Path

from collector.logs import get
from sidecar.budgets.charges import charges_by
from sidecar.budgets.configured import policy_of
from sidecar.budgets.keeper.serving import Client, Store
from sidecar.budgets.keeper.tally import Tally, fill
from sidecar.budgets.redis_connection import parse_address, short_path
from sidecar.config import BursarConfig

log = get("bursar.keeper")

WRITE_S = 10.0
"""How much of the journals a start has to read again, at most."""
SWEEP_S = 1.0
_BACKLOG = 256


def run(config: BursarConfig) -> int:
    """Keep the budgets of ``config`` until told to stop."""
    if sys.platform == "win32":
        return asyncio.run(serve(config))
    import uvloop

    return uvloop.run(serve(config))


async def serve(config: BursarConfig) -> int:
    """Begin with what the journals say, then answer the workers."""
    assert config.shared_store is not None
    path = Path(parse_address(config.shared_store).path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as held:
        lock = held.enter_context(path.with_suffix(".lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"another process keeps the budgets in {config.data_dir}\n")
            return 1
        policy = policy_of(config.budgets, config.downgrades, config.throttles, config.concurrency)
        tally = Tally(config.journal_dir, charges_by(lambda: policy))
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        sock = bound(path)
        tally.restore()
        tally.count()
        store = Store(uuid.uuid4().hex)
        fill(store.values, tally, store.run_id)
        server = await loop.create_unix_server(lambda: Client(store), sock=sock, backlog=_BACKLOG)
        log.info("keeping the budgets of all workers", count=len(tally.ledger.accounts))
        try:
            await _tend(store, tally, stop)
        finally:
            server.close()
            for client in list(store.clients):
                client.close()
            await asyncio.to_thread(_write, tally)
    return 0


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


async def _tend(store: Store, tally: Tally, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    written = loop.time()
    while not stop.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SWEEP_S):
                await stop.wait()
        store.values.sweep()
        if loop.time() - written > WRITE_S:
            written = loop.time()
            await asyncio.to_thread(_write, tally)


def _write(tally: Tally) -> None:
    try:
        if tally.count():
            tally.write()
    except OSError as error:
        log.error("budgets not written down; the journals have them", reason=str(error))

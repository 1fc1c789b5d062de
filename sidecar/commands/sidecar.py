"""``bursar sidecar``: the data plane, as one process or several that share the port."""

import argparse
import asyncio
import gc
import signal
import sys

from collector.logs import get
from collector.memory import give_back_memory
from sidecar.commands.process import checked_config, keep_to_one_heap, started
from sidecar.config import BursarConfig
from sidecar.native import READ_BY

log = get("bursar.sidecar")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own but those between our processes."""
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=int, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--keeper", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Serve until told to stop."""
    config = checked_config(arguments.config, writes=True)
    if arguments.keeper:
        from sidecar.commands import keeper

        started("sidecar", config, supervised=True)
        return keeper.run(config)
    if config.workers > 1 and arguments.worker is None:
        from sidecar.commands.workers import run_workers

        return run_workers(config, arguments)
    gc.disable()
    started("sidecar", config, supervised=arguments.supervised)
    keep_to_one_heap()
    worker = arguments.worker or 0
    if sys.platform == "win32":
        return asyncio.run(serve(config, worker, arguments))
    import uvloop

    return uvloop.run(serve(config, worker, arguments))


async def serve(config: BursarConfig, worker: int, arguments: argparse.Namespace) -> int:
    """Build a sidecar, run it, drain it."""
    from sidecar.app import Sidecar
    from sidecar.reload import follow

    sidecar = Sidecar(config, worker=worker)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await sidecar.start()
    except OSError as error:
        sys.stderr.write(f"cannot listen on {config.listen} or {config.control.listen}: {error.strerror}\n")
        return 1
    # What was made at start lives as long as we do: a collection need not look at it, now or later.
    gc.freeze()
    gc.enable()
    # What a call makes is freed by its last reference: looking for cycles as often as Python does by default
    # costs a tenth of our time, and a look while a thousand streams begin holds them all up (20 ms). Mostly
    # it is done when no call is under way (`Sidecar.tidy`).
    gc.set_threshold(200_000, 20, 50)
    give_back_memory()
    log.info("listening", address=str(config.listen), host=str(config.control.listen), python=READ_BY)
    following = asyncio.create_task(follow(sidecar, arguments.config))
    await stop.wait()
    following.cancel()
    log.info("draining")
    await sidecar.drain()
    return 0

"""``workers: N``: several data-plane processes on one port, and one control plane for all."""

import argparse
import asyncio
from pathlib import Path

from sidecar.commands.process import started
from sidecar.commands.supervise import Part, Supervisor, bursar, stop_on_signals
from sidecar.config import BursarConfig


def run_workers(config: BursarConfig, arguments: argparse.Namespace) -> int:
    """Run all workers until told to stop."""
    started("sidecar", config, supervised=arguments.supervised)
    return asyncio.run(serve(config, arguments.config))


async def serve(config: BursarConfig, path: Path | None) -> int:
    """Start the workers and the control plane that speaks for them."""
    from sidecar.control import SharedControl

    shared = ["--supervised", *(["--config", str(path)] if path else [])]
    parts = [
        Part(
            f"sidecar worker {number}",
            bursar("sidecar", *shared, "--worker", str(number)),
            stop_within_s=config.deadlines.drain + 10,
        )
        for number in range(config.workers)
    ]
    if config.redis is None:
        # Started last, so that it is stopped last: the workers have something to tell it until they end.
        keeper = bursar("sidecar", *shared, "--keeper")
        parts.append(Part("budget keeper", keeper, stop_within_s=10, backoff_s=0.0))
    supervisor = Supervisor(parts)
    stop_on_signals(supervisor)
    control = SharedControl(config)
    await control.start(config.control.listen)
    await supervisor.start()
    await supervisor.stopped()
    await supervisor.stop()
    await control.close()
    return 1 if supervisor.failed else 0

"""``bursar up``: everything on this machine, watched over, with one Ctrl-C to end it."""

import argparse
import asyncio
import importlib.util
import os
import shutil
import socket
import sys
from pathlib import Path

from collector.settings import Address
from sidecar.commands.process import checked_config, key_for, started, uses_virtual_keys
from sidecar.commands.supervise import Part, Supervisor, bursar, stop_on_signals
from sidecar.config import BursarConfig
from sidecar.interpreter import interpreter
from sidecar.native import READ_BY

READY_WITHIN_S = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to leave out."""
    parser.add_argument("--no-dashboard", action="store_true", help="do not start the dashboard")


def run(arguments: argparse.Namespace) -> int:
    """Start everything and wait."""
    config = checked_config(arguments.config, writes=True)
    started("up", config, supervised=False)
    return asyncio.run(serve(config, arguments))


async def serve(config: BursarConfig, arguments: argparse.Namespace) -> int:
    """Run all parts until a signal comes."""
    if taken := taken_addresses(config, dashboard=not arguments.no_dashboard):
        sys.stderr.writelines(f"{what} cannot listen on {address}: it is in use\n" for what, address in taken)
        return 1
    parts = parts_of(config, arguments.config, dashboard=not arguments.no_dashboard)
    supervisor = Supervisor(parts)
    stop_on_signals(supervisor)
    await supervisor.start()
    ready = await wait_until_ready(config, supervisor)
    if ready:
        say(config, [part.name for part in parts])
        await supervisor.stopped()
    await supervisor.stop()
    if supervisor.failed or not ready:
        sys.stderr.write(f"{supervisor.failed or 'the sidecar did not become ready'}\n")
        return 1
    return 0


def parts_of(config: BursarConfig, path: Path | None, *, dashboard: bool) -> list[Part]:
    """The processes, in the order in which they stop: records are made before they are taken in."""
    shared = ["--supervised", *(["--config", str(path)] if path else [])]
    parts = [
        Part(
            "sidecar",
            bursar("sidecar", *shared),
            stop_within_s=config.deadlines.drain + 10,
            listens=config.listen,
        ),
        Part("collector", bursar("collector", *shared), stop_within_s=20, niceness=10),
    ]
    if config.inference.servers:
        parts.append(
            Part("inference", bursar("inference", *shared), stop_within_s=config.inference.drain + 10)
        )
    parts.append(Part("alerts", bursar("alerts", *shared), stop_within_s=10))
    if dashboard and importlib.util.find_spec("streamlit") is not None:
        parts.append(Part("dashboard", bursar("dashboard", *shared)))
    return parts


def taken_addresses(config: BursarConfig, *, dashboard: bool) -> list[tuple[str, Address]]:
    """Which addresses somebody else already listens on."""
    wanted = [
        ("the sidecar", config.listen),
        ("the control plane", config.control.listen),
        ("the collector", config.collector.listen),
    ]
    if dashboard:
        wanted.append(("the dashboard", config.dashboard.listen))
    return [(what, address) for what, address in wanted if not is_free(address)]


def is_free(address: Address) -> bool:
    """Whether we could listen there."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return False
    return True


async def wait_until_ready(
    config: BursarConfig, supervisor: Supervisor, within_s: float = READY_WITHIN_S
) -> bool:
    """Wait for the sidecar and the collector to answer; False when they do not in time."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within_s
    urls = [f"http://{address}/readyz" for address in (config.listen, config.collector.listen)]
    stopped = asyncio.create_task(supervisor.stopped())
    try:
        while loop.time() < until and not stopped.done():
            answers = await asyncio.gather(*(asyncio.to_thread(answers_ok, url) for url in urls))
            if all(answers):
                return True
            await asyncio.sleep(0.1)
        return False
    finally:
        stopped.cancel()


def answers_ok(url: str) -> bool:
    """Whether ``url`` answers 200."""
    # It takes a while to import; whoever is to answer has been started before.
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=2) as reply:  # noqa: S310
            return bool(reply.status == 200)
    except (URLError, OSError):
        return False


def say(config: BursarConfig, parts: list[str]) -> None:
    """What runs, what was found, and the one line for the agent's environment."""
    out = sys.stdout.write
    out("Bursar is up.\n\n")
    for line in detected(config):
        out(f"  {line}\n")
    out("\nPut one of these lines into your agent's environment:\n\n")
    out(f"  export OPENAI_BASE_URL=http://{config.listen}/v1\n")
    out(f"  export ANTHROPIC_BASE_URL=http://{config.listen}\n\n")
    if "dashboard" in parts:
        out(f"Dashboard: http://{config.dashboard.listen}\n")
    out(f"Metrics:   http://{config.control.listen}/metrics\n")
    out(f"Questions: http://{config.collector.listen}/v1/questions\n")
    out("Ctrl-C ends it all.\n")
    sys.stdout.flush()


def detected(config: BursarConfig) -> list[str]:
    """One line for each thing that is used where it is there."""
    lines = []
    virtual_keys = uses_virtual_keys(config)
    for name, upstream in config.upstreams.items():
        key = key_for(upstream, virtual_keys=virtual_keys)
        lines.append(f"upstream {name:<10} {', '.join(upstream.urls) or upstream.kind} ({key})")
    lines += [
        f"{variable:<19} {'set' if os.environ.get(variable) else 'not set'}"
        for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY")
    ]
    redis = Address("127.0.0.1", 6379)
    lines.append(f"{'Redis':<19} {reachable(redis)}")
    lines.append(f"{'Alertmanager':<19} {reachable(Address('127.0.0.1', 9093))}")
    lines.append(f"{'vLLM':<19} {reachable(Address('127.0.0.1', 8000))}")
    lines.append(f"{'GPU':<19} {'nvidia-smi is here' if shutil.which('nvidia-smi') else 'none found'}")
    lines.append(f"{'calls are read by':<19} {READ_BY}")
    lines.append(f"{'interpreter':<19} {interpreter()}")
    lines.append(f"{'data':<19} {config.data_dir.resolve()}")
    return lines


def reachable(address: Address) -> str:
    """Whether something listens there."""
    try:
        with socket.create_connection((address.host, address.port), timeout=0.2):
            return f"something listens on {address}"
    except OSError:
        return f"nothing on {address}"

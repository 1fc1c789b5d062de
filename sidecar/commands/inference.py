"""``bursar inference``: model servers of our own, started, watched and started again."""

import argparse
import asyncio
import shlex
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from collector.settings import Address
from inference.settings import InferenceConfig, ServerConfig
from sidecar.commands.arguments import address
from sidecar.commands.process import checked_config, started
from sidecar.config import BursarConfig

if TYPE_CHECKING:
    from inference.launch import Launch
    from inference.launched import Server

TINY = "tiny"
OWN_VLLM = Path(".venvs/vllm/bin/vllm")
"""Where ``make vllm`` puts it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which servers, or what to show instead of starting any."""
    parser.add_argument("names", nargs="*", metavar="SERVER", help="only these of the configured servers")
    parser.add_argument("--profiles", action="store_true", help="list the profiles and end")
    parser.add_argument(
        "--print", dest="show", action="store_true", help="show what would be started and end"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="serve a tiny made-up model, on processors if need be"
    )
    parser.add_argument(
        "--listen", type=address, default=Address("127.0.0.1", 8000), help="where --tiny answers"
    )
    parser.add_argument("--vllm", metavar="COMMAND", help="the vllm command (default: the configuration's)")
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Start the servers and wait."""
    if arguments.profiles:
        from inference.profiles import profile_names, summary

        sys.stdout.writelines(f"{name:<16} {summary(name)}\n" for name in profile_names())
        return 0
    config = checked_config(arguments.config)
    started("inference", config, supervised=arguments.supervised)
    settings = _settings(config, arguments)
    unknown = set(arguments.names) - set(settings.servers)
    if not settings.servers:
        sys.stderr.write("no server is configured: write one under inference.servers, or try --tiny\n")
        return 2
    if unknown:
        there = ", ".join(settings.servers)
        sys.stderr.write(f"no such server: {', '.join(sorted(unknown))}; there are: {there}\n")
        return 2
    from inference.installed import NotInstalled, find
    from inference.launch import CannotStart, Launch, launch_of

    try:
        vllm = find(settings.vllm)
    except NotInstalled as error:
        sys.stderr.write(f"{error}\n")
        return 2
    folder = config.data_dir / "inference"
    otlp = config.collector.otlp_http
    launches: list[Launch] = []
    problems: list[str] = []
    for name, server in settings.servers.items():
        if arguments.names and name not in arguments.names:
            continue
        try:
            launches.append(
                launch_of(
                    name,
                    server,
                    vllm,
                    folder,
                    traces_to=f"http://{otlp}/v1/traces" if otlp else None,
                    profiles_to=folder / "profiles" if settings.profiling else None,
                )
            )
        except CannotStart as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
    if problems:
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
        return 2
    if arguments.show:
        for launch in launches:
            show(launch)
        return 0
    return asyncio.run(serve(launches, settings, folder))


def _settings(config: BursarConfig, arguments: argparse.Namespace) -> InferenceConfig:
    settings = config.inference
    vllm = arguments.vllm or settings.vllm
    if not arguments.tiny:
        return replace(settings, vllm=vllm)
    from inference.tiny_model import make_model

    model = make_model(config.data_dir / "inference" / "tiny-model")
    server = ServerConfig(
        model=str(model.resolve()), profile=("tiny-cpu",), listen=arguments.listen, served_name=TINY
    )
    return replace(settings, vllm=own_vllm(vllm), servers={TINY: server})


def own_vllm(command: str) -> str:
    """The one that ``make vllm`` installed, where no other is named."""
    return str(OWN_VLLM.resolve()) if command == "vllm" and OWN_VLLM.exists() else command


def show(launch: "Launch") -> None:
    """The command and its options, as they would be used."""
    import yaml

    sys.stdout.write(f"# {launch.name}\n{shlex.join(launch.argv)}\n")
    sys.stdout.write(yaml.safe_dump(dict(launch.options), sort_keys=True))
    if launch.left_out:
        sys.stdout.write(f"# not known to this vLLM: {', '.join(launch.left_out)}\n")


async def serve(launches: "list[Launch]", settings: InferenceConfig, folder: Path) -> int:
    """Keep the servers running until a signal comes; 1 where one of them was given up."""
    from inference.launched import LogFile, Server

    servers = [
        Server(
            launch,
            LogFile(folder / f"{launch.name}.log", settings.log_size),
            ready_within_s=settings.ready_within,
            stop_within_s=settings.drain,
        )
        for launch in launches
    ]
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    for server in servers:
        server.start()
    watching = asyncio.create_task(_told(servers, stop))
    await stop.wait()
    given_up = any(server.phase == "given up" for server in servers)
    await asyncio.gather(*(server.stop() for server in servers))
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return 1 if given_up else 0


async def _told(servers: "list[Server]", stop: asyncio.Event) -> None:
    """Say where each server answers once it does; end when none can be kept running."""

    async def tell(server: "Server") -> bool:
        phase = await server.wait_for("ready", "given up")
        out = sys.stdout
        launch = server.launch
        if phase == "ready" and launch.is_headless:
            first = launch.options.get("master-addr", "the first machine")
            out.write(f"{launch.name}: works for {first}, where {launch.served_name} answers\n")
        elif phase == "ready":
            out.write(f"{launch.name}: {launch.served_name} at {launch.url}\n")
        else:
            out.write(f"{launch.name}: cannot start; see {server.log.path}\n")
        out.flush()
        return phase == "ready"

    if not any(await asyncio.gather(*(tell(server) for server in servers))):
        stop.set()

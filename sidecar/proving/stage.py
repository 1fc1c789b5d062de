"""The processes that are put to the proof, in a folder of their own and on free ports."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

READY_WITHIN_S = 90.0
"""On a machine with ten times the work it can do, a collector's imports alone take half a minute."""
PACKAGES = Path(__file__).resolve().parents[2]


class StageFailed(Exception):
    """A process did not start or does not answer; the message says which."""


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Stage:
    """Starts, freezes, kills and asks processes; ends them all when it is left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.urls: dict[str, str] = {}
        self._configs: dict[str, Path] = {}

    async def __aenter__(self) -> "Stage":
        return self

    async def __aexit__(self, *_: object) -> None:
        for name in list(self.processes):
            with contextlib.suppress(ProcessLookupError):
                self.processes[name].send_signal(signal.SIGCONT)
            await self.stop(name)

    # -- starting

    async def simulator(self, speed: float) -> None:
        """The upstream."""
        (port,) = free_ports(1)
        words = ("--port", str(port), "--speed", f"{speed:g}")
        await self._spawn("simulator", [sys.executable, "-m", "inference.simulator", *words])
        self.urls["simulator"] = f"http://127.0.0.1:{port}"
        await self._listening("simulator", port)

    async def redis(self) -> str | None:
        """A Redis of our own; None where none is installed."""
        program = shutil.which("redis-server")
        if program is None:
            return None
        (port,) = free_ports(1)
        words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        await self._spawn("redis", [program, *words, "--dir", str(self.folder)])
        await self._listening("redis", port)
        return f"redis://127.0.0.1:{port}"

    async def sidecar(self, name: str, settings: Mapping[str, Any], *, collector: bool = True) -> None:
        """A sidecar with a data directory of its own, and a collector for it."""
        ports = free_ports(5)
        address = "127.0.0.1:{}".format
        config = {
            "listen": address(ports[0]),
            "control": {"listen": address(ports[1])},
            "collector": {
                "listen": address(ports[2]),
                "otlp_http": address(ports[3]),
                "otlp_grpc": address(ports[4]),
                "commit_every": "200ms",
            },
            "data_dir": str(self.folder / name),
            "upstreams": {"openai": {"kind": "openai", "base_url": f"{self.urls['simulator']}/v1"}},
            **settings,
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        self._configs[name] = path
        self.urls[name] = f"http://127.0.0.1:{ports[0]}"
        self.urls[f"{name}/control"] = f"http://127.0.0.1:{ports[1]}"
        await self.start(name)
        if collector:
            self.urls[f"{name}/collector"] = f"http://127.0.0.1:{ports[2]}"
            await self.start(f"{name}/collector")

    async def start(self, name: str) -> None:
        """Start a sidecar or a collector, or start it again."""
        whose, _, part = name.partition("/")
        words = [part or "sidecar", "--config", str(self._configs[whose])]
        await self._spawn(name, [sys.executable, "-m", "sidecar.cli", *words])
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                while not await asyncio.to_thread(answers, f"{self.urls[name]}/readyz"):
                    self._still_runs(name)
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise StageFailed(f"{name} was not ready after {READY_WITHIN_S:.0f} s") from error

    async def _spawn(self, name: str, argv: Sequence[str]) -> None:
        log = self.folder / f"{name.replace('/', '-')}.log"
        with log.open("ab") as output:
            self.processes[name] = await asyncio.create_subprocess_exec(
                *argv,
                stdout=output,
                stderr=output,
                env={**os.environ, "PYTHONPATH": str(PACKAGES)},
            )

    async def _listening(self, name: str, port: int) -> None:
        async with asyncio.timeout(READY_WITHIN_S):
            while True:
                self._still_runs(name)
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.05)

    def _still_runs(self, name: str) -> None:
        code = self.processes[name].returncode
        if code is not None:
            log = (self.folder / f"{name.replace('/', '-')}.log").read_text(errors="replace")
            raise StageFailed(f"{name} ended with {code}: {log[-1000:]}")

    # -- ending

    def send(self, name: str, number: int) -> None:
        """Send a signal."""
        self.processes[name].send_signal(number)

    async def stop(self, name: str, number: int = signal.SIGTERM) -> None:
        """End a process."""
        process = self.processes.pop(name)
        if process.returncode is None:
            process.send_signal(number)
        try:
            await asyncio.wait_for(process.wait(), 20)
        except TimeoutError:
            process.kill()
            await process.wait()

    # -- asking

    async def question(self, name: str, question: str, **parameters: object) -> list[dict[str, Any]]:
        """What the collector of a sidecar answers."""
        given = {"since": "2000-01-01", **parameters}
        url = f"{self.urls[name + '/collector']}/v1/questions/{question}?{urllib.parse.urlencode(given)}"
        return list((await asyncio.to_thread(fetch, url))["rows"])

    async def budgets(self, name: str) -> list[dict[str, Any]]:
        """How the budgets of a sidecar stand."""
        url = f"{self.urls[name + '/control']}/bursar/v1/budgets"
        return list((await asyncio.to_thread(fetch, url))["budgets"])


def answers(url: str) -> bool:
    """Whether somebody answers 200 there."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as reply:  # noqa: S310
        return bool(reply.status == 200)
    return False


def fetch(url: str) -> Any:
    """The JSON that ``url`` answers."""
    request = urllib.request.Request(url, headers={"accept": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=20) as reply:  # noqa: S310
        return json.load(reply)

"""A dashboard over a ledger that the demonstration filled, with nothing going on any more."""

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlencode

import yaml
from support.ports import free_ports

from sidecar.commands.demo import BUDGETS

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180


@dataclass(frozen=True, slots=True)
class Staged:
    """Where everything answers."""

    url: str
    collector_url: str
    control_url: str

    def ask(self, name: str, **params: str | int) -> list[dict[str, Any]]:
        """A question to the ledger."""
        url = f"{self.collector_url}/v1/questions/{name}?{urlencode(params)}"
        with urllib.request.urlopen(url, timeout=60) as reply:
            rows: list[dict[str, Any]] = json.load(reply)["rows"]
        return rows

    def control(self, name: str) -> dict[str, Any]:
        """What the sidecar's control plane says."""
        with urllib.request.urlopen(f"{self.control_url}/bursar/v1/{name}", timeout=60) as reply:
            said: dict[str, Any] = json.load(reply)
        return said


@contextlib.contextmanager
def staged(folder: Path, seconds: int = 45) -> Iterator[Staged]:
    """Let the demonstration play into ``folder`` for so long, then look at what came of it.

    Budgets are those of the demonstration; how they stand is what the sidecar finds in its journal.
    """
    data, environment = folder / "data", {**os.environ, "PYTHONPATH": str(ROOT)}
    bursar = [sys.executable, "-m", "sidecar.cli"]
    played = [*bursar, "demo", "--for", f"{seconds}s", "--no-dashboard", "--data-dir", str(data)]
    played += ["--history", "30d"]
    with (folder / "demo.log").open("wb") as log:
        subprocess.run(
            played, check=True, stdout=log, stderr=log, env=environment, timeout=seconds + PATIENCE_S
        )
    ports = free_ports(7)
    at = [f"127.0.0.1:{port}" for port in ports]
    settings = {
        "listen": at[0],
        "control": {"listen": at[1]},
        "collector": {"listen": at[2], "otlp_http": at[3], "otlp_grpc": at[4]},
        "dashboard": {"listen": at[5]},
        "data_dir": str(data),
        "upstreams": {
            "openai": {"kind": "openai", "base_url": f"http://{at[6]}/v1"},
            "local": {"kind": "vllm", "replicas": [f"http://{at[6]}"], "gpu_hour_usd": 2.5},
        },
        "models": {"qwen3-8b": {"upstream": "local"}},
        "budgets": BUDGETS,
        "tags": {"simulated": "true"},
    }
    config = folder / "bursar.yaml"
    config.write_text(yaml.safe_dump(settings))
    simulator = [sys.executable, "-m", "inference.simulator", "--host", "127.0.0.1", "--port", str(ports[6])]
    with (folder / "up.log").open("wb") as log, _running(simulator, log, environment, folder):
        process = subprocess.Popen(
            [*bursar, "up", "--config", str(config)], stdout=log, stderr=log, env=environment, cwd=folder
        )
        try:
            found = Staged(*(f"http://{at[place]}" for place in (5, 2, 1)))
            _until_answered(f"{found.collector_url}/v1/questions/totals", process)
            _until_answered(f"{found.url}/_stcore/health", process)
            _until_answered(f"{found.control_url}/healthz", process)
            _a_few_calls(f"http://{at[0]}")
            yield found
        finally:
            process.terminate()
            process.wait(60)


@contextlib.contextmanager
def _running(command: list[str], log: IO[bytes], environment: dict[str, str], folder: Path) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=folder)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _a_few_calls(url: str) -> None:
    """Calls that budgets count, so that there is something to see of them."""
    for number in range(12):
        headers = {
            "content-type": "application/json",
            "authorization": "Bearer sk-simulated",
            "x-bursar-agent": ("coding-agent", "support-bot", "research-agent")[number % 3],
            "x-bursar-team": ("platform", "support", "research")[number % 3],
            "x-bursar-conversation": f"staged-{number % 4}",
        }
        said = {
            "model": "qwen3-8b" if number % 6 == 5 else "gpt-5.4",
            "max_tokens": 400,
            "messages": [{"role": "user", "content": f"Hello {number}"}],
        }
        request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(said).encode(), headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            assert reply.status == 200


def _until_answered(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, "it ended by itself; see up.log"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer in {PATIENCE_S} s")

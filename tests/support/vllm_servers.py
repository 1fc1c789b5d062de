"""Real vLLM servers, started by ``bursar inference`` as a user would."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ports import free_ports
from support.stack import IMPORTS, ROOT, wait_for

VLLM = os.environ.get("VLLM_BIN") or str(ROOT / ".venvs/vllm/bin/vllm")
READY_WITHIN_S = 600.0


def skip_without_vllm() -> None:
    """Leave out what needs a vLLM where there is none, and say how to get one."""
    if not Path(VLLM).exists():
        pytest.skip(f"no vLLM at {VLLM}: make vllm-env installs its CPU build, VLLM_BIN names another")


class Servers:
    """The servers of one ``bursar inference`` process."""

    def __init__(self, folder: Path, servers: Mapping[str, Mapping[str, Any]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.ports = dict(zip(servers, free_ports(len(servers)), strict=True))
        configured = {
            name: {"listen": f"127.0.0.1:{self.ports[name]}", **config} for name, config in servers.items()
        }
        self._config = folder / "bursar.yaml"
        self._config.write_text(
            yaml.safe_dump(
                {
                    "data_dir": str(folder),
                    "collector": {"otlp_http": False, "otlp_grpc": False},
                    "inference": {"vllm": VLLM, "servers": configured, "profiling": True},
                }
            )
        )
        with (folder / "inference.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "sidecar.cli", "inference", "--config", str(self._config)],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": IMPORTS},
                stdout=log,
                stderr=log,
            )

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def log(self, name: str) -> str:
        """What the server of that name wrote."""
        path = self.folder / "inference" / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self) -> "Servers":
        """Until all of them answer."""
        for name in self.ports:
            wait_for(f"vLLM {name}", lambda name=name: self.answers(name), READY_WITHIN_S)
        return self

    def answers(self, name: str) -> bool:
        code = self.process.poll()
        told = (self.folder / "inference.log").read_text()
        assert code is None, f"bursar inference ended with {code}:\n{told[-4000:]}"
        assert "given up" not in told, told[-4000:]
        time.sleep(0.3)
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.url(name)}/health", timeout=5) as reply,
        ):
            return bool(reply.status == 200)
        return False

    def metric(self, name: str, *families: str) -> float:
        """Sum over the samples of some families."""
        with urllib.request.urlopen(f"{self.url(name)}/metrics", timeout=30) as reply:
            text = reply.read().decode()
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in text.splitlines()
            if line.partition("{")[0].partition(" ")[0] in families
        )

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(90)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


@contextlib.contextmanager
def running(folder: Path, servers: Mapping[str, Mapping[str, Any]]) -> Iterator[Servers]:
    made = Servers(folder, servers)
    try:
        yield made.wait()
    finally:
        made.close()

"""The real processes, as a user starts them: sidecar and collector on free ports."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import yaml
from support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
"""Where our processes find what they import: here first, then wherever this one does."""


def wait_for(what: str, condition: Any, timeout_s: float = 60.0) -> Any:
    """Poll until ``condition()`` is true; its value."""
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.02)
    return found


@dataclass(slots=True)
class Stack:
    """A sidecar and a collector with a configuration of their own."""

    folder: Path
    upstreams: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    with_collector: bool = True
    ports: list[int] = field(default_factory=lambda: free_ports(5))
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    since: str = "2000-01-01"
    """Calls that began earlier are not told of: they are other tests'."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.write_config()
        names = ("sidecar", "collector") if self.with_collector else ("sidecar",)
        try:
            for name in names:
                self._launch(name)
            for name in names:
                self._until_ready(name)
        except BaseException:
            # Nobody leaves what nobody could enter.
            for process in self.processes.values():
                process.kill()
                process.wait()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.stop(name)

    # -- where things are

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[1]}"

    @property
    def collector_url(self) -> str:
        return f"http://127.0.0.1:{self.ports[2]}"

    @property
    def config_file(self) -> Path:
        return self.folder / "bursar.yaml"

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # -- processes

    def write_config(self, **changes: Any) -> None:
        address = "127.0.0.1:{}".format
        content = {
            "listen": address(self.ports[0]),
            "control": {"listen": address(self.ports[1])},
            "collector": {
                "listen": address(self.ports[2]),
                "otlp_http": address(self.ports[3]),
                "otlp_grpc": address(self.ports[4]),
                "commit_every": "100ms",
            },
            "data_dir": str(self.data_dir),
            "upstreams": {name: dict(item) for name, item in self.upstreams.items()},
            **self.settings,
            **changes,
        }
        part = self.config_file.with_suffix(".part")
        part.write_text(yaml.safe_dump(content))
        part.replace(self.config_file)

    def start(self, name: str) -> None:
        self._launch(name)
        self._until_ready(name)

    def _launch(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "sidecar.cli", name, "--config", str(self.config_file)],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": IMPORTS, **self.environment},
                stdout=log,
                stderr=log,
            )

    def _until_ready(self, name: str) -> None:
        url = self.url if name == "sidecar" else self.collector_url
        # On a machine with ten times the work it can do a collector's imports alone take half a minute.
        wait_for(f"{name}:\n{self.log(name)[-3000:]}", lambda: self._is_ready(name, url), 90)

    def _is_ready(self, name: str, url: str) -> bool:
        code = self.processes[name].poll()
        assert code is None, f"{name} ended with {code}:\n{self.log(name)[-3000:]}"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/readyz", timeout=2) as reply:
            return bool(reply.status == 200)
        return False

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a process; its exit code."""
        process = self.processes.pop(name)
        process.send_signal(number)
        try:
            return process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not stop:\n{self.log(name)[-3000:]}") from None

    # -- questions

    def ask(self, question: str, **parameters: object) -> list[dict[str, Any]]:
        """The collector's answer to a named question."""
        if question not in ("call", "attempts", "health", "prices"):
            parameters = {"since": self.since, **parameters}
        query = urllib.parse.urlencode(parameters, doseq=True)
        request = urllib.request.Request(
            f"{self.collector_url}/v1/questions/{question}?{query}", headers={"accept": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            answer = json.load(reply)
        return list(answer["rows"])

    def calls(self, count: int, timeout_s: float = 30.0) -> list[dict[str, Any]]:
        """The ledger's calls, oldest first, once there are ``count`` of them."""
        wait_for(
            f"{count} calls in the ledger (there are {self.total('calls')})",
            lambda: self.total("calls") >= count,
            timeout_s,
        )
        rows = self.ask("calls", limit=10_000)
        assert len(rows) == count, len(rows)
        return sorted(rows, key=lambda row: (row["started_at"], row["call_id"]))

    def begin_anew(self) -> None:
        """From here on tell only of calls that begin later: another test does."""
        self.since = datetime.now(UTC).isoformat()

    def total(self, name: str) -> Any:
        return self.ask("totals")[0][name]


@contextlib.contextmanager
def simulator(*arguments: str) -> Iterator[str]:
    """The built-in model server as a process of its own; yields its address."""
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [sys.executable, "-m", "inference.simulator", "--port", str(port), *arguments],
        env={**os.environ, "PYTHONPATH": IMPORTS},
        stdout=subprocess.DEVNULL,
    )

    def listens() -> bool:
        assert process.poll() is None, "the simulator ended"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_for("the simulator", listens)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)

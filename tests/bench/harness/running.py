"""One gateway, running: its processes, its load, its cost, its record of what it served."""

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.accounting import Memory, core_busy_seconds, cpu_seconds, memory
from harness.gateways import Gateway
from harness.phases import Load, figures, request_body

DRAIN_LIMIT_S = 120.0
"""How long a gateway may take to write down what it served."""
START_LIMIT_S = 90.0
IDLE_LIMIT_S = 150.0
"""How long a gateway may take over what it puts off: conversations are judged ten seconds after their end."""
QUIET_S, QUIET_LOOKS = 0.008, 22
"""Less CPU than this in each of so many half seconds is rest."""


class Unusable(RuntimeError):
    """This gateway, or this run of it, gives no figure; the message says why."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all runs share: the tools, where they run, and the port of the upstream."""

    load_program: Path
    upstream_port: int
    gateway_core: int | None
    load_core: int | None


def free_port() -> int:
    """A loopback port that nobody listens on, below those that the kernel gives to clients."""
    for _ in range(1000):
        port = random.randint(20000, 31000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise Unusable("no free port")


def pinned(core: int | None) -> list[str]:
    """What to put before a command so that it runs on one CPU."""
    return [] if core is None else ["taskset", "-c", str(core)]


class Running:
    """A gateway from its start to its end; a context manager."""

    def __init__(self, gateway: Gateway, bench: Bench, folder: Path) -> None:
        self.gateway = gateway
        self.bench = bench
        self.folder = folder
        self.port = free_port() if gateway.commands else bench.upstream_port
        self.values = {
            "port": str(self.port),
            "upstream": str(bench.upstream_port),
            "spare": str(free_port()),
            "control": str(free_port()),
            "folder": str(folder),
        }
        self.headers = {name: value.format(**self.values) for name, value in gateway.headers.items()}
        self.processes: list[subprocess.Popen[bytes]] = []
        self.drain_limit_s = DRAIN_LIMIT_S
        self.look_s = 0.0
        self.served = 0
        """Calls that reached the gateway so far."""

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True)
        for name, text in self.gateway.files.items():
            for key, value in self.values.items():
                text = text.replace(f"@{key}@", value)
            (self.folder / name).write_text(text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal_number)
            for process in self.processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=10)

    # ---- starting ---------------------------------------------------------------------------

    def start(self) -> float | None:
        """Start it and wait for a first good answer; seconds that took. None: there is no gateway."""
        if not self.gateway.commands:
            return None
        began = time.monotonic()
        serving, *others = self.gateway.commands
        self._spawn(serving)
        self._wait_for_answer(began)
        seconds = time.monotonic() - began
        for command in others:
            self._spawn(command)
        if self.gateway.ledger:
            self.wait_until_recorded()
            self.look_s = self._cost_of_a_look()
        return seconds

    def _spawn(self, command: tuple[str, ...]) -> None:
        words = [word.format(**self.values) for word in command]
        environment = {
            **os.environ,
            **{name: value.format(**self.values) for name, value in self.gateway.environment.items()},
        }
        # As installed: with compiled bytecode, and without what the caller's shell may have set.
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [*pinned(self.bench.gateway_core), *words],
                env=environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.processes.append(process)

    def _wait_for_answer(self, began: float) -> None:
        last = "no answer"
        while time.monotonic() - began < START_LIMIT_S:
            self._check_alive()
            if self.gateway.port_file:
                with contextlib.suppress(OSError, ValueError):
                    self.port = int((self.folder / self.gateway.port_file).read_text())
            try:
                status, reply = self._ask_once()
            except OSError as error:
                last = str(error)
            else:
                self.served += 1
                if status == 200:
                    return
                last = f"{status} {reply[:200]!r}"
            time.sleep(0.01)
        raise Unusable(f"never answered 200: {last}; {self.log_tail()}")

    def _ask_once(self) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            headers = {**self.headers, "Content-Type": "application/json"}
            connection.request("POST", self.gateway.path, request_body(self.gateway.model), headers)
            reply = connection.getresponse()
            return reply.status, reply.read()

    def _check_alive(self) -> None:
        for process in self.processes:
            if process.poll() is not None:
                raise Unusable(f"ended with {process.returncode}; {self.log_tail()}")

    def log_tail(self) -> str:
        """The end of what its processes said."""
        with contextlib.suppress(OSError):
            return (self.folder / "log").read_text(errors="replace").strip()[-600:]
        return ""

    # ---- measuring --------------------------------------------------------------------------

    @property
    def roots(self) -> list[int]:
        """Process ids of its processes."""
        return [process.pid for process in self.processes]

    def memory(self) -> list[Memory]:
        """Of each of its processes with what descends from it, in the order of the commands."""
        return [memory([root]) for root in self.roots]

    def run(self, load: Load) -> dict[str, float | None]:
        """Put ``load`` on it; its cost counts until everything it keeps of these calls is kept.

        Raises:
            Unusable: it died, or it lost or doubled a record.
        """
        core = self.bench.gateway_core
        busy_before = core_busy_seconds(core) if core is not None else 0.0
        cpu_before = [cpu_seconds([root]) for root in self.roots]
        began = time.monotonic()
        raw = self._generate(load)
        self._check_alive()
        wall_s, answered_at = raw["seconds"], sum(cpu_seconds([root]) for root in self.roots)
        looks = self._wait_until_booked() if self.gateway.ledger else 0
        spent = [cpu_seconds([root]) - before for root, before in zip(self.roots, cpu_before, strict=True)]
        if spent:
            spent[-1] -= looks * self.look_s  # Ours, not the calls'.
        # What one core still had to do, and not how long it was waited for.
        wall_s += sum(spent) + sum(cpu_before) - answered_at
        deferred_s = 0.0
        if self.gateway.ledger:
            deferred_s = self._wait_until_idle()
            self.wait_until_recorded()
        shown = figures(load, raw, sum(spent) if spent else None, wall_s)
        if len(spent) > 1:
            shown["first_process_us_per_call"] = 1e6 * spent[0] / max(1, raw["answered"])
        if self.gateway.ledger:
            shown["deferred_us_per_call"] = 1e6 * deferred_s / max(1, raw["answered"])
        if core is not None and spent:
            others = core_busy_seconds(core) - busy_before - sum(spent)
            shown["others_pct"] = max(0.0, 100 * others / (time.monotonic() - began))
        return shown

    def _generate(self, load: Load) -> Mapping[str, float]:
        body = self.folder / "body.json"
        body.write_bytes(load.body(self.gateway.model))
        command = [*pinned(self.bench.load_core), str(self.bench.load_program), "-p", str(self.port)]
        command += ["-u", self.gateway.path, "-b", str(body), *load.arguments()]
        for name, value in self.headers.items():
            command += ["-H", f"{name}: {value}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=load.seconds + 120)
        raw: dict[str, float] = json.loads(done.stdout)
        self.served += int(raw["sent"])
        if raw["complaint"]:
            print(f"    {self.gateway.name} answered: {raw['complaint']}", flush=True)
        return raw

    # ---- its books --------------------------------------------------------------------------

    def wait_until_recorded(self) -> None:
        """Wait until the ledger has every call that was sent, each once.

        Raises:
            Unusable: it has more, or still fewer after two minutes.
        """
        until = time.monotonic() + self.drain_limit_s
        recorded = -1
        while time.monotonic() < until:
            self._check_alive()
            recorded = self._recorded()
            if recorded == self.served:
                return
            if recorded > self.served:
                raise Unusable(f"recorded {recorded} calls of {self.served}: some are doubled")
            time.sleep(0.25)
        raise Unusable(f"recorded {recorded} calls of {self.served}: some are lost; {self.log_tail()}")

    def _wait_until_idle(self) -> float:
        """Wait until what is put off (judging, sums, checkpoints) is done: the next phase is not to bear it.

        Returns the CPU seconds that it took.
        """
        began = before = sum(cpu_seconds([root]) for root in self.roots)
        until, quiet = time.monotonic() + IDLE_LIMIT_S, 0
        while quiet < QUIET_LOOKS and time.monotonic() < until:
            time.sleep(0.5)
            now = sum(cpu_seconds([root]) for root in self.roots)
            quiet = quiet + 1 if now - before < QUIET_S else 0
            before = now
        return before - began

    def _wait_until_booked(self) -> int:
        """Wait until the ledger has as many rows as calls were sent, by a counter; how often that was asked.

        To ask the ledger itself takes 10 ms of the collector's CPU.
        """
        until, looks = time.monotonic() + self.drain_limit_s, 0
        while time.monotonic() < until:
            time.sleep(0.5)
            self._check_alive()
            looks += 1
            if self._booked() >= self.served:
                break
        return looks

    def _cost_of_a_look(self) -> float:
        """CPU seconds of the process that is looked at, when it has nothing else to do."""
        costs = []
        for _ in range(5):
            before = cpu_seconds(self.roots[-1:])
            self._booked()
            time.sleep(0.1)
            costs.append(cpu_seconds(self.roots[-1:]) - before)
        return min(costs)

    def _booked(self) -> int:
        """Calls that the collector says it has booked; -1 while it does not answer."""
        assert self.gateway.ledger is not None
        try:
            with urllib.request.urlopen(
                f"{self.gateway.ledger.format(**self.values)}/metrics", timeout=10
            ) as reply:
                text: str = reply.read().decode()
        except (urllib.error.URLError, OSError):
            return -1
        mark = 'bursar_collector_rows_total{table="calls"} '
        return next((int(float(line[len(mark) :])) for line in text.splitlines() if line.startswith(mark)), 0)

    def _recorded(self) -> int:
        """Calls in the ledger; -1 while nobody answers."""
        assert self.gateway.ledger is not None
        base = self.gateway.ledger.format(**self.values)
        question = urllib.request.Request(
            f"{base}/v1/questions/totals?since=0", headers={"Accept": "application/json"}
        )
        try:
            with urllib.request.urlopen(question, timeout=10) as reply:
                rows = json.load(reply)
        except (urllib.error.URLError, OSError):
            return -1
        while isinstance(rows, dict) and "rows" in rows:
            rows = rows["rows"]
        row = rows[0] if isinstance(rows, list) else rows
        return int(row["calls"])

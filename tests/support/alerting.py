"""What tests of alerting share: Prometheus' way of writing series down, its programs, and a webhook."""

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
ALERTS = ROOT / "alerts"


def program(name: str) -> str:
    """A Debian program, or a skip that says how to get it."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make services")
    return found


def wait_for(what: str, condition: Callable[[], Any], timeout_s: float = 60.0) -> Any:
    until = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < until, f"waited {timeout_s} s in vain for {what}"
        time.sleep(0.02)
    return found


# ---- series as promtool's tests write them --------------------------------------------------

_STEP = re.compile(r"(_|-?[\d.]+)(?:([+-][\d.]+))?(?:x(\d+))?")


def series_of(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Name and sorted labels of ``metric{a="b"}``."""
    name, _, rest = text.partition("{")
    labels = re.findall(r'([A-Za-z_]\w*)\s*=\s*"([^"]*)"', rest)
    return name.strip(), tuple(sorted(labels))


def values_of(text: str) -> list[float | None]:
    """``0+2x3 _ 7x2`` as one value for each step; None where there is no sample."""
    values: list[float | None] = []
    for word in text.split():
        match = _STEP.fullmatch(word)
        assert match, word
        start, change, times = match.groups()
        if start == "_":
            values += [None] * int(times or 1)
            continue
        values += [float(start) + float(change or 0) * n for n in range(int(times or 0) + 1)]
    return values


# ---- servers --------------------------------------------------------------------------------


@dataclass(slots=True)
class Note:
    """One request that a sink was sent."""

    path: str
    body: dict[str, Any]
    at: float
    """time.time() when it came."""


@dataclass(slots=True)
class Sink:
    """A webhook: remembers what it was sent."""

    notes: list[Note] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def alerts(self, status: str = "firing", path: str = "") -> list[dict[str, Any]]:
        """Every alert of every notification, in order."""
        return [
            alert
            for note in list(self.notes)
            if not path or note.path == path
            for alert in note.body["alerts"]
            if alert["status"] == status
        ]

    def named(self, name: str, status: str = "firing", path: str = "") -> list[dict[str, Any]]:
        return [alert for alert in self.alerts(status, path) if alert["labels"]["alertname"] == name]


@contextlib.contextmanager
def http_server(answer: Callable[[str, str, bytes], tuple[int, bytes]]) -> Iterator[int]:
    """A real HTTP server on a thread, answering by ``answer(method, path, body)``; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, text = answer(self.command, self.path, body)
            self.send_response(status)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_DELETE = _serve

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextlib.contextmanager
def webhook() -> Iterator[Sink]:
    """A receiver of notifications."""
    found = Sink()

    def take(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        found.notes.append(Note(path, json.loads(body), time.time()))
        return 200, b"{}"

    with http_server(take) as port:
        found.port = port
        yield found


@contextlib.contextmanager
def process(argv: list[str], url: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server program that answers ``url`` when it is ready."""
    with log.open("ab") as out:
        started = subprocess.Popen(argv, stdout=out, stderr=out, cwd=log.parent)

    def ready() -> bool:
        assert started.poll() is None, log.read_text()[-2000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as reply:
            return bool(reply.status == 200)
        return False

    try:
        wait_for(argv[0], ready)
        yield started
    finally:
        started.terminate()
        started.wait(10)


@dataclass(slots=True)
class Alertmanager:
    """A running Alertmanager."""

    url: str
    folder: Path

    def alerts(self) -> list[dict[str, Any]]:
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts", timeout=5) as reply:
            return list(json.load(reply))

    def silence(self, **labels: str) -> str:
        """Silence what has these labels; the silence's id."""
        done = subprocess.run(
            [program("amtool"), f"--alertmanager.url={self.url}", "silence", "add"]
            + [f"{name}={value}" for name, value in labels.items()]
            + ["--duration=10m", "--author=test", "--comment=test"],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()


@contextlib.contextmanager
def alertmanager(
    folder: Path, configuration: str, *, cluster: str = "", peers: tuple[str, ...] = ()
) -> Iterator[Alertmanager]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "alertmanager.yml").write_text(configuration)
    port = free_port()
    argv = [
        program("prometheus-alertmanager"),
        f"--config.file={folder / 'alertmanager.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--cluster.listen-address={cluster}",
        *(f"--cluster.peer={peer}" for peer in peers),
    ]
    if cluster:
        argv += ["--cluster.settle-timeout=1s", "--cluster.gossip-interval=50ms", "--cluster.peer-timeout=1s"]
    url = f"http://127.0.0.1:{port}"
    with process(argv, f"{url}/-/ready", folder / "alertmanager.log"):
        yield Alertmanager(url, folder)


@dataclass(slots=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def query(self, expression: str, at: float) -> dict[tuple[tuple[str, str], ...], float]:
        query = urllib.parse.urlencode({"query": expression, "time": f"{at:.3f}"})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{query}", timeout=20) as reply:
            answer = json.load(reply)
        return {
            tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in answer["data"]["result"]
        }


@contextlib.contextmanager
def prometheus(folder: Path, configuration: str) -> Iterator[Prometheus]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "prometheus.yml").write_text(configuration)
    port = free_port()
    argv = [
        program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--storage.tsdb.retention.time=30d",
        "--rules.alert.resend-delay=1s",  # Whoever looks a moment too late sees the next one.
    ]
    url = f"http://127.0.0.1:{port}"
    with process(argv, f"{url}/-/ready", folder / "prometheus.log"):
        yield Prometheus(url)


def shipped_alertmanager(sink_url: str) -> str:
    """The shipped configuration, sent to a sink, its waits made short; what does not wait still does not.

    A group that waits is what lets inhibition work: of two alerts that come in one request, the louder one
    may be looked at last.
    """
    text = (ALERTS / "alertmanager.yml").read_text().replace("http://127.0.0.1:9099", sink_url)
    for pattern, short in {
        r"group_wait: [1-9]\w*": "group_wait: 500ms",
        r"group_interval: \w+": "group_interval: 1s",
        r"repeat_interval: \w+": "repeat_interval: 1h",
    }.items():
        text = re.sub(pattern, short, text)
    return text

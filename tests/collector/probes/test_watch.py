"""The running collector watches GPUs and engines by itself and settles what calls really cost."""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from collector.probes.capacity import Pool
from collector.probes.live_prices import FILE
from collector.run import run
from collector.settings import Address, CollectorConfig, Duration

ROOT = Path(__file__).resolve().parents[3]


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], Any], what: str, seconds: float = 30.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"{what} did not come within {seconds} s")


class Collector:
    def __init__(self, data_dir: Path, pools: list[Pool]) -> None:
        self.data_dir = data_dir
        self.port = free_port()
        self._stop = threading.Event()
        config = CollectorConfig(
            listen=Address("127.0.0.1", self.port),
            otlp_http=None,
            otlp_grpc=None,
            commit_every=Duration(0.05),
            cost_window=Duration(1),
            cost_lag=Duration(2),
        )
        self._thread = threading.Thread(
            target=run,
            args=(config,),
            kwargs={"data_dir": data_dir, "stop": self._stop, "environ": {}, "pools": pools},
        )
        self._thread.start()

    def text(self, path: str = "/metrics") -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as reply:
                return str(reply.read().decode())
        except OSError:
            return ""

    def rows(self, question: str) -> list[dict[str, Any]]:
        told = self.text(f"/v1/questions/{question}")
        return list(json.loads(told)["rows"]) if told else []

    def close(self) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def collector_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Collector]]:
    # Its priority is lowered for good, and Python's modules are shared with the other tests.
    monkeypatch.setattr("collector.run.be_modest", lambda: None)
    made: list[Collector] = []

    def make(*pools: Pool) -> Collector:
        made.append(Collector(tmp_path, list(pools)))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def engine() -> Iterator[str]:
    """A server whose metrics say that it has computed 1,000 prompt tokens and 100 others."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (
                b'vllm:prompt_tokens_total{model_name="tiny"} 1000\n'
                b'vllm:generation_tokens_total{model_name="tiny"} 100\n'
                b'vllm:num_requests_running{model_name="tiny"} 0\n'
                b'vllm:num_requests_waiting{model_name="tiny"} 3\n'
                b"process_start_time_seconds 1\n"
            )
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_calls_of_an_own_replica_are_settled_at_what_they_really_cost(
    collector_of: Callable[..., Collector], engine: str, journal: Any, call: Any, attempt: Any
) -> None:
    replica = engine.removeprefix("http://")
    pool = Pool(upstream="local", urls=(engine,), gpu_hour_usd=Decimal("3.60"))
    collector = collector_of(pool)
    until(lambda: "ready" in collector.text("/readyz"), "the collector")
    until(
        lambda: (
            f'bursar_engine_requests_waiting{{upstream="local",replica="{replica}"}} 3' in collector.text()
        ),
        "queue",
    )
    # A little ahead, so that its record comes before its windows are divided however busy the machine is.
    begun = time.time_ns() // 1000 + 3_000_000
    tried = attempt(
        10**9,
        begun,
        upstream="local",
        replica=replica,
        duration_us=500_000,
        time_to_first_chunk_us=100_000,
    )
    made = call(started_at_us=begun, upstream="local", cost=10**9, attempts=(tried,))
    journal.writer().record(made)

    def settled() -> list[dict[str, Any]]:
        rows = collector.rows(f"attempts?call_id={made.call_id}")
        return [row for row in rows if row["gpu_ms"] is not None and float(row["gpu_ms"]) > 499.99]

    (row,) = until(settled, "the settlement")

    # Half a second of 0.001 USD, by whatever windows it fell into.
    assert Decimal(row["effective_cost_usd"]) == pytest.approx(Decimal("0.0005"), abs=Decimal("1e-9"))
    assert Decimal(row["list_cost_usd"]) == Decimal("0.001")
    (costs,) = collector.rows("gpu_costs")
    parts = [Decimal(costs[name]) for name in ("charged_usd", "idle_usd", "unobserved_usd")]
    assert sum(parts) == Decimal(costs["meter_usd"])
    assert "bursar_gpu_cost_usd_total{" in collector.text()
    until((collector.data_dir / FILE).exists, "the present price")
    (waiting,) = {
        one["most_waiting"] for one in until(lambda: collector.rows("engines_over_time"), "samples")
    }
    assert waiting == 3


def test_a_gpu_that_is_lost_shows_as_lost_and_comes_back(
    collector_of: Callable[..., Collector], gpus: Any
) -> None:
    gpus.tell(power_mw=350_000)
    collector = collector_of()
    until(lambda: "bursar_gpu_power_watts{" in collector.text(), "the GPU")
    lost = 'bursar_gpu_up{gpu="GPU-'

    gpus.fail("nvmlDeviceGetUtilizationRates", 15)
    gpus.fail("nvmlDeviceGetHandleByIndex_v2", 15)

    def is_up(value: int) -> bool:
        return any(
            line.startswith(lost) and line.endswith(f" {value}") for line in collector.text().splitlines()
        )

    until(lambda: is_up(0), "the loss")
    gpus.fail("nvmlDeviceGetUtilizationRates", None)
    gpus.fail("nvmlDeviceGetHandleByIndex_v2", None)
    until(lambda: is_up(1), "the return")
    rows = until(
        lambda: [one for one in collector.rows("gpus_over_time") if one["lost_samples"]], "lost samples"
    )
    assert rows[0]["gpu"].startswith("GPU-")


def test_without_a_driver_one_line_says_so(tmp_path: Path) -> None:
    script = (
        "import sys, threading; from pathlib import Path; from collector import logs;"
        "from collector.run import run; from collector.settings import *;"
        "logs.configure('collector'); stop = threading.Event(); threading.Timer(3, stop.set).start();"
        "sys.exit(run(CollectorConfig(listen=Address('127.0.0.1', int(sys.argv[2])), otlp_http=None,"
        " otlp_grpc=None), data_dir=Path(sys.argv[1]), environ={}, stop=stop))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path), str(free_port())],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        assert ended.stderr.decode().count("no GPU is watched") == 1
    assert ended.returncode == 0, ended.stderr

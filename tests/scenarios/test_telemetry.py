"""What leaves the running processes for Prometheus and OTLP keeps to the conventions, and keeps secrets."""

import http.client
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from support.stack import Stack, simulator, wait_for
from support.upstream import ScriptedUpstream

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def otlp() -> Iterator[tuple[str, list[bytes]]]:
    """An OTLP/HTTP receiver: its address, and the bodies it took in."""
    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", bodies
    server.shutdown()
    server.server_close()
    thread.join()


def traffic(stack: Stack) -> None:
    """One call of each sort: whole, streamed, tools, embeddings, failed, refused."""
    ask = {
        "model": "gpt-5-mini",
        "messages": [{"role": "user", "content": "Hello [[simulate output_tokens=5]]"}],
    }
    fail = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": "[[simulate server_error]]"}]}
    bodies = [
        ("/v1/chat/completions", ask),
        ("/v1/chat/completions", {**ask, "stream": True, "temperature": 0.5, "max_completion_tokens": 9}),
        ("/v1/chat/completions", fail),
        ("/v1/chat/completions", {"model": ""}),
        ("/v1/responses", {"model": "gpt-5-mini", "input": "Hello"}),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hello"}),
        ("/v1/messages", {**ask, "model": "claude-sonnet-4-6", "max_tokens": 9, "stream": True}),
    ]
    for path, body in bodies:
        connection = http.client.HTTPConnection("127.0.0.1", stack.ports[0], timeout=30)
        headers = {
            "content-type": "application/json",
            "authorization": "Bearer sk-canary-agent",
            "traceparent": f"00-{TRACE}-b7ad6b7169203331-01",
            "x-bursar-conversation": "conv-1",
            "x-bursar-team": "search",
        }
        connection.request("POST", path, json.dumps(body), headers)
        connection.getresponse().read()
        connection.close()


def start(tmp_path: Path, url: str, **environment: str) -> Stack:
    upstreams = {
        "openai": {"kind": "openai", "base_url": f"{url}/v1"},
        "anthropic": {"kind": "anthropic", "base_url": url},
    }
    return Stack(tmp_path / "stack", upstreams, environment=environment)


def check(tool: Path, *arguments: str) -> None:
    """Run the conventions' checker; its findings are the failure."""
    ran = subprocess.run(
        [sys.executable, str(tool), "--no-content", *arguments], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_metrics_and_spans_of_real_traffic_keep_to_the_conventions(
    tmp_path: Path, shared_tools: Path, otlp: tuple[str, list[bytes]]
) -> None:
    endpoint, bodies = otlp
    with (
        simulator("--speed", "20") as url,
        start(tmp_path, url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as stack,
    ):
        traffic(stack)
        stack.calls(7)
        with urllib.request.urlopen(f"{stack.control_url}/metrics") as reply:
            metrics = tmp_path / "metrics.txt"
            metrics.write_bytes(reply.read())
        stack.stop("sidecar")
        stack.stop("collector")

    files = []
    for number, body in enumerate(bodies):
        path = tmp_path / f"spans{number}.pb"
        path.write_bytes(body)
        files.append(str(path))
    check(shared_tools / "semconv_check.py", "--signal", "traces", "--require-spans", "6", *files)
    check(shared_tools / "semconv_check.py", "--prom", str(metrics))
    assert bytes.fromhex(TRACE) in b"".join(bodies)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or b"sk-canary" not in path.read_bytes(), path


@pytest.mark.slow
def test_a_backend_that_never_answers_delays_nobody(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as hung, simulator("--speed", "20") as url:
        endpoint = f"http://127.0.0.1:{hung.getsockname()[1]}"
        with start(tmp_path, url, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint) as stack:
            traffic(stack)
            assert len(stack.calls(7)) == 7
            stack.stop("sidecar")
            assert stack.stop("collector") == 0


def test_the_metrics_can_be_read_by_prometheus(
    upstream: ScriptedUpstream, stack_for: Callable[..., Stack], tmp_path: Path
) -> None:
    stack = stack_for(upstream, with_collector=False)
    traffic(stack)

    def read() -> str:
        with urllib.request.urlopen(f"{stack.control_url}/metrics") as reply:
            return str(reply.read().decode())

    text = wait_for("the gauges", lambda: "bursar_event_loop_lag_seconds" in (found := read()) and found)

    names = (
        "bursar_calls_total",
        "bursar_cost_usd_total",
        "bursar_avoided_cost_usd_total",
        "bursar_tokens_total",
        "bursar_call_duration_seconds_bucket",
        "bursar_overhead_seconds_bucket",
        "bursar_cache_requests_total",
        "bursar_unpriced_calls_total",
        "bursar_dropped_total",
        "bursar_journal_lag_seconds",
        "bursar_event_loop_lag_seconds",
        "bursar_process_memory_ratio",
        "bursar_upstream_inflight",
        "gen_ai_client_inference_duration_seconds_bucket",
        "gen_ai_client_inference_usage_input_tokens_total",
    )
    assert [name for name in names if name not in text] == []

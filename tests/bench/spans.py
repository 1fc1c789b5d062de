"""How many spans a second a running collector takes in and stores, over OTLP/HTTP and OTLP/gRPC.

    python tests/bench/spans.py [--rate 10000] [--seconds 20]

Starts ``bursar collector`` as users do and sends it batches of 512 spans, as OTel's batch processor makes
them and encoded by its own exporter, with twenty attributes each: gzip over HTTP, plain over gRPC. Requests
that are told to come back come back. Prints the rate that was reached, the collector's CPU for a span (from
which follows what one core of this machine can take), how long the oldest span waited, and fails where a
span is not stored exactly once.
"""

import argparse
import gzip
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.ports import free_ports

ROOT = Path(__file__).resolve().parents[2]
SPANS = 512
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def made_spans() -> Any:
    """A batch as the SDK's exporter encodes it."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource.create({"service.name": "agents"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("bench")
    for number in range(SPANS):
        with tracer.start_as_current_span("chat gpt-5-mini") as span:
            span.set_attributes(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": "openai",
                    "gen_ai.request.model": "gpt-5-mini",
                    "gen_ai.response.model": "gpt-5-mini-2025-08-07",
                    "gen_ai.response.id": f"chatcmpl-{number:024x}",
                    "gen_ai.response.finish_reasons": ["stop"],
                    "gen_ai.usage.input_tokens": 1000 + number,
                    "gen_ai.usage.output_tokens": 100 + number,
                    "gen_ai.usage.cache_read.input_tokens": 512,
                    "gen_ai.usage.reasoning.output_tokens": 32,
                    "gen_ai.request.temperature": 0.7,
                    "gen_ai.request.max_tokens": 4096,
                    "gen_ai.request.stream": True,
                    "gen_ai.response.time_to_first_chunk": 0.2 + number / 1000,
                    "gen_ai.conversation.id": f"talk-{number % 40}",
                    "gen_ai.agent.name": ("planner", "writer", "critic")[number % 3],
                    "user.id": f"user-{number % 100}",
                    "server.address": "api.openai.com",
                    "server.port": 443,
                    "llm.usage.total_tokens": 1100 + number,
                }
            )
    provider.shutdown()
    return encode_spans(exporter.get_finished_spans())


def bodies(count: int) -> list[bytes]:
    """So many requests, no two spans of which are the same."""
    message, found = made_spans(), []
    for _ in range(count):
        now = time.time_ns()
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                for span in scope.spans:
                    span.trace_id, span.span_id = os.urandom(16), os.urandom(8)
                    span.start_time_unix_nano, span.end_time_unix_nano = now - 10**9, now
        found.append(message.SerializeToString())
    return found


def metric(url: str, line: str) -> float:
    """A figure of the collector's."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as reply:
        found = [text for text in reply.read().decode().splitlines() if text.startswith(f"{line} ")]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def cpu_s(pid: int) -> float:
    """CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def over_http(port: int) -> Callable[[bytes], bool]:
    """Sends one request; whether it was taken."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"content-type": "application/x-protobuf", "content-encoding": "gzip"}

    def send(body: bytes) -> bool:
        connection.request("POST", "/v1/traces", gzip.compress(body, 1), headers)
        reply = connection.getresponse()
        reply.read()
        assert reply.status in (200, 503), reply.status
        return reply.status == 200

    return send


def over_grpc(port: int) -> Callable[[bytes], bool]:
    """The same over gRPC."""
    import grpc  # type: ignore[import-untyped]

    channel = grpc.insecure_channel(f"127.0.0.1:{port}")
    call = channel.unary_unary(_EXPORT)

    def send(body: bytes) -> bool:
        try:
            call(body, timeout=60)
        except grpc.RpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE, error
            return False
        return True

    return send


def measure(name: str, send: Callable[[bytes], bool], requests: list[bytes], rate: int, about: Any) -> bool:
    """Send ``requests`` at ``rate`` spans a second; whether the rate was kept and every span stored."""
    url, pid = about
    stored = 'bursar_otlp_spans_total{result="stored"}'
    before, cpu, began = metric(url, stored), cpu_s(pid), time.monotonic()
    refused, lag, looked = 0, 0.0, began
    for number, body in enumerate(requests):
        time.sleep(max(0.0, began + number * SPANS / rate - time.monotonic()))
        while not send(body):
            refused += 1
            time.sleep(0.2)
        if time.monotonic() - looked > 1:
            looked, lag = time.monotonic(), max(lag, metric(url, "bursar_otlp_lag_seconds"))
    sent_s, count = time.monotonic() - began, len(requests) * SPANS
    while (found := metric(url, stored) - before) < count and time.monotonic() - began < sent_s + 60:
        time.sleep(0.2)
    took = cpu_s(pid) - cpu
    reached = count / sent_s
    print(
        f"{name:<5} {count:>8} spans, {reached:8,.0f}/s sent, {found:9,.0f} stored, {refused} refusals,"
        f" lag {lag:.1f} s at most, collector {took / count * 1e6:.0f} us a span"
        f" ({count / took:,.0f}/s of one core), load {os.getloadavg()[0]:.0f}",
        flush=True,
    )
    return found == count and reached >= rate * 0.98


def main() -> int:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rate", type=int, default=10_000, help="spans a second")
    parser.add_argument("--seconds", type=float, default=20)
    arguments = parser.parse_args()
    ports = free_ports(3)
    with tempfile.TemporaryDirectory() as temporary:
        address = "127.0.0.1:{}".format
        names = ("listen", "otlp_http", "otlp_grpc")
        config = Path(temporary) / "bursar.yaml"
        where = {name: address(port) for name, port in zip(names, ports, strict=True)}
        config.write_text(yaml.safe_dump({"collector": where, "data_dir": f"{temporary}/data"}))
        command = [sys.executable, "-m", "sidecar.cli", "collector", "--config", str(config)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (Path(temporary) / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=temporary, env=environment, stdout=log, stderr=log)
        try:
            return run(process, ports, arguments.rate, arguments.seconds)
        finally:
            process.terminate()
            process.wait(60)


def run(process: subprocess.Popen[bytes], ports: list[int], rate: int, seconds: float) -> int:
    """Measure both ways in."""
    import socket

    for port in ports:
        until = time.monotonic() + 60
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None and time.monotonic() < until, "the collector does not listen"
            time.sleep(0.1)
    kept = True
    for name, sender, port in (("HTTP", over_http, ports[1]), ("gRPC", over_grpc, ports[2])):
        requests = bodies(int(rate * seconds / SPANS))
        about = (f"http://127.0.0.1:{ports[0]}", process.pid)
        kept = measure(name, sender(port), requests, rate, about) and kept
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

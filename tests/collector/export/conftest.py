"""Records to export, a receiver that understands them, and the conventions' own checker."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.domain.record import AttemptRecord, CallRecord

MakeRecord = Callable[..., CallRecord]
MakeAttempt = Callable[..., AttemptRecord]

_ATTEMPT = AttemptRecord(
    attempt=1,
    upstream="openai",
    replica="api.openai.com:443",
    provider_name="openai",
    request_model="gpt-5-mini",
    span_id="00000000000000a1",
    started_at_us=1_790_000_000_000_100,
    duration_us=850_000,
    time_to_first_chunk_us=210_000,
    http_status=200,
    error_type="",
    input_tokens=1200,
    output_tokens=340,
    cache_read_input_tokens=800,
    cache_write_input_tokens=0,
    cache_write_1h_input_tokens=0,
    reasoning_output_tokens=120,
    usage_grade="reported",
    price_grade="listed",
    price_version="2026-11-20",
    list_cost_pico=800_000_000,
    effective_cost_pico=800_000_000,
)

_RECORD = CallRecord(
    call_id="019a0000-0000-7000-8000-000000000001",
    started_at_us=1_790_000_000_000_000,
    duration_us=851_000,
    time_to_first_chunk_us=211_000,
    tenant="acme",
    team="search",
    user_id="u-1",
    agent="researcher",
    conversation_id="conv-1",
    conversation_source="header",
    task_id="task-1",
    tags={"env": "prod"},
    key_id="k1",
    trace_id="0af7651916cd43dd8448eb211c80319c",
    span_id="00000000000000b1",
    parent_span_id="00000000000000c1",
    gen_ai_span_id="00000000000000d1",
    api="openai.chat",
    stream=True,
    request_model="gpt-5-mini",
    response_model="gpt-5-mini-2025-08-07",
    provider_name="openai",
    upstream="openai",
    outcome="served",
    outcome_reason="",
    http_status=200,
    error_type="",
    cache="miss",
    downgraded_from="",
    input_tokens=1200,
    output_tokens=340,
    cache_read_input_tokens=800,
    cache_write_input_tokens=0,
    cache_write_1h_input_tokens=0,
    reasoning_output_tokens=120,
    audio_input_tokens=0,
    audio_output_tokens=0,
    usage_grade="reported",
    price_grade="listed",
    price_version="2026-11-20",
    list_cost_pico=800_000_000,
    effective_cost_pico=800_000_000,
    avoided_cost_pico=0,
    provider_cost_pico=None,
    overhead_us=85,
    response_id="chatcmpl-1",
    finish_reasons=["stop"],
    tool_names=[],
    request_bytes=3000,
    response_bytes=9000,
    chunks=41,
    path="/v1/chat/completions",
    server_address="api.openai.com",
    server_port=443,
    client_address="127.0.0.1",
    user_agent="OpenAI/Python 3.54.0",
    request_attributes={"max_tokens": 512, "temperature": 0.2},
    response_attributes={"service_tier": "default", "system_fingerprint": "fp_1"},
    message_hashes=[1, 2],
    last_message_hash=3,
    content=None,
    attempts=(_ATTEMPT,),
)


@pytest.fixture(scope="session")
def attempt() -> MakeAttempt:
    """An attempt that streamed an answer from OpenAI, but for what is given."""
    return lambda **changes: _ATTEMPT._replace(**changes)


@pytest.fixture(scope="session")
def record() -> MakeRecord:
    """A served call with that one attempt, but for what is given."""
    return lambda **changes: _RECORD._replace(**changes)


class Receiver:
    """A real HTTP server that takes OTLP in and answers as it is told."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        """Used up first to last; 200 and nothing when none is left."""
        self.hung = threading.Event()
        """Set: requests are read and never answered."""
        self.released = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.take(self, body)

            def log_message(self, *args: Any) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def take(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        import gzip
        import zlib

        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        self.paths.append(handler.path)
        if self.hung.is_set():
            self.released.wait(30)
            return
        encoding = handler.headers.get("content-encoding")
        if encoding == "gzip":
            body = gzip.decompress(body)
        elif encoding == "deflate":
            body = zlib.decompress(body)
        status, headers, reply = self.answers.pop(0) if self.answers else (200, {}, b"")
        if status == 200:
            self.requests.append(ExportTraceServiceRequest.FromString(body))
        handler.send_response(status)
        handler.send_header("content-length", str(len(reply)))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(reply)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for of_resource in request.resource_spans
            for of_scope in of_resource.scope_spans
            for span in of_scope.spans
        ]

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture(scope="session")
def semconv(shared_tools: Path) -> Callable[..., str]:
    """Runs the conventions' checker; what it found, empty when nothing."""

    def check(path: Path, *options: str) -> str:
        done = subprocess.run(
            [sys.executable, str(shared_tools / "semconv_check.py"), "--strict", *options, str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr

    return check

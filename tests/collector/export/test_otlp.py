import gc
import io
import json
import logging
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from collector import logs
from collector.export.conventions import SCHEMA_URL
from collector.export.otlp import ExportLimits, SpanExport
from collector.export.protobuf import SpanEncoder
from collector.export.transport import Destination, Reply, Transport, destination

Environment = dict[str, str]


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> bool:
    """Whether ``condition`` comes true; asked again and again until it does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """What is logged, as text."""
    stream = io.StringIO()
    logs.configure("test", stream=stream)
    yield stream
    root = logging.getLogger()
    root.removeHandler(root.handlers[-1])
    logging.raiseExceptions = True


@pytest.fixture
def started() -> Iterator[Callable[..., SpanExport]]:
    """Starts exports and sees that their threads end with the test."""
    running: list[SpanExport] = []

    def start(*args: Any, **options: Any) -> SpanExport:
        export = SpanExport(*args, **options)
        running.append(export)
        return export

    yield start
    for export in running:
        export.shutdown(0.2)


def encoder() -> SpanEncoder:
    return SpanEncoder({"service.name": "bursar"}, scope="bursar", version="1", schema_url=SCHEMA_URL)


class Scripted:
    """A receiver in a few lines: answers as told, then 200; may be hung."""

    def __init__(self, *answers: Reply | Exception) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.tried = 0
        self.hung = False
        self._abort = threading.Event()

    def post(self, body: bytes, timeout_s: float) -> Reply:
        self.tried += 1
        if self.hung:
            self._abort.wait(timeout_s)
            raise TimeoutError
        answer = self.answers.pop(0) if self.answers else Reply(200, "", b"")
        if isinstance(answer, Exception):
            raise answer
        if answer.status == 200:
            self.bodies.append(body)
        return answer

    def abort(self) -> None:
        self._abort.set()

    def close(self) -> None:
        self.hung = False

    @property
    def spans(self) -> int:
        return sum(
            len(of_scope.spans)
            for body in self.bodies
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for of_scope in of_resource.scope_spans
        )


FAST = ExportLimits(linger_s=0.01, first_backoff_s=0.01, longest_backoff_s=0.02)


def test_what_a_receiver_gets_is_the_call_s_spans(record: Any, receiver: Any) -> None:
    export = SpanExport.from_environment(
        {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%20cret,x-a=b"}
    )
    assert export is not None

    assert export.offer([record(), record()]) == 2
    assert export.shutdown() is True

    assert [span.name for span in receiver.spans] == [
        "POST /v1/chat/completions",
        "chat gpt-5-mini",
        "POST",
    ] * 2
    assert receiver.paths == ["/v1/traces"]
    assert receiver.headers[0]["content-type"] == "application/x-protobuf"
    assert (receiver.headers[0]["api-key"], receiver.headers[0]["x-a"]) == ("s cret", "b")
    [of_resource] = receiver.requests[0].resource_spans
    named = {item.key: item.value.string_value for item in of_resource.resource.attributes}
    assert named["service.name"] == "bursar"
    assert of_resource.scope_spans[0].schema_url == SCHEMA_URL
    assert (export.sent, export.dropped) == (2, Counter())


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_batches_are_compressed_as_asked(record: Any, receiver: Any, compression: str) -> None:
    export = SpanExport.from_environment(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{receiver.url}/own/path",
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
        }
    )
    assert export is not None

    export.offer([record()])
    export.shutdown()

    assert receiver.paths == ["/own/path"]
    assert receiver.headers[0]["content-encoding"] == compression
    assert len(receiver.spans) == 3


def test_one_connection_serves_many_batches(record: Any, receiver: Any, started: Any) -> None:
    where = destination({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    assert where is not None
    export = started(Transport(where), encoder(), limits=FAST)
    ports = set()

    for batch in range(5):
        export.offer([record()])
        assert eventually(lambda expected=batch + 1: export.sent == expected)
        ports.add(export._sender._connection.sock.getsockname()[1])

    assert len(ports) == 1


def test_a_receiver_that_closed_the_idle_connection_is_simply_called_again(
    record: Any, receiver: Any
) -> None:
    where = destination({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url})
    assert where is not None
    transport = Transport(where)
    body = encoder().request([])
    receiver.answers = [(200, {"connection": "keep-alive"}, b"")]
    assert transport.post(body, 5).status == 200
    assert transport._connection is not None
    transport._connection.sock.shutdown(socket.SHUT_RDWR)

    assert transport.post(body, 5).status == 200
    transport.close()


def test_a_batch_that_could_not_be_taken_is_sent_again(record: Any, started: Any) -> None:
    receiver = Scripted(
        Reply(503, "", b""), ConnectionRefusedError(), Reply(429, "0.01", b""), TimeoutError()
    )
    export = started(receiver, encoder(), limits=FAST)

    export.offer([record()])

    assert eventually(lambda: export.sent == 1)
    assert (receiver.tried, receiver.spans, export.dropped) == (5, 3, Counter())


def test_a_receiver_s_wish_to_wait_is_granted(record: Any, started: Any) -> None:
    receiver = Scripted(Reply(503, "0.3", b""))
    export = started(receiver, encoder(), limits=FAST)
    began = time.monotonic()

    export.offer([record()])

    assert eventually(lambda: export.sent == 1)
    assert time.monotonic() - began >= 0.3


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_a_batch_that_is_rejected_is_not_sent_again(record: Any, started: Any, status: int) -> None:
    receiver = Scripted(Reply(status, "", b"no"))
    told: list[tuple[str, int]] = []
    export = started(receiver, encoder(), limits=FAST, on_drop=lambda why, calls: told.append((why, calls)))

    export.offer([record()])

    assert eventually(lambda: export.dropped["rejected"] == 1)
    assert (receiver.tried, told) == (1, [("rejected", 1)])


def test_spans_that_a_receiver_refuses_out_of_a_batch_are_counted(record: Any, started: Any) -> None:
    partly = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=2))
    export = started(Scripted(Reply(200, "", partly.SerializeToString())), encoder(), limits=FAST)

    export.offer([record()])

    assert eventually(lambda: export.sent == 1)
    assert export.dropped == Counter(refused=2)


def test_a_batch_that_nobody_takes_is_given_up_after_a_while(record: Any, started: Any) -> None:
    receiver = Scripted(*[ConnectionRefusedError() for _ in range(1000)])
    limits = ExportLimits(linger_s=0.01, first_backoff_s=0.01, longest_backoff_s=0.02, give_up_after_s=0.2)
    export = started(receiver, encoder(), limits=limits)

    export.offer([record()])

    assert eventually(lambda: export.dropped["unreachable"] == 1)
    assert receiver.tried > 2


def test_a_hung_receiver_costs_bounded_memory_and_every_loss_is_counted(record: Any, started: Any) -> None:
    """Case H01."""
    receiver = Scripted()
    receiver.hung = True
    limits = ExportLimits(queued_calls=500, queued_bytes=1 << 20, batch_calls=50, linger_s=0.01)
    export = started(receiver, encoder(), limits=limits)
    calls = [record()] * 100

    taken = sum(export.offer(calls) for _ in range(20))
    gc.collect()
    before = resident_bytes()
    taken += sum(export.offer(calls) for _ in range(200))

    assert resident_bytes() - before < 2 << 20
    assert export.waiting == taken <= 550
    assert export.dropped == Counter(queue_full=22_000 - taken)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_the_queue_is_bounded_by_bytes_too(record: Any, started: Any) -> None:
    receiver = Scripted()
    receiver.hung = True
    export = started(receiver, encoder(), limits=ExportLimits(queued_bytes=10_000, batch_calls=1))

    taken = export.offer([record()] * 100)

    assert taken < 15
    assert export.dropped["queue_full"] == 100 - taken


def test_a_call_with_too_much_content_is_dropped_alone(record: Any, started: Any) -> None:
    receiver = Scripted()
    export = started(receiver, encoder(), limits=ExportLimits(linger_s=0.01, call_bytes=10_000))

    taken = export.offer([record(content={"input": "x" * 20_000}), record()])

    assert taken == 1
    assert eventually(lambda: export.sent == 1)
    assert export.dropped == Counter(too_large=1)


def test_a_damaged_record_harms_nobody(record: Any, started: Any) -> None:
    export = started(Scripted(), encoder(), limits=FAST)

    assert export.offer([record(trace_id="not hex"), record()]) == 1

    assert export.dropped == Counter(malformed=1)


@pytest.mark.parametrize("mode", ["never answers", "a byte at a time"])
def test_shutting_down_with_a_hung_receiver_takes_three_seconds_at_most(record: Any, mode: str) -> None:
    """Case H02."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()
        thread = threading.Thread(target=drip, args=(server, done, mode))
        thread.start()
        export = SpanExport.from_environment(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.getsockname()[1]}"}
        )
        assert export is not None
        export.offer([record()] * 3)
        began = time.monotonic()

        assert export.shutdown(3.0) is False

        took_s = time.monotonic() - began
        done.set()
        thread.join()
    assert took_s <= 3.2
    assert export.dropped == Counter(shutdown=3)
    assert not export._thread.is_alive()
    assert export.offer([record()]) == 0
    assert export.dropped == Counter(shutdown=4)


def drip(server: socket.socket, done: threading.Event, mode: str) -> None:
    """Takes one request in and either says nothing or says it very slowly."""
    connection, _ = server.accept()
    with connection:
        answer = iter(b"HTTP/1.1 200 OK\r\n" + b"x-y: z\r\n" * 1000)
        while not done.wait(0.05):
            if mode != "never answers":
                try:
                    connection.sendall(bytes((next(answer),)))
                except OSError:
                    return


def test_one_exchange_ends_in_time_however_slowly_it_is_answered() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()
        thread = threading.Thread(target=drip, args=(server, done, "a byte at a time"))
        thread.start()
        where = Destination(scheme="http", host="127.0.0.1", port=server.getsockname()[1], path="/")
        began = time.monotonic()

        with pytest.raises(Exception) as failure:
            Transport(where).post(b"x", 0.4)

        took_s = time.monotonic() - began
        done.set()
        thread.join()
    assert 0.3 < took_s < 2
    assert type(failure.value).__name__ in (
        "RemoteDisconnected",
        "BadStatusLine",
        "TimeoutError",
        "ConnectionError",
    )


def test_an_idle_export_ends_at_once(started: Any) -> None:
    export = started(Scripted(), encoder())
    began = time.monotonic()

    assert export.shutdown(60.0) is True

    assert time.monotonic() - began < 20


def test_a_share_of_traces_is_exported_and_always_the_same(record: Any, started: Any) -> None:
    export = started(Scripted(), encoder(), ratio=0.25, limits=FAST)
    low = record(trace_id="f" * 16 + "3" + "f" * 15)
    high = record(trace_id="0" * 16 + "4" + "0" * 15)

    assert [export.offer([call]) for call in (low, high, low, high)] == [1, 0, 1, 0]
    assert export.dropped == Counter()


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318", "OTEL_SDK_DISABLED": "true"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4318", "OTEL_TRACES_EXPORTER": "none"}, ""),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "localhost:4318"}, "must be a URL"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        ),
    ],
)
def test_nothing_is_exported_unless_it_is_configured_and_the_reason_is_told(
    log: io.StringIO, environment: Environment, reason: str
) -> None:
    assert SpanExport.from_environment(environment) is None
    assert reason in log.getvalue()
    assert bool(log.getvalue()) is bool(reason)


def test_credentials_of_the_receiver_are_used_and_never_logged(
    record: Any, receiver: Any, log: io.StringIO
) -> None:
    port = receiver.url.rpartition(":")[2]
    receiver.answers = [(500, {}, b"")]
    export = SpanExport.from_environment(
        {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://me:pa55word@127.0.0.1:{port}/v1/traces?token=t0ps3cret",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "x-api-key=h3aders3cret",
        }
    )
    assert export is not None

    export.offer([record()])
    export.shutdown()

    assert receiver.headers[0]["authorization"] == "Basic bWU6cGE1NXdvcmQ="
    assert receiver.paths == ["/v1/traces?token=t0ps3cret"]
    told = log.getvalue()
    assert f"http://127.0.0.1:{port}/v1/traces" in told
    for secret in ("pa55word", "bWU6cGE1NXdvcmQ", "t0ps3cret", "h3aders3cret"):
        assert secret not in told
        assert secret not in repr(destination({"OTEL_EXPORTER_OTLP_HEADERS": f"k={secret}",
                                               "OTEL_EXPORTER_OTLP_ENDPOINT": "http://h"}))  # fmt: skip


def test_an_outage_is_two_lines_however_long_it_lasts(record: Any, started: Any, log: io.StringIO) -> None:
    receiver = Scripted(*[Reply(503, "", b"") for _ in range(20)])
    export = started(receiver, encoder(), limits=FAST)

    export.offer([record()])

    assert eventually(lambda: export.sent == 1)
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["level"], line["state"]) for line in lines] == [("warning", "failing"), ("info", "ok")]
    assert lines[1]["count"] == 19


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 10), ("5", 5), ("0.5", 0.5), ("5000", 5), ("100000000", 60), ("soon", 10), ("-1", 10), ("nan", 10)],
)
def test_a_timeout_is_understood_in_seconds_and_in_milliseconds(text: str, seconds: float) -> None:
    where = destination({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://h", "OTEL_EXPORTER_OTLP_TIMEOUT": text})

    assert where is not None
    assert where.timeout_s == seconds


def test_the_service_is_called_bursar_unless_the_environment_names_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from collector.export.resource import service_resource

    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod,team=search")
    service_resource.cache_clear()
    attributes = service_resource().attributes
    assert (attributes["service.name"], attributes["deployment.environment.name"]) == ("bursar", "prod")

    monkeypatch.setenv("OTEL_SERVICE_NAME", "treasurer")
    service_resource.cache_clear()
    assert service_resource().attributes["service.name"] == "treasurer"
    service_resource.cache_clear()


def test_a_receiver_with_tls_is_verified_against_the_given_authority(
    record: Any, receiver: Any, started: Any, tmp_path: Path
) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not on PATH: no certificate can be made")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-keyout", str(key), "-out", str(certificate), "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    receiver.server.socket = context.wrap_socket(receiver.server.socket, server_side=True)
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url.replace("http:", "https:")}
    trusting = destination({**environment, "OTEL_EXPORTER_OTLP_CERTIFICATE": str(certificate)})
    distrusting = destination(environment)
    assert trusting is not None
    assert distrusting is not None

    with pytest.raises(ssl.SSLCertVerificationError):
        Transport(distrusting).post(b"", 5)
    export = started(Transport(trusting), encoder(), limits=FAST)
    export.offer([record()])

    assert eventually(lambda: export.sent == 1)
    assert len(receiver.spans) == 3


def test_certificates_that_cannot_be_read_are_told(log: io.StringIO) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://127.0.0.1:1",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere/authority.pem",
    }

    assert SpanExport.from_environment(environment) is None
    assert "certificates cannot be used" in log.getvalue()

"""OTLP as clients send it: the SDK's own exporter, plain HTTP, and gRPC, to a server that runs."""

import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from http.client import HTTPConnection
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.ingest.otlp.batch import SpanBatch
from collector.ingest.otlp.intake import IntakeLimits
from collector.ingest.otlp.receiver import OtlpConfig, OtlpReceiver
from collector.ingest.otlp.requests import RequestLimits, Requests
from collector.settings import Address

PROTOBUF = "application/x-protobuf"
LOCAL = Address("127.0.0.1", 0)
SMALL = OtlpConfig(
    http=LOCAL,
    grpc=LOCAL,
    requests=RequestLimits(body_bytes=1 << 20, unpacked_bytes=2 << 20),
    intake=IntakeLimits(spans=100, commit_spans=50, commit_interval_s=0.02),
)


@pytest.fixture
def receiver(ledger: Any) -> Iterator[OtlpReceiver]:
    made = OtlpReceiver(SMALL, lambda: ledger.database)
    made.start()
    yield made
    made.stop()


class HeldSink:
    """Stores nothing until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.stored = 0

    def accept(self, batches: Sequence[SpanBatch]) -> int:
        self.free.wait(10)
        self.stored += sum(batch.count for batch in batches)
        return sum(batch.count for batch in batches)


@pytest.fixture
def held() -> Iterator[tuple[OtlpReceiver, HeldSink]]:
    sink = HeldSink()
    made = OtlpReceiver(SMALL, lambda: None, sink=sink)
    made.start()
    yield made, sink
    sink.free.set()
    made.stop()


def post(
    receiver: OtlpReceiver,
    body: bytes,
    content_type: str = PROTOBUF,
    path: str = "/v1/traces",
    method: str = "POST",
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:
    address = receiver.http_address
    assert address is not None
    connection = HTTPConnection(address.host, address.port, timeout=10)
    sent = {"content-type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, sent)
    reply = connection.getresponse()
    answer = reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read()
    connection.close()
    return answer


def stored(ledger: Any) -> int:
    return int(ledger.rows("SELECT count(*) FROM spans_received")[0][0])


def test_the_sdks_own_exporter_is_understood(
    receiver: OtlpReceiver, ledger: Any, wait_until: Callable[..., None]
) -> None:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    endpoint = f"http://{receiver.http_address}/v1/traces"
    provider = TracerProvider(resource=Resource({"service.name": "agent"}))
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(endpoint, compression=Compression.Gzip)))
    with provider.get_tracer("mine").start_as_current_span("invoke_agent planner") as span:
        span.set_attribute("gen_ai.operation.name", "invoke_agent")
    provider.shutdown()

    wait_until(lambda: stored(ledger))
    row = ledger.one("SELECT service, producer, role, agent, name FROM spans_received")
    assert tuple(row.values()) == ("agent", "mine", "agent", "planner", "invoke_agent planner")


@pytest.mark.parametrize("encoding", ["", "gzip", "deflate"])
def test_a_request_is_stored_and_answered_with_success(
    receiver: OtlpReceiver, ledger: Any, maker: Any, wait_until: Callable[..., None], encoding: str
) -> None:
    body = maker.request(maker.model(), maker.model())
    sent = {"": body, "gzip": gzip.compress(body), "deflate": zlib.compress(body)}[encoding]

    code, headers, answer = post(receiver, sent, **({"content_encoding": encoding} if encoding else {}))

    assert (code, headers["content-type"], answer) == (200, PROTOBUF, b"")
    wait_until(lambda: stored(ledger) == 2)


def test_json_is_answered_in_json(
    receiver: OtlpReceiver, ledger: Any, wait_until: Callable[..., None]
) -> None:
    span = {
        "traceId": "1" * 32,
        "spanId": "2" * 16,
        "name": "chat x",
        "startTimeUnixNano": "1790000000000000000",
    }
    body = json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [span, span | {"spanId": ""}]}]}]}
    ).encode()

    code, headers, answer = post(receiver, body, "application/json; charset=utf-8")

    assert (code, headers["content-type"]) == (200, "application/json")
    assert json.loads(answer)["partialSuccess"]["rejectedSpans"] == "1"
    wait_until(lambda: stored(ledger) == 1)


def test_spans_without_ids_are_rejected_and_counted_in_the_answer(receiver: OtlpReceiver, maker: Any) -> None:
    broken = maker.model()._replace(span_id="00" * 8)

    code, _, answer = post(receiver, maker.request(maker.model(), broken, broken))

    assert code == 200
    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 2


def test_a_batch_that_is_sent_again_is_stored_once(
    receiver: OtlpReceiver, ledger: Any, maker: Any, wait_until: Callable[..., None]
) -> None:
    body = maker.request(maker.model(), maker.model())
    for _ in range(3):
        assert post(receiver, body)[0] == 200
    wait_until(lambda: receiver.intake.waiting == 0)

    assert stored(ledger) == 2
    assert receiver.intake.counts.duplicates == 4


def test_metrics_and_logs_are_answered_and_set_aside(receiver: OtlpReceiver) -> None:
    assert post(receiver, b"\x0a\x00", path="/v1/metrics")[0] == 200
    assert post(receiver, b"{}", "application/json", path="/v1/logs")[0] == 200
    assert receiver.intake.counts.set_aside == {"metrics": 1, "logs": 1}


def test_what_should_not_be_sent_again_is_refused_for_good(receiver: OtlpReceiver) -> None:
    bomb = gzip.compress(bytes(8 << 20))

    assert post(receiver, b"\x0a\xff")[0] == 400
    assert post(receiver, b"not gzip", content_encoding="gzip")[0] == 400
    assert post(receiver, b"x", content_encoding="br")[0] == 400
    assert post(receiver, gzip.compress(b"")[:10], content_encoding="gzip")[0] == 400
    assert post(receiver, bomb, content_encoding="gzip")[0] == 413
    assert post(receiver, bytes(2 << 20))[0] == 413
    assert post(receiver, b"", "text/plain")[0] == 415
    assert post(receiver, b"", path="/v1/elsewhere")[0] == 404
    assert post(receiver, b"", method="GET")[0] == 405
    assert post(receiver, b"", host="evil.example")[0] == 403


def test_a_full_queue_asks_to_come_back_and_loses_nothing(
    held: tuple[OtlpReceiver, HeldSink], maker: Any, wait_until: Callable[..., None]
) -> None:
    receiver, sink = held
    requests = [maker.request(*(maker.model() for _ in range(40))) for _ in range(6)]
    answers = [post(receiver, body) for body in requests]

    assert [code for code, _, _ in answers] == [200, 200, 200, 503, 503, 503]
    assert int(answers[-1][1]["retry-after"]) > 0
    assert receiver.intake.lag_s > 0
    sink.free.set()
    wait_until(lambda: receiver.intake.waiting == 0)
    for body in requests:
        while post(receiver, body)[0] == 503:
            pass
    wait_until(lambda: receiver.intake.waiting == 0)
    assert sink.stored == 240
    assert receiver.intake.lag_s == 0


def test_grpc_is_the_same_by_another_door(
    receiver: OtlpReceiver, ledger: Any, maker: Any, wait_until: Callable[..., None]
) -> None:
    grpc = pytest.importorskip("grpc", reason="the extra otlp-grpc is not installed")
    with grpc.insecure_channel(str(receiver.grpc_address), compression=grpc.Compression.Gzip) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        broken = maker.model()._replace(trace_id="00" * 16)
        answer = export(maker.request(maker.model(), maker.model(), broken), timeout=10)
        aside = channel.unary_unary("/opentelemetry.proto.collector.logs.v1.LogsService/Export")(
            b"", timeout=10
        )
        with pytest.raises(grpc.RpcError) as refused:
            export(b"\x0a\xff", timeout=10)

    assert ExportTraceServiceResponse.FromString(answer).partial_success.rejected_spans == 1
    assert aside == b""
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    wait_until(lambda: stored(ledger) == 2)


def test_grpc_says_unavailable_when_the_queue_is_full(
    held: tuple[OtlpReceiver, HeldSink], maker: Any
) -> None:
    grpc = pytest.importorskip("grpc", reason="the extra otlp-grpc is not installed")
    receiver, _ = held
    with grpc.insecure_channel(str(receiver.grpc_address)) as channel:
        export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
        for _ in range(3):
            export(maker.request(*(maker.model() for _ in range(40))), timeout=10)
        with pytest.raises(grpc.RpcError) as full:
            export(maker.request(maker.model()), timeout=10)

    assert full.value.code() is grpc.StatusCode.UNAVAILABLE


def test_off_loopback_the_control_key_is_asked_for(ledger: Any, maker: Any) -> None:
    everywhere = Address("0.0.0.0", 0)
    config = OtlpConfig(http=everywhere, grpc=everywhere, key="the-key")
    receiver = OtlpReceiver(config, lambda: ledger.database)
    receiver.start()
    try:
        assert receiver.http_address is not None
        receiver.http_address = Address("127.0.0.1", receiver.http_address.port)
        assert post(receiver, maker.request(maker.model()))[0] == 401
        assert post(receiver, maker.request(maker.model()), authorization="Bearer the-key")[0] == 200
        grpc = pytest.importorskip("grpc", reason="the extra otlp-grpc is not installed")
        assert receiver.grpc_address is not None
        with grpc.insecure_channel(f"127.0.0.1:{receiver.grpc_address.port}") as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            with pytest.raises(grpc.RpcError) as refused:
                export(b"", timeout=10)
            assert export(b"", timeout=10, metadata=(("authorization", "Bearer the-key"),)) == b""
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    finally:
        receiver.stop()


def test_a_taken_port_is_said_and_done_without(receiver: OtlpReceiver, ledger: Any) -> None:
    config = OtlpConfig(http=receiver.http_address, grpc=receiver.grpc_address)
    second = OtlpReceiver(config, lambda: ledger.database)
    second.start()
    second.stop()

    assert second.http_address is None
    assert second.grpc_address is None


def test_metrics_tell_what_came_in(
    receiver: OtlpReceiver, maker: Any, wait_until: Callable[..., None]
) -> None:
    from prometheus_client import CollectorRegistry, generate_latest

    post(receiver, maker.request(maker.model()))
    wait_until(lambda: receiver.intake.counts.stored == 1)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(receiver.metrics)
    text = generate_latest(registry).decode()

    assert 'bursar_otlp_spans_total{result="stored"} 1.0' in text
    assert "bursar_otlp_lag_seconds 0.0" in text
    assert "bursar_bypass_calls_total 0.0" in text


def test_others_are_answered_while_a_long_request_is_read(ledger: Any) -> None:
    made = OtlpReceiver(OtlpConfig(http=LOCAL, grpc=None), lambda: ledger.database)
    reading, go_on = threading.Event(), threading.Event()

    class Slow(Requests):
        def take(self, body: bytes, *, encoding: str = "", content_type: str = PROTOBUF) -> int:
            if body == b"long":
                reading.set()
                go_on.wait(10)
            return 0

    made._requests = Slow(made.intake)
    made.start()
    try:
        long = threading.Thread(target=post, args=(made, b"long"))
        long.start()
        assert reading.wait(5)

        assert post(made, b"")[0] == 200
    finally:
        go_on.set()
        long.join()
        made.stop()

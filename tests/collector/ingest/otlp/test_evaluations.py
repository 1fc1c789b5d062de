"""Evaluations over OTLP, log records or events of spans, are outcomes, marked with who said so."""

import gzip
import json
from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.ingest.events import OutcomeRow
from collector.ingest.otlp import evaluations
from collector.ingest.otlp.intake import Full, Intake, IntakeLimits
from collector.ingest.otlp.protobuf import Malformed
from collector.ingest.otlp.requests import JSON, PROTOBUF, Requests
from collector.ingest.otlp.table import LedgerSink

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
AT_NS = 1_790_000_000_000_000_000


def attribute(key: str, value: Any) -> dict[str, Any]:
    kind = "doubleValue" if isinstance(value, float) else "stringValue"
    return {"key": key, "value": {kind: value}}


def request(trace_id: str = TRACE, event: str = evaluations.EVENT, **said: Any) -> dict[str, Any]:
    named = {f"gen_ai.evaluation.{key.replace('__', '.')}": value for key, value in said.items()}
    attributes = [attribute(key, value) for key, value in named.items()]
    record = {"timeUnixNano": str(AT_NS), "eventName": event, "traceId": trace_id, "attributes": attributes}
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}


def protobuf(body: dict[str, Any]) -> bytes:
    made = ParseDict(body, ExportLogsServiceRequest())
    made.resource_logs[0].scope_logs[0].log_records[0].trace_id = bytes.fromhex(TRACE)
    return made.SerializeToString()


def rows(body: dict[str, Any]) -> list[OutcomeRow]:
    return evaluations.read(json.dumps(body).encode(), is_json=True, now_us=1)


def test_an_evaluation_is_an_outcome_of_its_trace_named_after_it() -> None:
    body = request(name="relevance", score__value=0.9, score__label="pass", explanation="to the point")

    (row,) = rows(body)

    assert (row.trace_id, row.success, row.score, row.source) == (TRACE, True, 0.9, "relevance")
    assert (row.note, row.reported_at_us) == ("to the point", AT_NS // 1000)
    assert evaluations.read(protobuf(body), is_json=False, now_us=1) == [row]


@pytest.mark.parametrize(
    ("said", "success"),
    [
        ({"score__label": "FAIL", "score__value": 0.9}, False),
        ({"score__value": 0.49}, False),
        ({"score__value": 0.5}, True),
        ({"score__label": "purple", "score__value": 1.0}, True),
    ],
)
def test_a_label_goes_before_a_score(said: dict[str, Any], success: bool) -> None:
    assert [row.success for row in rows(request(name="n", **said))] == [success]


def test_what_says_nothing_of_success_or_is_no_evaluation_is_passed_over() -> None:
    assert rows(request(name="n", score__label="purple")) == []
    assert rows(request(event="something.else", score__value=1.0)) == []
    assert rows(request(trace_id="", score__value=1.0)) == []


def test_requests_hand_evaluations_on_and_set_other_logs_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[OutcomeRow] = []

    class Sink:
        def accept(self, batches: Any) -> int:
            return 0

    intake = Intake(Sink())
    requests = Requests(intake, told=taken.extend)
    body = json.dumps(request(name="n", score__value=1.0)).encode()

    requests.take_logs(gzip.compress(body), encoding="gzip", content_type=JSON)
    requests.take_logs(json.dumps(request(event="other")).encode(), content_type=JSON)

    assert [row.source for row in taken] == ["n"]
    assert intake.counts.set_aside == {"logs": 1}


@pytest.mark.parametrize("data", [b"\xff\xff\xff gen_ai.evaluation.result", b"{gen_ai.evaluation.result"])
def test_what_is_no_request_is_refused(data: bytes) -> None:
    for is_json in (True, False):
        with pytest.raises(Malformed):
            evaluations.read(data, is_json=is_json, now_us=1)


def span_request(*spans: tuple[str, list[dict[str, Any]]], conversation: str = "") -> dict[str, Any]:
    attributes = [attribute("gen_ai.operation.name", "chat")]
    if conversation:
        attributes.append(attribute("gen_ai.conversation.id", conversation))
    made = [
        {
            "traceId": TRACE,
            "spanId": span_id,
            "name": "chat m",
            "startTimeUnixNano": str(AT_NS),
            "endTimeUnixNano": str(AT_NS + 10**9),
            "attributes": attributes,
            "events": events,
        }
        for span_id, events in spans
    ]
    return {"resourceSpans": [{"scopeSpans": [{"spans": made}]}]}


def event(kind: str = evaluations.EVENT, **said: Any) -> dict[str, Any]:
    named = {f"gen_ai.evaluation.{key.replace('__', '.')}": value for key, value in said.items()}
    attributes = [attribute(key, value) for key, value in named.items()]
    return {"timeUnixNano": str(AT_NS + 5_000), "name": kind, "attributes": attributes}


def span_protobuf(body: dict[str, Any]) -> bytes:
    made = ParseDict(body, ExportTraceServiceRequest())
    for span, given in zip(
        made.resource_spans[0].scope_spans[0].spans,
        body["resourceSpans"][0]["scopeSpans"][0]["spans"],
        strict=True,
    ):
        span.trace_id, span.span_id = bytes.fromhex(given["traceId"]), bytes.fromhex(given["spanId"])
    return made.SerializeToString()


EVALUATED = span_request(
    ("00000000000000a1", [event(name="relevance", score__value=0.2, explanation="beside the point")]),
    ("00000000000000a2", [event(name="gist", score__label="purple"), event("exception")]),
    conversation="talk-7",
)


@pytest.mark.parametrize("content_type", [JSON, PROTOBUF])
def test_an_evaluation_among_a_spans_events_is_an_outcome_told_once_the_span_is_stored(
    content_type: str, ledger: Any, wait_until: Any
) -> None:
    def tell(rows: Sequence[OutcomeRow]) -> None:
        assert ledger.rows("SELECT count(*) FROM spans_received") == [(2,)]
        ledger.books.tell(outcomes=rows)

    intake = Intake(LedgerSink(lambda: ledger.database), told=tell)
    requests = Requests(intake, told=tell)
    intake.start()
    body = json.dumps(EVALUATED).encode() if content_type == JSON else span_protobuf(EVALUATED)

    for _ in range(2):  # A sender that had no answer sends again.
        requests.take(body, content_type=content_type)
    wait_until(lambda: intake.waiting == 0, 30)
    intake.stop()

    assert ledger.rows(
        "SELECT conversation_id, trace_id, success, score, note, source, epoch_us(reported_at) FROM outcomes"
    ) == [("talk-7", TRACE, False, 0.2, "beside the point", "relevance", AT_NS // 1000 + 5)]


def test_an_evaluation_waits_with_its_span_for_a_ledger_that_is_not_open(wait_until: Any) -> None:
    told: list[OutcomeRow] = []
    tried = []

    class Sink:
        def accept(self, batches: Any) -> int:
            return len(batches)

    def tell(rows: Sequence[OutcomeRow]) -> None:
        tried.append(rows)
        if len(tried) == 1:
            raise Full
        told.extend(rows)

    intake = Intake(Sink(), IntakeLimits(retry_s=0.01), told=tell)
    intake.start()
    Requests(intake).take(json.dumps(EVALUATED).encode(), content_type=JSON)
    wait_until(lambda: intake.waiting == 0, 30)
    intake.stop()

    assert [row.source for row in told] == ["relevance"]
    assert len(tried) == 2

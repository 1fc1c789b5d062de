"""Evaluations that come as OTLP log records are outcomes, marked with who said so."""

import gzip
import json
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.ingest.events import OutcomeRow
from collector.ingest.otlp import evaluations
from collector.ingest.otlp.intake import Intake
from collector.ingest.otlp.protobuf import Malformed
from collector.ingest.otlp.requests import JSON, Requests

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

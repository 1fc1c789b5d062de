"""Outcomes from `gen_ai.evaluation.result` events: OTLP log records, or events of the span they speak of.

The conventions leave a score's scale open. A label such as ``pass`` or ``fail`` says how it ended; else a
score does, from a half up. What says neither, or not what it speaks of, is passed over. Log records with
them are few, so they are read with the generated code of the protocol, imported when the first one comes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from collector.ingest.events import OutcomeRow
from collector.ingest.otlp.normalise import CONVERSATION, Spans
from collector.ingest.otlp.protobuf import Malformed
from collector.ingest.otlp.vocabulary import EVALUATION as EVENT

if TYPE_CHECKING:
    from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

_MOST_CHARS: Final = 512
_GOOD: Final = frozenset({"pass", "passed", "success", "true", "yes", "correct", "good", "relevant"})
_BAD: Final = frozenset({"fail", "failed", "failure", "false", "no", "incorrect", "bad", "not_relevant"})
_HALF: Final = 0.5


def read(data: bytes, *, is_json: bool, now_us: int) -> list[OutcomeRow]:
    """The evaluations in an ``ExportLogsServiceRequest``.

    Raises:
        Malformed: it is none.
    """
    from google.protobuf import json_format
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

    # A request and the data of this name have the same fields.
    request = LogsData()
    try:
        if is_json:
            json_format.Parse(data, request, ignore_unknown_fields=True)
        else:
            request.ParseFromString(data)
    except (DecodeError, json_format.ParseError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"not log records: {str(error)[:200]}") from error
    return list(_outcomes(request, now_us, is_json=is_json))


def _outcomes(request: "LogsData", now_us: int, *, is_json: bool) -> Iterator[OutcomeRow]:
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                said = _plain(record.attributes)
                if EVENT not in (record.event_name, said.get("event.name")):
                    continue
                trace = record.trace_id
                # JSON has ids in hexadecimal, which the generated code takes for base64.
                trace_id = _hex_again(trace) if is_json else trace.hex()
                at_us = (record.time_unix_nano or record.observed_time_unix_nano) // 1000 or now_us
                row = outcome_of(said, trace_id, at_us)
                if row is not None:
                    yield row


def of_spans(spans: Spans, now_us: int) -> Iterator[tuple[Sequence[Any], OutcomeRow]]:
    """The outcomes that events of spans tell, each with the row of its span."""
    for row, at_ns, said in spans.evaluations:
        if not said.get("gen_ai.conversation.id"):
            said = {**said, "gen_ai.conversation.id": row[CONVERSATION]}
        outcome = outcome_of(said, row[0], at_ns // 1000 or now_us)
        if outcome is not None:
            yield row, outcome


def outcome_of(said: Mapping[str, Any], trace_id: str, at_us: int) -> OutcomeRow | None:
    """The outcome that an evaluation's attributes tell; None where they tell none."""
    score = said.get("gen_ai.evaluation.score.value")
    score = float(score) if isinstance(score, int | float) and not isinstance(score, bool) else None
    label = str(said.get("gen_ai.evaluation.score.label", "")).strip().lower()
    if label in _GOOD or label in _BAD:
        success = label in _GOOD
    elif score is not None:
        success = score >= _HALF
    else:
        return None
    conversation = str(said.get("gen_ai.conversation.id", ""))[:_MOST_CHARS]
    if not conversation and not trace_id:
        return None
    name = str(said.get("gen_ai.evaluation.name", ""))[:_MOST_CHARS]
    return OutcomeRow(
        reported_at_us=at_us,
        tenant="",
        task_id="",
        conversation_id=conversation,
        trace_id=trace_id,
        success=success,
        score=score,
        value_usd=None,
        note=str(said.get("gen_ai.evaluation.explanation", ""))[: 8 * _MOST_CHARS],
        source=name or "evaluation",
    )


def _plain(attributes: Iterable[Any]) -> dict[str, Any]:
    """Scalar attributes as Python knows them."""
    found: dict[str, Any] = {}
    for item in attributes:
        kind = item.value.WhichOneof("value")
        if kind in ("string_value", "bool_value", "int_value", "double_value"):
            found[item.key] = getattr(item.value, kind)
    return found


def _hex_again(trace: bytes) -> str:
    import base64

    text = base64.b64encode(trace).decode()
    return text.lower() if len(text) == 32 and set(text) <= set("0123456789abcdefABCDEF") else ""

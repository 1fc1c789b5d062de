"""OTLP's JSON encoding: ids are hex, 64-bit numbers are text, enumerations are numbers."""

from typing import Any, Final

import msgspec

from collector.ingest.otlp.normalise import NOTHING, Fact, Spans, fact_of, plan_of
from collector.ingest.otlp.protobuf import MOST_PARTS, MOST_SPANS, Malformed
from collector.ingest.otlp.vocabulary import EVALUATION

_MOST_DEEP: Final = 8


class _Struct(msgspec.Struct, gc=False, rename="camel"):
    """Unknown members are passed over, as the encoding demands."""


class _Value(_Struct):
    string_value: str | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    bool_value: bool | None = None
    array_value: "_Array | None" = None


class _Array(_Struct):
    values: list[_Value] = msgspec.field(default_factory=list)


class _KeyValue(_Struct):
    key: str = ""
    value: _Value | None = None


class _Event(_Struct):
    time_unix_nano: int | str = 0
    name: str = ""
    attributes: list[_KeyValue] = msgspec.field(default_factory=list)


class _Status(_Struct):
    code: int | str = 0


class _Span(_Struct):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    name: str = ""
    kind: int | str = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[_KeyValue] = msgspec.field(default_factory=list)
    events: list[_Event] = msgspec.field(default_factory=list)
    status: _Status | None = None


class _Scope(_Struct):
    name: str = ""


class _ScopeSpans(_Struct):
    scope: _Scope | None = None
    spans: list[_Span] = msgspec.field(default_factory=list)


class _Resource(_Struct):
    attributes: list[_KeyValue] = msgspec.field(default_factory=list)


class _ResourceSpans(_Struct):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] = msgspec.field(default_factory=list)


class _Request(_Struct):
    resource_spans: list[_ResourceSpans] = msgspec.field(default_factory=list)


_decode: Final = msgspec.json.Decoder(_Request, strict=False).decode
_KINDS: Final = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_CODES: Final = {"OK": 1, "ERROR": 2}


def read(data: bytes, spans: Spans) -> None:
    """Add the spans of an ``ExportTraceServiceRequest`` in JSON to ``spans``.

    Raises:
        Malformed: it is none.
    """
    # Whatever becomes an object begins with a brace, and a text may have some more.
    if data.count(b"{") > MOST_PARTS:
        raise Malformed(f"it has more than {MOST_PARTS} parts; send them in several requests")
    taken = 0
    try:
        request = _decode(data)
        for group in request.resource_spans:
            spans.resource(_facts(group.resource.attributes) if group.resource else ())
            for scoped in group.scope_spans:
                spans.scope(scoped.scope.name if scoped.scope else "")
                taken += len(scoped.spans)
                if taken > MOST_SPANS:
                    raise Malformed(f"it has more than {MOST_SPANS} spans; send them in several requests")
                for span in scoped.spans:
                    _add(span, spans)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Malformed(f"not an ExportTraceServiceRequest: {error}") from error


def _add(span: _Span, spans: Spans) -> None:
    events, evaluations = [], []
    for event in span.events:
        if event.name == EVALUATION:
            said = {item.key: _plain(item.value, 0) for item in event.attributes if item.value is not None}
            evaluations.append((_whole(event.time_unix_nano), said))
            continue
        error = ""
        if event.name == "exception":
            error = next(
                (str(value) for _, key, value in _facts(event.attributes) if key == "exception.type"), ""
            )
        events.append((event.name, _whole(event.time_unix_nano), error))
    spans.add(
        _id(span.trace_id),
        _id(span.span_id),
        _id(span.parent_span_id),
        span.name,
        _enumerated(span.kind, _KINDS),
        _whole(span.start_time_unix_nano),
        _whole(span.end_time_unix_nano),
        _enumerated(span.status.code, _CODES) if span.status else 0,
        _facts(span.attributes),
        events,
        evaluations,
    )


def _facts(attributes: list[_KeyValue]) -> list[Fact]:
    facts = []
    for attribute in attributes:
        plan = plan_of(attribute.key)
        if plan is not None and attribute.value is not None:
            fact = fact_of(plan, _plain(attribute.value, 0))
            if fact is not NOTHING:
                facts.append(fact)
    return facts


def _plain(value: _Value, depth: int) -> Any:
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return _whole(value.int_value)
    if value.double_value is not None:
        return float(value.double_value)
    if value.array_value is not None and depth < _MOST_DEEP:
        return [_plain(item, depth + 1) for item in value.array_value.values[:64]]
    return value.bool_value


def _whole(value: int | str) -> int:
    number = int(value) if value else 0
    if not -(1 << 63) <= number < 1 << 64:
        raise ValueError("a number has more than 64 bits")
    return number


def _enumerated(value: int | str, names: dict[str, int]) -> int:
    if isinstance(value, int):
        return value
    return int(value) if value.isdigit() else names.get(value.rpartition("_")[2], 0)


def _id(text: str) -> bytes:
    """``text`` as bytes; none for one that is not hex, whose span is then rejected alone."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""

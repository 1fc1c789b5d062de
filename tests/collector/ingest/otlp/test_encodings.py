"""Both encodings of OTLP, held against the generated classes, and against bytes that are neither."""

import json
import random
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.ingest.otlp import jsonform
from collector.ingest.otlp.normalise import Spans
from collector.ingest.otlp.protobuf import Malformed, SpanDecoder

NOW_US = 1_790_000_000_000_000

VALUES = (
    st.text(max_size=40)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.lists(st.text(max_size=10), max_size=4)
)
NAMES = st.sampled_from(
    [
        *("gen_ai.operation.name", "gen_ai.request.model", "gen_ai.usage.input_tokens", "llm.is_streaming"),
        *("gen_ai.usage.output_tokens", "gen_ai.response.finish_reasons", "error.type", "gen_ai.usage.cost"),
        *("gen_ai.request.max_tokens", "traceloop.entity.name", "unknown.name", "gen_ai.input.messages"),
    ]
)
SPANS = st.fixed_dictionaries(
    {
        "trace_id": st.binary(min_size=16, max_size=16) | st.binary(max_size=17),
        "span_id": st.binary(min_size=8, max_size=8) | st.binary(max_size=9),
        "parent_span_id": st.binary(max_size=8),
        "name": st.text(max_size=300),
        "kind": st.integers(0, 5),
        "start_time_unix_nano": st.integers(0, 2**64 - 1),
        "end_time_unix_nano": st.integers(0, 2**64 - 1),
    }
)


def fill(value: Any, given: object) -> None:
    match given:
        case bool():
            value.bool_value = given
        case int():
            value.int_value = given
        case float():
            value.double_value = given
        case str():
            value.string_value = given
        case list():
            for item in given:
                fill(value.array_value.values.add(), item)


@st.composite
def requests(draw: st.DrawFn) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        group = request.resource_spans.add()
        fill(group.resource.attributes.add(key="service.name").value, draw(st.text(max_size=10)))
        scoped = group.scope_spans.add()
        scoped.scope.name = draw(st.text(max_size=10))
        for fields in draw(st.lists(SPANS, max_size=3)):
            span = scoped.spans.add(**fields, flags=0x101, trace_state="a=b")
            span.status.code = draw(st.integers(0, 2))
            for key, said in draw(st.dictionaries(NAMES, VALUES, max_size=6)).items():
                fill(span.attributes.add(key=key).value, said)
            for name in draw(st.lists(st.sampled_from(["exception", "chunk", "other"]), max_size=2)):
                event = span.events.add(name=name, time_unix_nano=fields["start_time_unix_nano"])
                fill(event.attributes.add(key="exception.type").value, draw(st.text(max_size=8)))
    return request


def read(body: bytes) -> Spans:
    spans = Spans(NOW_US)
    SpanDecoder().read(body, spans)
    return spans


def as_json(request: ExportTraceServiceRequest) -> bytes:
    """OTLP's JSON: protobuf's own, with ids in hex and enumerations as numbers."""
    made = json_format.MessageToDict(request, use_integers_for_enums=True)
    for group, told in zip(request.resource_spans, made.get("resourceSpans", []), strict=True):
        for scoped, inner in zip(group.scope_spans, told.get("scopeSpans", []), strict=True):
            for span, about in zip(scoped.spans, inner.get("spans", []), strict=True):
                about |= {
                    "traceId": span.trace_id.hex(),
                    "spanId": span.span_id.hex(),
                    "parentSpanId": span.parent_span_id.hex(),
                }
    return json.dumps(made).encode()


@settings(max_examples=150, deadline=None)
@given(requests())
def test_both_encodings_of_a_request_give_the_same_rows(request: ExportTraceServiceRequest) -> None:
    spans = Spans(NOW_US)
    jsonform.read(as_json(request), spans)
    binary = read(request.SerializeToString())

    assert spans.rows == binary.rows
    assert spans.rejected == binary.rejected


@settings(max_examples=100, deadline=None)
@given(requests())
def test_what_is_read_is_what_the_generated_classes_hold(request: ExportTraceServiceRequest) -> None:
    wanted = [
        (span.trace_id.hex(), span.span_id.hex(), span.name[:256], group.scope_spans[0].scope.name)
        for group in request.resource_spans
        for span in group.scope_spans[0].spans
        if len(span.trace_id) == 16 and any(span.trace_id) and len(span.span_id) == 8 and any(span.span_id)
    ]

    assert [(row[0], row[1], row[3], row[10]) for row in read(request.SerializeToString()).rows] == wanted


def test_a_decoder_that_remembers_reads_the_same_again(recordings: dict[str, bytes]) -> None:
    decoder = SpanDecoder()
    for body in [*recordings.values(), *recordings.values()]:
        spans = Spans(NOW_US)
        decoder.read(body, spans)
        assert spans.rows == read(body).rows


def test_every_recording_says_the_same_in_json(recordings: dict[str, bytes]) -> None:
    for body in recordings.values():
        request = ExportTraceServiceRequest.FromString(body)
        spans = Spans(NOW_US)
        jsonform.read(as_json(request), spans)
        assert spans.rows == read(body).rows


def test_a_request_that_is_cut_anywhere_is_refused_or_is_one(recordings: dict[str, bytes]) -> None:
    body = recordings["genai"]
    for end in range(len(body)):
        part = body[:end]
        try:
            got = len(read(part).rows)
        except Malformed:
            continue
        whole = ExportTraceServiceRequest.FromString(part)
        assert got == sum(len(s.spans) for r in whole.resource_spans for s in r.scope_spans)


def test_damaged_bytes_end_in_a_refusal_or_in_rows_and_in_nothing_else(recordings: dict[str, bytes]) -> None:
    noise = random.Random(7)
    for body in recordings.values():
        for _ in range(300):
            damaged = bytearray(body)
            for _ in range(noise.randint(1, 8)):
                damaged[noise.randrange(len(damaged))] = noise.randrange(256)
            with suppress(Malformed):
                read(bytes(damaged))


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"{",
        b'{"resourceSpans": 3}',
        b"\xff",
        b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":"x"}]}]}]}',
    ],
)
def test_json_that_is_no_request_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        jsonform.read(body, Spans(NOW_US))


def test_an_id_that_is_not_hex_rejects_its_span_alone() -> None:
    spans = Spans(NOW_US)
    good = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "name": "x"}
    jsonform.read(
        json.dumps(
            {"resourceSpans": [{"scopeSpans": [{"spans": [good, good | {"traceId": "zz"}]}]}]}
        ).encode(),
        spans,
    )

    assert (len(spans.rows), spans.rejected) == (1, 1)


def test_a_value_that_nests_without_end_is_passed_over() -> None:
    inner = b"\x0a\x01x"
    for _ in range(2000):
        inner = (
            b"\x2a"
            + _varint(len(inner) + 1 + len(_varint(len(inner))))
            + b"\x0a"
            + _varint(len(inner))
            + inner
        )
    key = b"gen_ai.request.model"
    pair = b"\x0a" + bytes([len(key)]) + key + b"\x12" + _varint(len(inner)) + inner
    span = b"\x0a\x10" + b"\x01" * 16 + b"\x12\x08" + b"\x02" * 8 + b"\x4a" + _varint(len(pair)) + pair
    scoped = b"\x12" + _varint(len(span)) + span
    group = b"\x12" + _varint(len(scoped)) + scoped

    (row,) = read(b"\x0a" + _varint(len(group)) + group).rows
    assert row[0] == "01" * 16


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*digits, value])


def member(number: int, content: bytes) -> bytes:
    size = len(content)
    digits = bytearray()
    while size >= 0x80:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *digits, size]) + content


MANY = 1_100_000
MANY_SPANS = 110_000


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\x0a\x00" * MANY, id="resources"),
        pytest.param(member(1, b"\x12\x00" * MANY), id="scopes"),
        pytest.param(member(1, member(2, b"\x12\x00" * MANY_SPANS)), id="spans"),
        pytest.param(member(1, member(2, member(2, b"\x4a\x00" * MANY))), id="attributes"),
        pytest.param(member(1, member(2, member(2, b"\x5a\x00" * MANY))), id="events"),
    ],
)
def test_a_request_of_very_many_empty_parts_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed, match="it has more than"):
        SpanDecoder().read(body, Spans(NOW_US))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"resourceSpans":[' + b"{}," * MANY + b"{}]}", id="resources"),
        pytest.param(
            b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * MANY_SPANS + b"{}]}]}]}", id="spans"
        ),
    ],
)
def test_a_request_of_very_many_empty_parts_in_json_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed, match="it has more than"):
        jsonform.read(body, Spans(NOW_US))


def test_of_a_list_the_first_items_are_read_however_long_it_is() -> None:
    def request(texts: list[str]) -> bytes:
        made = ExportTraceServiceRequest()
        span = made.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
        attribute = span.attributes.add(key="gen_ai.response.finish_reasons")
        fill(attribute.value, texts)
        return made.SerializeToString()

    assert read(request(["stop"] * 200)).rows == read(request(["stop"] * 64)).rows

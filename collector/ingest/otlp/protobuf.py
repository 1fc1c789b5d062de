"""OTLP's protobuf encoding of spans, read straight into what is wanted of them.

The generated classes parse a span in a microsecond and then take eighteen to be walked, for each
attribute becomes objects. Here attributes are remembered whole, for they repeat from span to
span, and the value of one that nobody wants is never decoded.

Field numbers: `opentelemetry/proto/trace/v1/trace.proto`, `common/v1/common.proto`. Groups and
unknown fields are passed over, as the encoding demands.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from struct import Struct
from typing import Any, Final

from collector.ingest.otlp.normalise import NOTHING, Fact, Plan, Spans, fact_of, plan_of
from collector.ingest.otlp.vocabulary import EVALUATION

_u64: Final = Struct("<Q").unpack_from
_double: Final = Struct("<d").unpack_from
_MOST_DEEP: Final = 8
_MOST_REMEMBERED: Final = 8192
_LONGEST_REMEMBERED: Final = 96
_MOST_TEXT: Final = 4096
"""Bytes of a text that are read; no column holds more."""
_MOST_ITEMS: Final = 64
"""Of a list that are read."""
MOST_SPANS: Final = 100_000
"""In one request: exporters send some hundreds at once."""
MOST_PARTS: Final = 1_000_000
"""Resources, scopes, spans, events and attributes that one request may have together. A part can be two
bytes long, and a body that says the same two over and over is packed to a thousandth."""


class Malformed(ValueError):
    """The bytes are not what they should be."""


class SpanDecoder:
    """Reads requests, and remembers attributes from one to the next. For one thread at a time."""

    def __init__(self) -> None:
        self._remembered: dict[bytes, Fact] = {}
        self._plans: dict[bytes, Plan | None] = {}
        self._parts_left = self._spans_left = 0

    def read(self, data: bytes, spans: Spans) -> None:
        """Add the spans of an ``ExportTraceServiceRequest`` to ``spans``.

        Raises:
            Malformed: it is none. What was read before stays in ``spans``.
        """
        self._parts_left, self._spans_left = MOST_PARTS, MOST_SPANS
        try:
            for number, start, end in self._parts(data, 0, len(data)):
                if number == 1:
                    self._resource_spans(data, start, end, spans)
        except (IndexError, UnicodeDecodeError, Overrun) as error:
            raise Malformed(f"not an ExportTraceServiceRequest: {error}") from error

    def _resource_spans(self, data: bytes, start: int, end: int, spans: Spans) -> None:
        spans.resource(())
        for number, at, until in self._parts(data, start, end):
            if number == 1:
                spans.resource(self._facts(data, at, until, 1))
        for number, at, until in _members(data, start, end):
            if number == 2:
                self._scope_spans(data, at, until, spans)

    def _scope_spans(self, data: bytes, start: int, end: int, spans: Spans) -> None:
        scope = ""
        for number, at, until in self._parts(data, start, end):
            if number == 1:
                for inner, first, last in self._parts(data, at, until):
                    if inner == 1:
                        scope = data[first:last].decode()
        spans.scope(scope)
        for number, at, until in _members(data, start, end):
            if number == 2:
                self._span(data, at, until, spans)

    def _parts(self, data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The members of a message, as long as the request has not too many."""
        for member in _members(data, start, end):
            self._count_part()
            yield member

    def _count_part(self) -> None:
        self._parts_left -= 1
        if self._parts_left < 0:
            raise Overrun(f"it has more than {MOST_PARTS} parts")

    def _span(self, data: bytes, position: int, end: int, spans: Spans) -> None:
        trace_id = span_id = parent_id = b""
        name = ""
        kind = status = started = ended = 0
        facts: list[Fact] = []
        events: list[tuple[str, int, str]] = []
        evaluations: list[tuple[int, dict[str, Any]]] = []
        remembered = self._remembered.get
        self._spans_left -= 1
        if self._spans_left < 0:
            raise Overrun(f"it has more than {MOST_SPANS} spans; send them in several requests")
        while position < end:
            tag = data[position]
            position += 1
            if tag & 7 == 2 and tag < 0x80:
                size = data[position]
                position += 1
                if size > 0x7F:
                    size, position = _varint(data, position - 1)
                until = position + size
                if until > end:
                    raise Overrun
                if tag == 0x4A:
                    raw = data[position:until]
                    fact = remembered(raw)
                    if fact is None:
                        fact = self._fact(raw)
                    if fact is not NOTHING:
                        facts.append(fact)
                elif tag == 0x0A:
                    trace_id = data[position:until]
                elif tag == 0x12:
                    span_id = data[position:until]
                elif tag == 0x22:
                    parent_id = data[position:until]
                elif tag == 0x2A:
                    name = data[position:until].decode()
                elif tag == 0x5A:
                    event = self._event(data, position, until)
                    if event[0] == EVALUATION:
                        evaluations.append((event[1], self._attributes(data, position, until)))
                    else:
                        events.append(event)
                elif tag == 0x7A:
                    status = _status(data, position, until)
                position = until
            elif tag == 0x39 or tag == 0x41:
                if position + 8 > end:
                    raise Overrun
                if tag == 0x39:
                    started = _u64(data, position)[0]
                else:
                    ended = _u64(data, position)[0]
                position += 8
            elif tag == 0x30:
                kind, position = _varint(data, position)
            else:
                position = _skip(data, position - 1, end)
        if position != end:
            raise Overrun
        spans.add(
            trace_id, span_id, parent_id, name, kind, started, ended, status, facts, events, evaluations
        )

    def _fact(self, raw: bytes) -> Fact:
        """What a KeyValue says."""
        self._count_part()
        key_end = raw[1] + 2 if len(raw) > 1 else 0
        if raw[:1] == b"\x0a" and raw[1] < 0x80 and raw[key_end : key_end + 1] == b"\x12":
            key = raw[2:key_end]
            size, first = _varint(raw, key_end + 1)
            last = first + size
            if last != len(raw):
                return self._any_fact(raw)
        else:
            return self._any_fact(raw)
        try:
            plan = self._plans[key]
        except KeyError:
            plan = self._plan(key)
        if plan is None:
            fact = NOTHING
        elif size and raw[first] == 0x18:
            number, end = _varint(raw, first + 1)
            if end != last:
                return self._any_fact(raw)
            fact = fact_of(plan, number - (1 << 64) if number >> 63 else number)
        else:
            fact = fact_of(plan, _any_value(raw, first, last, 0))
        if (plan is None or plan.repeats) and len(raw) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[raw] = fact
        return fact

    def _any_fact(self, raw: bytes) -> Fact:
        """What a KeyValue says whose fields stand in an unusual order, or are unusual ones."""
        key, first, last = b"", 0, 0
        for number, at, until in self._parts(raw, 0, len(raw)):
            if number == 1:
                key = raw[at:until]
            elif number == 2:
                first, last = at, until
        plan = self._plan(key)
        return NOTHING if plan is None else fact_of(plan, _any_value(raw, first, last, 0))

    def _plan(self, key: bytes) -> Plan | None:
        plan = plan_of(key.decode())
        if len(self._plans) >= _MOST_REMEMBERED:
            self._plans.clear()
        self._plans[key] = plan
        return plan

    def _facts(self, data: bytes, start: int, end: int, field: int) -> list[Fact]:
        members = _members(data, start, end)
        return [self._fact(data[at:until]) for number, at, until in members if number == field]

    def _event(self, data: bytes, start: int, end: int) -> tuple[str, int, str]:
        """A span event: its name, its time, and the type of the exception if it is one."""
        self._count_part()
        name, error, at_ns = "", "", 0
        if end - start > 9 and data[start] == 0x09:
            at_ns = _u64(data, start + 1)[0]
        for number, at, until in self._parts(data, start, end):
            if number == 2:
                name = data[at:until].decode()
        if name == "exception":
            facts = self._facts(data, start, end, 3)
            error = next((str(value) for _, key, value in facts if key == "exception.type"), "")
        return name, at_ns, error

    def _attributes(self, data: bytes, start: int, end: int) -> dict[str, Any]:
        """All attributes of a span event, whatever they are called."""
        found: dict[str, Any] = {}
        for number, at, until in self._parts(data, start, end):
            if number == 3:
                key, value = "", None
                for inner, first, last in self._parts(data, at, until):
                    if inner == 1:
                        key = data[first:last].decode()
                    elif inner == 2:
                        value = _any_value(data, first, last, 0)
                found[key] = value
        return found


class Overrun(ValueError):
    """A field is longer than the message that it is in."""


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
        if shift > 63:
            raise Overrun("a number has more than ten digits")


def _members(data: bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """The length-delimited fields of a message: number, where the content starts and where it ends."""
    while position < end:
        tag = data[position]
        if tag & 7 == 2 and tag < 0x80:
            size, position = _varint(data, position + 1)
            until = position + size
            if until > end:
                raise Overrun("a field is longer than its message")
            yield tag >> 3, position, until
            position = until
        else:
            position = _skip(data, position, end)
    if position != end:
        raise Overrun("a field is longer than its message")


def _skip(data: bytes, position: int, end: int) -> int:
    """Past the field that begins at ``position``."""
    tag, position = _varint(data, position)
    match tag & 7:
        case 0:
            _, position = _varint(data, position)
        case 1:
            position += 8
        case 2:
            size, position = _varint(data, position)
            position += size
        case 5:
            position += 4
        case _:
            raise Overrun(f"wire type {tag & 7} is not used")
    if position > end or tag >> 3 == 0:
        raise Overrun("a field is longer than its message")
    return position


def _status(data: bytes, position: int, end: int) -> int:
    code = 0
    while position < end:
        if data[position] == 0x18:
            code, position = _varint(data, position + 1)
        else:
            position = _skip(data, position, end)
    return code


def _any_value(data: bytes, position: int, end: int, depth: int) -> Any:
    """An AnyValue; None for one of a kind or a depth that no column has a use for."""
    value: Any = None
    while position < end:
        tag = data[position]
        if tag == 0x0A or tag == 0x2A:
            size, position = _varint(data, position + 1)
            until = position + size
            if until > end:
                raise Overrun("a value is longer than its attribute")
            if tag == 0x0A:
                value = data[position : min(until, position + _MOST_TEXT)].decode("utf-8", "replace")
            elif depth < _MOST_DEEP:
                items = islice(_members(data, position, until), _MOST_ITEMS)
                value = [
                    _any_value(data, first, last, depth + 1) for number, first, last in items if number == 1
                ]
            position = until
        elif tag == 0x10:
            number, position = _varint(data, position + 1)
            value = bool(number)
        elif tag == 0x18:
            number, position = _varint(data, position + 1)
            value = number - (1 << 64) if number >> 63 else number
        elif tag == 0x21:
            if position + 9 > end:
                raise Overrun("a value is longer than its attribute")
            value = _double(data, position + 1)[0]
            position += 9
        else:
            position = _skip(data, position, end)
    return value


Reader = Callable[[bytes, Spans], None]
"""How a body is read, whatever its encoding."""

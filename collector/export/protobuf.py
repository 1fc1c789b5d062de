"""OTLP's protobuf encoding of spans, written straight from the facts.

The SDK's own encoding makes a message object for every attribute: some 80 µs a span,
three spans a call. Here most attributes are remembered whole, for names repeat from
call to call, and the rest is a prefix and a number. The bytes are the same; a test
holds them against the SDK's.

Field numbers: `opentelemetry/proto/trace/v1/trace.proto`, `common/v1/common.proto`.
"""

from collections.abc import Iterable, Mapping, Sequence
from struct import Struct

from collector.export.span_data import SpanFacts

_MOST_REMEMBERED = 8192
_LONGEST_REMEMBERED = 256

_double = Struct("<d").pack
_times = Struct("<BQBQ").pack
_START, _END = 7 << 3 | 1, 8 << 3 | 1
_UNSET, _FAILED = b"\x7a\x00", b"\x7a\x02\x18\x02"
_LOCAL_PARENT, _REMOTE_PARENT = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
"""Span flags: whether the parent is another process's is known, and whether it is."""

_SINGLE_USE = frozenset(
    {
        *("bursar.call.id", "gen_ai.response.id", "gen_ai.request.previous_response.id"),
        *("bursar.cost.effective_usd", "bursar.cost.avoided_usd"),
        *("gen_ai.conversation.id", "bursar.conversation.id", "bursar.task.id"),
    }
)
"""Attributes whose values hardly repeat: remembering them would only push out others."""


def varint(value: int) -> bytes:
    """A number in base 128, lowest digits first; negative ones as 64-bit two's complement."""
    if 0 <= value < 0x80:
        return _SMALL[value]
    value &= 0xFFFF_FFFF_FFFF_FFFF
    digits = bytearray()
    while value >= 0x80:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


_SMALL = [bytes((value,)) for value in range(0x80)]


def field(number: int, content: bytes) -> bytes:
    """A field, of number 15 or less, that holds bytes, text or a message."""
    return _SMALL[number << 3 | 2] + varint(len(content)) + content


def _any_value(value: object) -> bytes:
    """An AnyValue, of any depth."""
    match value:
        case None:
            return b""
        case bool():
            return b"\x10\x01" if value else b"\x10\x00"
        case str():
            return field(1, value.encode("utf-8", "replace"))
        case int():
            return b"\x18" + varint(value)
        case float():
            return b"\x21" + _double(value)
        case Mapping():
            return field(6, b"".join([field(1, _key_value(str(k), v)) for k, v in value.items()]))
        case Sequence():
            return field(5, b"".join([field(1, _any_value(item)) for item in value]))
        case _:
            return field(1, str(value).encode("utf-8", "replace"))


def _key_value(key: str, value: object) -> bytes:
    return field(1, key.encode("utf-8", "replace")) + field(2, _any_value(value))


def attribute_list(number: int, attributes: Mapping[str, object]) -> bytes:
    """Attributes as the repeated field ``number`` of some message."""
    return b"".join([field(number, _key_value(key, value)) for key, value in attributes.items()])


class SpanEncoder:
    """Encodes spans of one resource and scope. For one thread at a time."""

    def __init__(
        self,
        resource: Mapping[str, object],
        *,
        scope: str,
        version: str,
        schema_url: str,
        resource_schema: str = "",
    ) -> None:
        self._resource = field(1, attribute_list(1, resource))
        self._resource_end = field(3, resource_schema.encode()) if resource_schema else b""
        self._scope = field(1, field(1, scope.encode()) + field(2, version.encode()))
        self._scope_end = field(3, schema_url.encode())
        self._remembered: dict[tuple[str, str], bytes] = {}
        """Text attributes whole."""
        self._heads: dict[tuple[str, int], bytes] = {}
        """Beginnings of attributes: by an integer's digits, 0 for a double, minus a text's length."""

    def spans(self, facts: Iterable[SpanFacts]) -> bytes:
        """Spans as members of a request; such pieces may be joined."""
        pieces: list[bytes] = []
        for span in facts:
            body = self._span(span)
            pieces += (b"\x12", varint(len(body)), body)
        return b"".join(pieces)

    def request(self, pieces: Iterable[bytes]) -> bytes:
        """An ``ExportTraceServiceRequest`` of pieces made by :meth:`spans`."""
        scope_spans = self._scope + b"".join(pieces) + self._scope_end
        return field(1, self._resource + field(2, scope_spans) + self._resource_end)

    def _span(self, span: SpanFacts) -> bytes:
        name = span.name.encode("utf-8", "replace")
        parts = [b"\x0a\x10", bytes.fromhex(span.trace_id), b"\x12\x08", bytes.fromhex(span.span_id)]
        if span.parent_span_id:
            parts += (b"\x22\x08", bytes.fromhex(span.parent_span_id))
        parts += (b"\x2a", varint(len(name)), name, b"\x30", varint(span.kind))
        parts.append(_times(_START, span.start_ns, _END, span.end_ns))
        remembered = self._remembered.get
        head_of = self._heads.get
        for key, value in span.attributes.items():
            kind = type(value)
            if kind is str:
                found = remembered((key, value))  # type: ignore[arg-type]
                if found is not None:
                    parts.append(found)
                elif key in _SINGLE_USE:
                    text = value.encode("utf-8", "replace")  # type: ignore[union-attr]
                    parts += (head_of((key, -len(text))) or self._text_head(key, len(text)), text)
                else:
                    parts.append(self._remember(key, value))  # type: ignore[arg-type]
            elif kind is int:
                digits = varint(value)  # type: ignore[arg-type]
                parts += (head_of((key, len(digits))) or self._int_head(key, len(digits)), digits)
            elif kind is float:
                parts += (head_of((key, 0)) or self._double_head(key), _double(value))
            else:
                parts.append(field(9, _key_value(key, value)))
        parts.append(_FAILED if span.error_type else _UNSET)
        parts.append(_REMOTE_PARENT if span.parent_is_remote else _LOCAL_PARENT)
        return b"".join(parts)

    def _remember(self, key: str, value: str) -> bytes:
        encoded = field(9, _key_value(key, value))
        if len(value) <= _LONGEST_REMEMBERED:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[key, value] = encoded
        return encoded

    # An attribute up to its value, made once for each length of the value: any value of that
    # length gives the same bytes, and is cut off again.

    def _int_head(self, key: str, digits: int) -> bytes:
        sample = 1 if digits == 1 else 1 << 7 * (digits - 1)
        return self._head(key, digits, field(9, _key_value(key, sample))[:-digits])

    def _text_head(self, key: str, length: int) -> bytes:
        encoded = field(9, _key_value(key, "x" * length))
        return self._head(key, -length, encoded[: len(encoded) - length])

    def _double_head(self, key: str) -> bytes:
        return self._head(key, 0, field(9, _key_value(key, 1.0))[:-8])

    def _head(self, key: str, mark: int, head: bytes) -> bytes:
        if len(self._heads) >= _MOST_REMEMBERED:
            self._heads.clear()
        self._heads[key, mark] = head
        return head

"""Records as the journal has them packed, turned into columns without becoming objects in between.

A record has a hundred fields; to make an object of each only to put it into a column is most of what
booking it in Python costs. Where the extension in C is built it fills Arrow's buffers from the packed
bytes, if all records of a batch are of the ordinary kind; `collector.store.schema` does the others.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from operator import itemgetter
from types import NoneType
from typing import Any, Final, NamedTuple, get_args, get_type_hints, overload

import msgspec
import pyarrow as pa

from collector.domain.record import AttemptRecord, CallRecord
from collector.frames import PackedFrames
from collector.journal import FrameKind
from collector.native import native
from collector.store.schema import ATTEMPT_LAYOUT, ATTEMPTS, CALL_LAYOUT, CALLS, Column, Kind

LARGEST: Final = 32 << 10
"""A record longer than this is looked at field by field, in Python."""


class Facts(NamedTuple):
    """What the process wants to know of every call beside its columns, by the record's fields."""

    call_id: str
    started_at_us: int
    duration_us: int
    tenant: str
    conversation_id: str
    outcome: str
    effective_cost_pico: int
    reasoning_output_tokens: int
    message_hashes: Sequence[int]
    tool_call_hashes: Sequence[int]
    key_id: str
    user_id: str
    request_model: str
    tools_hash: int
    system_hash: int
    attempts: int
    """How many."""


def facts_of(record: CallRecord) -> Facts:
    """Those of one record."""
    return Facts._make((*_as_they_are(record), len(record.attempts)))


_FACTS: Final = tuple(map(CallRecord._fields.index, Facts._fields))
_as_they_are: Final[Callable[[CallRecord], tuple[Any, ...]]] = itemgetter(*_FACTS[:-1])


class PackedRecords(Sequence[CallRecord]):
    """Records that become objects when somebody looks at one; their facts are there already."""

    def __init__(self, packed: "list[bytes] | PackedFrames", facts: list[Facts]) -> None:
        self.facts = facts
        self._packed = packed

    @cached_property
    def _records(self) -> list[CallRecord]:
        decode = msgspec.msgpack.Decoder(CallRecord).decode
        if isinstance(self._packed, PackedFrames):
            return [decode(frame.payload) for frame in self._packed if frame.kind == FrameKind.RECORD]
        return [decode(payload) for payload in self._packed]

    def __len__(self) -> int:
        return len(self.facts)

    @overload
    def __getitem__(self, place: int) -> CallRecord: ...
    @overload
    def __getitem__(self, place: slice) -> list[CallRecord]: ...
    def __getitem__(self, place: int | slice) -> CallRecord | list[CallRecord]:
        return self._records[place]

    def __iter__(self) -> Iterator[CallRecord]:
        return iter(self._records)


class Columns(NamedTuple):
    """Records as rows of two tables."""

    records: PackedRecords
    oldest_us: int
    latest_us: int
    """When the first and the last of them started."""
    calls: pa.RecordBatch
    attempts: pa.RecordBatch | None


def columns_of(packed: "list[bytes] | PackedFrames") -> Columns | None:
    """The records in ``packed``; None where Python has to look at them, or there is nothing in C.

    They are exactly the rows that `schema.staged_calls` and `staged_attempts` make of the same records.
    """
    if native is None or not packed:
        return None
    where = (packed.data, packed.places) if isinstance(packed, PackedFrames) else packed
    read = native.columns(where, _CALL_PLAN, _ATTEMPT_PLAN, _FACTS, LARGEST)
    if read is None:
        return None
    facts, calls, counts, attempts, owners, many = read
    rows = len(facts)
    if not rows:
        return None
    try:
        arrays = [_array(column.kind, calls[place], rows) for place, column in _CALL_PLACES]
        arrays.append(_array(Kind.COUNT, counts, rows))
        tried = None
        if many:
            parts = [_array(Kind.TEXT, owners, many)]
            parts += [
                _array(column.kind, part, many) for column, part in zip(ATTEMPTS, attempts, strict=True)
            ]
            tried = pa.RecordBatch.from_arrays(parts, schema=ATTEMPT_LAYOUT)
    except (msgspec.MsgspecError, pa.ArrowException, TypeError, ValueError):
        return None  # Attributes that cannot be written as JSON.
    records = PackedRecords(packed, [_new(Facts, told) for told in facts])
    starts = [told.started_at_us for told in records.facts]
    booked = pa.RecordBatch.from_arrays(arrays, schema=CALL_LAYOUT)
    return Columns(records, min(starts), max(starts), booked, tried)


# ---- from buffers to arrays ---------------------------------------------------------------

_CODES: Final = {
    Kind.TEXT: "t",
    Kind.COUNT: "i",
    Kind.STATUS: "s",
    Kind.FLAG: "f",
    Kind.INSTANT: "i",
    Kind.THOUSANDTHS: "i",
    Kind.PICO: "p",
    Kind.TAGS: "g",
    Kind.WORDS: "w",
    Kind.HASHES: "h",
    Kind.JSON: "j",
}
"""How ``columns.c`` calls a kind."""
_OTHERS: Final = {"content": "x", "attempts": "a"}


def _plan(record: type, columns: Sequence[Column]) -> bytes:
    kinds = {column.field: column.kind for column in columns}
    codes = []
    for name, of_type in get_type_hints(record).items():
        code = _OTHERS[name] if name in _OTHERS else _CODES[kinds[name]]
        may_lack = code not in "xa" and NoneType in get_args(of_type)
        codes.append(code.upper() if may_lack else code)
    return "".join(codes).encode()


_CALL_PLAN: Final = _plan(CallRecord, CALLS)
_ATTEMPT_PLAN: Final = _plan(AttemptRecord, ATTEMPTS)
_CALL_PLACES: Final = [(CallRecord._fields.index(column.field), column) for column in CALLS]
_INT32, _INT64, _TEXT = pa.int32(), pa.int64(), pa.string()
_new: Final = tuple.__new__
"""A named tuple's own way takes three times as long."""
_ENTRIES: Final = pa.struct([pa.field("key", _TEXT, nullable=False), pa.field("value", _TEXT)])

_attributes = msgspec.msgpack.Decoder(dict[str, object]).decode
_json = msgspec.json.Encoder().encode
_MOST_REMEMBERED: Final = 512
_remembered: dict[bytes, str] = {}


def _text_of(packed: bytes) -> str:
    """Attributes as JSON: of most calls it is the same that was said of one before."""
    text = _remembered.get(packed)
    if text is None:
        text = _json(_attributes(packed)).decode()
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[packed] = text
    return text


def _texts(offsets: bytes, data: bytes) -> pa.Array:
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(_TEXT, len(offsets) // 4 - 1, buffers, 0)


def _array(kind: Kind, part: Any, rows: int) -> pa.Array:
    if kind is Kind.JSON:
        if part.count(part[0]) == rows:
            return pa.repeat(pa.scalar(_text_of(part[0]), _TEXT), rows)  # All say the same.
        return pa.array(list(map(_text_of, part)), _TEXT)
    built: Callable[..., pa.Array] = _FROM_BUFFERS.get(kind, _plain)
    return built(kind.arrow, rows, *part)


def _plain(of_type: pa.DataType, rows: int, nulls: int, valid: bytes, values: bytes, *_: bytes) -> pa.Array:
    buffers = [pa.py_buffer(valid) if nulls else None, pa.py_buffer(values)]
    return pa.Array.from_buffers(of_type, rows, buffers, nulls)


def _text(
    _of: pa.DataType, _rows: int, _nulls: int, _v: bytes, offsets: bytes, data: bytes, *_: bytes
) -> pa.Array:
    return _texts(offsets, data)


def _words(
    of_type: pa.DataType, rows: int, _n: int, _v: bytes, offsets: bytes, _t: bytes, inner: bytes, data: bytes
) -> pa.Array:
    return pa.Array.from_buffers(
        of_type, rows, [None, pa.py_buffer(offsets)], 0, children=[_texts(inner, data)]
    )


def _hashes(
    of_type: pa.DataType, rows: int, _n: int, _v: bytes, offsets: bytes, _t: bytes, items: bytes, _i: bytes
) -> pa.Array:
    inner = pa.Array.from_buffers(_INT64, len(items) // 8, [None, pa.py_buffer(items)], 0)
    return pa.Array.from_buffers(of_type, rows, [None, pa.py_buffer(offsets)], 0, children=[inner])


def _tags(
    of_type: pa.DataType,
    rows: int,
    _n: int,
    keys: bytes,
    offsets: bytes,
    names: bytes,
    inner: bytes,
    data: bytes,
) -> pa.Array:
    parts = [_texts(keys, names), _texts(inner, data)]
    entries = pa.Array.from_buffers(_ENTRIES, len(parts[0]), [None], 0, children=parts)
    return pa.Array.from_buffers(of_type, rows, [None, pa.py_buffer(offsets)], 0, children=[entries])


_FROM_BUFFERS: Final[dict[Kind, Callable[..., pa.Array]]] = {
    Kind.TEXT: _text,
    Kind.WORDS: _words,
    Kind.HASHES: _hashes,
    Kind.TAGS: _tags,
}

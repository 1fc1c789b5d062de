"""The ledger's columns: from the fields of a record, over Arrow, to a table.

A batch of records is turned into columns once (`zip`), handed to DuckDB as one Arrow
table of plain integers and text, and converted there: money from integer pico-USD to
``DECIMAL(18,12)`` USD without ever being a float, durations from microseconds to
milliseconds. The tables themselves are made by `collector/store/migrations`; a test holds
the two against each other.
"""

from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from collector.domain.record import AttemptRecord, CallRecord

MONEY = "DECIMAL(18,12)"
"""USD to the pico; one row may hold up to a million USD. Sums are ``DECIMAL(38,12)``."""
MAX_PICO = 10**18 - 1

_PICO = "CAST(0.000000000001 AS DECIMAL(13,12))"

_json = msgspec.json.Encoder().encode


class Kind(Enum):
    """How a field travels: Arrow type, table type, and the expression between the two."""

    TEXT = (pa.string(), "VARCHAR", "{}")
    COUNT = (pa.int64(), "BIGINT", "{}")
    STATUS = (pa.int32(), "INTEGER", "nullif({}, 0)")
    FLAG = (pa.bool_(), "BOOLEAN", "{}")
    INSTANT = (pa.timestamp("us"), "TIMESTAMP", "{}")
    THOUSANDTHS = (pa.int64(), "DOUBLE", "{} / 1000")
    """Microseconds to milliseconds, millijoules to joules."""
    PICO = (pa.int64(), MONEY, f"CAST({{}} * {_PICO} AS {MONEY})")
    TAGS = (pa.map_(pa.string(), pa.string()), "MAP(VARCHAR, VARCHAR)", "{}")
    WORDS = (pa.list_(pa.string()), "VARCHAR[]", "{}")
    HASHES = (pa.list_(pa.int64()), "BIGINT[]", "{}")
    JSON = (pa.string(), "JSON", "{}")

    @property
    def arrow(self) -> pa.DataType:
        """Type in the Arrow batch."""
        return self.value[0]

    @property
    def table(self) -> str:
        """Type in the table."""
        return str(self.value[1])

    def expression(self, column: str) -> str:
        """SQL from the Arrow column to the table's."""
        return str(self.value[2]).format(column)


class Column(NamedTuple):
    """One column of a ledger table."""

    name: str
    field: str
    """Of the record that it is made from."""
    kind: Kind


_RENAMED = {
    "started_at_us": ("started_at", Kind.INSTANT),
    "duration_us": ("duration_ms", Kind.THOUSANDTHS),
    "time_to_first_chunk_us": ("time_to_first_chunk_ms", Kind.THOUSANDTHS),
    "gpu_us": ("gpu_ms", Kind.THOUSANDTHS),
    "energy_mj": ("energy_j", Kind.THOUSANDTHS),
    "list_cost_pico": ("list_cost_usd", Kind.PICO),
    "effective_cost_pico": ("effective_cost_usd", Kind.PICO),
    "avoided_cost_pico": ("avoided_cost_usd", Kind.PICO),
    "provider_cost_pico": ("provider_cost_usd", Kind.PICO),
}
_KINDS = {
    "stream": Kind.FLAG,
    "tags": Kind.TAGS,
    "finish_reasons": Kind.WORDS,
    "tool_names": Kind.WORDS,
    "request_attributes": Kind.JSON,
    "response_attributes": Kind.JSON,
    "message_hashes": Kind.HASHES,
    "http_status": Kind.STATUS,
    "server_port": Kind.STATUS,
    "attempt": Kind.COUNT,
    "overhead_us": Kind.COUNT,
    "last_message_hash": Kind.COUNT,
    "tool_call_hashes": Kind.HASHES,
    "input_hash": Kind.COUNT,
    "tool_errors": Kind.COUNT,
    "tools_hash": Kind.COUNT,
    "system_hash": Kind.COUNT,
    "request_bytes": Kind.COUNT,
    "response_bytes": Kind.COUNT,
    "chunks": Kind.COUNT,
    "charges": Kind.JSON,
}


def _columns(fields: Iterable[str]) -> tuple[Column, ...]:
    columns = []
    for field in fields:
        if field in _RENAMED:
            name, kind = _RENAMED[field]
        else:
            tokens = field.endswith("_tokens")
            name, kind = field, Kind.COUNT if tokens else _KINDS.get(field, Kind.TEXT)
        columns.append(Column(name, field, kind))
    return tuple(columns)


CALLS = _columns(field for field in CallRecord._fields if field not in ("content", "attempts"))
"""Of table ``calls``, which also counts its attempts in ``attempt_count``."""
ATTEMPTS = _columns(AttemptRecord._fields)
"""Of table ``attempts``, after ``call_id``."""


def select_list(columns: Iterable[Column]) -> str:
    """The select list that turns a staged Arrow batch into rows of the table."""
    return ", ".join(f"{column.kind.expression(column.field)} AS {column.name}" for column in columns)


STAGED_CALLS = f"(SELECT {select_list(CALLS)}, attempt_count FROM staged_calls)"  # noqa: S608
STAGED_ATTEMPTS = f"(SELECT call_id, {select_list(ATTEMPTS)} FROM staged_attempts)"  # noqa: S608
JUDGED_TABLES = ("waste", "cache_breaks", "inferred_outcomes", "runs", "tool_uses")
"""What was found out about calls (`collector.judging`), each row with the id of one."""
CALL_NAMES = (*(column.name for column in CALLS), "attempt_count")
ATTEMPT_NAMES = ("call_id", *(column.name for column in ATTEMPTS))


def _pairs(column: Sequence[dict[str, str]]) -> list[list[tuple[str, str]]]:
    return [list(tags.items()) for tags in column]


def _texts(column: Sequence[dict[str, object]]) -> list[str]:
    return ["{}" if not attributes else _json(attributes).decode() for attributes in column]


_PREPARED: dict[Kind, Callable[[Sequence[Any]], list[Any]]] = {Kind.TAGS: _pairs, Kind.JSON: _texts}


def _array(values: Sequence[Any], column: Column) -> pa.Array:
    first = values[0]
    # Most columns say the same of every call of a moment: to see that is cheaper than to convert them.
    if len(values) > 1 and values[-1] == first and values.count(first) == len(values):
        return _the_same(first, column, len(values))
    return _converted(values, column.kind)


def _converted(values: Sequence[Any], kind: Kind) -> pa.Array:
    if kind is Kind.PICO:
        _within_money(values)
    prepare = _PREPARED.get(kind)
    return pa.array(prepare(values) if prepare else values, kind.arrow)


_LONG = 1024
_NESTED = frozenset({Kind.TAGS, Kind.WORDS, Kind.HASHES})
_said_before: dict[Column, tuple[object, pa.Array]] = {}
"""By column: what it said of every call when it last did, so many times."""


def _the_same(value: object, column: Column, length: int) -> pa.Array:
    """``value`` so many times; most often what it was the last time."""
    before = _said_before.get(column)
    if before is not None and length <= _LONG and before[0] == value:
        return before[1].slice(0, length)
    many = max(length, _LONG)
    if column.kind in _NESTED:
        # Arrow repeats what is nested item by item, which takes longer than to convert it.
        again = _converted((value,) * many, column.kind)
    else:
        again = pa.repeat(_converted((value,), column.kind)[0], many)
    _said_before[column] = (value, again)
    return again.slice(0, length)


def _within_money(values: Sequence[int | None]) -> None:
    known = values if None not in values else [value for value in values if value is not None]
    if known and not -MAX_PICO <= min(known) <= max(known) <= MAX_PICO:  # type: ignore[type-var, operator]
        raise OverflowError(f"no row costs a million USD: {max(known)} pico-USD")  # type: ignore[type-var]


def staged_calls(records: Sequence[CallRecord]) -> pa.RecordBatch:
    """``records`` as Arrow columns named after their fields, for `STAGED_CALLS`.

    A few hundred at a time stay in the processor's cache, which halves the cost of a call.

    Raises:
        pa.ArrowException, OverflowError, TypeError, ValueError: a field does not fit its column.
    """
    columns = list(zip(*records, strict=True))
    arrays = [_array(columns[position], column) for position, column in _CALL_PLACES]
    arrays.append(pa.array(map(len, columns[_ATTEMPTS_PLACE]), pa.int64()))
    return pa.RecordBatch.from_arrays(arrays, schema=CALL_LAYOUT)


def staged_attempts(records: Sequence[CallRecord]) -> pa.RecordBatch | None:
    """The attempts of ``records``, each with its call's id; None where there are none."""
    owners = [record.call_id for record in records for _ in record.attempts]
    if not owners:
        return None
    columns = zip(*[attempt for record in records for attempt in record.attempts], strict=True)
    arrays = [pa.array(owners, pa.string())]
    arrays.extend(_array(values, column) for column, values in zip(ATTEMPTS, columns, strict=True))
    return pa.RecordBatch.from_arrays(arrays, schema=ATTEMPT_LAYOUT)


_ATTEMPTS_PLACE = CallRecord._fields.index("attempts")
_CALL_PLACES = [(CallRecord._fields.index(column.field), column) for column in CALLS]
CALL_LAYOUT = pa.schema(
    [*(pa.field(column.field, column.kind.arrow) for column in CALLS), pa.field("attempt_count", pa.int64())]
)
ATTEMPT_LAYOUT = pa.schema(
    [pa.field("call_id", pa.string()), *(pa.field(column.field, column.kind.arrow) for column in ATTEMPTS)]
)
PENDING_LAYOUT = pa.schema(
    [
        pa.field("call_id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("started_at", pa.timestamp("us")),
        pa.field("intent", pa.binary()),
    ]
)
SETTLED_LAYOUT = pa.schema([pa.field("call_id", pa.string())])
_AMOUNT = pa.decimal128(38, 12)
OUTCOME_LAYOUT = pa.schema(
    [
        pa.field("reported_at", pa.timestamp("us")),
        *(pa.field(name, pa.string()) for name in ("tenant", "task_id", "conversation_id", "trace_id")),
        pa.field("success", pa.bool_()),
        pa.field("score", pa.float64()),
        pa.field("value_usd", _AMOUNT),
        *(pa.field(name, pa.string()) for name in ("note", "source")),
    ]
)
SIMILAR_LAYOUT = pa.schema(
    [
        pa.field("happened_at", pa.timestamp("us")),
        *(pa.field(name, pa.string()) for name in ("tenant", "call_id", "request_model", "likeness")),
        pa.field("distance", pa.float64()),
        pa.field("serving", pa.bool_()),
        pa.field("is_right", pa.bool_()),
        pa.field("event_id", pa.string()),
    ]
)
BUDGET_EVENT_LAYOUT = pa.schema(
    [
        pa.field("happened_at", pa.timestamp("us")),
        *(pa.field(name, pa.string()) for name in ("budget", "counter", "action", "call_id")),
        *(pa.field(name, _AMOUNT) for name in ("limit_usd", "spent_usd", "held_usd")),
        *(pa.field(name, pa.string()) for name in ("detail", "tenant", "event_id")),
    ]
)

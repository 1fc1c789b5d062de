"""Rows on their way out: an Arrow stream for programs, JSON for people and scripts.

Money is exact in both: ``decimal128`` in Arrow, a plain decimal as text in JSON. Times are UTC
and say so.
"""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pyarrow as pa

ARROW = "application/vnd.apache.arrow.stream"
JSON = "application/json"


_UNREADABLE = (OverflowError, TypeError, ValueError, pa.ArrowException)
"""A value that Arrow holds and Python does not, such as a day in the year 20000."""


def in_utc(table: pa.Table) -> pa.Table:
    """``table`` with its instants marked as the UTC that they are."""
    for place, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            utc = pa.timestamp(field.type.unit, "UTC")
            # The same numbers under another type. A cast takes a part of pyarrow that nobody else needs:
            # 9 MiB.
            chunks = [chunk.view(utc) for chunk in table.column(place).chunks]
            table = table.set_column(place, field.with_type(utc), pa.chunked_array(chunks, utc))
    return table


def arrow_bytes(table: pa.Table) -> bytes:
    """An Arrow IPC stream."""
    table = in_utc(table)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def json_bytes(
    table: pa.Table,
    about: dict[str, Any],
    as_text: Callable[[pa.ChunkedArray], list[str | None]] = lambda column: [None] * len(column),
) -> bytes:
    """``{..., "columns": [...], "rows": [{...}]}``.

    Args:
        table: the rows. Of columns with one name, all but the first get a number.
        about: what else is said.
        as_text: the texts that stand for a column with a value that Python does not hold.
    """
    names = numbered(table.column_names)
    columns = [_values(column, as_text) for column in in_utc(table).columns]
    rows = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
    return msgspec.json.encode({**about, "columns": names, "rows": rows})


def numbered(names: Sequence[str]) -> list[str]:
    """``names``, each of them once: ``a``, ``a_2``, ``a_3``."""
    taken = set(names)
    numbers: dict[str, Iterator[int]] = {}
    found = []
    for name in names:
        unique = name
        if name in numbers:
            unique = next(other for number in numbers[name] if (other := f"{name}_{number}") not in taken)
            taken.add(unique)
        else:
            numbers[name] = itertools.count(2)
        found.append(unique)
    return found


def _values(column: pa.ChunkedArray, as_text: Callable[[pa.ChunkedArray], list[str | None]]) -> list[Any]:
    try:
        values = column.to_pylist()
        if pa.types.is_map(column.type):
            return [dict(value or ()) for value in values]
        return [plain(value) for value in values]
    except _UNREADABLE:
        return list(as_text(column))


def plain(value: Any) -> Any:
    """``value`` as JSON holds it."""
    match value:
        case Decimal():
            return format(value, "f")
        case datetime():
            instant = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
            return instant.isoformat().replace("+00:00", "Z")
        case bytes():
            return value.hex()
        case list():
            return [plain(entry) for entry in value]
        case dict():
            return {key: plain(entry) for key, entry in value.items()}
        case float() if value != value or value in (float("inf"), float("-inf")):
            return None
        case _:
            return value

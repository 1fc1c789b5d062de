"""Calls read from a trace file: CSV, JSON lines or Parquet, one row a call.

Needed are the token counts; everything else is used where a column for it exists
(:mod:`inference.workload.columns`). A row that cannot be used is skipped, counted
and, for the first few, explained: file, row, column, value.
"""

import csv
import gzip
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from collector.domain.usage import Usage
from inference.workload.blocks import SeenBlocks, count_blocks, parse_ranges
from inference.workload.calls import APIS, TracedCall, api_for
from inference.workload.columns import Columns, TraceError, detect

MAX_ROWS = 1_000_000
MAX_TOKENS = 1 << 40
DEFAULT_MODEL = "gpt-5.4-mini"
DEFAULT_BLOCK_TOKENS = 512
_EXPLAINED_ROWS = 10
_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet", ".csv.gz", ".jsonl.gz", ".ndjson.gz")


class _BadRow(ValueError):
    def __init__(self, column: str, value: object, reason: str) -> None:
        super().__init__(f"column {column!r}: {reason}, but it is {_short(value)}")


class _Row(NamedTuple):
    at_s: float
    row: int
    input_tokens: int
    output_tokens: int
    cache_read: int
    cache_write: int
    reasoning: int
    model: str
    api: str
    conversation: str
    agent: str
    team: str
    user: str
    task: str
    stream: bool
    tools: tuple[str, ...]
    block_ranges: str
    block_tokens: int


@dataclass(slots=True)
class Trace:
    """A trace that has been read: rows in order of time, and what had to be left out."""

    source: str
    columns: Columns
    skipped: int = 0
    """Rows that could not be used."""
    complaints: list[str] = field(default_factory=list)
    """Why, for the first ten of them: row, column, value."""
    _rows: list[_Row] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._rows)

    def calls(self) -> Iterator[TracedCall]:
        """The calls in order of time, from ``at_s`` 0."""
        seen: dict[str, SeenBlocks] = {}
        start = self._rows[0].at_s if self._rows else 0.0
        for row in self._rows:
            read, write = row.cache_read, row.cache_write
            if row.block_ranges:
                # Ids mean the same text inside one conversation; without conversations, in the whole file.
                blocks = seen.setdefault(row.conversation, SeenBlocks())
                read, write = _cached_tokens(row, blocks)
            yield TracedCall(
                at_s=row.at_s - start,
                api=row.api,
                model=row.model,
                usage=Usage(
                    input_tokens=row.input_tokens,
                    # An embedding has no output tokens, whatever a trace calls the size of its vector.
                    output_tokens=0 if row.api == "openai.embeddings" else row.output_tokens,
                    cache_read_input_tokens=read,
                    cache_write_input_tokens=write,
                    reasoning_output_tokens=0 if row.api == "openai.embeddings" else row.reasoning,
                ),
                stream=row.stream,
                conversation=row.conversation,
                team=row.team,
                agent=row.agent,
                user=row.user,
                task=row.task,
                tools=row.tools,
            )


def read_trace(path: Path, *, default_model: str = DEFAULT_MODEL, max_rows: int = MAX_ROWS) -> Trace:
    """Read a trace file.

    Args:
        path: a ``.csv``, ``.jsonl``, ``.ndjson`` or ``.parquet`` file; the text kinds also with ``.gz``.
        default_model: the model of rows that name none.
        max_rows: refuse longer files, which would not fit in memory.

    Raises:
        TraceError: the file cannot be read, has no token columns, no usable row, or too many rows.
    """
    rows = _records(path)
    first = next(rows, None)
    if first is None:
        raise TraceError(f"{path}: no rows")
    trace = Trace(source=str(path), columns=detect(list(first), str(path)))
    reader = _RowReader(trace.columns, default_model, path.name.partition(".")[0])
    for number, record in enumerate(chain([first], rows), start=1):
        if number > max_rows:
            raise TraceError(f"{path}: more than {max_rows:,} rows; cut the file, or raise the limit")
        try:
            trace._rows.append(reader.read(number, record))
        except _BadRow as error:
            trace.skipped += 1
            if len(trace.complaints) < _EXPLAINED_ROWS:
                trace.complaints.append(f"{path.name}, row {number}, {error}")
    if not trace._rows:
        raise TraceError(f"{path}: none of {trace.skipped:,} rows can be used. {trace.complaints[0]}")
    trace._rows.sort()
    return trace


class _RowReader:
    """Turns one record of a file into a row."""

    def __init__(self, columns: Columns, default_model: str, team: str) -> None:
        self._columns = columns
        self._default_model = default_model
        self._team = team

    def read(self, number: int, record: Mapping[str, Any]) -> _Row:
        input_tokens = self._tokens(record, "input", required=True)
        output_tokens = self._tokens(record, "output", required=True)
        read, write = self._tokens(record, "cache_read"), self._tokens(record, "cache_write")
        reasoning = self._tokens(record, "reasoning")
        if read + write > input_tokens:
            raise self._bad(record, "input", "a count that includes the cached tokens is needed")
        if reasoning > output_tokens:
            raise self._bad(record, "output", "a count that includes the reasoning tokens is needed")
        model = self._text(record, "model") or self._default_model
        api = self._text(record, "api") or api_for(model)
        if api not in APIS:
            raise self._bad(record, "api", f"one of {', '.join(APIS)} is needed")
        tools = self._text(record, "tools")
        return _Row(
            at_s=self._time(record) + self._number(record, "sub_start"),
            row=number,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read=read,
            cache_write=write,
            reasoning=reasoning,
            model=model,
            api=api,
            conversation=self._text(record, "conversation"),
            agent=self._text(record, "agent"),
            team=self._text(record, "team") or self._team,
            user=self._text(record, "user"),
            task=self._text(record, "task"),
            stream=self._text(record, "stream").lower() in ("1", "true", "yes", "s", "stream", "streamed"),
            tools=tuple(filter(None, tools.replace(";", ",").replace("|", ",").split(","))),
            block_ranges=self._ranges(record),
            block_tokens=self._tokens(record, "block_size") or DEFAULT_BLOCK_TOKENS,
        )

    def _value(self, record: Mapping[str, Any], meaning: str) -> Any:
        name = self._columns.by_meaning.get(meaning)
        value = None if name is None else record.get(name)
        return None if value is None or value == "" or value != value else value  # NaN differs from itself

    def _text(self, record: Mapping[str, Any], meaning: str) -> str:
        value = self._value(record, meaning)
        return "" if value is None else str(value)[:200]

    def _tokens(self, record: Mapping[str, Any], meaning: str, *, required: bool = False) -> int:
        value = self._value(record, meaning)
        if value is None and not required:
            return 0
        try:
            number = float(value)
            if number != int(number) or not 0 <= number <= MAX_TOKENS:
                raise ValueError
        except (TypeError, ValueError, OverflowError):
            raise self._bad(record, meaning, "a whole number of tokens is needed") from None
        return int(number)

    def _number(self, record: Mapping[str, Any], meaning: str) -> float:
        value = self._value(record, meaning)
        try:
            number = 0.0 if value is None else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise self._bad(record, meaning, "a number is needed")
        return number

    def _time(self, record: Mapping[str, Any]) -> float:
        value = self._value(record, "time")
        if value is None:
            if "time" in self._columns:
                raise self._bad(record, "time", "a time is needed")
            return 0.0
        if isinstance(value, datetime):
            return _seconds(value)
        try:
            number = float(value)
        except (TypeError, ValueError):
            return self._calendar_time(record, str(value))
        if not math.isfinite(number):
            raise self._bad(record, "time", "a time is needed")
        if self._columns.time_unit_s is not None:
            return number * self._columns.time_unit_s
        # Seconds since 1970 have 10 digits today, milliseconds 13.
        return number / 1000 if abs(number) > 1e11 else number

    def _calendar_time(self, record: Mapping[str, Any], text: str) -> float:
        try:
            return _seconds(datetime.fromisoformat(text))
        except ValueError:
            raise self._bad(record, "time", "seconds, milliseconds or an ISO 8601 time is needed") from None

    def _ranges(self, record: Mapping[str, Any]) -> str:
        text = "" if (value := self._value(record, "block_ranges")) is None else str(value)
        try:
            parse_ranges(text)
        except ValueError:
            raise self._bad(record, "block_ranges", "ranges such as 1-40,57 are needed") from None
        return text

    def _bad(self, record: Mapping[str, Any], meaning: str, reason: str) -> _BadRow:
        name = self._columns.by_meaning.get(meaning, meaning)
        return _BadRow(name, record.get(name), reason)


def _cached_tokens(row: _Row, seen: SeenBlocks) -> tuple[int, int]:
    """Tokens read from the cache, and tokens written to it; only Anthropic bills the writing."""
    ranges = parse_ranges(row.block_ranges)
    read = min(seen.leading(ranges) * row.block_tokens, row.input_tokens)
    seen.add(ranges)
    if not row.api.startswith("anthropic"):
        return read, 0
    return read, max(0, min(count_blocks(ranges) * row.block_tokens, row.input_tokens) - read)


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    """The file's rows as mappings; the first row that the file's own format forbids ends in TraceError."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    kind = "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])
    if kind not in _SUFFIXES:
        raise TraceError(f"{path}: not a trace that can be read; known: {', '.join(_SUFFIXES)}")
    reader = _parquet if kind == ".parquet" else _csv if kind.startswith(".csv") else _json_lines
    try:
        yield from reader(path)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: {error}") from error


def _open(path: Path) -> TextIO:
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with _open(path) as file:
        sample = file.readline()
        file.seek(0)
        separator = max(",;\t", key=sample.count)
        yield from csv.DictReader(file, delimiter=separator)


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with _open(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if isinstance(record, dict):
                yield record
            elif number == 1:
                raise TraceError(f"{path}, line 1: a JSON object is needed, but it is {_short(line.strip())}")
            else:
                yield {}  # a row without counts: the reader skips it, and says which


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
    except pyarrow.ArrowException as error:
        raise TraceError(f"{path}: {error}") from error
    with file:
        for batch in file.iter_batches(batch_size=8192):
            yield from _plain_rows(batch)


def _plain_rows(batch: Any) -> Iterator[Mapping[str, Any]]:
    import pyarrow

    names = batch.schema.names
    columns = []
    for array in batch.columns:
        if pyarrow.types.is_timestamp(array.type):
            # Nanoseconds would need pandas; a datetime holds microseconds.
            array = array.cast(pyarrow.timestamp("us", array.type.tz), safe=False)
        columns.append(array.to_pylist())
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _seconds(moment: datetime) -> float:
    """Since 1970; a time without a zone is taken as UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

"""Spans on their way into the ledger, as Arrow columns: small to hold, quick to insert."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import pyarrow as pa

from collector.ingest.events import OutcomeRow
from collector.ingest.otlp.normalise import IDENTITY
from collector.ingest.otlp.vocabulary import COLUMNS, Kind

_ARROW: Final = {
    Kind.TEXT: pa.string(),
    Kind.COUNT: pa.int64(),
    Kind.SECONDS: pa.float64(),
    Kind.MILLISECONDS: pa.float64(),
    Kind.USD: pa.float64(),
    Kind.FLAG: pa.bool_(),
    Kind.WORDS: pa.list_(pa.string()),
}
SCHEMA: Final = pa.schema(
    [
        *(pa.field(name, pa.int64() if name.endswith("_us") else pa.string()) for name in IDENTITY),
        *(pa.field(column.name, _ARROW[column.kind]) for column in COLUMNS),
        pa.field("attributes", pa.string()),
        pa.field("received_at_us", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class SpanBatch:
    """Spans of one request."""

    columns: pa.RecordBatch
    """By `SCHEMA`."""
    received_us: int
    """When they came, in microseconds since the Unix epoch."""
    outcomes: Sequence[OutcomeRow] = ()
    """What evaluations among their events tell."""

    def telling(self, outcomes: Sequence[OutcomeRow]) -> "SpanBatch":
        """The same spans, and what their evaluations tell."""
        return replace(self, outcomes=outcomes)

    @property
    def count(self) -> int:
        """How many spans."""
        return int(self.columns.num_rows)

    @property
    def bytes(self) -> int:
        """Memory that they take."""
        return int(self.columns.nbytes)


def span_batch(rows: Sequence[Sequence[Any]], received_us: int) -> SpanBatch:
    """``rows``, with fields as `collector.ingest.otlp.normalise.ROW` has them, as columns.

    Raises:
        pa.ArrowException, OverflowError, UnicodeEncodeError: a value does not fit its column.
    """
    columns = [*zip(*rows, strict=True), [received_us] * len(rows)]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, SCHEMA, strict=True)]
    return SpanBatch(pa.RecordBatch.from_arrays(arrays, schema=SCHEMA), received_us)

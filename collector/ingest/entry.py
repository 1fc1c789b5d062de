"""A batch on its way into the ledger, who is shown its records, and what has been booked so far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from collector.domain.record import CallRecord
from collector.ingest.pairing import Batch

RecordSink = Callable[[Sequence[CallRecord]], Callable[[], object] | None]
"""Shown records while they are turned into columns; what it returns is called once they are booked.

Nothing else keeps a record until then: to let go of each few hundred at once spares their memory, and the
time that it takes to touch it.
"""


@dataclass(slots=True)
class Counts:
    """What was done since the process started."""

    calls: int = 0
    attempts: int = 0
    events: int = 0
    """Outcomes, and what befell budgets."""
    frames: int = 0
    commits: int = 0
    presumed: int = 0
    corrected: int = 0
    notes: dict[str, int] = field(default_factory=dict)
    """Notes by reason."""
    lost_frames: int = 0
    """Frames that a gap or damage cost, as far as sequences tell."""
    committed_at: float = 0.0
    """Unix time of the last commit."""


@dataclass(slots=True)
class Entry(Batch):
    """A batch on its way into the tables, as columns."""

    calls: list[pa.RecordBatch] = field(default_factory=list)
    attempts: list[pa.RecordBatch] = field(default_factory=list)
    contents: list[tuple[str, int, str | None, str | None]] = field(default_factory=list)
    oldest_us: int = 1 << 62
    """The earliest start among its calls."""
    told: list[Callable[[], object]] = field(default_factory=list)
    """To be called once it is committed."""

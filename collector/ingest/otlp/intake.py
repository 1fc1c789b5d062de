"""Between those who send spans and the ledger: a bounded queue, and the thread that empties it.

A request is answered as soon as its spans are in the queue. When the queue is full the sender is
told to come back (503, UNAVAILABLE), which every OTLP client does; nothing is dropped here. What
is queued when the process is killed is lost: spans enrich the books, the journal is the books.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from collector import logs
from collector.ingest.events import OutcomeRow
from collector.ingest.otlp.batch import SpanBatch, span_batch
from collector.ingest.otlp.normalise import Spans
from collector.store.duckdb import StoreError

_log = logs.get("collector.otlp")


Told = Callable[[Sequence[OutcomeRow]], object]
"""Takes outcomes into the ledger."""


class SpanSink(Protocol):
    """Where spans end up."""

    def accept(self, batches: Sequence[SpanBatch]) -> int:
        """Store what is not stored yet; how many spans that was.

        Raises:
            StoreError: nothing was stored; it is offered again.
        """
        ...


class Full(Exception):
    """The queue holds all it may; come back in ``retry_after_s``."""

    retry_after_s = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeLimits:
    """What the queue may hold, and how it is emptied."""

    spans: int = 40_000
    bytes: int = 32 << 20
    commit_spans: int = 8_000
    """Committed together at once; fewer wait for `commit_interval_s`."""
    commit_interval_s: float = 1.0
    retry_s: float = 2.0
    """Before a ledger that did not take spans is asked again."""
    remembered: int = 65_536
    """Span ids that are known without a look into the ledger: twice as many at most."""


@dataclass(slots=True)
class IntakeCounts:
    """What was done since the process started."""

    received: int = 0
    stored: int = 0
    duplicates: int = 0
    rejected: int = 0
    """Not spans: no id, or values that fit no column."""
    refused: int = 0
    """Requests that were told to come back."""
    malformed: int = 0
    """Requests that could not be read."""
    set_aside: dict[str, int] = field(default_factory=dict)
    """Requests with signals that are not kept: metrics and logs."""


class Intake:
    """Takes spans in and hands them to ``sink``.

    Args:
        sink: called from the intake's own thread only.
        limits: see there.
        told: takes the outcomes that evaluations among the events of spans tell, once those are stored.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        sink: SpanSink,
        limits: IntakeLimits | None = None,
        *,
        told: Told | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts = IntakeCounts()
        self._sink = sink
        self._told = told
        self._limits = limits or IntakeLimits()
        self._clock = clock
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._queue: deque[tuple[float, SpanBatch]] = deque()
        self._spans = 0
        self._bytes = 0
        self._taken: list[tuple[float, SpanBatch]] = []
        """What the thread is storing at this moment."""
        self._seen: set[int] = set()
        self._seen_before: set[int] = set()
        self._stopping = False
        self._health = logs.StateLog(_log, "the span table", good="open")
        self._thread = threading.Thread(target=self._run, name="spans", daemon=True)

    # -- in

    def check_room(self) -> None:
        """Before a request is read.

        Raises:
            Full: it should come back later.
        """
        with self._lock:
            if self._spans >= self._limits.spans or self._bytes >= self._limits.bytes or self._stopping:
                self.counts.refused += 1
                raise Full

    def offer(
        self, spans: Spans, received_us: int, outcomes: Sequence[tuple[Sequence[object], OutcomeRow]] = ()
    ) -> int:
        """Queue ``spans``; how many of them were rejected.

        Args:
            spans: what was sent.
            received_us: when.
            outcomes: what they tell, each with the row of its span; of spans that are known, nothing is new.

        Raises:
            Full: none of them were queued.
        """
        rejected = spans.rejected
        with self._lock:
            rows = [row for row in spans.rows if not self._is_known(row)]
        try:
            batch = span_batch(rows, received_us) if rows else None
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            fitting = [row for row in rows if _fits(row)]
            rejected += len(rows) - len(fitting)
            batch = span_batch(fitting, received_us) if fitting else None
        if outcomes and batch is not None:
            fresh = {id(row) for row in rows}
            batch = batch.telling([outcome for row, outcome in outcomes if id(row) in fresh])
        with self._lock:
            counts = self.counts
            if batch is not None:
                if self._stopping or self._spans + batch.count > self._limits.spans * 2:
                    counts.refused += 1
                    raise Full
                self._queue.append((self._clock(), batch))
                self._spans += batch.count
                self._bytes += batch.bytes
                for row in rows:
                    self._remember(row)
            counts.received += len(spans.rows) + spans.rejected
            counts.rejected += rejected
            counts.duplicates += len(spans.rows) - len(rows)
            if self._spans >= self._limits.commit_spans:
                self._work.notify()
        return rejected

    def _is_known(self, row: Sequence[object]) -> bool:
        key = hash((row[0], row[1]))
        return key in self._seen or key in self._seen_before

    def _remember(self, row: Sequence[object]) -> None:
        self._seen.add(hash((row[0], row[1])))
        if len(self._seen) >= self._limits.remembered:
            self._seen_before, self._seen = self._seen, set()

    # -- how it is

    @property
    def waiting(self) -> int:
        """Spans that are queued."""
        return self._spans

    @property
    def lag_s(self) -> float:
        """How long the oldest span that is not stored has been waiting."""
        with self._lock:
            oldest = self._taken[0] if self._taken else self._queue[0] if self._queue else None
        return max(0.0, self._clock() - oldest[0]) if oldest else 0.0

    # -- out

    def start(self) -> None:
        """Begin to hand over."""
        self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """Take nothing more in, hand over what is queued, end."""
        with self._lock:
            self._stopping = True
            self._work.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._spans < self._limits.commit_spans and not self._stopping:
                    self._work.wait(self._limits.commit_interval_s)
                self._taken = self._some()
                stopping = self._stopping
            if not self._taken:
                if stopping:
                    return
                continue
            if not self._store(stopping):
                return

    def _some(self) -> list[tuple[float, SpanBatch]]:
        taken, count = [], 0
        while self._queue and count < self._limits.commit_spans * 2:
            entry = self._queue.popleft()
            taken.append(entry)
            count += entry[1].count
        return taken

    def _store(self, stopping: bool) -> bool:
        """Hand over what was taken, however long it takes; False when it is time to give up."""
        batches = [batch for _, batch in self._taken]
        count = sum(batch.count for batch in batches)
        outcomes = [outcome for batch in batches for outcome in batch.outcomes]
        while True:
            try:
                stored = self._sink.accept(batches)
                if outcomes and self._told is not None:
                    self._told(outcomes)
            except (StoreError, Full) as error:
                self._health.enter(str(error)[:200])
                if stopping or self._stopping:
                    _log.warning("spans were lost: the ledger did not take them", count=count)
                    return False
                with self._lock:
                    self._work.wait(self._limits.retry_s)
                continue
            break
        self._health.enter("open")
        with self._lock:
            self.counts.stored += stored
            self.counts.duplicates += count - stored
            self._spans -= count
            self._bytes -= sum(batch.bytes for batch in batches)
            self._taken = []
        return True


def _fits(row: Sequence[object]) -> bool:
    try:
        span_batch([row], 0)
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        return False
    return True

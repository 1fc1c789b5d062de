"""The credit store of one process: counters in memory, rebuilt from the journal at start.

Every answer is at once. What is lost with the process is what it held; what was spent is in the journal
and in a checkpoint beside it. Sources that are over are counted to their end: a record at what it cost,
an intent without one at its hold, flagged as unsettled.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from collector.domain.credit import Answer, Claim, Counter, Standing
from collector.domain.record import Intent
from collector.journal import FrameKind
from collector.journal_reading import Unreadable, told
from collector.logs import get
from sidecar.budgets import checkpoint
from sidecar.budgets.corrections import corrections_in
from sidecar.budgets.ledger import Ledger
from sidecar.budgets.replay import Charges, JournalReader
from sidecar.budgets.store import CORRECTION, ENDED, Settlement, Truth, TruthOf, bucket_of

log = get("bursar.budgets")

REAP_S = 1.0
CHECKPOINT_S = 10.0
"""How much of the journal a start has to read again, at most, besides what a crash left open."""
FORGET_S = 60.0
TRUTH_S = 3.0
"""How long a start without a checkpoint waits for the books."""


class MemoryStore:
    """A ``CreditStore`` in this process.

    Args:
        source: this run of this sidecar, as its journal calls itself.
        directory: of the journal; None to remember nothing.
        charges: what a record or an intent costs each counter.
        truth: what the books say, for a start without a checkpoint.
        clock_us: any clock that only goes forward; leases run out by it.
    """

    def __init__(
        self,
        source: str = "",
        *,
        directory: Path | None = None,
        charges: Charges | None = None,
        truth: TruthOf | None = None,
        clock_us: Callable[[], int] = lambda: time.monotonic_ns() // 1000,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.source = source
        self.ledger = Ledger()
        self._clock_us = clock_us
        self._wall_us = wall_us
        self._truth = truth
        self._reader = JournalReader(directory, charges) if directory and charges else None
        self._file = directory / checkpoint.FILE if directory and charges else None
        self._written = -1
        self._changes = 0
        self._tending: asyncio.Task[None] | None = None

    # -- the store

    def reserve(self, lease: str, claims: Sequence[Claim], ttl_s: float, until: float = 0.0) -> Answer:
        """Claim all of ``claims`` or nothing."""
        return self.ledger.reserve(lease, claims, self._clock_us(), int(ttl_s * 1e6))

    def extend(self, lease: str, deltas: Sequence[Claim], ttl_s: float) -> Answer:
        """Claim ``deltas`` more, all or nothing."""
        return self.ledger.extend(lease, deltas, self._clock_us(), int(ttl_s * 1e6))

    def keep(self, lease: str, ttl_s: float) -> None:
        """Let the lease hold for ``ttl_s`` from now."""
        self.ledger.keep(lease, self._clock_us(), int(ttl_s * 1e6))

    def settle(self, lease: str, actuals: Sequence[Claim], sequence: int) -> None:
        """Spend ``actuals`` in place of what the lease held."""
        ledger = self.ledger
        if sequence <= ledger.marks.get(self.source, 0):
            return
        ledger.marks[self.source] = sequence
        self._changes += 1
        ledger.finish(lease, actuals)

    def release(self, lease: str) -> None:
        """Give back what the lease held."""
        self.ledger.release(lease)

    def glance(self, counters: Sequence[Counter]) -> list[Standing]:
        """How ``counters`` stand."""
        return [self.ledger.standing(counter) for counter in counters]

    def standings(self, counters: Sequence[Counter]) -> list[Standing]:
        """How ``counters`` stand."""
        return [self.ledger.standing(counter) for counter in counters]

    # -- living

    async def start(self) -> None:
        """Rebuild the sums, then keep them on disk."""
        if self._reader is not None:
            known = checkpoint.read(self._file) if self._file else None
            truth = Truth()
            if known is None and self._truth is not None:
                try:
                    truth = await asyncio.wait_for(self._truth(), TRUTH_S)
                except Exception as error:  # The books may be kept in anything, or not run yet.
                    log.warning(
                        "budgets rebuilt without the books", reason=f"{type(error).__name__}: {error}"
                    )
            await asyncio.to_thread(self.rebuild, known, truth)
            await asyncio.to_thread(self._checkpoint)
        self._tending = asyncio.create_task(self._tend(), name="budgets")

    async def close(self) -> None:
        """Write down the sums."""
        if self._tending is not None:
            self._tending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._tending
            self._tending = None
        self._checkpoint()

    def rebuild(self, known: checkpoint.Checkpoint | None, truth: Truth) -> None:
        """Count everything that sources before this one left; blocking, before the first call."""
        assert self._reader is not None
        ledger, reader = self.ledger, self._reader
        running: set[str] | None = None
        if known is not None:
            checkpoint.restore(ledger, known)
            running = set(known.open)
        else:
            for counter, amount in truth.sums.items():
                ledger.account(counter).spend(amount, bucket_of(counter))
            ledger.marks.update(truth.marks)
        dead = reader.dead()
        for source in dead:
            mark = ledger.marks.get(source, 0)
            if mark < ENDED and source != self.source:
                try:
                    self._count_to_its_end(source, mark, running)
                    ledger.marks[source] = ENDED
                except Unreadable as error:
                    # The next start goes on from where this one came to.
                    reader.complain(source, error)
        kept = {*dead, self.source, *truth.marks}
        ledger.marks = {source: mark for source, mark in ledger.marks.items() if source in kept}

    def _count_to_its_end(self, source: str, mark: int, running: set[str] | None) -> None:
        assert self._reader is not None
        ledger, reader = self.ledger, self._reader
        charges = reader.charges
        open_: dict[str, Settlement] = {}
        try:
            for frame in reader.frames(source, mark):
                ledger.marks[source] = frame.sequence
                if frame.kind == FrameKind.EVENT:
                    ledger.finish(CORRECTION, corrections_in(frame.payload))
                elif isinstance(item := told(frame), Intent):
                    open_[item.call_id] = Settlement(frame.sequence, item.call_id, tuple(charges(item)))
                elif item is not None:
                    open_.pop(item.call_id, None)
                    if running:
                        running.discard(item.call_id)
                    ledger.finish(item.call_id, charges(item))
            if running or (running is None and mark):
                # Their intents are before the mark; those that have none were never sent.
                for left in reader.ended(source).open:
                    if running is None or left.lease in running:
                        open_.setdefault(left.lease, left)
        finally:
            # Also where not all can be read: a call that is counted twice is better than one that is not.
            for left in open_.values():
                ledger.finish("", left.actuals)
                for counter, amount in left.actuals:
                    ledger.account(counter).unsettled += amount

    async def _tend(self) -> None:
        loop = asyncio.get_running_loop()
        written = forgotten = loop.time()
        while True:
            await asyncio.sleep(REAP_S)
            self.ledger.reap(self._clock_us())
            now = loop.time()
            if now - forgotten > FORGET_S:
                forgotten = now
                self.ledger.forget(self._wall_us())
            if now - written > CHECKPOINT_S and self._file is not None and self._changes != self._written:
                written = now
                taken, self._written = checkpoint.taken(self.ledger, dict(self.ledger.marks)), self._changes
                try:
                    await asyncio.to_thread(checkpoint.write, self._file, taken)
                except OSError as error:
                    log.error("budgets not written down; the journal has them", reason=str(error))

    def _checkpoint(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                checkpoint.write(self._file, checkpoint.taken(self.ledger, dict(self.ledger.marks)))

"""Settlements on their way to a shared store: in order, each counted once, never lost to a full queue.

The queue is memory; the journal is where it comes from. When the store is away for so long that the
queue fills up, or comes back knowing less than it had confirmed, what is missing is read from the
journal again, and the queue goes on where that ends.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from collector.domain.credit import Claim
from collector.logs import get
from sidecar.budgets.escrow import View
from sidecar.budgets.store import Settlement

log = get("bursar.budgets")

MAX_QUEUED = 20_000
"""Settlements in memory; a longer queue is in the journal anyway."""
BATCH = 100
"""Settlements of one message, ..."""
BATCH_LEASES = 20
"""... of which so many name a lease: Redis does nothing else meanwhile, and calls wait for it."""
HISTORY_PAGE = 50
"""Settlements read from the journal at once."""

PATIENT_TRIES = 100
"""Looks, 20 ms apart, for a record that must be in the journal."""

History = Callable[[str, int, int], tuple[Sequence[Settlement], int]]
"""``history(source, after, most)``: settlements of a source's journal after a sequence, in order, at
most so many, and the sequence up to which the journal was looked through. Blocking; run in a thread."""


class Entry(NamedTuple):
    """One settlement, and what of our slices waits for its confirmation."""

    sequence: int
    lease: str
    """As the store knows it; empty when the call was admitted from slices alone."""
    tombstone: bool
    """Whether a message about the lease may still be under way."""
    actuals: Sequence[Claim]
    pending: Sequence[tuple[View, int]]


class Outbox:
    """The settlements of one source for one hash tag."""

    def __init__(self, source: str, tenant: str, history: History | None) -> None:
        self.source = source
        self.tenant = tenant
        self.mark = 0
        """Confirmed up to here."""
        self.last = 0
        """Newest settlement of all."""
        self._history = history
        self._queue: deque[Entry] = deque()
        self._pending: dict[View, int] = {}
        """Of entries that are not in memory any more."""
        self._from_journal = False
        self._page: list[Entry] = []
        self._page_end = 0
        self._tries = 0

    def __len__(self) -> int:
        return len(self._queue) + len(self._page) + int(self._from_journal)

    @property
    def from_journal(self) -> bool:
        """Whether the journal has to be read before the queue goes on."""
        return self._from_journal

    def push(self, entry: Entry) -> None:
        """Add the newest settlement."""
        self.last = entry.sequence
        if self._from_journal:
            self._spill(entry)
        elif len(self._queue) >= MAX_QUEUED and self._history is not None:
            self._to_journal()
            self._spill(entry)
        else:
            self._queue.append(entry)

    def batch(self) -> list[Entry]:
        """What to send next; its settlements follow the mark. Empty when nothing is ready."""
        if self._from_journal:
            return self._page
        found: list[Entry] = []
        leases = 0
        for entry in self._queue:
            leases += bool(entry.lease)
            if len(found) == BATCH or leases > BATCH_LEASES:
                break
            found.append(entry)
        return found

    def batch_end(self, batch: Sequence[Entry]) -> int:
        """The sequence that the mark moves to when ``batch`` is counted."""
        if self._from_journal:
            return self._page_end
        return batch[-1].sequence if batch else self.mark

    def confirm(self, mark: int) -> None:
        """Everything up to ``mark`` is counted; give back what waited for that."""
        self.mark = mark
        queue = self._queue
        while queue and queue[0].sequence <= mark:
            for view, amount in queue.popleft().pending:
                view.used -= amount
        if self._from_journal:
            if self._page_end <= mark:
                self._page = []
            if mark >= self.last:
                self._from_journal = False
                for view, amount in self._pending.items():
                    view.used -= amount
                self._pending.clear()

    def rewind(self, mark: int) -> None:
        """The store says ``mark``: go on from there, forward or back."""
        self._page = []
        if mark >= self.mark or self._history is None:
            self.confirm(mark)
            return
        self.mark = mark
        self._to_journal()

    def catch_up(self, last: int) -> None:
        """Read what the journal has from the mark up to ``last``."""
        self.last = max(self.last, last)
        self._from_journal = self._history is not None and self.mark < self.last

    async def read_page(self) -> None:
        """Fetch the next settlements from the journal, when they are needed."""
        if not self._from_journal or self._page or self._history is None:
            return
        found, end = await asyncio.to_thread(self._history, self.source, self.mark, HISTORY_PAGE)
        if end <= self.mark:
            # The newest record is written, but not visible yet; or it was lost with the disk.
            self._tries += 1
            if self._tries < PATIENT_TRIES:
                await asyncio.sleep(0.02)
                return
            log.error("settlements are not in the journal", source=self.source, sequence=self.last)
            end = self.last
        self._tries = 0
        # A lease that Redis does not know was admitted from slices: they are drawn on.
        for item in found:
            mine = [claim for claim in item.actuals if claim.counter.tenant == self.tenant]
            if mine:
                self._page.append(Entry(item.sequence, item.lease, False, mine, ()))
        self._page_end = end

    def _to_journal(self) -> None:
        self._from_journal = True
        for entry in self._queue:
            self._spill(entry)
        self._queue.clear()

    def _spill(self, entry: Entry) -> None:
        for view, amount in entry.pending:
            self._pending[view] = self._pending.get(view, 0) + amount


def combined(claims: Sequence[Claim]) -> list[Claim]:
    """``claims`` with those of one counter (and bucket) added up."""
    sums: dict[tuple[str, str, str, str, int], list[Claim]] = {}
    for claim in claims:
        counter = claim.counter
        sums.setdefault((*counter[:4], counter.starts_us if counter.bucket_us else 0), []).append(claim)
    return [Claim(same[0].counter, sum(claim.amount for claim in same)) for same in sums.values()]

"""Settlements as the journal tells them: for a store that was rebuilt, rolled back or long away.

What a record or an intent costs each counter is the policy's to say; here it is a function that is
handed in. The journal of a source that is over is charged to its end: an intent without a record is
charged as if its hold had been spent, and counts as unsettled. Corrections are events among the records.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from collector.domain.credit import Claim
from collector.domain.record import CallRecord, Intent
from collector.journal import Frame, FrameKind, segments
from collector.journal_reading import Place, Unreadable, frames_of, living, told
from collector.logs import get
from sidecar.budgets.corrections import corrections_in
from sidecar.budgets.store import CORRECTION, Settlement

log = get("bursar.budgets")

Charges = Callable[[CallRecord | Intent], Sequence[Claim]]
"""What a record spent of each counter, or an intent may have; empty when it touched none."""


class Ended(NamedTuple):
    """What a source that is over leaves behind."""

    last: int
    """Sequence of its last frame."""
    tenants: frozenset[str]
    open: tuple[Settlement, ...]
    """Its intents without a record, each charged at its hold, by the sequence of the intent."""


class JournalReader:
    """Reads what sources wrote; blocking, and used by one thread at a time."""

    def __init__(self, directory: Path, charges: Charges) -> None:
        self._directory = directory
        self.charges = charges
        self._place: dict[str, tuple[int, Place]] = {}
        """Where the last page of a source ended: sequence, place."""
        self._complained: set[str] = set()

    def sources(self) -> list[str]:
        """All sources that left segments here, oldest first."""
        return list(dict.fromkeys(segment.source for segment in segments(self._directory)))

    def dead(self) -> list[str]:
        """Those whose process is gone."""
        return [source for source in self.sources() if not living(self._directory, source)]

    def history(self, source: str, after: int, most: int) -> tuple[list[Settlement], int]:
        """At most ``most`` settlements after a sequence, and how far the journal was looked through."""
        found: list[Settlement] = []
        end = after
        try:
            for frame in self.frames(source, after):
                end = frame.sequence
                if frame.kind == FrameKind.EVENT:
                    lease, actuals = CORRECTION, corrections_in(frame.payload)
                elif isinstance(item := told(frame), CallRecord):
                    lease, actuals = item.call_id, tuple(self.charges(item))
                else:
                    continue
                if actuals:
                    found.append(Settlement(end, lease, actuals))
                if len(found) >= most:
                    break
        except Unreadable as error:
            self.complain(source, error)
        return found, end

    def ended(self, source: str) -> Ended:
        """What is left to do for ``source`` beside its records.

        Raises:
            Unreadable: it cannot be told now.
        """
        last = 0
        tenants: set[str] = set()
        open_: dict[str, Settlement] = {}
        for frame in self.frames(source, 0):
            last = frame.sequence
            if frame.kind == FrameKind.EVENT:
                tenants.update(claim.counter.tenant for claim in corrections_in(frame.payload))
            elif (item := told(frame)) is not None:
                actuals = tuple(self.charges(item))
                tenants.update(claim.counter.tenant for claim in actuals)
                if isinstance(item, Intent):
                    open_[item.call_id] = Settlement(last, item.call_id, actuals)
                else:
                    open_.pop(item.call_id, None)
        return Ended(last, frozenset(tenants), tuple(item for item in open_.values() if item.actuals))

    def frames(self, source: str, after: int) -> Iterator[Frame]:
        """The frames of ``source`` after a sequence, in order, as far as they are whole.

        Where the last look ended, the next one begins without a search.

        Raises:
            Unreadable: nothing behind those that were given can be told now.
        """
        known = self._place.get(source)
        place = known[1] if known is not None and known[0] == after else None
        for here, frame in frames_of(self._directory, source, after, place):
            self._place[source] = (frame.sequence, here)
            yield frame

    def complain(self, source: str, error: Unreadable) -> None:
        """Say, once for each source, that there is something which cannot be read."""
        if source not in self._complained:
            self._complained.add(source)
            log.error("what a source spent cannot be read", source=source, reason=str(error))

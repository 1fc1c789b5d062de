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
from collector.journal import (
    BadSegment,
    Frame,
    FrameKind,
    ReadEnd,
    decode_intent,
    decode_record,
    read_frames,
    segment_header,
    segments,
    source_is_alive,
)
from sidecar.budgets.corrections import corrections_in
from sidecar.budgets.store import CORRECTION, Settlement

Charges = Callable[[CallRecord | Intent], Sequence[Claim]]
"""What a record spent of each counter, or an intent may have; empty when it touched none."""

PAGE_BYTES = 1 << 20


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
        self._place: dict[str, tuple[int, Path, int]] = {}
        """Where the last page of a source ended: sequence, segment, offset."""

    def sources(self) -> list[str]:
        """All sources that left segments here, oldest first."""
        return list(dict.fromkeys(segment.source for segment in segments(self._directory)))

    def dead(self) -> list[str]:
        """Those whose process is gone."""
        return [source for source in self.sources() if not source_is_alive(self._directory, source)]

    def history(self, source: str, after: int, most: int) -> tuple[list[Settlement], int]:
        """At most ``most`` settlements after a sequence, and how far the journal was looked through."""
        found: list[Settlement] = []
        end = after
        for path, frame in self._placed_frames(source, after):
            end = frame.sequence
            self._place[source] = (end, path, frame.end)
            if frame.kind == FrameKind.RECORD:
                record = decode_record(frame.payload)
                actuals = tuple(self.charges(record))
                if actuals:
                    found.append(Settlement(end, record.call_id, actuals))
            elif frame.kind == FrameKind.EVENT and (corrected := corrections_in(frame.payload)):
                found.append(Settlement(end, CORRECTION, corrected))
            if len(found) >= most:
                break
        return found, end

    def ended(self, source: str) -> Ended:
        """What is left to do for ``source`` beside its records."""
        last = 0
        tenants: set[str] = set()
        open_: dict[str, Settlement] = {}
        for frame in self.frames(source, 0):
            last = frame.sequence
            if frame.kind == FrameKind.INTENT:
                intent = decode_intent(frame.payload)
                actuals = tuple(self.charges(intent))
                tenants.update(claim.counter.tenant for claim in actuals)
                open_[intent.call_id] = Settlement(last, intent.call_id, actuals)
            elif frame.kind == FrameKind.RECORD:
                record = decode_record(frame.payload)
                tenants.update(claim.counter.tenant for claim in self.charges(record))
                open_.pop(record.call_id, None)
            elif frame.kind == FrameKind.EVENT:
                tenants.update(claim.counter.tenant for claim in corrections_in(frame.payload))
        return Ended(last, frozenset(tenants), tuple(item for item in open_.values() if item.actuals))

    def frames_from(self, source: str, after: int) -> Iterator[Frame]:
        """As :meth:`frames`; where the last look ended, the next one begins without a search."""
        for path, frame in self._placed_frames(source, after):
            yield frame
            self._place[source] = (frame.sequence, path, frame.end)

    def frames(self, source: str, after: int) -> Iterator[Frame]:
        """The frames of ``source`` after a sequence, in order, as far as they are whole."""
        for _, frame in self._placed_frames(source, after):
            yield frame

    def _placed_frames(self, source: str, after: int) -> Iterator[tuple[Path, Frame]]:
        mine = [segment.path for segment in segments(self._directory) if segment.source == source]
        offset = 0
        placed = self._place.get(source)
        if placed is not None and placed[0] == after and placed[1] in mine:
            _, path, offset = placed
            mine = mine[mine.index(path) :]
        else:
            mine = self._from_sequence(mine, after)
        for path in mine:
            try:
                while True:
                    frames, end = read_frames(path, offset, PAGE_BYTES)
                    for frame in frames:
                        if frame.sequence > after:
                            yield path, frame
                    if not frames or end is not ReadEnd.MORE:
                        break
                    offset = frames[-1].end
            except (BadSegment, FileNotFoundError):
                # Cut off as it was being made, or archived meanwhile: it holds nothing for us.
                pass
            offset = 0

    def _from_sequence(self, paths: list[Path], after: int) -> list[Path]:
        first = 0
        for at, path in enumerate(paths):
            try:
                if segment_header(path).first_sequence <= after + 1:
                    first = at
            except (BadSegment, FileNotFoundError):
                continue
        return paths[first:]

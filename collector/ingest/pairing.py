"""From frames to what must be booked: pure bookkeeping, no clock and no database.

A frame is taken once, by its sequence. An intent opens a call, its record settles it; what
stays open is kept until the record comes or its source has ended. A record of a call that
was already booked from its intent takes that booking's place. An event is a row of its own.
"""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from collector.domain.record import CallRecord
from collector.frames import PackedFrames
from collector.ingest.clamp import sensible_instant
from collector.ingest.events import BudgetRow, OutcomeRow, SimilarRow, row_of
from collector.journal import Frame, FrameKind
from collector.journal_reading import record_of
from collector.native import native
from collector.store.packed import LARGEST, Columns, Facts, columns_of


class Mark(NamedTuple):
    """How far a source has been booked."""

    remote: bool = False
    """It comes by `POST /v1/journal`; its process is on another machine."""
    sequence: int = 0
    segment: int = 0
    position: int = 0
    """Offset in the segment after the last frame that was taken."""
    ended: bool = False
    """Its process is gone and all it wrote is booked."""


class Opened(NamedTuple):
    """An intent without a record, so far."""

    call_id: str
    source: str
    started_at_us: int
    intent: bytes


class Note(NamedTuple):
    """Something that could not be taken; shown, counted, never silent."""

    source: str
    reason: str
    """``gap``, ``torn``, ``corrupt``, ``undecodable``, ``clamped``, ``no_header``, ``unreadable``,
    ``no_segment``."""
    detail: str
    frames: int = 0
    """How many frames it cost, as far as sequences tell."""
    times: int = 1
    """How many of its kind it stands for."""


MOST_NOTES = 10
"""Of one kind about one source in one batch; those beyond are told together."""
MOST_LOST = 1 << 48
"""Frames that one note says were lost: a sequence may be anything, and sums of notes have a column, too."""


@dataclass(slots=True)
class Batch:
    """What one transaction books."""

    records: list[CallRecord] = field(default_factory=list)
    """Those that are not columns yet."""
    suspicious: bool = False
    """One of them is worth looking at field by field."""
    opened: dict[str, Opened] = field(default_factory=dict)
    settled: list[str] = field(default_factory=list)
    """Calls that were open before this batch and are not any more."""
    corrected: list[str] = field(default_factory=list)
    """Calls that were booked from their intent, whose record is in this batch."""
    presumed: list[Opened] = field(default_factory=list)
    """Calls that this batch books from their intent."""
    outcomes: list[OutcomeRow] = field(default_factory=list)
    budget_events: list[BudgetRow] = field(default_factory=list)
    similar_checks: list[SimilarRow] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    noted: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many there were, by source and reason."""
    more: dict[tuple[str, str], int] = field(default_factory=dict)
    """Where the note stands that tells of those beyond `MOST_NOTES`."""
    marks: dict[str, Mark] = field(default_factory=dict)
    frames: int = 0

    def __bool__(self) -> bool:
        return bool(self.frames or self.notes or self.marks or self.presumed)

    def note(self, source: str, reason: str, detail: str, frames: int = 0) -> None:
        """Tell of something that could not be taken; see `Note`."""
        kind = (source, reason)
        count = self.noted[kind] = self.noted.get(kind, 0) + 1
        frames = min(frames, MOST_LOST)
        if count <= MOST_NOTES:
            self.notes.append(Note(source, reason, detail, frames))
            return
        beyond = count - MOST_NOTES
        place = self.more.setdefault(kind, len(self.notes))
        if place == len(self.notes):
            self.notes.append(Note(source, reason, f"1 more: {detail}", frames))
        else:
            frames = min(self.notes[place].frames + frames, MOST_LOST)
            self.notes[place] = Note(source, reason, f"{beyond} more, the last: {detail}", frames, beyond)


class _Head(msgspec.Struct, array_like=True):
    """The first two fields of an intent; all that pairing needs of it."""

    call_id: str
    started_at_us: int


_RECORD, _INTENT, _EVENT = int(FrameKind.RECORD), int(FrameKind.INTENT), int(FrameKind.EVENT)
_intent_head = msgspec.msgpack.Decoder(_Head).decode


def in_columns(frames: Sequence[Frame], sequence: int, now_us: int) -> Columns | None:
    """The records in ``frames``, which follow ``sequence``, as columns at once.

    None where they are to be looked at one by one: one of them is not ordinary, or was taken before.
    """
    if isinstance(frames, PackedFrames) and frames.joined:
        columns = columns_of(frames) if frames and frames[0].sequence > sequence else None
    else:
        payloads = []
        for number, kind, payload, _ in frames:
            if number <= sequence:
                return None
            sequence = number
            if kind == _RECORD:
                payloads.append(payload)
        columns = columns_of(payloads)
    if columns is None:
        return None
    sensible = sensible_instant(columns.oldest_us, now_us) and sensible_instant(columns.latest_us, now_us)
    return columns if sensible else None


def take(
    batch: Batch,
    source: str,
    frames: Sequence[Frame],
    mark: Mark,
    opened: dict[str, Opened],
    presumed: AbstractSet[str],
    known: list[Facts] | None = None,
) -> None:
    """Add the frames of ``source`` that follow ``mark`` to ``batch``.

    Args:
        batch: what the transaction will hold; its mark of ``source`` moves on.
        source: whose frames.
        frames: in the order of the journal; those up to the mark are passed over.
        mark: where to go on; its segment and position are those after the last frame.
        opened: calls that are open before this batch.
        presumed: calls booked from their intent before this batch.
        known: of the records in ``frames``, in their order, where those are columns already; then none of
            them is added to the batch's records, and no frame lies before the mark.
    """
    if known is not None and _take_ordinary(batch, source, frames, mark, opened, presumed, known):
        return
    call_ids = None if known is None else iter([facts.call_id for facts in known])
    sequence = mark.sequence
    records, fresh = batch.records, batch.opened
    taken = 0
    for number, kind, payload, _ in frames:
        if number <= sequence:
            continue
        if number > sequence + 1:
            lost = number - sequence - 1
            batch.note(source, "gap", f"frames {sequence + 1} to {number - 1}", lost)
        sequence = number
        taken += 1
        try:
            if kind == _RECORD:
                if call_ids is not None:
                    call_id = next(call_ids)
                else:
                    record = record_of(payload)
                    call_id = record.call_id
                    batch.suspicious = batch.suspicious or len(payload) > LARGEST
                    records.append(record)
                if fresh.pop(call_id, None) is None:
                    if call_id in opened:
                        batch.settled.append(call_id)
                    elif call_id in presumed:
                        batch.corrected.append(call_id)
            elif kind == _INTENT:
                head = _intent_head(payload)
                if head.call_id in opened:
                    # A stream that holds more than it was opened with: the newer intent takes the place.
                    batch.settled.append(head.call_id)
                fresh[head.call_id] = Opened(head.call_id, source, head.started_at_us, payload)
            elif kind == _EVENT:
                row = row_of(payload, f"{source}:{sequence}")
                if isinstance(row, OutcomeRow):
                    batch.outcomes.append(row)
                elif isinstance(row, SimilarRow):
                    batch.similar_checks.append(row)
                else:
                    batch.budget_events.append(row)
            else:
                batch.note(source, "undecodable", f"kind {kind} at {sequence}", 1)
        except (ValueError, msgspec.MsgspecError, RecursionError) as error:
            batch.note(source, "undecodable", f"frame {sequence}: {str(error)[:200]}", 1)
    batch.frames += taken
    batch.marks[source] = mark._replace(sequence=sequence)


def _take_ordinary(
    batch: Batch,
    source: str,
    frames: Sequence[Frame],
    mark: Mark,
    opened: dict[str, Opened],
    presumed: AbstractSet[str],
    known: list[Facts],
) -> bool:
    """The same in C: whether it could be done there, for nothing lacks and all are intents and records."""
    if native is None or not isinstance(frames, PackedFrames) or not isinstance(presumed, set):
        return False
    if not (frames and frames.joined and frames[0].sequence == mark.sequence + 1):
        return False
    fresh = batch.opened
    stay = native.paired(
        frames.data, frames.places, known, opened, presumed, fresh, batch.settled, batch.corrected
    )
    if stay is None:
        return False
    for call_id, number in stay.items():
        payload = frames[number].payload
        fresh[call_id] = Opened(call_id, source, _intent_head(payload).started_at_us, payload)
    batch.frames += len(frames)
    batch.marks[source] = mark._replace(sequence=mark.sequence + len(frames))
    return True

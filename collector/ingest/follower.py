"""Follows the journal directory: what the sidecars of this machine wrote, read into batches.

One step reads what is new in every source, up to a budget, and books it in one transaction.
A transaction has a price of its own, whatever is in it: that of booking some four hundred
calls. So little is booked seldom and much at once; and whoever asks a question has what waits
booked first (`Follower.freshen`). The journal is on disk already: nothing is at risk by waiting.

One source that cannot be read is noted, and the others are booked.

A source is followed segment by segment; a torn or damaged end of a segment is passed only
when it cannot grow any more: a newer segment of the source exists, or its process is gone.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from collector.frames import packed_frames
from collector.ingest.books import Books
from collector.ingest.entry import Entry
from collector.ingest.pairing import Mark, Note, Opened
from collector.journal import (
    BadSegment,
    Frame,
    ReadEnd,
    Segment,
    read_frames,
    segment_header,
    segments,
    source_is_alive,
    strangers,
)

_LEAST_READ = 64 << 10
_MOST_HEADER = 4096
"""Bytes that a segment's header takes at most."""
_READ_AT_ONCE = 1 << 20
"""Frames are taken while they are still in the processor's cache: some two thousand."""
_MOST_STRANGERS = 100
_LONGEST_TURN_S = 2.0
"""How long a question waits for a step that is being made."""
_IDLE_STEP_S = 60.0
"""A step is made this often though nothing waits: an open call may have become overdue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowerConfig:
    """How much is read at once, and how long an open call may take."""

    step_bytes: int = 4 << 20
    """Frames taken into one transaction."""
    longest_call_s: float = 2100.0
    """An intent older than this has no record coming: the longest call a sidecar allows, and a grace."""
    liveness_interval_s: float = 2.0
    """Time between two looks at whether the sources still run."""
    enough_bytes: int = 256 << 10
    """When a look finds that this much waits, it is booked: some 300 calls."""
    rush_bytes: int = 1 << 20
    """When a step finds this much, more is looked for soon."""
    patience_s: float = 5.0
    """Less than that waits no longer than this."""
    fresh_s: float = 1.0
    """Of a step that was made so recently nobody asks for another."""


@dataclass(slots=True)
class Lag:
    """What is known of the part of the journal that is not booked yet."""

    bytes: int = 0
    since: float = 0.0
    """When the follower's clock showed that something has been waiting since; 0 when nothing is."""


class Follower:
    """Reads ``directory`` into ``books``.

    Args:
        directory: the journal's.
        books: where it is booked.
        config: limits.
        alive: whether the process of a source still runs.
        now: the clock, in Unix seconds, for what is told of calls.
        clock: monotonic seconds, for pauses and waits.
    """

    def __init__(
        self,
        directory: Path,
        books: Books,
        config: FollowerConfig | None = None,
        *,
        alive: Callable[[Path, str], bool] = source_is_alive,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.directory = directory
        self.books = books
        self.lag: dict[str, Lag] = {}
        self.busy = False
        """Whether the last step found as much as in a rush, and more has come since."""
        self._waited = 0
        """Bytes that waited when `due` looked last."""
        self._config = config or FollowerConfig()
        self._alive = alive
        self._now = now
        self._clock = clock
        self._looked_at = float("-inf")
        self._stepped_at = float("-inf")
        self._seen_at = clock()
        self._turn = threading.Lock()
        self._living: dict[str, bool] = {}
        self._noted: set[tuple[str, int | str, str]] = set()
        """Damage that was already told of, so that it is told once."""

    def step(self) -> int:
        """Book what is new, up to a budget; the number of frames.

        Raises:
            StoreError: nothing was booked; a later step begins at the same place.
        """
        with self._turn:
            return self._step()

    def due(self) -> bool:
        """Whether a step should be made now.

        Enough waits, or for long enough, or all of a rush has come, or a source has ended.
        """
        now = self._clock()
        with self._turn:
            found = self._found()
            self._look(found)
            waiting, since, ended = 0, now, False
            for source, parts in found.items():
                mark = self.books.marks.get(source, Mark())
                if mark.ended:
                    continue
                lag = self._measure(source, parts, mark)
                if lag.bytes:
                    waiting += lag.bytes
                    since = min(since, lag.since)
                ended = ended or not self._living.get(source, True)
            self._seen_at = now
            over, self._waited = self.busy and waiting == self._waited, waiting
            self.busy = self.busy and waiting > 0
            return (
                ended
                or (over and waiting > 0)
                or waiting >= self._config.enough_bytes
                or now - since >= self._config.patience_s
                or now - self._stepped_at >= _IDLE_STEP_S
            )

    def freshen(self) -> None:
        """Book what waits, for somebody who asks now; not if that was done a moment ago.

        Raises:
            StoreError: it was not booked.
        """
        if not self._turn.acquire(timeout=_LONGEST_TURN_S):
            return
        try:
            if self._clock() - self._stepped_at >= self._config.fresh_s:
                self._step()
        finally:
            self._turn.release()

    def lag_s(self) -> float:
        """How long the oldest frame that is not booked has been waiting."""
        waiting = [lag.since for lag in list(self.lag.values()) if lag.since]
        return max(0.0, self._clock() - min(waiting)) if waiting else 0.0

    def _step(self) -> int:
        found = self._found()
        self._look(found)
        batch = self.books.begin()
        budget = self._config.step_bytes
        for source, parts in found.items():
            budget -= self._read(batch, source, parts, max(budget, _LEAST_READ))
        self.busy = self._config.step_bytes - budget >= self._config.rush_bytes
        self._waited = 0
        self._presume_overdue(batch)
        self._note_strangers(batch)
        if batch:
            self.books.enter(batch)
            for source, mark in batch.marks.items():
                if mark.ended:
                    self._living.pop(source, None)
                    self.lag.pop(source, None)
                    self._noted = {noted for noted in self._noted if noted[0] != source}
        self._stepped_at = self._seen_at = self._clock()
        return batch.frames

    def catch_up(self, limit: int = 1 << 30) -> int:
        """Step until nothing is left to read; the number of frames."""
        total = 0
        while total < limit and (done := self.step()):
            total += done
        return total

    def _found(self) -> dict[str, list[Segment]]:
        found: dict[str, list[Segment]] = {}
        for segment in segments(self.directory):
            found.setdefault(segment.source, []).append(segment)
        return found

    # -- one source

    def _look(self, found: dict[str, list[Segment]]) -> None:
        """Ask who still runs, before reading: what they wrote until then is read afterwards."""
        if self._clock() - self._looked_at < self._config.liveness_interval_s:
            return
        self._looked_at = self._clock()
        for source in found:
            mark = self.books.marks.get(source)
            if mark is None or not mark.ended:
                try:
                    self._living[source] = self._alive(self.directory, source)
                except OSError:
                    # Nobody can tell: what it wrote last is waited for.
                    self._living[source] = True

    def _read(self, batch: Entry, source: str, parts: list[Segment], budget: int) -> int:
        """Read on in ``source``; the bytes taken."""
        mark = self.books.marks.get(source, Mark())
        taken = 0
        if mark.ended:
            # Its process is gone and the lock with it: whatever stands behind the mark was noted, and stays.
            return 0
        while taken < budget:
            part = _part_at(parts, mark)
            if part is None:
                break
            last = part is parts[-1]
            grows = last and self._living.get(source, True)
            if part.number != mark.segment:
                mark = mark._replace(segment=part.number, position=0)
            size = _size(part.path)
            if size <= mark.position and grows:
                break
            wanted = min(max(budget - taken, _LEAST_READ), _READ_AT_ONCE)
            try:
                frames, end, problem = _frames(part.path, mark.position, wanted)
            except OSError as error:
                # It may yet be readable, and what follows it must not overtake it.
                detail = f"{part.path.name} cannot be read, and is waited for: {error.strerror}"
                self._note(batch, Note(source, "unreadable", detail), part.number)
                break
            if frames:
                taken += frames[-1].end - mark.position
                position = frames[-1].end
                self.books.take(batch, source, frames, mark)
                mark = batch.marks[source]._replace(position=position)
                batch.marks[source] = mark
            if end is ReadEnd.MORE or (end is ReadEnd.END and frames and mark.position < size):
                continue
            if end is not ReadEnd.END:
                self._note_damage(batch, source, part, end, problem, mark.position, size, grows)
            if grows:
                break
            if last:
                self.books.finish(batch, source, batch.marks.get(source, mark))
                break
            mark = mark._replace(segment=part.number + 1, position=0)
            batch.marks[source] = mark
        self._measure(source, parts, mark)
        return taken

    def _note_damage(
        self,
        batch: Entry,
        source: str,
        part: Segment,
        end: ReadEnd,
        problem: str,
        position: int,
        size: int,
        grows: bool,
    ) -> None:
        # A torn frame at the end of a growing segment is one that is being written.
        # Nothing behind a position is no damage; nothing at all is a segment that lost even its header.
        if (grows and end is ReadEnd.TORN) or 0 < size <= position or not (size or part.path.exists()):
            return
        detail = problem or f"{part.path.name} ends at {position} of {size} bytes"
        self._note(batch, Note(source, "no_header" if problem else end.value, detail), part.number)

    def _note(self, batch: Entry, note: Note, where: int | str) -> None:
        """Tell of something, once."""
        told = (note.source, where, note.reason)
        if told not in self._noted:
            self._noted.add(told)
            batch.note(*note[:3])

    def _note_strangers(self, batch: Entry) -> None:
        """Files that somebody put here: nothing of them is booked."""
        for name in strangers(self.directory)[:_MOST_STRANGERS]:
            self._note(batch, Note("", "no_segment", f"{name} is no segment, and is not read"), name)

    def _presume_overdue(self, batch: Entry) -> None:
        """No call lasts this long: its record was lost."""
        before_us = int((self._now() - self._config.longest_call_s) * 1e6)
        settled = set(batch.settled)
        overdue: list[Opened] = [
            opened
            for opened in self.books.opened.values()
            if opened.started_at_us < before_us and opened.call_id not in settled
        ]
        self.books.presume(batch, overdue)

    def _measure(self, source: str, parts: list[Segment], mark: Mark) -> Lag:
        waiting = sum(_unread(part.path, 0) for part in parts if part.number > mark.segment)
        waiting += sum(_unread(part.path, mark.position) for part in parts if part.number == mark.segment)
        lag = self.lag.setdefault(source, Lag())
        lag.bytes = waiting
        # It came at some time after the last look; the longest wait that can be is counted.
        lag.since = (lag.since or self._seen_at) if waiting else 0.0
        return lag


def _part_at(parts: list[Segment], mark: Mark) -> Segment | None:
    """The segment that the mark stands in, or the next one that exists."""
    for part in parts:
        if part.number >= mark.segment:
            return part
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _unread(path: Path, position: int) -> int:
    """Bytes of frames behind ``position``; a header is none: sidecars start long before the first call."""
    waiting = max(0, _size(path) - position)
    if not position and 0 < waiting <= _MOST_HEADER:
        with suppress(BadSegment, OSError, ValueError, KeyError, TypeError):
            waiting = max(0, waiting - segment_header(path).body_offset)
    return waiting


def _frames(path: Path, position: int, budget: int) -> tuple[Sequence[Frame], ReadEnd, str]:
    """Whole frames, why they end, and what is wrong with the segment's header.

    Raises:
        OSError: it is there, and cannot be read.
    """
    try:
        frames, end = read_frames(path, position, max_bytes=budget, parse=packed_frames)
    except (BadSegment, FileNotFoundError, ValueError, KeyError, TypeError) as error:
        # Being created, or cut off before its header was whole.
        return [], ReadEnd.TORN, str(error)
    return frames, end, ""

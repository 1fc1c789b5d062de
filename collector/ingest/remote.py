"""Batches from sidecars of other machines: `POST /v1/journal`.

A batch is frames as they stand in a segment, compressed, of one source, in sequence. It is
taken whole or not at all; sent again, it changes nothing; one that does not follow what is
booked is refused with the sequence that would. What the sender does not have any more, it
says so (`gap`), and the books note what was lost.
"""

import gzip
import re
import zlib
from dataclasses import dataclass
from itertools import pairwise

from collector.frames import packed_frames
from collector.ingest.books import Books
from collector.ingest.pairing import Mark
from collector.journal import ReadEnd

MOST_BYTES = 1 << 20
"""Of a batch as it is sent."""
MOST_UNPACKED_BYTES = 16 << 20

_SOURCE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


class BadBatch(ValueError):
    """The batch is not one."""


class SequenceGap(ValueError):
    """The batch does not follow what is booked."""

    def __init__(self, expected: int) -> None:
        super().__init__(f"expected sequence {expected}")
        self.expected = expected


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteBatch:
    """What a shipper sends."""

    source: str
    body: bytes
    compressed: bool = True
    gap: bool = False
    """The frames before the first are lost; go on all the same."""
    ended: bool = False
    """The source's process is gone, and this is the last of it."""


def receive(books: Books, batch: RemoteBatch) -> int:
    """Book ``batch``; the sequence up to which its source is booked now.

    Raises:
        BadBatch: it cannot be read.
        SequenceGap: it begins later than it should.
        StoreError: the database would not take it; send it again.
    """
    if not _SOURCE.fullmatch(batch.source):
        raise BadBatch("source: letters, digits, and any of _.:- , up to 128")
    data = _unpacked(batch.body) if batch.compressed else batch.body
    frames, _, end = packed_frames(data)
    if end is not ReadEnd.END:
        raise BadBatch("the frames are not whole, or a check sum is wrong")
    with books.database.turn:
        mark = books.marks.get(batch.source, Mark(remote=True))
        if frames and frames[0].sequence > mark.sequence + 1 and not batch.gap:
            raise SequenceGap(mark.sequence + 1)
        if any(later.sequence != frame.sequence + 1 for frame, later in pairwise(frames)):
            raise BadBatch("the sequence of the frames has a hole")
        if not mark.remote:
            raise BadBatch("this source is followed on the collector's own machine")
        entry = books.begin()
        if frames:
            books.take(entry, batch.source, frames, mark)
        if batch.ended and not mark.ended:
            books.finish(entry, batch.source, entry.marks.get(batch.source, mark))
        if entry.frames or batch.ended:
            books.enter(entry)
        return books.marks.get(batch.source, mark).sequence


def _unpacked(body: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        data = unpacker.decompress(body, MOST_UNPACKED_BYTES + 1)
    except zlib.error as error:
        raise BadBatch("not gzip") from error
    if len(data) > MOST_UNPACKED_BYTES:
        raise BadBatch(f"more than {MOST_UNPACKED_BYTES >> 20} MiB when unpacked")
    if not unpacker.eof:
        raise BadBatch("the gzip stream is cut off")
    return data


def packed(frames: bytes) -> bytes:
    """Frames as a batch's body."""
    return gzip.compress(frames, compresslevel=1, mtime=0)

"""What a source wrote, in order, over all its segments: as much of it as can be trusted, and each frame once.

The rules are those by which the collector follows it (:mod:`collector.ingest.follower`):

- A torn or damaged end of a segment is passed when a newer segment of the source exists: then it cannot grow
  any more. Else reading ends there, and a later look goes on from the last whole frame.
- A segment that is gone was booked and let go of. One that is there and cannot be read is waited for, for
  what follows must not overtake it: whoever notes how far he came would never look at it again.
- A frame whose sequence came before is a copy. One whose payload is not what its kind says is passed over.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

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

PAGE_BYTES: Final = 1 << 20

UNDECODABLE: Final = (
    msgspec.MsgspecError, RecursionError, ValueError, TypeError, LookupError, AttributeError,
)  # fmt: skip
"""What decoding bytes may raise that somebody else wrote, or a version that we do not know."""

Item = TypeVar("Item", CallRecord, Intent)
_typed_record: Final = msgspec.msgpack.Decoder(CallRecord).decode
_typed_intent: Final = msgspec.msgpack.Decoder(Intent).decode


class Unreadable(Exception):
    """A segment is there and cannot be read; it may be later."""

    def __init__(self, path: Path, error: OSError) -> None:
        super().__init__(f"{path.name} cannot be read, and is waited for: {error.strerror}")


class Place(NamedTuple):
    """Where a frame stands."""

    path: Path
    end: int
    """Offset just after it."""


def record_of(payload: bytes) -> CallRecord:
    """The record in a frame, every field of its type.

    Raises:
        ValueError: it is no record.
    """
    return _typed(payload, CallRecord, _typed_record, decode_record)


def intent_of(payload: bytes) -> Intent:
    """The intent in a frame, every field of its type.

    Raises:
        ValueError: it is no intent.
    """
    return _typed(payload, Intent, _typed_intent, decode_intent)


def _typed(
    payload: bytes, kind: type[Item], decode: Callable[[bytes], Item], fit: Callable[[bytes], Item]
) -> Item:
    try:
        return decode(payload)
    except msgspec.ValidationError:
        # Of an older or newer writer: fit its fields first, then check their types.
        try:
            return msgspec.convert(fit(payload), kind)
        except UNDECODABLE as error:
            raise ValueError(f"not a {kind.__name__}: {error}") from error
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"not msgpack: {error}") from error


def told(frame: Frame) -> "CallRecord | Intent | None":
    """The record or the intent in a frame; None for an event, and where it cannot be told."""
    try:
        if frame.kind == FrameKind.RECORD:
            return record_of(frame.payload)
        return intent_of(frame.payload) if frame.kind == FrameKind.INTENT else None
    except ValueError:
        return None


def frames_in(path: Path, offset: int = 0) -> Iterator[Frame]:
    """The whole frames of one segment from ``offset`` on, as far as they reach; none where it is gone.

    Raises:
        Unreadable: it is there, and cannot be read.
    """
    while True:
        try:
            frames, end = read_frames(path, offset, PAGE_BYTES)
        except (BadSegment, FileNotFoundError):
            return  # Being made, cut off before its header was whole, or let go of meanwhile.
        except OSError as error:
            raise Unreadable(path, error) from error
        yield from frames
        if not frames or end is not ReadEnd.MORE:
            return
        offset = frames[-1].end


def frames_of(
    directory: Path, source: str, after: int, place: Place | None = None
) -> Iterator[tuple[Place, Frame]]:
    """The frames of ``source`` after a sequence, in order; ``place`` is where that sequence stands, if known.

    Raises:
        Unreadable: nothing behind those that were given can be told now.
    """
    paths = [segment.path for segment in segments(directory) if segment.source == source]
    offset = 0
    if place is not None and place.path in paths:
        paths = paths[paths.index(place.path) :]
        offset = place.end
    else:
        paths = _from_sequence(paths, after)
    for path in paths:
        for frame in frames_in(path, offset):
            if frame.sequence > after:
                after = frame.sequence
                yield Place(path, frame.end), frame
        offset = 0


def living(directory: Path, source: str) -> bool:
    """Whether ``source`` may still be written to; so taken where nobody can tell.

    To be asked before its frames are read: what it wrote until then is read afterwards.
    """
    try:
        return source_is_alive(directory, source)
    except OSError:
        return True


def _from_sequence(paths: list[Path], after: int) -> list[Path]:
    """Those that may hold what follows a sequence: from the last on that begins no later."""
    first = 0
    for at, path in enumerate(paths):
        try:
            if segment_header(path).first_sequence <= after + 1:
                first = at
        except (BadSegment, OSError):
            continue
    return paths[first:]

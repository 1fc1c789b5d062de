"""The journal: what happened, in order, on this machine's disk. Everything else is derived from it.

A *source* is one run of one sidecar worker. It appends to its own segments,
``<source>-<number>.seg``, and never to those of an earlier run:

    segment  = magic, header, frame, frame, ...
    header   = u32 length, u32 crc32, msgpack {source, version, first_sequence, created_us}
    frame    = u32 payload length, u32 crc32(sequence, kind, payload), u64 sequence, u8 kind, payload

All integers are little-endian. A payload is the msgpack array of an ``Intent``, a
``CallRecord`` or an ``Event``. ``sequence`` counts every frame of a source from 1, over all its
segments, so a reader knows what it lacks. A frame is one ``write()``: after
``kill -9`` the file ends in whole frames or in one torn frame, and a reader stops
before the first frame that is not whole. What a power cut may take is bounded by the
interval between two ``fdatasync``, which a thread calls: a request never waits for it.

Measured: encode and write 2.4 us a frame, ``fdatasync`` 4 to 8 ms.
"""

import contextlib
import errno
import fcntl
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, NoReturn

import msgspec

from collector.domain.record import AttemptRecord, CallRecord, Event, Intent
from collector.journal_names import Segment as Segment
from collector.journal_names import segment_name as segment_name
from collector.journal_names import segments as segments
from collector.journal_names import strangers as strangers
from collector.journal_room import JournalFull, Pressure, lightened, pressure_of

MAGIC = b"BURSARJ\x01"
FORMAT_VERSION = 1
MAX_FRAME_BYTES = 16 << 20
MAX_SEQUENCE = (1 << 63) - 1
"""No source writes as many frames: a larger number is damage, and no column holds it."""

_HEADER = struct.Struct("<II")
_FRAME = struct.Struct("<IIQB")
_SEQUENCED = struct.Struct("<QB")

_monotonic = time.monotonic
_MEASURE_EVERY_S = 2.0
_RING_FRAMES_AT_ONCE = 64
_HELD_FRAMES = 256

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class FrameKind(IntEnum):
    """What a frame holds."""

    INTENT = 1
    RECORD = 2
    EVENT = 3


_INTENT, _RECORD = FrameKind.INTENT, FrameKind.RECORD  # looking a member up takes a while


class Frame(NamedTuple):
    """One whole frame of a segment."""

    sequence: int
    kind: int
    payload: bytes
    end: int
    """Offset in the segment just after this frame."""


class ReadEnd(StrEnum):
    """Why a reader stopped where it did."""

    MORE = "more"
    """The byte budget was used up; more frames may follow."""
    END = "end"
    """Nothing follows, for now."""
    TORN = "torn"
    """An incomplete frame follows: being written, or cut off by a crash."""
    CORRUPT = "corrupt"
    """A frame follows whose check sum is wrong; nothing after it can be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """What a segment says of itself."""

    source: str
    version: int
    first_sequence: int
    created_us: int
    body_offset: int
    """Where its first frame begins."""


class BadSegment(ValueError):
    """The file is not a segment of a format that we know."""


# ---- reading -----------------------------------------------------------------------------


def segment_header(path: Path) -> SegmentHeader:
    """The header of the segment at ``path``.

    Raises:
        BadSegment: it has none that we can read (being created, cut off, or of another format).
    """
    with path.open("rb") as file:
        start = file.read(len(MAGIC) + _HEADER.size)
        if len(start) < len(MAGIC) + _HEADER.size or not start.startswith(MAGIC):
            raise BadSegment(f"{path.name}: not a journal segment")
        length, crc = _HEADER.unpack_from(start, len(MAGIC))
        packed = file.read(length) if length <= 4096 else b""
    if len(packed) != length or zlib.crc32(packed) != crc:
        raise BadSegment(f"{path.name}: damaged header")
    try:
        fields = _decode(packed)
        return SegmentHeader(
            source=fields["source"],
            version=fields["version"],
            first_sequence=fields["first_sequence"],
            created_us=fields["created_us"],
            body_offset=len(start) + length,
        )
    except (msgspec.MsgspecError, RecursionError, LookupError, TypeError, ValueError) as error:
        raise BadSegment(f"{path.name}: no segment's header") from error


def read_frames(
    path: Path,
    offset: int = 0,
    max_bytes: int = 4 << 20,
    parse: "Callable[[bytes, int], tuple[Sequence[Frame], int, ReadEnd]] | None" = None,
) -> tuple[Sequence[Frame], ReadEnd]:
    """Whole frames of the segment at ``path`` from ``offset`` on; 0 means its beginning.

    Returns at most about ``max_bytes`` of frames, at least one if there is one. The frames
    are always an exact prefix of what was written after ``offset``. ``parse`` may take the
    place of :func:`parse_frames`.

    Raises:
        BadSegment: ``offset`` is 0 and the segment has no readable header.
    """
    if offset == 0:
        offset = segment_header(path).body_offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(max_bytes)
        if len(data) >= _FRAME.size:
            whole = _FRAME.size + _FRAME.unpack_from(data)[0]
            if len(data) < whole <= _FRAME.size + MAX_FRAME_BYTES:
                data += file.read(whole - len(data))
    frames, used, end = (parse or parse_frames)(data, offset)
    if end is not ReadEnd.CORRUPT and len(data) >= max_bytes and used:
        end = ReadEnd.MORE
    return frames, end


def parse_frames(data: bytes, offset: int = 0) -> tuple[list[Frame], int, ReadEnd]:
    """Whole frames at the beginning of ``data``, the bytes they take, and why they end there."""
    frames: list[Frame] = []
    position, size = 0, len(data)
    unpack, head, crc32, view = _FRAME.unpack_from, _FRAME.size, zlib.crc32, memoryview(data)
    add, new = frames.append, tuple.__new__
    while position < size:
        start = position + head
        if start > size:
            # Zeros after the last frame are what a file system leaves after a power cut.
            return frames, position, ReadEnd.TORN
        length, crc, sequence, kind = unpack(data, position)
        end = start + length
        if length > MAX_FRAME_BYTES or (length == 0 and crc == 0):
            return frames, position, ReadEnd.CORRUPT
        if end > size:
            return frames, position, ReadEnd.TORN
        # Sequence, kind and payload lie side by side.
        if crc32(view[position + 8 : end]) != crc or sequence > MAX_SEQUENCE:
            return frames, position, ReadEnd.CORRUPT
        # A named tuple's own constructor takes three times as long.
        add(new(Frame, (sequence, kind, data[start:end], offset + end)))
        position = end
    return frames, position, ReadEnd.END


_ATTEMPTS = CallRecord._fields.index("attempts")


def decode_record(payload: bytes) -> CallRecord:
    """The record in a frame; fields that an older writer did not know take their defaults."""
    fields = _fitted(_decode(payload), CallRecord._fields, CallRecord._field_defaults)
    fields[_ATTEMPTS] = tuple(decode_attempt(attempt) for attempt in fields[_ATTEMPTS])
    return CallRecord._make(fields)


def decode_attempt(values: list[Any]) -> AttemptRecord:
    """An attempt from the array inside its call's record."""
    return AttemptRecord._make(_fitted(values, AttemptRecord._fields, AttemptRecord._field_defaults))


def decode_intent(payload: bytes) -> Intent:
    """The intent in a frame."""
    return Intent._make(_fitted(_decode(payload), Intent._fields, Intent._field_defaults))


def decode_event(payload: bytes) -> Event:
    """The event in a frame."""
    return Event._make(_fitted(_decode(payload), Event._fields, Event._field_defaults))


def _fitted(values: list[Any], names: tuple[str, ...], defaults: dict[str, Any]) -> list[Any]:
    if len(values) < len(names):
        values.extend(defaults[name] for name in names[len(values) :])
    return values[: len(names)]


# ---- writing -----------------------------------------------------------------------------


_NONE, _FULL = Pressure.NONE, Pressure.FULL


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalConfig:
    """How the journal spends disk and time."""

    segment_bytes: int = 32 << 20
    """Size at which a new segment is begun."""
    cap_bytes: int = 1 << 30
    """Disk that all segments of the folder may take."""
    reserve_bytes: int = 64 << 20
    """The last part of the cap, kept for cost records alone."""
    sync_interval_s: float = 0.1
    """Time between two fdatasync; what a power cut may take."""
    sync_always: bool = False
    """For audits: fdatasync before a call is answered in full (4 to 9 ms)."""
    slow_write_s: float = 0.005
    """Two writes in a row slower than this send the next ones through memory, until the disk is quick
    again. A single one may have waited for a processor, and not for the disk."""
    ring_frames: int = 10_000
    """Frames that memory holds while the disk is slow."""


def lock_path(directory: Path, source: str) -> Path:
    """The file that a living source holds a lock on."""
    return directory / f"{source}.lock"


def source_is_alive(directory: Path, source: str) -> bool:
    """Whether the process that writes ``source`` still runs on this machine."""
    try:
        fd = os.open(lock_path(directory, source), os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(fd)


class JournalWriter:
    """Appends intents and records of one source.

    ``frame`` may take the place of :func:`frame_bytes`.

    ``intent`` and ``record`` are called from one thread (the event loop's); a second
    thread syncs, measures the folder and empties the ring.
    """

    def __init__(
        self,
        directory: Path,
        source: str,
        config: JournalConfig | None = None,
        *,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        frame: "Callable[[int, FrameKind, bytes], bytes] | None" = None,
    ) -> None:
        self.source = source
        self.sequence = 0
        self.pressure = Pressure.NONE
        self.dropped = 0
        """Frames lost because neither disk nor ring had room."""
        self.unsynced_since: float | None = None
        """Monotonic time of the oldest write that is not on the platter yet."""
        self._directory = directory
        self._config = config or JournalConfig()
        self._now_us = now_us
        self._frame = frame or frame_bytes
        self._number = 0
        self._fd = -1
        self._size = 0
        self._torn = False  # whether the segment ends in the beginning of a frame
        self.on_held: Callable[[], None] = lambda: None
        """Called when a frame is the first that waits for :meth:`flush`."""
        self._held: list[bytes] = []
        self._ring: deque[bytes] = deque()
        self._slow = False
        self._last_was_slow = False
        self._mutex = threading.RLock()
        """Held while the segment changes or the ring is emptied; never while syncing."""
        directory.mkdir(parents=True, exist_ok=True)
        self._lock_fd = os.open(lock_path(directory, source), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        # The name is ours alone; only a reader that asks whether we live holds it, for a moment.
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        self._measure()
        self._open_segment()
        self._open = threading.Lock()
        self._open.acquire()
        self._stirred: SimpleQueue[None] = SimpleQueue()
        self._resting = False
        self._syncer = threading.Thread(target=self._tend, name="journal-sync", daemon=True)
        self._syncer.start()

    # ``later`` holds a frame back until :meth:`flush`, which whoever asks for it sees to: one write for many.

    def intent(self, intent: Intent, *, later: bool = False) -> None:
        """Write down that ``intent`` may now spend money.

        Raises:
            JournalFull: there is no room; the caller decides whether the call goes on.
        """
        if self.pressure is _FULL:
            raise JournalFull(errno.ENOSPC, "the journal has no room")
        self._append(_INTENT, _encode(intent), later=later)

    def record(self, record: CallRecord, *, later: bool = False) -> None:
        """Write down how a call ended. Never raises: what cannot be written is counted."""
        if self.pressure is not _NONE:
            record = lightened(record, self.pressure)
        try:
            self._append(_RECORD, _encode(record), later=later)
        except JournalFull:
            self.dropped += 1

    def event(self, event: Event) -> None:
        """Write down something that is no call. Never raises: what cannot be written is counted."""
        try:
            self._append(FrameKind.EVENT, _encode(event))
        except JournalFull:
            self.dropped += 1

    @property
    def backlog(self) -> int:
        """Frames that wait in memory for a slow disk."""
        return len(self._ring)

    def close(self) -> None:
        """Write and sync what is left, and let go of the source."""
        self.flush()
        self._open.release()
        self._stirred.put(None)
        self._syncer.join()
        with self._mutex:
            self._empty_ring()
        with contextlib.suppress(OSError):
            os.fdatasync(self._fd)
        os.close(self._fd)
        lock_path(self._directory, self.source).unlink(missing_ok=True)
        os.close(self._lock_fd)

    # -- one frame

    def _append(self, kind: FrameKind, payload: bytes, *, later: bool = False) -> None:
        sequence = self.sequence + 1
        frame = self._frame(sequence, kind, payload)
        if later and not (self._slow or self._ring):
            held = self._held
            held.append(frame)
            self.sequence = sequence
            if len(held) == 1:
                self.on_held()
            elif len(held) >= _HELD_FRAMES:
                self.flush()
            return
        if self._held:
            self.flush()
        if self._slow or self._ring:
            if len(self._ring) >= self._config.ring_frames:
                raise JournalFull(errno.ENOSPC, "the disk is too slow and the ring is full")
            self._ring.append(frame)
            self.sequence = sequence
            return
        # No lock here: the second thread writes only while the ring holds something, or the disk is slow.
        started = _monotonic()
        self._write(frame)
        self.sequence = sequence
        self._written(started)

    def flush(self) -> None:
        """Write what is held back. Never raises: what the disk does not take waits in the ring."""
        held = self._held
        if not held:
            return
        self._held = []
        started = _monotonic()
        try:
            while held and not self._ring:
                del held[: self._write_some(held)]
        except OSError:
            self._slow = True
        self._ring.extend(held)
        try:
            self._written(started)
        except OSError:
            self._slow = True  # Not synced: `unsynced_since` tells of it, and the second thread tries again.

    def _written(self, started: float) -> None:
        """Note what was begun to be written at ``started``, and how long it took."""
        if self.unsynced_since is None:
            self.unsynced_since = started
            if self._resting:
                self._resting = False
                self._stirred.put(None)
        if self._config.sync_always:
            os.fdatasync(self._fd)
        elif _monotonic() - started > self._config.slow_write_s:
            self._slow, self._last_was_slow = self._last_was_slow, True
        elif self._last_was_slow:
            self._last_was_slow = False

    def _write(self, frame: bytes) -> None:
        while True:
            # A torn frame ends what a reader trusts of a segment; the whole frame begins the next.
            if self._torn or self._size + len(frame) > self._config.segment_bytes:
                self._open_segment()
            try:
                written = os.write(self._fd, frame)
            except OSError as error:
                self._no_room(error)
            self._size += written
            self._torn = written != len(frame)
            if not self._torn:
                return

    def _no_room(self, error: OSError) -> NoReturn:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG):
            self.pressure = Pressure.FULL
            raise JournalFull(error.errno, f"journal: {error.strerror}") from error
        raise error

    def _open_segment(self) -> None:
        self._number += 1
        path = self._directory / segment_name(self.source, self._number)
        fields = {
            "source": self.source,
            "version": FORMAT_VERSION,
            "first_sequence": self.sequence + 1,
            "created_us": self._now_us(),
        }
        packed = _encode(fields)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o640)
        head = MAGIC + _HEADER.pack(len(packed), zlib.crc32(packed)) + packed
        try:
            if os.write(fd, head) != len(head):
                raise OSError(errno.ENOSPC, "short write")
        except OSError as error:
            os.close(fd)
            path.unlink(missing_ok=True)
            self._no_room(error)
        with self._mutex:
            old, self._fd, self._size, self._torn = self._fd, fd, len(head), False
        if old >= 0:
            with contextlib.suppress(OSError):
                os.fdatasync(old)
            os.close(old)

    # -- the second thread

    def _tend(self) -> None:
        measured = time.monotonic()
        # Locks and queues of C: what is woken ten times a second stands between the chunks of streams.
        while not self._open.acquire(timeout=self._config.sync_interval_s):
            if self._slow or self._ring:
                with self._mutex:
                    self._empty_ring()
            if self.unsynced_since is not None:
                # Cleared first: a write during the sync counts as unsynced again.
                self.unsynced_since = None
                with self._mutex:
                    fd = os.dup(self._fd)
                try:
                    os.fdatasync(fd)
                except OSError:
                    self.unsynced_since = time.monotonic()
                finally:
                    os.close(fd)
            if time.monotonic() - measured > _MEASURE_EVERY_S or self.pressure is _FULL:
                measured = time.monotonic()
                self._measure()
            self._rest()

    def _rest(self) -> None:
        """Wait for a write, where there is nothing to do before one."""
        self._resting = True
        # Looked at after that was said: a write that comes in between is seen here, or stirs us.
        if self.unsynced_since is None and not self._ring and not self._slow and self.pressure is not _FULL:
            with contextlib.suppress(Empty):
                self._stirred.get(timeout=_MEASURE_EVERY_S)
        self._resting = False

    def _empty_ring(self) -> None:
        """Write what waits, many frames at once: for each write this thread has to wait for its turn."""
        ring = self._ring
        while ring:
            started = _monotonic()
            frames = [ring[place] for place in range(min(len(ring), _RING_FRAMES_AT_ONCE))]
            try:
                done = self._write_some(frames)
            except OSError:
                return
            for _ in range(done):
                ring.popleft()
            self.unsynced_since = self.unsynced_since or started
        self._slow = self._last_was_slow = False

    def _write_some(self, frames: list[bytes]) -> int:
        """Write ``frames``, or the first where this segment has no room for all; how many were written."""
        joined = b"".join(frames) if len(frames) > 1 else frames[0]
        if self._torn or len(frames) == 1 or len(joined) > self._config.segment_bytes - self._size:
            self._write(frames[0])
            return 1
        try:
            written = os.write(self._fd, joined)
        except OSError as error:
            self._no_room(error)
        self._size += written
        done = 0
        while done < len(frames) and written >= len(frames[done]):
            written -= len(frames[done])
            done += 1
        self._torn = written > 0
        return done

    def _measure(self) -> None:
        config = self._config
        taken = 0
        for segment in segments(self._directory):
            with contextlib.suppress(FileNotFoundError):
                taken += segment.path.stat().st_size
        disk = os.statvfs(self._directory)
        free = disk.f_bavail * disk.f_frsize
        left = min(config.cap_bytes - taken, free)
        self.pressure = pressure_of(left, config.reserve_bytes)


def frame_bytes(sequence: int, kind: int, payload: bytes) -> bytes:
    """One frame as it stands in a segment or in a batch between machines."""
    body = _SEQUENCED.pack(sequence, kind) + payload
    return _HEADER.pack(len(payload), zlib.crc32(body)) + body


def encoded(items: Iterable[Intent | CallRecord], first_sequence: int = 1) -> bytes:
    """Frames of ``items`` with ascending sequence numbers."""
    frames = []
    for sequence, item in enumerate(items, first_sequence):
        kind = FrameKind.INTENT if isinstance(item, Intent) else FrameKind.RECORD
        frames.append(frame_bytes(sequence, kind, _encode(item)))
    return b"".join(frames)

"""Letting go of journal segments that are booked.

A booked segment is kept for a while all the same: it is the archive from which the ledger is
rebuilt. It goes when it is old enough, or when the archive takes more room than it may.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from collector.ingest.pairing import Mark
from collector.journal import Segment, lock_path, segments, source_is_alive


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveConfig:
    """How much of what is booked is kept."""

    grace_s: float = 86_400.0
    """How long a booked segment stays."""
    cap_bytes: int = 384 << 20
    """Room that booked segments may take; the oldest go first."""


def booked(found: list[Segment], marks: Mapping[str, Mark]) -> list[Segment]:
    """Segments of which every frame is in the ledger, and to which nothing more will be written."""
    return [
        segment
        for segment in found
        if (mark := marks.get(segment.source)) is not None and (segment.number < mark.segment or mark.ended)
    ]


def let_go(
    directory: Path,
    marks: Mapping[str, Mark],
    config: ArchiveConfig,
    *,
    now: Callable[[], float] = time.time,
) -> list[Path]:
    """Delete booked segments that are past their grace or beyond the cap; returns them."""
    found = []
    for segment in booked(segments(directory), marks):
        with suppress(FileNotFoundError):
            status = segment.path.stat()
            found.append((status.st_mtime, status.st_size, segment))
    found.sort(key=lambda entry: entry[0])
    total = sum(size for _, size, _ in found)
    gone = []
    for modified, size, segment in found:
        if now() - modified < config.grace_s and total <= config.cap_bytes:
            break
        segment.path.unlink(missing_ok=True)
        total -= size
        gone.append(segment.path)
    _remove_locks(directory, {segment.source for _, _, segment in found})
    return gone


def _remove_locks(directory: Path, sources: set[str]) -> None:
    """The lock files of sources that are over and have no segment left."""
    left = {segment.source for segment in segments(directory)}
    for source in sources - left:
        if not source_is_alive(directory, source):
            lock_path(directory, source).unlink(missing_ok=True)

"""The files of a journal, told by their names alone: whose segment, and which."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

SUFFIX = ".seg"
_MOST_DIGITS = 19
"""Of a segment's number: with fewer it fits its column."""


class Segment(NamedTuple):
    """A segment file, known by its name alone."""

    path: Path
    source: str
    number: int


def segments(directory: Path) -> list[Segment]:
    """The segments in ``directory``, by source and number; empty where there is no such folder."""
    return _told_apart(directory)[0]


def strangers(directory: Path) -> list[str]:
    """The names in ``directory`` that end as a segment's does, and are none that a writer makes."""
    return _told_apart(directory)[1]


def _told_apart(directory: Path) -> tuple[list[Segment], list[str]]:
    found: list[Segment] = []
    others: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        for entry in os.scandir(directory):
            if not entry.name.endswith(SUFFIX):
                continue
            segment = _segment_of(entry)
            if segment is None:
                others.append(ascii(entry.name)[1:-1])
            else:
                found.append(segment)
    found.sort(key=lambda segment: (segment.source, segment.number))
    return found, others


def _segment_of(entry: "os.DirEntry[str]") -> Segment | None:
    source, _, number = entry.name.removesuffix(SUFFIX).rpartition("-")
    if not (source and number.isascii() and number.isdecimal() and len(number) < _MOST_DIGITS):
        return None
    if not entry.name.isprintable():  # What is not UTF-8 is not, either.
        return None
    # One number has one name, so that no two segments of a source have the same.
    if segment_name(source, int(number)) != entry.name:
        return None
    try:
        return Segment(Path(entry.path), source, int(number)) if entry.is_file() else None
    except OSError:
        return None


def segment_name(source: str, number: int) -> str:
    """The file name of a segment."""
    return f"{source}-{number:06d}{SUFFIX}"

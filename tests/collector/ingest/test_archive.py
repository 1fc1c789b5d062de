"""What is kept of the journal after it is booked."""

import os
import time

from collector.ingest.archive import ArchiveConfig, let_go
from collector.ingest.pairing import Mark
from collector.journal import lock_path, segments


def written(journal, call, source="a", calls=60):
    journal.write(*(call() for _ in range(calls)), source=source, segment_bytes=10_000)
    return [segment for segment in segments(journal.directory) if segment.source == source]


def age(segment, seconds):
    at = time.time() - seconds
    os.utime(segment.path, (at, at))


def test_a_booked_segment_goes_after_its_grace_and_no_other_does(journal, call):
    parts = written(journal, call)
    assert len(parts) > 3
    for part in parts:
        age(part, 500)
    marks = {"a": Mark(segment=parts[2].number)}

    assert let_go(journal.directory, marks, ArchiveConfig(grace_s=1000)) == []
    gone = let_go(journal.directory, marks, ArchiveConfig(grace_s=100))

    assert gone == [parts[0].path, parts[1].path]
    assert segments(journal.directory) == parts[2:]


def test_every_segment_of_a_source_that_ended_goes_and_its_lock_with_them(journal, call):
    parts = written(journal, call)
    for part in parts:
        age(part, 500)
    lock_path(journal.directory, "a").touch()

    let_go(journal.directory, {"a": Mark(segment=parts[-1].number, ended=True)}, ArchiveConfig(grace_s=100))

    assert list(journal.directory.iterdir()) == []


def test_the_oldest_go_before_their_grace_when_the_archive_is_too_large(journal, call):
    parts = written(journal, call)
    for number, part in enumerate(parts):
        age(part, 100 - number)
    sizes = [part.path.stat().st_size for part in parts]
    marks = {"a": Mark(segment=parts[-1].number, ended=True)}

    let_go(journal.directory, marks, ArchiveConfig(grace_s=10_000, cap_bytes=sizes[-1] + sizes[-2]))

    assert segments(journal.directory) == parts[-2:]


def test_what_is_not_booked_is_never_deleted(journal, call):
    parts = written(journal, call)
    for part in parts:
        age(part, 10**6)

    let_go(journal.directory, {}, ArchiveConfig(grace_s=0, cap_bytes=0))

    assert segments(journal.directory) == parts

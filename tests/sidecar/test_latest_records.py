"""What a journal tells a sidecar of past conversations, after whatever became of its files."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from collector import journal_reading
from collector.journal import FrameKind, JournalConfig, JournalWriter, frame_bytes, segments
from sidecar import stitching
from sidecar.stitching import latest_records
from tests.sidecar.budgets.past_frames import call_record


def written(folder: Path, source: str, ends: range, segment_bytes: int = 1 << 20) -> None:
    writer = JournalWriter(folder, source, JournalConfig(segment_bytes=segment_bytes))
    for end in ends:
        writer.record(call_record(f"{source}{end}", 1)._replace(started_at_us=end))
    writer.close()
    for number, segment in enumerate(segments(folder)):
        os.utime(segment.path, ns=(0, 1_000_000_000 + number))


def names(folder: Path, most: int = 100) -> list[str]:
    return [record.call_id for record in latest_records(folder, most)]


def test_the_latest_calls_of_workers_that_write_side_by_side_are_told_in_their_order(tmp_path: Path) -> None:
    written(tmp_path, "a", range(0, 20, 2))
    written(tmp_path, "b", range(1, 21, 2))

    assert names(tmp_path) == [f"{'ab'[end % 2]}{end}" for end in range(20)]
    assert names(tmp_path, 4) == ["a16", "b17", "a18", "b19"]


def test_a_segment_that_is_let_go_of_meanwhile_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "a", range(3))
    written(tmp_path, "b", range(3, 6))
    listed = segments(tmp_path)
    monkeypatch.setattr(stitching, "segments", lambda folder: listed)
    listed[0].path.unlink()

    assert names(tmp_path) == ["b3", "b4", "b5"]


def test_a_frame_that_cannot_be_told_costs_only_itself(tmp_path: Path) -> None:
    written(tmp_path, "a", range(2))
    (segment,) = segments(tmp_path)
    with segment.path.open("ab") as file:
        file.write(frame_bytes(3, FrameKind.RECORD, b"\xc1"))
        file.write(frame_bytes(4, FrameKind.RECORD, b"\x91" * 4000))
        file.write(frame_bytes(5, FrameKind.INTENT, b"\xc1"))

    assert names(tmp_path) == ["a0", "a1"]


def test_a_segment_that_cannot_be_read_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "a", range(2))
    written(tmp_path, "b", range(2, 4))
    read = journal_reading.read_frames

    def refused(path: Path, *args: Any) -> Any:
        if path.name.startswith("a-"):
            raise OSError(errno.EIO, "Input/output error")
        return read(path, *args)

    monkeypatch.setattr(journal_reading, "read_frames", refused)
    assert names(tmp_path) == ["b2", "b3"]


def test_a_journal_cut_at_any_byte_tells_of_the_calls_before(tmp_path: Path) -> None:
    written(tmp_path, "a", range(3))
    (segment,) = segments(tmp_path)
    whole = segment.path.read_bytes()
    ends = [frame.end for frame in journal_reading.frames_in(segment.path)]
    for cut in range(len(whole)):
        segment.path.write_bytes(whole[:cut])
        assert names(tmp_path) == [f"a{number}" for number in range(sum(end <= cut for end in ends))]

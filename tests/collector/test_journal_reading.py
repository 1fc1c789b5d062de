"""Reading what sources wrote: cut at every byte, damaged, copied, let go of, not readable."""

import errno
from pathlib import Path
from typing import Any

import pytest

from collector import journal_reading
from collector.domain.record import CallRecord, Intent
from collector.journal import FrameKind, JournalConfig, JournalWriter, frame_bytes, segments
from collector.journal_reading import Place, Unreadable, frames_in, frames_of, living, told
from tests.sidecar.budgets.past_frames import call_record, intent


def written(folder: Path, count: int = 6, source: str = "a", segment_bytes: int = 1 << 20) -> None:
    writer = JournalWriter(folder, source, JournalConfig(segment_bytes=segment_bytes))
    for number in range(count):
        writer.record(call_record(f"{source}{number}", number))
    writer.close()


def sequences(folder: Path, source: str = "a", after: int = 0, place: Place | None = None) -> list[int]:
    return [frame.sequence for _, frame in frames_of(folder, source, after, place)]


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, error: OSError) -> None:
    read = journal_reading.read_frames

    def refused(path: Path, *args: Any) -> Any:
        if path.name == name:
            raise error
        return read(path, *args)

    monkeypatch.setattr(journal_reading, "read_frames", refused)


def test_a_journal_cut_at_any_byte_is_read_to_its_last_whole_frame_and_on_when_it_has_grown(
    tmp_path: Path,
) -> None:
    written(tmp_path)
    (segment,) = segments(tmp_path)
    whole = segment.path.read_bytes()
    ends = [frame.end for frame in frames_in(segment.path)]
    for cut in range(len(whole)):
        segment.path.write_bytes(whole[:cut])
        place, last = None, 0
        for place, frame in frames_of(tmp_path, "a", 0):  # noqa: B007 - where it ended is what counts
            last = frame.sequence
        assert last == sum(end <= cut for end in ends)
        segment.path.write_bytes(whole)
        # From the place, and without it: both go on where the whole frames ended.
        assert sequences(tmp_path, after=last, place=place) == list(range(last + 1, 7))
        assert sequences(tmp_path, after=last) == list(range(last + 1, 7))


def test_a_cut_is_passed_at_any_byte_when_a_newer_segment_follows(tmp_path: Path) -> None:
    written(tmp_path, 3, segment_bytes=1)
    first, second, third, *_ = segments(tmp_path)
    whole = second.path.read_bytes()
    for cut in range(len(whole)):
        second.path.write_bytes(whole[:cut])
        assert sequences(tmp_path)[-1] == 3
    assert first.number + 2 == third.number


def test_damage_costs_the_rest_of_its_segment_and_no_more(tmp_path: Path) -> None:
    written(tmp_path, 40, segment_bytes=800)
    parts = segments(tmp_path)
    assert len(parts) > 3
    damaged = bytearray(parts[1].path.read_bytes())
    middle = list(frames_in(parts[1].path))[3].end
    damaged[middle + 30] ^= 1
    parts[1].path.write_bytes(damaged)

    found = sequences(tmp_path)

    before = [frame.sequence for frame in frames_in(parts[0].path)]
    lost = len(list(frames_in(parts[2].path)))
    assert found[: len(before) + 4] == list(range(1, len(before) + 5))
    assert found[-1] == 40
    assert len(before) + 4 + lost <= len(found) < 40


def test_a_segment_that_is_gone_is_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 3, segment_bytes=1)
    listed = segments(tmp_path)
    monkeypatch.setattr(journal_reading, "segments", lambda folder: listed)
    listed[1].path.unlink()

    assert sequences(tmp_path) == [sequence for sequence in (1, 2, 3) if sequence != lost_in(listed)]


def lost_in(listed: list[Any]) -> int:
    """The sequence that stood in the second segment: the first holds none, or one."""
    return 2 if list(frames_in(listed[0].path)) else 1


def test_what_follows_a_segment_that_cannot_be_read_does_not_overtake_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, 3, segment_bytes=1)
    written(tmp_path, 2, source="b")
    found: list[int] = []
    with monkeypatch.context() as rights:
        refuse(rights, segments(tmp_path)[2].path.name, PermissionError(errno.EACCES, "Permission denied"))
        with pytest.raises(Unreadable, match="cannot be read, and is waited for: Permission denied"):
            found.extend(frame.sequence for _, frame in frames_of(tmp_path, "a", 0))
        assert found == list(range(1, len(found) + 1))
        assert len(found) < 3
        assert sequences(tmp_path, "b") == [1, 2]

    assert sequences(tmp_path, after=len(found)) == list(range(len(found) + 1, 4))


def test_a_copy_of_a_segment_adds_nothing(tmp_path: Path) -> None:
    written(tmp_path)
    (segment,) = segments(tmp_path)
    (tmp_path / "a-000002.seg").write_bytes(segment.path.read_bytes())

    assert sequences(tmp_path) == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("payload", [b"\xc1", b"\x80", b"\x90", b"\x05", b"\x91" * 4000, b"\x92\x01\x02"])
@pytest.mark.parametrize("kind", [FrameKind.INTENT, FrameKind.RECORD, FrameKind.EVENT, 9])
def test_a_frame_that_is_not_what_its_kind_says_tells_nothing(
    tmp_path: Path, payload: bytes, kind: int
) -> None:
    written(tmp_path, 1)
    (segment,) = segments(tmp_path)
    with segment.path.open("ab") as file:
        file.write(frame_bytes(2, kind, payload))

    frames = [frame for _, frame in frames_of(tmp_path, "a", 0)]

    assert [told(frame) is None for frame in frames] == [False, True]


def test_frames_are_told_as_what_they_are(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "a")
    writer.intent(intent("one", 5))
    writer.record(call_record("one", 4))
    writer.close()

    found = [told(frame) for _, frame in frames_of(tmp_path, "a", 0)]
    assert [type(item) for item in found] == [Intent, CallRecord]


def test_a_source_lives_as_long_as_it_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(folder: Path, source: str) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    written(tmp_path, 1)
    assert not living(tmp_path, "a")
    monkeypatch.setattr(journal_reading, "source_is_alive", asked)
    assert living(tmp_path, "a")

"""The journal loses nothing that was written whole, and never reads what was not."""

import errno
import os
import random
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector import journal
from collector.domain.record import AttemptRecord, CallRecord, Intent
from collector.frames import packed_frames
from collector.journal import (
    BadSegment,
    FrameKind,
    JournalConfig,
    JournalWriter,
    ReadEnd,
    decode_intent,
    decode_record,
    encoded,
    parse_frames,
    read_frames,
    segment_header,
    segments,
    source_is_alive,
    strangers,
)
from collector.journal_room import JournalFull, Pressure, lightened, pressure_of


def intent(call_id: str = "call") -> Intent:
    names = dict.fromkeys(Intent._fields, "")
    return Intent(
        **names
        | {
            "call_id": call_id,
            "started_at_us": 1,
            "tags": {},
            "stream": False,
            "hold_input_tokens": 3,
            "hold_output_tokens": 4,
            "hold_cost_pico": 5,
        }
    )  # type: ignore[arg-type]


def record(call_id: str = "call", **changes: object) -> CallRecord:
    attempt = AttemptRecord(
        1,
        "openai",
        "h:1",
        "openai",
        "m",
        "a" * 16,
        1,
        2,
        None,
        200,
        "",
        10,
        5,
        0,
        0,
        0,
        0,
        "reported",
        "listed",
        "v",
        7,
        7,
    )
    values: dict[str, object] = dict.fromkeys(CallRecord._fields, "")
    values |= {
        "call_id": call_id,
        "tags": {"a": "b"},
        "attempts": (attempt,),
        "finish_reasons": ["stop"],
        "content": None,
        "request_attributes": {"temperature": 0.5},
        "response_attributes": {},
        "message_hashes": [1, 2],
        "tool_names": [],
        "list_cost_pico": 7,
    }
    return CallRecord(**values | changes)  # type: ignore[arg-type]


def all_frames(directory: Path) -> list[journal.Frame]:
    return [frame for segment in segments(directory) for frame in read_frames(segment.path)[0]]


def test_what_is_written_is_read_back_in_order(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "host-0-abc")
    writer.intent(intent("one"))
    writer.record(record("one"))
    writer.close()

    first, second = all_frames(tmp_path)

    assert (first.sequence, first.kind, second.sequence, second.kind) == (
        1,
        FrameKind.INTENT,
        2,
        FrameKind.RECORD,
    )
    assert decode_intent(first.payload) == intent("one")
    assert decode_record(second.payload) == record("one")


def test_a_segment_says_whose_it_is_and_where_it_begins(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "host-0-abc", JournalConfig(segment_bytes=600), now_us=lambda: 42)
    for _ in range(4):
        writer.record(record())
    writer.close()

    headers = [segment_header(segment.path) for segment in segments(tmp_path)]

    assert len(headers) > 1
    assert {header.source for header in headers} == {"host-0-abc"}
    assert [header.created_us for header in headers] == [42] * len(headers)
    assert headers[0].first_sequence == 1
    assert [frame.sequence for frame in all_frames(tmp_path)] == [1, 2, 3, 4]


def test_reading_goes_on_where_it_stopped(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "s-1")
    for number in range(20):
        writer.record(record(str(number)))
    (segment,) = segments(tmp_path)
    seen, offset = [], 0

    while True:
        frames, end = read_frames(segment.path, offset, max_bytes=700)
        seen += [decode_record(frame.payload).call_id for frame in frames]
        if not frames:
            break
        offset = frames[-1].end

    assert seen == [str(number) for number in range(20)]
    assert end is ReadEnd.END
    writer.close()


def test_a_frame_larger_than_the_read_budget_is_read_all_the_same(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "s-1")
    writer.record(record(outcome_reason="x" * 5000))
    writer.close()

    frames, end = read_frames(segments(tmp_path)[0].path, max_bytes=100)

    assert (len(frames), end) == (1, ReadEnd.MORE)
    assert read_frames(segments(tmp_path)[0].path, frames[-1].end) == ([], ReadEnd.END)


FRAMES = encoded([intent(), record(), intent("two"), record("two"), record("three")])
ENDS = [frame.end for frame in parse_frames(FRAMES)[0]]


def test_a_segment_cut_off_anywhere_gives_the_frames_before_the_cut() -> None:
    for cut in range(len(FRAMES)):
        frames, used, end = parse_frames(FRAMES[:cut])
        whole = [position for position in ENDS if position <= cut]
        assert [frame.end for frame in frames] == whole
        assert used == (whole[-1] if whole else 0)
        assert end is (ReadEnd.END if cut in (0, *ENDS) else ReadEnd.TORN)


def test_a_flipped_bit_anywhere_never_gives_a_wrong_record() -> None:
    truth = parse_frames(FRAMES)[0]
    for position in range(len(FRAMES)):
        damaged = bytearray(FRAMES)
        damaged[position] ^= 1 << (position % 8)
        frames, _, end = parse_frames(bytes(damaged))
        assert frames == truth[: len(frames)]
        assert len(frames) < len(truth)
        assert end is not ReadEnd.END


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(FRAMES)), st.booleans())
def test_garbage_or_zeros_after_the_last_frame_are_not_frames(garbage: bytes, cut: int, zeros: bool) -> None:
    tail = bytes(len(garbage)) if zeros else garbage
    frames, _, _ = parse_frames(FRAMES[:cut] + tail)

    truth = parse_frames(FRAMES)[0]
    whole = [frame for frame in truth if frame.end <= cut]
    assert frames[: len(whole)] == whole
    assert all(frame in truth for frame in frames)


def test_a_file_that_is_no_segment_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s-000001.seg"
    for content in (b"", b"BURS", b"something else entirely", journal.MAGIC + b"\xff" * 8):
        path.write_bytes(content)
        with pytest.raises(BadSegment):
            read_frames(path)


def test_records_of_older_and_newer_writers_are_understood() -> None:
    whole = journal._encode(record())
    attempts = record()._fields.index("attempts")
    older = journal._encode(list(record())[: attempts + 1])
    oldest = journal._encode(list(record())[:attempts])
    newer = journal._encode([*record(), "a field of the future"])

    assert decode_record(whole) == decode_record(newer) == record()
    assert decode_record(older)[: attempts + 1] == record()[: attempts + 1]
    assert decode_record(older)[attempts + 1 :] == ([], "", 0, 0, 0, 0, 0, 0, "", {})
    with pytest.raises(KeyError):
        decode_record(oldest)  # the fields of the first format have no defaults: none may be missing


def test_an_attempt_without_the_later_fields_takes_their_defaults() -> None:
    values = list(record().attempts[0])

    assert journal.decode_attempt(values[:-4])[-4:] == (None, None, "", {})
    assert journal.decode_attempt(values[:-2])[-2:] == ("", {})


def test_a_living_source_is_told_from_a_dead_one(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "s-1")
    assert source_is_alive(tmp_path, "s-1")
    assert not source_is_alive(tmp_path, "s-2")

    writer.close()

    assert not source_is_alive(tmp_path, "s-1")


KILLED_WHILE_WRITING = """
import sys
from pathlib import Path
from collector.journal import JournalWriter, decode_record, parse_frames

one = decode_record(parse_frames(bytes.fromhex(sys.argv[2]))[0][0].payload)
writer = JournalWriter(Path(sys.argv[1]), "s-1")
while True:
    writer.record(one)
"""


def test_a_killed_writer_leaves_whole_frames_and_a_dead_source(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED_WHILE_WRITING, tmp_path, encoded([record()]).hex()]
    )
    try:
        deadline = time.monotonic() + 60
        # A segment without its header, or without a frame, is a moment of a living writer.
        while not sum(segment.path.stat().st_size > 4096 for segment in segments(tmp_path)):
            assert child.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()

    sequences = [frame.sequence for frame in all_frames(tmp_path)]

    assert len(sequences) > 0
    assert sequences == list(range(1, len(sequences) + 1))
    assert not source_is_alive(tmp_path, "s-1")


class SmallDisk:
    """os.write with only so much room, for one test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.real = os.write
        monkeypatch.setattr(journal.os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "no space left")
        taken = self.real(fd, data[: self.room])
        self.room -= taken
        return taken


def test_a_full_disk_refuses_intents_and_counts_lost_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(tmp_path, "s-1", JournalConfig(sync_interval_s=60))
    disk = SmallDisk(monkeypatch, room=0)
    with pytest.raises(JournalFull):
        writer.intent(intent())
    writer.record(record())

    assert writer.dropped == 1
    assert writer.pressure is Pressure.FULL

    disk.room = 1 << 20
    writer.pressure = Pressure.NONE  # as the second thread finds once there is room again
    writer.record(record("after"))
    writer.close()
    assert [decode_record(frame.payload).call_id for frame in all_frames(tmp_path)] == ["after"]


def test_a_short_write_begins_a_new_segment_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(tmp_path, "s-1", JournalConfig(sync_interval_s=60))
    writer.record(record("one"))
    real, cut = os.write, [True]

    def short_once(fd: int, data: bytes) -> int:
        if cut.pop() if cut else False:
            return real(fd, data[:10])
        return real(fd, data)

    monkeypatch.setattr(journal.os, "write", short_once)
    writer.record(record("two"))
    writer.record(record("three"))
    writer.close()

    assert [decode_record(frame.payload).call_id for frame in all_frames(tmp_path)] == ["one", "two", "three"]
    assert len(segments(tmp_path)) == 2


def test_a_slow_disk_sends_the_next_records_through_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(
        tmp_path, "s-1", JournalConfig(slow_write_s=0.0, sync_interval_s=0.01, ring_frames=5)
    )
    writer.record(record("slow"))  # any write is slower than 0 s
    writer.record(record("slow again"))
    with writer._mutex:  # the second thread cannot empty the ring meanwhile
        for number in range(7):
            writer.record(record(str(number)))
        assert writer.backlog == 5
        assert writer.dropped == 2
    writer.close()

    kept = [decode_record(frame.payload).call_id for frame in all_frames(tmp_path)]
    assert kept == ["slow", "slow again", "0", "1", "2", "3", "4"]


def test_one_slow_write_alone_sends_nothing_through_memory(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "s-1", JournalConfig(slow_write_s=60, sync_interval_s=60))
    writer._last_was_slow = True  # it waited for a processor
    writer.record(record("quick"))
    writer.record(record("quick as well"))

    assert writer.backlog == 0
    assert not writer._last_was_slow
    writer.close()


def test_what_went_through_memory_is_whole_though_the_disk_took_part_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(tmp_path, "s-1", JournalConfig(slow_write_s=0.0, sync_interval_s=60))
    names = ["slow", "slow again", *(str(number) for number in range(100))]
    for name in names:
        writer.record(record(name))
    assert writer.backlog == 100
    real, cut = os.write, [True]

    def short_once(fd: int, data: bytes) -> int:
        return real(fd, data[: len(data) // 2 + 3] if cut and cut.pop() else data)

    monkeypatch.setattr(journal.os, "write", short_once)
    writer.close()

    assert [decode_record(frame.payload).call_id for frame in all_frames(tmp_path)] == names
    assert len(segments(tmp_path)) == 2


@pytest.mark.parametrize(
    ("left", "expected"),
    [(0, Pressure.FULL), (50, Pressure.SHED_ATTRIBUTES), (150, Pressure.SHED_CONTENT), (200, Pressure.NONE)],
)
def test_content_is_shed_before_attributes_and_costs_never(left: int, expected: Pressure) -> None:
    assert pressure_of(left, reserve_bytes=100) is expected


def test_a_lightened_record_keeps_what_money_and_attribution_need() -> None:
    heavy = record(content={"input": "secret"})

    lighter = lightened(heavy, Pressure.SHED_CONTENT)
    lightest = lightened(heavy, Pressure.SHED_ATTRIBUTES)

    assert lighter == heavy._replace(content=None)
    assert (lightest.list_cost_pico, lightest.attempts, lightest.tags) == (7, heavy.attempts, heavy.tags)
    assert lightest.request_attributes == {}


def test_segments_of_many_sources_are_told_apart(tmp_path: Path) -> None:
    for source in random.sample(["b-0-1", "a-0-1", "a-1-1"], 3):
        JournalWriter(tmp_path, source).close()
    (tmp_path / "notes.txt").write_text("not a segment")

    assert [(segment.source, segment.number) for segment in segments(tmp_path)] == [
        ("a-0-1", 1),
        ("a-1-1", 1),
        ("b-0-1", 1),
    ]
    assert segments(tmp_path / "nowhere") == []


def test_what_only_looks_like_a_segment_is_told_apart(tmp_path: Path) -> None:
    JournalWriter(tmp_path, "good").close()
    (whole,) = segments(tmp_path)
    (tmp_path / "folder-000001.seg").mkdir()
    os.mkfifo(tmp_path / "pipe-000001.seg")
    (tmp_path / "loop-000001.seg").symlink_to("loop-000001.seg")
    odd = ["good-\u00b2.seg", "good-1.seg", "good-0000001.seg", "good-.seg", "-000001.seg", "good-000001"]
    odd.append(f"good-{10**19}.seg")
    for name in odd:
        (tmp_path / name).write_bytes(whole.path.read_bytes())
    Path(os.fsdecode(bytes(tmp_path) + b"/a\xff-000001.seg")).write_bytes(whole.path.read_bytes())

    assert segments(tmp_path) == [whole]
    assert sorted(strangers(tmp_path)) == sorted(
        [
            *("folder-000001.seg", "pipe-000001.seg", "loop-000001.seg", "a\\udcff-000001.seg"),
            *(ascii(name)[1:-1] for name in odd if name.endswith(".seg")),
        ]
    )


@pytest.mark.parametrize("header", [b"\x91" * 4000, b"\xc1", b"\x01", msgspec.msgpack.encode({"source": 1})])
def test_a_header_that_says_nothing_is_none(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a-000001.seg"
    lengths = len(header).to_bytes(4, "little") + zlib.crc32(header).to_bytes(4, "little")
    path.write_bytes(journal.MAGIC + lengths + header)

    with pytest.raises(BadSegment):
        segment_header(path)


@pytest.mark.parametrize(("sequence", "whole"), [(2**63 - 1, 1), (2**63, 0), (2**64 - 1, 0)])
def test_a_sequence_that_no_source_comes_to_is_damage(sequence: int, whole: int) -> None:
    frame = journal.frame_bytes(sequence, FrameKind.RECORD, b"x")
    for read in (journal.parse_frames, packed_frames):
        frames, _, end = read(frame)
        assert (len(frames), end) == (whole, ReadEnd.END if whole else ReadEnd.CORRUPT)


# ---- frames that wait for others -----------------------------------------------------------------


def sequences(directory: Path) -> list[int]:
    return [frame.sequence for frame in all_frames(directory)]


def test_frames_that_may_wait_are_written_together_and_in_order(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "s-1")
    told: list[int] = []
    writer.on_held = lambda: told.append(writer.sequence)
    writer.intent(intent("one"), later=True)
    writer.record(record("one"), later=True)
    assert (sequences(tmp_path), told) == ([], [1])
    writer.flush()
    assert sequences(tmp_path) == [1, 2]
    writer.intent(intent("two"), later=True)
    writer.record(record("two"))  # nothing overtakes what waits
    assert (sequences(tmp_path), told) == ([1, 2, 3, 4], [1, 3])
    writer.record(record("three"), later=True)
    writer.close()
    assert sequences(tmp_path) == [1, 2, 3, 4, 5]


def test_frames_that_are_too_many_for_a_segment_go_on_in_the_next(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "s-1", JournalConfig(segment_bytes=4096))
    for number in range(40):
        writer.record(record(str(number)), later=True)
    writer.flush()
    writer.close()
    assert sequences(tmp_path) == list(range(1, 41))
    assert len(segments(tmp_path)) > 1


def test_no_more_frames_wait_than_memory_is_meant_for(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "s-1")
    for number in range(300):
        writer.record(record(str(number)), later=True)
    assert len(sequences(tmp_path)) == 256
    writer.close()


@pytest.mark.parametrize("room", [0, 100, 700])
def test_frames_that_the_disk_does_not_take_together_wait_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    writer = JournalWriter(tmp_path, "s-1", JournalConfig(sync_interval_s=60))
    for number in range(4):
        writer.record(record(str(number)), later=True)
    disk = SmallDisk(monkeypatch, room=room)
    writer.flush()
    with pytest.raises(JournalFull):
        writer.intent(intent("more"), later=True)
    assert writer.backlog > 0
    disk.room = 1 << 20
    writer.close()
    assert sorted(set(sequences(tmp_path))) == [1, 2, 3, 4]


def test_a_sync_that_fails_holds_nothing_up_and_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = JournalWriter(tmp_path, "s-1", JournalConfig(sync_always=True, sync_interval_s=60))
    writer.record(record("one"), later=True)
    with monkeypatch.context() as broken:

        def failing(_: int) -> None:
            raise OSError(errno.EIO, "input/output error")

        broken.setattr(journal.os, "fdatasync", failing)
        writer.flush()
    assert writer.unsynced_since is not None
    writer.record(record("two"))
    writer.close()
    assert sequences(tmp_path) == [1, 2]


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.001)


def test_a_write_after_a_rest_is_synced(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path, "s-1", JournalConfig(sync_interval_s=0.001))
    for number in range(3):
        until(lambda: writer._resting)
        writer.record(record(str(number)))
        until(lambda: writer.unsynced_since is None)
    until(lambda: writer._resting)
    writer.close()
    assert sequences(tmp_path) == [1, 2, 3]

"""Frames to what must be booked: gaps, repeats, pairs, and what cannot be read."""

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.ingest.pairing import Batch, Mark, Opened, take
from collector.journal import Frame, FrameKind, encoded, parse_frames


def frames_of(*items, first=1):
    return parse_frames(encoded(items, first))[0]


def taken(frames, mark=None, opened=None, presumed=frozenset()):
    batch = Batch()
    take(batch, "s", frames, mark or Mark(), opened or {}, presumed)
    return batch


def test_an_intent_and_its_record_in_one_batch_leave_nothing_open(call, intent):
    record = call()
    batch = taken(frames_of(intent(record), record))

    assert batch.records == [record]
    assert not batch.opened
    assert not batch.settled


def test_an_intent_without_its_record_stays_open(call, intent):
    record = call()
    batch = taken(frames_of(intent(record)))

    assert list(batch.opened) == [record.call_id]
    assert batch.opened[record.call_id].started_at_us == record.started_at_us


def test_a_record_settles_an_intent_of_an_earlier_batch(call, intent):
    record = call()
    opened = Opened(record.call_id, "s", record.started_at_us, b"")
    batch = taken(frames_of(record, first=2), Mark(sequence=1), {record.call_id: opened})

    assert batch.settled == [record.call_id]


def test_a_record_of_a_call_that_was_booked_from_its_intent_takes_its_place(call):
    record = call()
    batch = taken(frames_of(record), presumed={record.call_id})

    assert batch.corrected == [record.call_id]


def test_frames_up_to_the_mark_are_passed_over(call):
    first, second = call(), call()
    batch = taken(frames_of(first, second), Mark(sequence=1))

    assert batch.records == [second]
    assert batch.frames == 1
    assert batch.marks["s"].sequence == 2


def test_a_gap_is_noted_with_its_size_and_the_rest_is_taken(call):
    batch = taken(frames_of(call(), first=5), Mark(sequence=1))

    assert [(note.reason, note.detail, note.frames) for note in batch.notes] == [("gap", "frames 2 to 4", 3)]
    assert len(batch.records) == 1


def test_a_frame_that_cannot_be_read_is_noted_and_the_others_are_taken(call):
    good = call()
    frames = [
        Frame(1, FrameKind.RECORD, b"\xc1", 0),
        Frame(2, FrameKind.RECORD, msgspec.msgpack.encode(["too", "short"]), 0),
        Frame(3, FrameKind.INTENT, msgspec.msgpack.encode({"not": "an array"}), 0),
        Frame(4, 77, b"", 0),
        Frame(5, FrameKind.RECORD, msgspec.msgpack.encode(good), 0),
        Frame(6, FrameKind.RECORD, b"\xd9\x02\xff\xfe", 0),
    ]
    batch = taken(frames)

    assert [note.reason for note in batch.notes] == ["undecodable"] * 5
    assert batch.records == [good]
    assert batch.marks["s"].sequence == 6


def test_a_record_of_a_newer_writer_is_read_without_the_fields_that_we_do_not_know(call):
    record = call()
    longer = [*msgspec.to_builtins(record), "a field of tomorrow"]
    attempts = record._fields.index("attempts")
    longer[attempts] = [[*attempt, "and one of its attempts"] for attempt in longer[attempts]]

    batch = taken([Frame(1, FrameKind.RECORD, msgspec.msgpack.encode(longer), 0)])

    assert batch.notes == []
    assert batch.records == [record]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_comes_twice_and_however_it_is_cut_each_call_is_taken_once(data, call, intent):
    calls = [call() for _ in range(6)]
    items = [item for record in calls for item in (intent(record), record)]
    frames = frames_of(*items)
    mark, opened, booked = Mark(), {}, []
    while mark.sequence < len(frames):
        # Each read begins somewhere at or before the mark and ends anywhere.
        start = data.draw(st.integers(0, mark.sequence))
        end = data.draw(st.integers(mark.sequence + 1, len(frames)))
        batch = taken(frames[start:end], mark, opened)
        booked += [record.call_id for record in batch.records]
        for call_id in batch.settled:
            del opened[call_id]
        opened |= batch.opened
        mark = batch.marks["s"]

    assert sorted(booked) == sorted(record.call_id for record in calls)
    assert not opened

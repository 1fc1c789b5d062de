"""Frames to what must be booked: gaps, repeats, pairs, and what cannot be read."""

import random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.domain.record import CallRecord
from collector.frames import PackedFrames, packed_frames
from collector.ingest.pairing import Batch, Mark, Opened, in_columns, take
from collector.journal import Frame, FrameKind, encoded, frame_bytes, parse_frames
from collector.native import native
from collector.store.packed import facts_of


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


NESTED = b"\x91" * 5000 + b"\x00"


@pytest.mark.parametrize("kind", [FrameKind.RECORD, FrameKind.INTENT, FrameKind.EVENT])
def test_a_frame_that_is_nested_without_end_is_noted_and_the_others_are_taken(call, kind):
    good = call()
    intent_head = b"\x93" + msgspec.msgpack.encode("id") + msgspec.msgpack.encode(1) + NESTED
    payload = intent_head if kind is FrameKind.INTENT else NESTED
    batch = taken([Frame(1, kind, payload, 0), Frame(2, FrameKind.RECORD, msgspec.msgpack.encode(good), 0)])

    assert [note.reason for note in batch.notes] == ["undecodable"]
    assert batch.records == [good]


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


@pytest.mark.skipif(native is None, reason="the extension in C is not built here")
@pytest.mark.parametrize("seed", range(30))
def test_pairs_are_found_in_c_as_in_python(call, intent, seed):
    """Intents and records in any order: of calls that are open, or presumed, or opened twice, or never."""
    noise = random.Random(seed)
    records = [call() for _ in range(12)]
    items = [noise.choice((intent, lambda record: record))(noise.choice(records)) for _ in range(40)]
    # What is not ordinary is left to Python: an event, bytes that are no intent, a frame that lacks.
    last = call()
    odd = (b"", frame_bytes(41, 9, b"x"), frame_bytes(41, FrameKind.INTENT, b"x"), encoded([last], 43))[
        seed % 4
    ]
    items = items if seed % 4 < 3 else [*items, last]
    opened = {record.call_id: Opened(record.call_id, "s", 1, b"") for record in noise.sample(records, 4)}
    presumed = {record.call_id for record in noise.sample(records, 3)}
    data = encoded(items[:40], 1) + odd
    earlier = Opened(records[0].call_id, "s", 2, b"earlier")

    def paired(frames):
        batch = Batch(opened={earlier.call_id: earlier})
        known = [facts_of(item) for item in items if isinstance(item, CallRecord)]
        take(batch, "s", frames, Mark(), opened, presumed, known)
        return batch

    in_c, in_python = paired(packed_frames(data)[0]), paired(parse_frames(data)[0])
    assert in_c == in_python
    assert list(in_c.opened) == list(in_python.opened)


@pytest.mark.skipif(native is None, reason="the extension in C is not built here")
def test_ordinary_frames_are_paired_without_becoming_objects(call, intent, monkeypatch):
    records = [call() for _ in range(3)]
    frames, _, _ = packed_frames(
        encoded([intent(records[0]), intent(records[1]), *records[1:], intent(call())])
    )
    looked_at = []
    monkeypatch.setattr(PackedFrames, "__iter__", lambda frames: looked_at.append(frames) or iter(()))

    ready = in_columns(frames, 0, records[0].started_at_us)
    batch = Batch()
    take(batch, "s", frames, Mark(), {}, set(), ready.records.facts)

    assert not looked_at
    assert batch.frames == 5
    assert batch.marks["s"].sequence == 5
    assert next(iter(batch.opened)) == records[0].call_id

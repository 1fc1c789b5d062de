"""Records become the same columns in C as in Python, and what is not ordinary is left to Python."""

import random
from typing import get_type_hints

import msgspec
import pytest

from collector.domain.record import AttemptRecord, CallRecord, Charges
from collector.frames import packed_frames
from collector.journal import encoded
from collector.native import native
from collector.store import schema
from collector.store.packed import LARGEST, columns_of, facts_of

pytestmark = pytest.mark.skipif(native is None, reason="the extension in C is not built here")

pack = msgspec.msgpack.encode
EDGES = (0, 1, -1, 127, 128, -32, -33, 255, 256, -129, 2**15, 2**16, 2**31 - 1, -(2**31))
LARGE = (2**32, 2**59, -(2**59))
TEXTS = ("", "a", "é", "日本", "\x00", "served", "a" * 31, "b" * 32, "c" * 255, "d" * 256)


def any_record(noise):
    """A record that says in each field something that its column can hold."""
    return any_of(CallRecord, noise)._replace(
        content=None, attempts=tuple(any_of(AttemptRecord, noise) for _ in range(noise.randrange(3)))
    )


def any_of(record, noise):
    return record(**{name: any_value(name, kind, noise) for name, kind in get_type_hints(record).items()})


def any_value(name, kind, noise):
    many = range(noise.choice((0, 1, 2, 17)))
    if kind == int | None and noise.random() < 0.3:
        return None
    if kind in (int, int | None):
        return noise.choice(EDGES if name in ("http_status", "server_port") else EDGES + LARGE)
    if kind is str:
        return noise.choice(TEXTS)
    if kind is bool:
        return noise.random() < 0.5
    if kind == list[int]:
        return [noise.choice(EDGES + LARGE) for _ in many]
    if kind == list[str]:
        return [noise.choice(TEXTS) for _ in many]
    scalars = (None, True, 0.7, -1, 10**18, "é", ["a", "b"], {"a": [1, None]})
    if kind == dict[str, object]:
        return {noise.choice(TEXTS): noise.choice(scalars) for _ in range(noise.randrange(4))}
    if kind == Charges:
        return {noise.choice(TEXTS): (noise.choice(LARGE), 0, 7) for _ in range(noise.randrange(3))}
    return {noise.choice(TEXTS): noise.choice(TEXTS) for _ in range(noise.randrange(4))}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_record_says_its_columns_are_the_same(seed):
    noise = random.Random(seed)
    records = [any_record(noise) for _ in range(50)]
    columns = columns_of([pack(record) for record in records])

    columns.calls.validate(full=True)
    columns.attempts.validate(full=True)
    assert columns.calls.equals(schema.staged_calls(records))
    assert columns.attempts.equals(schema.staged_attempts(records))
    assert columns.oldest_us == min(record.started_at_us for record in records)
    assert columns.latest_us == max(record.started_at_us for record in records)
    assert columns.records.facts == [facts_of(record) for record in records]
    assert list(columns.records) == records
    assert columns.records[3] == records[3]


def test_records_are_read_from_their_frames_as_from_their_payloads(call, intent):
    records = [call() for _ in range(5)]
    frames, _, _ = packed_frames(encoded([intent(records[0]), *records, intent(records[1])]))
    from_frames, from_payloads = columns_of(frames), columns_of([pack(record) for record in records])

    assert from_frames.calls.equals(from_payloads.calls)
    assert from_frames.attempts.equals(from_payloads.attempts)
    assert from_frames.records.facts == from_payloads.records.facts
    assert list(from_frames.records) == records
    assert len(from_frames.records) == 5
    assert columns_of(packed_frames(encoded([intent(records[0])]))[0]) is None
    assert columns_of(packed_frames(encoded([*records, call(user_agent="a" * LARGEST)]))[0]) is None


def test_calls_without_attempts_have_no_rows_of_them(call):
    columns = columns_of([pack(call(attempts=()))])
    assert columns.attempts is None
    assert columns.calls["attempt_count"].to_pylist() == [0]


def test_bytes_that_are_no_record_are_never_taken_for_one(call):
    noise, whole = random.Random(5), pack(call())
    for _ in range(400):
        place = noise.randrange(len(whole))
        damaged = whole[:place] + noise.randbytes(noise.randrange(4)) + whole[place + noise.randrange(3) :]
        columns = columns_of([damaged])
        try:
            record = call_of(damaged)
        except ValueError:
            assert columns is None
        else:
            assert columns is None or columns.calls.equals(schema.staged_calls([record]))


def call_of(payload):
    return msgspec.msgpack.decode(payload, type=CallRecord)


@pytest.mark.parametrize(
    "change",
    [
        {"content": {"input": "Hi"}},
        {"list_cost_pico": schema.MAX_PICO + 1},
        {"input_tokens": 2**63},
        {"http_status": 2**31},
        {"http_status": None},
        {"agent": None},
        {"agent": 5},
        {"stream": 1},
        {"duration_us": True},
        {"duration_us": 1.5},
        {"tags": {"a": 1}},
        {"request_attributes": {1: "a"}},
        {"tool_names": [1]},
        {"message_hashes": ["a"]},
        {"attempts": None},
        {"attempts": [("too", "short")]},
        {"user_agent": "a" * LARGEST},
    ],
)
def test_what_is_not_ordinary_is_left_to_python(call, change):
    assert columns_of([pack(call())]) is not None
    assert columns_of([pack(call()), pack(call()._replace(**change))]) is None


def test_a_record_of_an_older_or_a_newer_writer_is_left_to_python(call):
    record = call()
    assert columns_of([pack(record[:-1])]) is None
    assert columns_of([pack([*record, "more"])]) is None
    assert columns_of([]) is None


def test_a_text_that_is_no_text_is_left_to_python(call):
    packed = pack(call(agent="researcher"))
    assert columns_of([packed.replace(b"researcher", b"research\xff\xfe")]) is None


def test_a_key_that_is_said_twice_is_left_to_python(call):
    packed = pack(call(tags={"one": "1", "two": "2"}))
    assert columns_of([packed]) is not None
    assert columns_of([packed.replace(b"two", b"one")]) is None


@pytest.mark.parametrize(
    "given", [(), ([b""], b"t", b"t"), ([1], b"t", b"t", ()), ([b"\x91\xa0"], b"t", b"", (7,))]
)
def test_what_is_not_asked_properly_is_refused(given):
    with pytest.raises((TypeError, ValueError)):
        native.columns(*given)

"""Batches become rows once; absurd values cost a field, never a call."""

from decimal import Decimal

import msgspec
import pytest

from collector.domain.money import usd
from collector.ingest.books import Books
from collector.ingest.pairing import Mark
from collector.journal import Frame, FrameKind, encoded, parse_frames
from collector.store.duckdb import DatabaseConfig, StoreError
from collector.store.opening import open_ledger


def frames_of(*items, first=1):
    return parse_frames(encoded(items, first))[0]


def test_calls_attempts_and_the_mark_are_committed_together(books, rows, call, attempt, noon_us):
    twice = call(cost=70, attempts=(attempt(30, noon_us), attempt(40, noon_us, attempt=2, upstream="other")))
    entry = books.begin()
    books.take(entry, "s", frames_of(twice, call(cost=5)), Mark())
    books.enter(entry)

    assert rows("SELECT count(*), sum(effective_cost_usd) FROM calls") == [(2, usd(75))]
    assert rows("SELECT count(*), sum(effective_cost_usd) FROM attempts") == [(3, usd(75))]
    assert rows("SELECT source, sequence FROM sources") == [("s", 2)]
    assert Books(books.database).marks == books.marks


def test_nothing_of_a_batch_is_there_when_its_commit_fails(books, rows, call, intent):
    entry = books.begin()
    books.take(entry, "s", frames_of(call(), intent(call())), Mark())
    books.database.connection.execute("ALTER TABLE sources RENAME TO elsewhere")

    with pytest.raises(StoreError):
        books.enter(entry)

    assert books.marks == {}
    assert books.opened == {}
    books.database.connection.execute("ALTER TABLE elsewhere RENAME TO sources")
    assert rows("SELECT count(*) FROM calls") == [(0,)]
    books.enter(entry)
    assert rows("SELECT count(*) FROM calls") == [(1,)]
    assert rows("SELECT count(*) FROM pending") == [(1,)]


def test_open_intents_survive_a_restart(books, enter, rows, call, intent):
    record = call()
    enter(intent(record))
    assert list(Books(books.database).opened) == [record.call_id]

    enter(record)
    assert rows("SELECT count(*) FROM pending") == [(0,)]
    assert Books(books.database).opened == {}


@pytest.mark.parametrize("together", [True, False])
def test_a_stream_that_held_more_is_booked_once_when_it_ends(books, enter, rows, call, intent, together):
    record = call(cost=7)
    enter(intent(record, hold_pico=10))
    if together:
        enter(intent(record, hold_pico=20), record)
    else:
        enter(intent(record, hold_pico=20))
        assert rows("SELECT count(*) FROM pending") == [(1,)]
        enter(record)

    assert rows("SELECT count(*), sum(effective_cost_usd) FROM calls") == [(1, usd(7))]
    assert rows("SELECT count(*) FROM pending") == [(0,)]
    assert books.opened == {}


@pytest.mark.parametrize("together", [True, False])
def test_a_stream_that_held_more_and_never_ended_is_booked_once_at_what_it_held_last(
    books, enter, rows, call, intent, together
):
    record = call()
    enter(intent(record, hold_pico=10))
    entry = books.begin()
    if together:
        books.take(entry, "test", frames_of(intent(record, hold_pico=20), first=2), books.marks["test"])
    else:
        enter(intent(record, hold_pico=20))
    books.finish(entry, "test", entry.marks.get("test", books.marks["test"]))
    books.enter(entry)

    assert rows("SELECT count(*), sum(effective_cost_usd) FROM calls") == [(1, usd(20))]
    assert rows("SELECT count(*) FROM pending") == [(0,)]


def test_a_call_without_an_end_is_booked_at_its_hold_and_says_so(books, enter, rows, call, intent):
    record = call()
    enter(intent(record, hold_pico=12_345))
    entry = books.begin()
    books.presume(entry, list(books.opened.values()))
    books.enter(entry)

    ((call_id, outcome, reason, grade, cost, tokens),) = rows(
        "SELECT call_id, outcome, outcome_reason, usage_grade, effective_cost_usd, input_tokens FROM calls"
    )
    assert (call_id, outcome, reason, grade) == (record.call_id, "failed", "crashed", "assumed")
    assert (cost, tokens) == (Decimal("0.000000012345"), 2000)
    assert rows("SELECT sum(effective_cost_usd) FROM attempts") == [(cost,)]
    assert rows("SELECT count(*) FROM pending") == [(0,)]


def test_a_record_that_comes_after_all_corrects_the_booking_and_every_sum(
    books, enter, rows, call, intent, noon_us
):
    books._now_us = lambda: noon_us + 3 * 86_400_000_000
    record = call(started_at_us=noon_us, cost=777)
    enter(intent(record), call(started_at_us=noon_us + 1, cost=1))
    entry = books.begin()
    books.presume(entry, list(books.opened.values()))
    books.enter(entry)
    while books.advance_rollups():
        pass
    books.reload()

    enter(record)

    for table, count in (
        ("calls", "count(*)"),
        ("calls_by_minute", "sum(calls)"),
        ("calls_by_day", "sum(calls)"),
    ):
        assert rows(f"SELECT {count}, sum(effective_cost_usd) FROM {table}") == [(2, usd(778))], table
    assert rows("SELECT sum(effective_cost_usd) FROM attempts") == [(usd(778),)]
    assert rows("SELECT count(*) FROM presumed") == [(0,)]
    assert books.presumed == set()
    assert rows("SELECT outcome FROM calls WHERE call_id = $1", record.call_id) == [("served",)]


@pytest.mark.parametrize(
    ("changes", "column", "expected"),
    [
        ({"started_at_us": -2_208_988_800_000_000}, "year(started_at)", 2026),  # the year 1900
        ({"started_at_us": 2_200_000_000_000_000}, "year(started_at)", 2026),  # ten years ahead of every test
        ({"user_agent": "x" * 1_000_000}, "length(user_agent)", 4096),
        ({"request_attributes": {f"a{n}": n for n in range(10_000)}}, "request_attributes::VARCHAR", "{}"),
        ({"tags": {f"t{n}": "v" * 40 for n in range(1000)}}, "cardinality(tags)", 64),
        ({"input_tokens": 2**63}, "input_tokens", 2**63 - 1),
        ({"list_cost_pico": 10**19}, "list_cost_usd", Decimal("999999.999999999999")),
        ({"http_status": 2**40}, "http_status", 2**31 - 1),
        ({"agent": "nul\0inside"}, "agent", "nul\0inside"),
    ],
)
def test_an_absurd_field_costs_that_field_and_its_batch_is_booked(
    books, enter, rows, call, noon_us, changes, column, expected
):
    books._now_us = lambda: noon_us
    odd = call(**changes)
    enter(call(cost=1), odd, call(cost=2))

    assert rows(f"SELECT {column} FROM calls WHERE call_id = $1", odd.call_id) == [(expected,)]
    assert rows(
        "SELECT count(*) FROM calls WHERE effective_cost_usd IN (0.000000000001, 0.000000000002)"
    ) == [(2,)]
    assert rows("SELECT sequence FROM sources") == [(3,)]


def test_a_call_that_the_table_refuses_is_noted_and_does_not_hold_up_the_others(books, enter, rows, call):
    rows("ALTER TABLE calls ALTER http_status TYPE TINYINT")  # a status of 200 does not fit

    enter(call(http_status=100), call(http_status=200), call(http_status=101))

    assert rows("SELECT count(*) FROM calls") == [(2,)]
    assert rows("SELECT reason, frames FROM quarantined") == [("undecodable", 1)]
    assert books.counts.notes == {"undecodable": 1}


def test_captured_content_stands_in_a_table_of_its_own(enter, rows, call):
    record = call(content={"input": "question", "output": "answer"})
    enter(record, call())

    assert rows("SELECT call_id, input, output FROM contents") == [(record.call_id, "question", "answer")]


def test_whoever_is_shown_records_is_told_after_they_are_committed(database, call):
    seen = []

    def show(records):
        number = len(records)

        def tell():
            seen.append((number, database.connection.execute("SELECT count(*) FROM calls").fetchone()))

        return tell

    books = Books(database, on_records=show)
    entry = books.begin()
    books.take(entry, "s", frames_of(call(), call()), Mark())
    books.enter(entry)

    assert seen == [(2, (2,))]


def test_the_spans_view_shows_a_genai_span_for_each_call_that_asked_a_model(enter, rows, call):
    asked = call()
    enter(asked, call(outcome="refused", gen_ai_span_id=""))

    assert rows(
        "SELECT origin, trace_id, span_id, name, attributes->>'$.\"gen_ai.request.model\"' FROM spans"
    ) == [("bursar", asked.trace_id, asked.gen_ai_span_id, "chat gpt-5-mini", "gpt-5-mini")]


def test_books_open_again_on_a_ledger_that_is_there_already_and_go_on(tmp_path, call):
    open_ledger(tmp_path, DatabaseConfig()).database.close()
    opened = open_ledger(tmp_path, DatabaseConfig())
    books = Books(opened.database)

    entry = books.begin()
    books.take(entry, "s", frames_of(call(), call()), Mark())
    books.enter(entry)

    assert books.counts.calls == 2
    opened.database.close()


@pytest.mark.parametrize("depth", [200, 600, 900, 970, 5000])
def test_however_deep_attributes_are_nested_the_others_are_booked(books, rows, call, depth):
    packed = msgspec.msgpack.encode(call(request_attributes={"a": 0})).replace(
        msgspec.msgpack.encode({"a": 0}), b"\x81\xa1a" + b"\x91" * depth + b"\xc0"
    )
    frames = [
        Frame(1, FrameKind.RECORD, packed, 0),
        Frame(2, FrameKind.RECORD, msgspec.msgpack.encode(call(agent="good")), 0),
    ]
    entry = books.begin()
    books.take(entry, "s", frames, Mark())
    books.enter(entry)

    assert ("good",) in rows("SELECT agent FROM calls")


def test_very_many_frames_that_nobody_knows_are_noted_together(books, rows, call, caplog):
    frames = [Frame(number, 77, b"", 0) for number in range(1, 20_001)]
    frames.append(Frame(20_001, FrameKind.RECORD, msgspec.msgpack.encode(call()), 0))
    entry = books.begin()
    books.take(entry, "s", frames, Mark())
    caplog.clear()
    books.enter(entry)

    assert rows("SELECT count(*) FROM calls") == [(1,)]
    assert rows("SELECT count(*), sum(frames) FROM quarantined") == [(11, 20_000)]
    assert rows("SELECT detail FROM quarantined WHERE frames > 1") == [
        ("19990 more, the last: kind 77 at 20000",)
    ]
    assert books.counts.notes == {"undecodable": 20_000}
    assert len([line for line in caplog.messages if "not whole" in line]) == 1


def test_what_calls_said_is_kept_with_its_gaps_as_they_came(books, rows, call, noon_us):
    whole = call(content={"input": "what?", "output": "that"}, started_at_us=noon_us)
    half = call(content={"input": "what?\x00\N{SNOWMAN}"}, started_at_us=noon_us + 1)
    entry = books.begin()
    books.take(entry, "s", frames_of(whole, call(), half), Mark())
    books.enter(entry)

    assert rows("SELECT call_id, epoch_us(started_at), input, output FROM contents ORDER BY 2") == [
        (whole.call_id, noon_us, "what?", "that"),
        (half.call_id, noon_us + 1, "what?\x00\N{SNOWMAN}", None),
    ]

"""Following the journal directory: growth, rotation, crashes, and damage of every kind (F01)."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.domain.money import usd
from collector.ingest import follower as follower_module
from collector.ingest.books import Books
from collector.ingest.follower import Follower, FollowerConfig
from collector.journal import segments
from collector.store.duckdb import StoreError


@pytest.fixture
def follower(journal, books, noon_us):
    return Follower(
        journal.directory, books, FollowerConfig(liveness_interval_s=0), now=lambda: noon_us / 1e6 + 1
    )


def test_what_a_living_sidecar_wrote_is_booked_and_the_rest_when_it_comes(
    journal, follower, rows, call, intent
):
    writer = journal.writer()
    first, second = call(), call()
    writer.record(first)
    writer.intent(intent(second))
    assert follower.step() == 2

    assert rows("SELECT call_id FROM calls") == [(first.call_id,)]
    assert follower.step() == 0
    writer.record(second)
    assert follower.step() == 1
    assert rows("SELECT count(*) FROM calls") == [(2,)]
    assert rows("SELECT count(*) FROM pending") == [(0,)]


def test_many_segments_of_a_source_are_read_in_order(journal, follower, rows, call):
    calls = [call(cost=n) for n in range(200)]
    journal.write(*calls, segment_bytes=20_000)
    assert len(segments(journal.directory)) > 5

    follower.catch_up()

    assert rows("SELECT count(*), sum(effective_cost_usd) FROM calls") == [(200, usd(sum(range(200))))]
    assert rows("SELECT sequence, ended FROM sources") == [(200, True)]
    assert rows("SELECT count(*) FROM quarantined") == [(0,)]


def test_small_steps_book_the_same_as_large_ones(journal, books, rows, call):
    journal.write(*(call() for _ in range(600)), segment_bytes=150_000)
    follower = Follower(journal.directory, books, FollowerConfig(step_bytes=1, liveness_interval_s=0))

    assert follower.catch_up() == 600
    assert books.counts.commits > 3
    assert rows("SELECT count(DISTINCT call_id), count(*) FROM calls") == [(600, 600)]


def test_a_call_larger_than_a_step_is_read(journal, books, rows, call):
    journal.write(call(content={"input": "x" * 900_000}), call())
    Follower(journal.directory, books, FollowerConfig(step_bytes=1000, liveness_interval_s=0)).catch_up()

    assert rows("SELECT count(*) FROM calls") == [(2,)]
    assert rows("SELECT length(input) FROM contents") == [(900_000,)]


def test_an_intent_of_a_sidecar_that_crashed_is_booked_at_its_hold(journal, follower, rows, call, intent):
    lost = call()
    journal.write(call(cost=5), intent(lost, hold_pico=100))

    follower.catch_up()

    assert rows("SELECT outcome_reason, effective_cost_usd FROM calls WHERE call_id = $1", lost.call_id) == [
        ("crashed", usd(100))
    ]
    assert rows("SELECT sum(effective_cost_usd) FROM calls") == [(usd(105),)]
    follower.step()
    assert rows("SELECT count(*) FROM calls") == [(2,)]


def test_an_intent_of_a_living_sidecar_waits(journal, follower, rows, call, intent):
    journal.writer().intent(intent(call()))

    follower.step()
    follower.step()

    assert rows("SELECT count(*) FROM calls") == [(0,)]


def test_an_intent_older_than_the_longest_call_is_booked_even_while_its_sidecar_lives(
    journal, books, rows, call, intent, noon_us
):
    now = [noon_us / 1e6]
    follower = Follower(
        journal.directory,
        books,
        FollowerConfig(longest_call_s=100, liveness_interval_s=0),
        now=lambda: now[0],
    )
    writer = journal.writer()
    slow = call(started_at_us=noon_us, cost=3)
    writer.intent(intent(slow, hold_pico=50))
    follower.step()
    now[0] += 99
    follower.step()
    assert rows("SELECT count(*) FROM calls") == [(0,)]

    now[0] += 2
    follower.step()
    assert rows("SELECT effective_cost_usd FROM calls") == [(usd(50),)]

    writer.record(slow)
    follower.step()
    assert rows("SELECT effective_cost_usd, outcome FROM calls") == [(usd(3), "served")]


def test_a_torn_last_frame_of_a_dead_sidecar_is_noted_and_everything_before_it_booked(
    journal, follower, rows, call
):
    journal.write(call(cost=1), call(cost=2), source="a")
    (segment,) = segments(journal.directory)
    whole = segment.path.read_bytes()
    segment.path.write_bytes(whole[:-10])

    follower.catch_up()

    assert rows("SELECT sum(effective_cost_usd) FROM calls") == [(usd(1),)]
    assert rows("SELECT reason, source FROM quarantined") == [("torn", "a")]
    follower.step()
    assert rows("SELECT count(*) FROM quarantined") == [(1,)]


def test_a_frame_that_is_still_being_written_is_waited_for(journal, follower, rows, call):
    writer = journal.writer()
    writer.record(call())
    (segment,) = segments(journal.directory)
    whole = segment.path.read_bytes()
    writer.record(call())
    longer = segment.path.read_bytes()
    segment.path.write_bytes(longer[: len(whole) + 20])
    follower.step()
    assert rows("SELECT count(*) FROM calls") == [(1,)]

    segment.path.write_bytes(longer)
    follower.step()
    assert rows("SELECT count(*) FROM calls") == [(2,)]
    assert rows("SELECT count(*) FROM quarantined") == [(0,)]


def test_a_damaged_segment_costs_its_tail_and_the_next_segment_is_read(journal, follower, rows, call):
    calls = [call(cost=1) for _ in range(60)]
    journal.write(*calls, segment_bytes=20_000)
    first, second = segments(journal.directory)[:2]
    damaged = bytearray(first.path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    first.path.write_bytes(damaged)

    follower.catch_up()

    ((booked,),) = rows("SELECT count(*) FROM calls")
    reasons = dict(rows("SELECT reason, sum(frames)::BIGINT FROM quarantined GROUP BY 1"))
    assert reasons["corrupt"] == 0
    assert booked + reasons["gap"] == 60
    assert 0 < reasons["gap"] < 60
    assert rows("SELECT sequence FROM sources") == [(60,)]
    assert second.number == 2


def test_a_segment_without_a_header_is_passed(journal, follower, rows, call):
    journal.write(call(), source="a")
    (journal.directory / "a-000000.seg").write_bytes(b"BURS")
    (journal.directory / "b-000001.seg").write_bytes(b"")

    follower.catch_up()

    assert rows("SELECT count(*) FROM calls") == [(1,)]
    noted = rows("SELECT source, reason, detail LIKE '%-00000%' FROM quarantined ORDER BY source")
    assert noted == [("a", "no_header", True), ("b", "no_header", True)]


def test_an_empty_last_segment_of_a_source_that_ended_is_noted(journal, follower, rows, call):
    journal.write(call(), source="a")
    (journal.directory / "a-000002.seg").write_bytes(b"")

    follower.catch_up()

    assert rows("SELECT count(*) FROM calls") == [(1,)]
    assert rows("SELECT reason, detail FROM quarantined") == [
        ("no_header", "a-000002.seg: not a journal segment")
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_segment_damaged_anywhere_gives_an_exact_prefix_and_what_follows_it(
    data, tmp_path_factory, journal_at, call
):
    from collector.store.duckdb import DatabaseConfig
    from collector.store.opening import open_ledger

    folder = tmp_path_factory.mktemp("books")
    journal = journal_at(folder / "journal")
    calls = [call(cost=1000 + n) for n in range(12)]
    journal.write(*calls[:8], source="a")
    (segment,) = segments(journal.directory)
    body = bytearray(segment.path.read_bytes())
    where = int(data.draw(st.floats(0, 1, exclude_max=True)) * len(body))
    match data.draw(st.sampled_from(["cut", "flip", "zeros", "garbage"])):
        case "cut":
            body = body[:where]
        case "flip":
            body[where] ^= 1 << data.draw(st.integers(0, 7))
        case "zeros":
            body[where:] = bytes(len(body) - where)
        case "garbage":
            body += data.draw(st.binary(min_size=1, max_size=300))
    segment.path.write_bytes(body)
    journal.write(*calls[8:], source="b")

    database = open_ledger(folder, DatabaseConfig()).database
    Follower(journal.directory, Books(database), FollowerConfig(liveness_interval_s=0)).catch_up()
    booked = set(database.connection.execute("SELECT call_id, effective_cost_usd FROM calls").fetchall())
    database.close()

    known = [(record.call_id, usd(record.effective_cost_pico)) for record in calls]
    ours = [row for row in known[:8] if row in booked]
    assert ours == known[: len(ours)]
    assert booked == {*ours, *known[8:]}


def test_a_step_that_the_database_refuses_is_taken_again_from_the_same_place(
    journal, follower, rows, books, call
):
    journal.write(call(), call())
    books.database.connection.execute("ALTER TABLE attempts RENAME TO elsewhere")
    with pytest.raises(StoreError):
        follower.step()
    assert books.marks == {}

    books.database.connection.execute("ALTER TABLE elsewhere RENAME TO attempts")
    follower.catch_up()

    assert rows("SELECT count(*) FROM calls") == [(2,)]


def test_the_lag_says_how_much_waits_and_since_when(journal, books, call):
    now = [1000.0]
    follower = Follower(
        journal.directory, books, FollowerConfig(step_bytes=1, liveness_interval_s=0), clock=lambda: now[0]
    )
    writer = journal.writer()
    for _ in range(900):
        writer.record(call())

    follower.step()
    waiting = follower.lag["host-boot1"]
    assert waiting.bytes > 0
    assert waiting.since == 1000.0

    now[0] = 1010.0
    follower.step()
    assert waiting.since == 1000.0
    follower.catch_up()
    assert (waiting.bytes, waiting.since) == (0, 0.0)


def test_a_journal_that_has_only_begun_is_no_lag(journal, books, call):
    """A sidecar writes the header of its journal when it starts, perhaps long before the first call."""
    now = [1000.0]
    follower = Follower(journal.directory, books, FollowerConfig(liveness_interval_s=0), clock=lambda: now[0])
    writer = journal.writer()
    (segment,) = segments(journal.directory)
    assert segment.path.stat().st_size > 0

    follower.step()
    now[0] = 1600.0
    assert not follower.due() or follower.step() == 0

    (lag,) = follower.lag.values()
    assert (lag.bytes, lag.since) == (0, 0.0)
    writer.record(call())
    assert follower.catch_up() > 0


@pytest.fixture
def clock():
    return [1000.0]


@pytest.fixture
def patient(journal, books, clock, noon_us):
    """A follower that books 20 kB at once, and less after five seconds."""
    config = FollowerConfig(
        liveness_interval_s=0, enough_bytes=20_000, rush_bytes=40_000, patience_s=5, fresh_s=1
    )
    follower = Follower(journal.directory, books, config, now=lambda: noon_us / 1e6, clock=lambda: clock[0])
    follower.step()
    return follower


def test_little_is_booked_when_it_has_waited_for_long_enough(journal, patient, clock, call):
    journal.writer().record(call())
    assert not patient.due()

    clock[0] += 4.9
    assert not patient.due()
    (lag,) = patient.lag.values()
    assert lag.bytes > 0
    assert clock[0] - lag.since == pytest.approx(4.9)

    clock[0] += 0.2
    assert patient.due()
    assert patient.step() == 1
    assert not patient.due()


def test_what_came_between_two_looks_may_have_waited_since_the_first(journal, patient, clock, call):
    clock[0] += 5
    journal.writer().record(call())
    assert patient.due()


def test_much_is_booked_at_once(journal, patient, call):
    writer = journal.writer()
    for _ in range(50):
        writer.record(call())
    assert patient.due()
    patient.step()
    assert not patient.busy

    for _ in range(100):
        writer.record(call())
    assert patient.due()
    patient.step()
    assert patient.busy


def test_the_end_of_a_rush_is_booked_when_nothing_more_comes(journal, patient, call):
    writer = journal.writer()
    for _ in range(100):
        writer.record(call())
    patient.step()
    assert patient.busy

    writer.record(call())
    assert not patient.due()
    writer.record(call())
    assert not patient.due()
    assert patient.due()
    assert patient.step() == 2

    assert not patient.due()
    assert not patient.busy


def test_a_rush_that_is_over_is_looked_for_no_longer(journal, patient, call):
    writer = journal.writer()
    for _ in range(100):
        writer.record(call())
    patient.step()

    assert not patient.due()
    assert not patient.busy


def test_the_end_of_a_source_is_not_waited_for(journal, patient, rows, call, intent):
    journal.write(call(), intent(call()))
    assert patient.due()
    patient.step()
    assert rows("SELECT outcome_reason FROM calls ORDER BY 1") == [("",), ("crashed",)]


def test_who_asks_has_what_waits_booked_but_not_twice_in_a_second(journal, patient, clock, rows, call):
    writer = journal.writer()
    writer.record(call())
    clock[0] += 1
    patient.freshen()
    assert rows("SELECT count(*) FROM calls") == [(1,)]

    writer.record(call())
    patient.freshen()
    assert rows("SELECT count(*) FROM calls") == [(1,)]
    clock[0] += 1
    patient.freshen()
    assert rows("SELECT count(*) FROM calls") == [(2,)]


def test_what_follows_a_torn_end_of_a_dead_source_is_no_lag(journal, books, clock, call):
    journal.write(call(), call())
    (segment,) = segments(journal.directory)
    with segment.path.open("r+b") as file:
        file.truncate(segment.path.stat().st_size - 7)
    follower = Follower(
        journal.directory, books, FollowerConfig(liveness_interval_s=0), clock=lambda: clock[0]
    )
    follower.catch_up()
    clock[0] += 30
    assert not follower.due()
    assert not any(lag.bytes for lag in follower.lag.values())


def test_a_wall_clock_that_is_set_back_holds_nothing_up(journal, books, rows, clock, call, noon_us):
    wall = [noon_us / 1e6]
    follower = Follower(journal.directory, books, now=lambda: wall[0], clock=lambda: clock[0])
    writer = journal.writer()
    writer.record(call())
    follower.step()

    wall[0] -= 3600
    writer.record(call())
    clock[0] += 6

    assert follower.due()
    follower.freshen()
    assert rows("SELECT count(*) FROM calls") == [(2,)]


# ---- one that is odd, and the others ---------------------------------------------------------


def test_a_segment_that_cannot_be_read_is_noted_and_waited_for_while_others_are_booked(
    journal, follower, rows, call, monkeypatch
):
    journal.write(call(cost=1), source="a")
    journal.write(call(cost=2), source="b")
    read = follower_module.read_frames

    def refused(path, *args, **more):
        if path.name.startswith("a-"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path, *args, **more)

    with monkeypatch.context() as rights:
        rights.setattr(follower_module, "read_frames", refused)
        follower.step()
        follower.step()

    assert rows("SELECT sum(effective_cost_usd) FROM calls") == [(usd(2),)]
    assert rows("SELECT source, reason FROM quarantined") == [("a", "unreadable")]

    follower.catch_up()
    assert rows("SELECT sum(effective_cost_usd) FROM calls") == [(usd(3),)]


def test_what_only_looks_like_a_segment_is_noted_once_and_the_rest_is_booked(journal, follower, rows, call):
    journal.write(call(), source="good")
    (journal.directory / "aaa-1.seg").mkdir()
    os.mkfifo(journal.directory / "pipe-000001.seg")
    (journal.directory / "good-\u00b2.seg").write_bytes(b"")
    Path(os.fsdecode(bytes(journal.directory) + b"/a\xff-000001.seg")).write_bytes(b"")

    follower.step()
    follower.step()

    assert rows("SELECT count(*) FROM calls") == [(1,)]
    assert rows("SELECT source, reason, count(*) FROM quarantined GROUP BY ALL") == [("", "no_segment", 4)]


def test_a_source_of_which_nobody_can_tell_whether_it_lives_is_waited_for(journal, books, rows, call):
    def alive(directory, source):
        if source == "a":
            raise PermissionError(errno.EACCES, "Permission denied")
        return False

    journal.write(call(), source="a")
    journal.write(call(), source="b")
    Follower(journal.directory, books, FollowerConfig(liveness_interval_s=0), alive=alive).catch_up()

    assert rows("SELECT count(*) FROM calls") == [(2,)]
    assert rows("SELECT source, ended FROM sources ORDER BY 1") == [("a", False), ("b", True)]

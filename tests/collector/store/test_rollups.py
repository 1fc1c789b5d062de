"""The sums by minute, hour and day say what the calls say, whatever order they came in."""

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.store import levels, rollups
from collector.store.levels import ALL_LEVELS, DAY_US, HOUR_US, LEVELS, MINUTE_US
from collector.store.rollups import Mark, Piece, pieces

DAY = 1_790_035_200_000_000 // DAY_US * DAY_US


def test_a_period_is_cut_into_whole_days_hours_and_minutes_and_single_calls_at_its_ends():
    marks = {name: Mark(DAY, DAY + 3 * DAY_US) for name in ("day", "hour", "minute")}
    since, until = DAY + 5, DAY + DAY_US + HOUR_US + MINUTE_US + 7

    assert pieces(since, until, marks) == [
        Piece("calls", since, DAY + MINUTE_US),
        Piece("calls_by_minute", DAY + MINUTE_US, DAY + HOUR_US),
        Piece("calls_by_hour", DAY + HOUR_US, DAY + DAY_US + HOUR_US),
        Piece("calls_by_minute", DAY + DAY_US + HOUR_US, DAY + DAY_US + HOUR_US + MINUTE_US),
        Piece("calls", DAY + DAY_US + HOUR_US + MINUTE_US, until),
    ]


moments = st.integers(DAY - 2 * DAY_US, DAY + 5 * DAY_US)


@given(moments, moments, moments, moments, moments)
def test_the_pieces_of_any_period_are_disjoint_in_order_and_cover_it(since, until, day, hour, minute):
    marks = {
        name: Mark(DAY, max(DAY, moment) // width * width)
        for name, moment, width in (
            ("day", day, DAY_US),
            ("hour", hour, HOUR_US),
            ("minute", minute, MINUTE_US),
        )
    }

    cut = pieces(since, until, marks)

    assert sum(piece.until_us - piece.since_us for piece in cut) == max(0, until - since)
    assert all(earlier.until_us == later.since_us for earlier, later in pairwise(cut))
    widths = {"calls": 1} | {level.table: level.width_us for level in LEVELS}
    for piece in cut:
        assert piece.since_us % widths[piece.table] == 0
        assert piece.until_us % widths[piece.table] == 0
        mark = marks.get(piece.table.removeprefix("calls_by_"))
        assert mark is None or mark.since_us <= piece.since_us <= piece.until_us <= mark.upto_us


def sums(rows, table: str, where: str = "true") -> tuple:
    count = "count(*)" if table == "calls" else "sum(calls)"
    attempts = "attempt_count" if table == "calls" else "attempts"
    (found,) = rows(
        f"SELECT coalesce({count}, 0), coalesce(sum({attempts}), 0), coalesce(sum(input_tokens), 0),"
        f" coalesce(sum(effective_cost_usd), 0)::DECIMAL(38,12) FROM {table} WHERE {where}"
    )
    return found


def mark_filter(books, level: str, column: str) -> str:
    mark = rollups.load_marks(books.database.connection)[level]
    return f"{column} >= make_timestamp({mark.since_us}) AND {column} < make_timestamp({mark.upto_us})"


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_level_holds_exactly_the_calls_inside_its_mark(data, tmp_path_factory, call):
    from collector.ingest.books import Books
    from collector.ingest.pairing import Mark as SourceMark
    from collector.journal import encoded, parse_frames
    from collector.store.duckdb import DatabaseConfig
    from collector.store.opening import open_ledger

    database = open_ledger(tmp_path_factory.mktemp("ledger"), DatabaseConfig()).database
    clock = [DAY + DAY_US]
    books = Books(database, now_us=lambda: clock[0])

    def rows(sql):
        return database.connection.execute(sql).fetchall()

    sequence = 0
    for _ in range(data.draw(st.integers(1, 5))):
        starts = data.draw(st.lists(st.integers(DAY, clock[0]), min_size=1, max_size=12))
        records = [call(started_at_us=start, cost=start % 977) for start in starts]
        frames, _, _ = parse_frames(encoded(records, sequence + 1))
        entry = books.begin()
        books.take(entry, "s", frames, SourceMark(sequence=sequence))
        books.enter(entry)
        sequence += len(records)
        clock[0] += data.draw(st.sampled_from([MINUTE_US, 50 * MINUTE_US, 7 * HOUR_US, DAY_US]))
        while books.advance_rollups():
            pass

    for level in ALL_LEVELS:
        inside = mark_filter(books, level.name, "started_at")
        assert sums(rows, level.table) == sums(rows, "calls", inside), level.name
        counts = " + ".join(f"coalesce(sum({c}), 0)" for c in levels.LATENCY)
        counted = "coalesce(sum(len(latency_buckets)), 0)" if level.listed else counts
        ((latencies,),) = rows(f"SELECT {counted} FROM {level.table}")
        assert latencies == sums(rows, "calls", inside)[0]
    database.close()


def test_a_late_call_is_added_to_every_level_that_is_past_it(enter, rows, books, call, noon_us):
    books._now_us = lambda: noon_us + 3 * DAY_US
    enter(call(started_at_us=noon_us, cost=1_000))
    while books.advance_rollups():
        pass

    enter(call(started_at_us=noon_us + 1, cost=500, conversation_id="late"))

    for level in ALL_LEVELS:
        assert sums(rows, level.table)[::3] == (2, Decimal("0.000000001500")), level.name
    assert rows("SELECT count(DISTINCT conversation_id) FROM calls_by_talk_hour") == [(2,)]


def test_minutes_are_forgotten_after_some_days_and_hours_are_not(enter, rows, books, call, noon_us):
    books._now_us = lambda: noon_us + 9 * DAY_US
    enter(call(started_at_us=noon_us), call(started_at_us=noon_us + 8 * DAY_US))
    while books.advance_rollups():
        pass

    assert sums(rows, "calls_by_minute")[0] == 1
    assert sums(rows, "calls_by_hour")[0] == 2
    assert rollups.load_marks(books.database.connection)["minute"].since_us > noon_us


def test_a_step_that_fails_changes_nothing(enter, rows, books, call, noon_us):
    books._now_us = lambda: noon_us + DAY_US
    enter(call(started_at_us=noon_us))
    assert books.advance_rollups()
    books.database.connection.execute("ALTER TABLE calls_by_minute RENAME TO elsewhere")

    with pytest.raises(Exception, match="calls_by_minute"):
        books.advance_rollups()

    books.database.connection.execute("ALTER TABLE elsewhere RENAME TO calls_by_minute")
    while books.advance_rollups():
        pass
    assert sums(rows, "calls_by_minute")[0] == 1

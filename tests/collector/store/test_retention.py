"""Old rows go, sums stay, and nothing goes that the sums have not taken in."""

import pytest

from collector.store import retention
from collector.store.levels import DAY_US


def test_calls_past_the_retention_go_with_their_attempts_and_the_sums_stay(
    database, books, enter, rows, call, noon_us
):
    now = noon_us + 100 * DAY_US
    books._now_us = lambda: now
    enter(*(call(started_at_us=noon_us + n * 10 * DAY_US, content={"input": "x"}) for n in range(10)))
    while books.advance_rollups():
        pass
    assert rows("SELECT sum(calls) FROM calls_by_day") == [(10,)]

    retention.let_go(database, 45 * DAY_US, now)

    assert rows("SELECT count(*) FROM calls") == [(4,)]
    assert rows("SELECT count(*) FROM attempts") == [(4,)]
    assert rows("SELECT count(*) FROM contents") == [(4,)]
    assert rows("SELECT sum(calls) FROM calls_by_hour") == [(10,)]
    assert retention.let_go(database, 45 * DAY_US, now) == 0


def test_sums_go_after_ten_times_as_long(database, books, enter, rows, call, noon_us):
    now = noon_us + 100 * DAY_US
    books._now_us = lambda: now
    enter(call(started_at_us=noon_us), call(started_at_us=now - DAY_US))
    while books.advance_rollups():
        pass

    retention.let_go(database, 5 * DAY_US, now)

    assert rows("SELECT sum(calls) FROM calls_by_day") == [(1,)]


def test_a_call_that_no_sum_holds_yet_stays_whatever_its_age(database, enter, rows, call, noon_us):
    enter(call(started_at_us=noon_us))
    retention.let_go(database, DAY_US, noon_us + 500 * DAY_US)
    assert rows("SELECT count(*) FROM calls") == [(1,)]


@pytest.mark.slow
def test_space_of_deleted_rows_is_used_again(database, books, enter, rows, call, noon_us):
    now = noon_us + 40 * DAY_US
    books._now_us = lambda: now

    def fill(day):
        database.connection.execute(
            "INSERT INTO calls SELECT seed.* REPLACE (make_timestamp($1 + range * 1000) AS started_at)"
            " FROM seed, range(30000)",
            [noon_us + day * DAY_US],
        )
        database.checkpoint()

    enter(call(started_at_us=noon_us))
    database.connection.execute("CREATE TEMP TABLE seed AS SELECT * FROM calls")
    sizes = []
    for day in range(8):
        fill(day)
        while books.advance_rollups():
            pass
        retention.let_go(database, 40 * DAY_US - (day - 2) * DAY_US, now)
        database.checkpoint()
        sizes.append(database.size_bytes)

    assert sizes[-1] < sizes[3] * 1.6

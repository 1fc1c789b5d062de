"""What the journal tells besides calls is booked once, in the transaction of its mark."""

import json
from decimal import Decimal

import msgspec
import pytest

from collector.domain.record import Event, EventKind
from collector.ingest.books import Books
from collector.ingest.events import BudgetRow, OutcomeRow, row_of
from collector.ingest.follower import Follower, FollowerConfig
from collector.store.duckdb import Database, DatabaseConfig, StoreError
from collector.store.opening import LIVE, open_ledger

OUTCOME = {
    "task_id": "t1",
    "conversation_id": "",
    "trace_id": "",
    "success": True,
    "score": 0.75,
    "value_pico": 12_500_000_000_000,
    "note": "merged",
}
BUDGET = {
    "budget": "search-daily",
    "counter": "search-daily:2026-09-21",
    "action": "raise",
    "limit_nano": 2_500_000_000_000_001,  # 2,500,000.000000001 USD
    "spent_nano": 1,
    "held_nano": 0,
    "detail": "by hand",
}


@pytest.fixture
def event(noon_us):
    def make(kind=EventKind.BUDGET, fields=None, **changes):
        plain = {"kind": kind, "happened_at_us": noon_us, "tenant": "acme", "call_id": "c1"}
        own = OUTCOME if kind == EventKind.OUTCOME else BUDGET
        return Event(**(plain | changes), fields=own if fields is None else fields)

    return make


def follower_of(database, journal, now_us):
    books = Books(database, now_us=lambda: now_us)
    return Follower(journal.directory, books, FollowerConfig(liveness_interval_s=0), now=lambda: now_us / 1e6)


def test_outcomes_and_budget_events_are_rows_with_exact_amounts(
    database, journal, event, call, noon_us, rows
):
    writer = journal.writer()
    writer.event(event(EventKind.OUTCOME))
    writer.record(call())
    writer.event(event())
    follower_of(database, journal, noon_us).catch_up()

    assert rows(
        "SELECT tenant, task_id, success, score, value_usd, note, epoch_us(reported_at) FROM outcomes"
    ) == [("acme", "t1", True, 0.75, Decimal("12.5"), "merged", noon_us)]
    assert rows(
        "SELECT tenant, budget, counter, action, call_id, limit_usd, spent_usd, held_usd, detail"
        " FROM budget_events"
    ) == [
        (
            *("acme", "search-daily", "search-daily:2026-09-21", "raise", "c1"),
            *(Decimal("2500000.000000001"), Decimal("0.000000001"), Decimal(0), "by hand"),
        )
    ]
    assert rows("SELECT count(*) FROM calls") == [(1,)]
    assert rows("SELECT count(*) FROM quarantined") == [(0,)]


def test_comparisons_of_similar_answers_are_rows(database, journal, event, noon_us, rows):
    fields = {"request_model": "m", "likeness": "same", "distance": 0.03, "serving": True, "right": False}
    journal.writer().event(event(EventKind.SIMILAR, fields=fields))
    follower_of(database, journal, noon_us).catch_up()

    assert rows(
        "SELECT tenant, call_id, request_model, likeness, distance, serving, is_right, epoch_us(happened_at)"
        " FROM similar_checks"
    ) == [("acme", "c1", "m", "same", 0.03, True, False, noon_us)]


def test_an_event_may_leave_amounts_out(database, journal, event, noon_us, rows):
    journal.writer().event(event(fields={"budget": "b", "action": "cut", "detail": "too long"}))
    follower_of(database, journal, noon_us).catch_up()

    assert rows("SELECT action, limit_usd, spent_usd, held_usd, counter FROM budget_events") == [
        ("cut", None, None, None, "")
    ]


def test_events_are_booked_once_over_restarts_and_a_commit_that_fails(
    database, journal, event, noon_us, rows
):
    writer = journal.writer()
    writer.event(event(EventKind.OUTCOME))
    writer.event(event())
    follower = follower_of(database, journal, noon_us)
    database.connection.execute("ALTER TABLE sources RENAME TO elsewhere")
    with pytest.raises(StoreError):
        follower.step()
    database.connection.execute("ALTER TABLE elsewhere RENAME TO sources")
    assert rows("SELECT (SELECT count(*) FROM outcomes) + (SELECT count(*) FROM budget_events)") == [(0,)]

    follower.catch_up()
    writer.event(event(EventKind.OUTCOME))
    follower_of(database, journal, noon_us).catch_up()
    follower_of(database, journal, noon_us).catch_up()

    assert rows("SELECT (SELECT count(*) FROM outcomes), (SELECT count(*) FROM budget_events)") == [(2, 1)]


def test_a_ledger_that_is_rebuilt_has_its_events_again(tmp_path, journal, event, noon_us):
    writer = journal.writer()
    for number in range(30):
        writer.event(event(call_id=f"c{number}"))
        writer.event(event(EventKind.OUTCOME))
    first = open_ledger(tmp_path, DatabaseConfig()).database
    follower_of(first, journal, noon_us).catch_up()
    first.close()
    (tmp_path / LIVE).write_bytes(b"this is no database" * 100)

    opened = open_ledger(tmp_path, DatabaseConfig())
    follower_of(opened.database, journal, noon_us).catch_up()
    counts = opened.database.connection.execute(
        "SELECT (SELECT count(*) FROM outcomes), (SELECT count(DISTINCT call_id) FROM budget_events),"
        " (SELECT count(*) FROM budget_events)"
    ).fetchall()
    opened.database.close()
    assert len(opened.set_aside) == 1
    assert counts == [(30, 30, 30)]


def test_an_event_of_a_kind_that_is_not_known_is_noted_and_holds_nothing_up(
    database, journal, event, call, noon_us, rows
):
    writer = journal.writer()
    writer.event(event("moonrise", fields={"phase": "full"}))
    writer.record(call())
    writer.event(event())
    follower_of(database, journal, noon_us).catch_up()

    assert rows("SELECT reason, frames FROM quarantined") == [("undecodable", 1)]
    assert "moonrise" in rows("SELECT detail FROM quarantined")[0][0]
    assert rows("SELECT (SELECT count(*) FROM calls), (SELECT count(*) FROM budget_events)") == [(1, 1)]


def test_an_instant_that_cannot_be_true_becomes_the_present(database, journal, event, noon_us, rows):
    journal.writer().event(event(happened_at_us=-(1 << 62)))
    follower_of(database, journal, noon_us).catch_up()

    assert rows("SELECT epoch_us(happened_at) FROM budget_events") == [(noon_us,)]


@pytest.mark.parametrize(
    "payload",
    [
        b"\xc1",
        msgspec.msgpack.encode("budget"),
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode(["budget", 1, "t", "c", {"budget": "b"}]),
        msgspec.msgpack.encode(["budget", "noon", "t", "c", BUDGET]),
        msgspec.msgpack.encode(["budget", 1, "t", "c", {**BUDGET, "limit_nano": "much"}]),
        msgspec.msgpack.encode(["outcome", 1, "t", "", {**OUTCOME, "success": "yes"}]),
        msgspec.msgpack.encode(["outcome", 1, "t", "", {**OUTCOME, "value_pico": 10**18}]),
    ],
)
def test_a_payload_that_is_no_event_is_refused_by_name(payload):
    with pytest.raises(ValueError, match=r"event|outcome"):
        row_of(payload, "s:1")


def test_what_is_too_long_is_cut_and_what_a_newer_writer_adds_is_passed_over(event):
    long = row_of(msgspec.msgpack.encode(event(fields={**BUDGET, "detail": "x" * 10_000, "mood": 1})), "s:1")
    assert isinstance(long, BudgetRow)
    assert long.detail == "x" * 8192
    assert isinstance(row_of(msgspec.msgpack.encode(event(EventKind.OUTCOME)), "s:2"), OutcomeRow)


def test_a_told_event_is_taken_once_however_often_it_is_sent(books, rows, event):
    row = row_of(msgspec.msgpack.encode(event(fields={**BUDGET, "detail": json.dumps({"a": 1})})), "alerts-1")
    other = row._replace(event_id="alerts-2")
    books.tell(events=[row, row])
    books.tell(events=[row, other])

    assert rows("SELECT event_id FROM budget_events ORDER BY 1") == [("alerts-1",), ("alerts-2",)]


def test_a_ledger_of_the_schema_before_is_brought_up_with_its_rows(tmp_path):
    from collector.store.migrate import migrate, migrations

    database = Database(tmp_path / "old.duckdb")
    migrate(database.connection, migrations()[:4])
    database.connection.execute(
        "INSERT INTO budget_events VALUES (now()::TIMESTAMP, 'b', 'c', 'raise', '', 1.5, 0, 0, '')"
    )
    migrate(database.connection)

    found = database.connection.execute("SELECT budget, limit_usd, event_id FROM budget_events").fetchall()
    database.close()
    assert found == [("b", Decimal("1.5"), None)]

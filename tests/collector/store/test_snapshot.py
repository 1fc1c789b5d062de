"""Published copies: consistent, taken while ingest goes on, replaced in one step."""

import threading

import duckdb
import pytest

from collector.ingest.books import Books
from collector.store.duckdb import Database, StoreError
from collector.store.snapshot import Publisher


@pytest.fixture
def target(tmp_path):
    return tmp_path / "snapshot.duckdb"


def counted(path):
    connection = duckdb.connect(str(path), read_only=True)
    try:
        return connection.execute("SELECT count(*), sum(effective_cost_usd) FROM calls").fetchone()
    finally:
        connection.close()


def test_anyone_can_open_the_snapshot_and_finds_what_was_committed(database, enter, rows, call, target):
    enter(*(call() for _ in range(20)))

    Publisher(database, target, 60).publish()
    enter(call())

    assert counted(target)[0] == 20
    assert rows("SELECT count(*) FROM calls") == [(21,)]


def test_a_snapshot_is_due_when_there_is_something_new_and_the_interval_is_over(
    database, enter, call, target
):
    now = [0.0]
    publisher = Publisher(database, target, 60, clock=lambda: now[0])
    enter(call())
    assert publisher.due()
    publisher.publish()
    assert not publisher.due()

    now[0] = 100
    assert not publisher.due()
    enter(call())
    assert publisher.due()
    now[0] = 30
    assert not publisher.due()


def test_ingest_goes_on_while_a_copy_is_taken_and_the_copy_stays_what_it_was(
    database, enter, rows, call, target, monkeypatch
):
    enter(*(call() for _ in range(50)))
    copying, go_on = threading.Event(), threading.Event()
    copy = __import__("collector.store.snapshot", fromlist=["_copy"])._copy

    def slow_copy(source, destination):
        copying.set()
        assert go_on.wait(20)
        copy(source, destination)

    monkeypatch.setattr("collector.store.snapshot._copy", slow_copy)
    publisher = Publisher(database, target, 60)
    thread = threading.Thread(target=publisher.publish)
    thread.start()
    assert copying.wait(20)
    enter(*(call() for _ in range(500)))
    assert database.checkpoint() is False
    go_on.set()
    thread.join()

    assert counted(target)[0] == 50
    assert rows("SELECT count(*) FROM calls") == [(550,)]
    assert database.checkpoint() is True


def test_a_copy_that_fails_leaves_the_old_one(database, enter, call, target, monkeypatch):
    enter(call())
    publisher = Publisher(database, target, 60)
    publisher.publish()
    enter(call())

    def full(source, destination):
        destination.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("collector.store.snapshot._copy", full)
    with pytest.raises(OSError, match="No space"):
        publisher.publish()

    assert counted(target)[0] == 1
    assert [path.name for path in target.parent.glob("snapshot*")] == ["snapshot.duckdb"]
    assert database.checkpoint()


def test_a_snapshot_holds_the_marks_that_fit_its_rows(database, enter, call, target):
    enter(*(call() for _ in range(7)))
    Publisher(database, target, 60).publish()

    copy = Database(target)
    assert Books(copy).marks["test"].sequence == 7
    copy.close()


def test_a_snapshot_of_a_closed_database_is_refused(database, target):
    database.close()
    with pytest.raises(StoreError):
        Publisher(database, target, 60).publish()
    assert not target.exists()

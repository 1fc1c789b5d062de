"""The keeper of the books notices what changes around it."""

import threading
import time
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collector.ingest.entry import Counts
from collector.ingest.keeper import Keeper, KeeperConfig
from collector.ingest.state import State
from collector.store.duckdb import ROW_GROUP


def test_prices_that_change_while_it_runs_are_written_beside_those_before(tmp_path):
    told = [{"m": {"input": Decimal(1), "output": Decimal(3)}}]
    config = KeeperConfig(
        data_dir=tmp_path,
        commit_interval_s=0.01,
        prices={"m": {"input": Decimal(1), "output": Decimal(2)}},
        changed_prices=lambda: told.pop() if told else None,
    )
    state, stop = State(data_dir=tmp_path), threading.Event()
    thread = threading.Thread(target=Keeper(config, state, stop).run)
    thread.start()
    try:
        until, found = time.monotonic() + 30, []
        while len(found) < 2 and time.monotonic() < until:
            time.sleep(0.01)
            if state.ledger is not None:
                reader = state.ledger.books.database.reader()
                found = reader.execute(
                    "SELECT output_usd * 1000000 FROM prices WHERE price_grade = 'configured' ORDER BY 1"
                ).fetchall()
                reader.close()
    finally:
        stop.set()
        thread.join()

    assert found == [(Decimal(2),), (Decimal(3),)]


def ledger_of(database: Any) -> Any:
    return cast(Any, SimpleNamespace(books=SimpleNamespace(database=database, counts=Counts())))


def test_what_others_write_while_no_calls_come_is_folded_once_a_minute_and_when_they_are_done(
    tmp_path, database: Any
) -> None:
    now = [0.0]
    keeper = Keeper(
        KeeperConfig(data_dir=tmp_path), State(data_dir=tmp_path), threading.Event(), clock=lambda: now[0]
    )
    ledger = ledger_of(database)
    folded = []
    for now[0] in range(5, 120, 5):
        if now[0] <= 80:
            with database.transaction() as connection:
                connection.execute("INSERT INTO tool_prices VALUES ('search', 1)")
        before = database.wal_bytes
        keeper._checkpoint(ledger, now[0], 0)
        if before and not database.wal_bytes:
            folded.append(now[0])

    assert folded == [65, 95]  # A minute after the start, and ten seconds after the last row of 80.


@pytest.mark.parametrize("step", [700, 2100, 4457, 5100])
def test_while_many_calls_come_in_no_checkpoint_writes_rows_a_second_time(
    tmp_path, database: Any, step: int
) -> None:
    keeper = Keeper(KeeperConfig(data_dir=tmp_path), State(data_dir=tmp_path), threading.Event())
    ledger = ledger_of(database)
    database.connection.execute("CREATE TABLE rows (number BIGINT)")
    sizes: list[int] = []
    for number in range(200_000 // step):
        with database.transaction() as connection:
            connection.execute("INSERT INTO rows SELECT range FROM range(?)", [step])
        ledger.books.counts.calls += step
        if number == 30_000 // step:
            database.checkpoint()  # Somebody else's: the next group begins here.
        before = database.checkpoints
        keeper._checkpoint(ledger, 1.0, step)
        groups = row_groups(database)
        if database.checkpoints != before:
            assert groups[: len(sizes)] == sizes  # What was written is as it was, and only more has come.
            sizes = groups
    assert len(sizes) >= 8
    assert all(ROW_GROUP * 0.7 < size <= ROW_GROUP for size in sizes[3:])


def row_groups(database: Any) -> list[int]:
    """Rows of each row group of the table ``rows``."""
    found = database.connection.execute(
        "SELECT row_group_id, max(start + count) FROM pragma_storage_info('rows') GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    return [rows for _, rows in found]


def test_whatever_goes_wrong_in_a_round_the_next_one_is_made(tmp_path, monkeypatch):
    state, stop = State(data_dir=tmp_path), threading.Event()
    keeper = Keeper(KeeperConfig(data_dir=tmp_path, commit_interval_s=0.01), state, stop)
    rounds, seen = [], []
    work = keeper._work

    def fails_once() -> bool:
        rounds.append(1)
        if len(rounds) == 1:
            raise RecursionError("nobody thought of it")
        seen.append(state.trouble)
        stop.set()
        return work()

    monkeypatch.setattr(keeper, "_work", fails_once)
    thread = threading.Thread(target=keeper.run)
    thread.start()
    thread.join(30)
    stop.set()

    assert seen == ["RecursionError: nobody thought of it"]

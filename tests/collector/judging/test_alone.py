"""Conversations of one call are judged by their kind: the same is said of them as by all that is known."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.domain.record import CallRecord
from collector.ingest.events import OutcomeRow
from collector.judging import judge as judging
from collector.judging.alone import Kind, finding
from collector.judging.noticing import QUIET_US
from collector.judging.rows import Alone
from collector.store.duckdb import Database
from collector.store.schema import JUDGED_TABLES
from tests.collector.judging.talks import SECOND_US, talks_of_all_kinds
from tests.collector.judging.test_judge import Ledger, MakeCall

Said = dict[str, list[tuple[Any, ...]]]
HOUR_US = 3600 * SECOND_US


@pytest.fixture
def new_ledger_of(
    tmp_path: Path, new_ledger: Callable[[Path], Database], call: MakeCall, attempt: Any
) -> Iterator[Callable[[str], Ledger]]:
    """A ledger with its judge, in a folder of that name."""
    opened: list[Database] = []

    def make(name: str) -> Ledger:
        (tmp_path / name).mkdir()
        opened.append(new_ledger(tmp_path / name))
        made = Ledger(opened[-1], call, attempt)
        made.judge.step()
        return made

    yield make
    for database in opened:
        database.close()


def said_of(ledger: Ledger) -> Said:
    """Every row that the judge has written."""
    query = ledger.books.database.connection.execute
    return {table: query(f"SELECT * FROM {table} ORDER BY ALL").fetchall() for table in JUDGED_TABLES}


def lived_through(ledger: Ledger, calls: list[CallRecord], failures: list[OutcomeRow]) -> list[Said]:
    """What is said while calls come in, once all have been quiet, and once tasks are known to have failed."""
    found = []
    half = len(calls) // 2
    for part in (calls[:half], calls[half:]):
        for start in range(0, len(part), 40):
            ledger.enter(*part[start : start + 40])
            ledger.settle(after_us=QUIET_US // 2)
        found.append(said_of(ledger))
    ledger.settle(after_us=HOUR_US)
    found.append(said_of(ledger))
    ledger.books.tell(outcomes=[one._replace(reported_at_us=ledger.now_us) for one in failures])
    ledger.settle(after_us=2 * QUIET_US)
    ledger.settle(after_us=2 * QUIET_US)
    found.append(said_of(ledger))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_by_its_kind_the_same_is_said_of_a_call_as_by_all_that_is_known_of_it(
    new_ledger_of: Callable[[str], Ledger],
    call: MakeCall,
    attempt: Any,
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
) -> None:
    by_kind = new_ledger_of("by kind")
    calls = talks_of_all_kinds(seed, call, attempt, by_kind.now_us, talks=240)
    succeeded = [number % 3 == 0 for number in range(6)]
    failures = [
        OutcomeRow(0, "acme", f"task-{number}", "", "", success, None, None, "")
        for number, success in enumerate(succeeded)
    ]
    alone = judging.alone
    judged: list[int] = []

    def counted(*given: Any) -> Alone:
        found = alone(*given)
        judged.append(len(found.judged))
        return found

    def none_of_them(reader: Any, due: Any, failed: Any) -> Alone:
        return alone(reader, due, failed)._replace(judged=[], rest=list(due))

    monkeypatch.setattr(judging, "alone", counted)
    found = lived_through(by_kind, calls, failures)
    monkeypatch.setattr(judging, "alone", none_of_them)
    expected = lived_through(new_ledger_of("one by one"), calls, failures)

    assert found == expected
    assert sum(judged) > 40
    assert {row[13] for row in found[-1]["waste"]} >= {"duplicate", "failed", "abandoned", "retried"}
    assert all(found[-1].values())


def test_a_call_that_was_corrected_while_it_was_judged_is_read_again(
    new_ledger_of: Callable[[str], Ledger], call: MakeCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = new_ledger_of("one")
    lost = call(call_id="lost", started_at_us=ledger.now_us, outcome="failed", error_type="crashed", cost=9)
    ledger.enter(lost)
    alone = judging.alone
    read: list[Alone] = []

    def interrupted(*given: Any) -> Alone:
        read.append(alone(*given))
        if len(read) == 1:
            batch = ledger.books.begin()
            batch.records.append(lost._replace(error_type="timeout", effective_cost_pico=4))
            batch.corrected.append("lost")
            ledger.books.enter(batch)
        return read[-1]

    monkeypatch.setattr(judging, "alone", interrupted)
    ledger.now_us += 2 * QUIET_US
    ledger.judge.step()

    assert len(read) == 2
    (row,) = ledger.ask("waste_calls")
    assert (row["detail"], row["effective_cost_usd"].scaleb(12)) == ("ended in an error: timeout", 4)


def test_what_parts_of_a_call_were_for_is_no_matter_of_its_kind() -> None:
    kind = Kind("served", "", "", "user", said=True, known=True, costs=True, answered=False, failed=False)

    useful, free, repeated = (
        finding(kind),
        finding(kind._replace(costs=False)),
        finding(kind._replace(answered=True)),
    )

    assert useful is not None and (useful.waste, useful.may_be_in_part) == (None, True)
    assert free is not None and (free.waste, free.may_be_in_part) == (None, False)
    assert repeated is not None and (repeated.waste, repeated.signal) == ("duplicate", "repeated question")

"""What the books say of budgets is what the journals charge, to the nano-USD, whatever was booked already."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.domain.credit import Unit
from collector.domain.policy import Ask, Budget, Match, Policy, Window, counter_of
from collector.domain.record import AttemptRecord, CallRecord, Intent
from collector.ingest.books import Books
from collector.ingest.follower import Follower
from collector.journal import JournalWriter, decode_record, segments
from collector.settings import Address
from collector.store.duckdb import Database, DatabaseConfig
from collector.store.opening import open_ledger
from collector.store.spent import Wanted, read_spent
from sidecar.budgets.books import BooksClosed, BudgetBooks, Collector
from sidecar.budgets.charges import charges_by
from sidecar.budgets.corrections import Correction, event_of
from sidecar.budgets.ledger import Ledger
from sidecar.budgets.memory import MemoryStore
from sidecar.budgets.store import ENDED, bucket_of
from sidecar.clock import now_us
from tests.sidecar.budgets.past_frames import blank

HOUR_US = 3_600_000_000


def budget(name: str, window: str, unit: Unit = Unit.USD, **more: Any) -> Budget:
    return Budget(name=name, limit=10**12, unit=unit, window=Window.parse(window), **more)


POLICY = Policy(
    budgets=[
        budget("money", "month"),
        budget("tokens", "total", Unit.TOKENS, each="agent"),
        budget("calls", "rolling 6h", Unit.CALLS, match=Match.of({"team": ["s*"], "tag:env": "prod"})),
        budget("rolling", "rolling 24h"),
        budget("talks", "conversation"),
        budget("tenants", "total", each="tenant"),
        budget("long", "total", each="tag:job"),
    ]
)
CHARGES = charges_by(lambda: POLICY)


class InProcess(Collector):
    """A collector without a wire between."""

    database: Database

    def ask(self, body: list[dict[str, Any]]) -> dict[str, Any]:
        connection = self.database.reader()
        try:
            return dict(msgspec.to_builtins(read_spent(connection, msgspec.convert(body, list[Wanted]))))
        finally:
            connection.close()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_ledger(tmp_path / "ledger", DatabaseConfig()).database
    yield database
    database.close()


def books_over(database: Database, journal: Path) -> BudgetBooks:
    collector = InProcess(address=Address("127.0.0.1", 1))
    object.__setattr__(collector, "database", database)
    return BudgetBooks(lambda: POLICY, journal, lambda: collector)


def some_record(seed: random.Random, number: int) -> CallRecord:
    attempts = [
        blank(
            AttemptRecord,
            attempt=place + 1,
            http_status=200,
            usage_grade="reported",
            started_at_us=now_us() - 1,
            input_tokens=seed.randrange(1000),
            output_tokens=seed.randrange(1000),
            effective_cost_pico=seed.randrange(10**10),
        )
        for place in range(seed.choice([0, 1, 1, 1, 2]))
    ]
    made: CallRecord = blank(
        CallRecord,
        attempts=tuple(attempts),
        effective_cost_pico=sum(one.effective_cost_pico for one in attempts),
        call_id=f"call{number}",
        started_at_us=now_us() - seed.randrange(30 * HOUR_US),
        tenant=seed.choice(["", "acme", "o{x}"]),
        team=seed.choice(["", "search", "sales", "other"]),
        agent=seed.choice(["", "a", "b", "x" * 200]),
        conversation_id=seed.choice(["", "k", "l"]),
        tags=seed.choice([{}, {"env": "prod"}, {"env": "prod", "job": "j"}]),
        outcome="served",
        http_status=200,
    )
    return made


def sums(ledger: Ledger) -> dict[tuple[str, ...], int]:
    """What each counter that counts now has spent."""
    found = {}
    for account in ledger.accounts.values():
        one = next(one for one in POLICY.budgets if one.name == account.counter.budget)
        now = counter_of(one, Ask(call_id="", model="", conversation="k"), now_us())
        assert now is not None
        if account.counter.ends_us is None or account.counter.window == now.window:
            found[account.counter[:4]] = account.spent_at(bucket_of(now))
    return {identity: amount for identity, amount in found.items() if amount}


async def test_the_ledger_and_the_journals_after_it_come_to_what_all_journals_come_to(
    database: Database, tmp_path: Path
) -> None:
    seed, folder = random.Random(7), tmp_path / "journal"
    follower = Follower(folder, Books(database))
    gone, over, alive = (JournalWriter(folder, f"h-{n}-boot") for n in range(3))
    number = 0

    def write(journal: JournalWriter, count: int) -> None:
        nonlocal number
        for _ in range(count):
            number += 1
            journal.record(some_record(seed, number))

    for journal in (gone, over, alive):
        write(journal, 60)
    spent_there = Correction(POLICY.by_name["money"], -5_000, "", "", None, "a test", "ann")
    money = counter_of(POLICY.by_name["money"], Ask(call_id="", model=""), now_us())
    assert money is not None
    gone.event(event_of(spent_there, money, 0, now_us()))
    # Open in the ledger, and never to be ended.
    over.intent(blank(Intent, call_id="left open", started_at_us=now_us(), hold_cost_pico=7_000_000))
    gone.close()
    follower.step()
    write(over, 30)
    over.close()
    write(alive, 30)

    everything = MemoryStore(directory=folder, charges=CHARGES)
    everything.rebuild(None, await BudgetBooks(lambda: POLICY, folder, lambda: None).ledger())
    for segment in segments(folder):
        if segment.source == "h-0-boot":
            segment.path.unlink()
    truth = await books_over(database, folder).truth()
    assert truth.marks == {"h-0-boot": ENDED, "h-1-boot": ENDED, "h-2-boot": 60}

    rebuilt = Ledger()
    for counter, amount in truth.sums.items():
        rebuilt.account(counter).spend(amount, bucket_of(counter))
    # Of the one that lives, the ledger has the first part; it sends the rest itself.
    for frame in MemoryStore(directory=folder, charges=CHARGES)._reader.frames("h-2-boot", 0):  # type: ignore[union-attr]
        if frame.sequence <= 60:
            everything.ledger.finish("", CHARGES(decode_record(frame.payload)))
    assert sums(rebuilt) == sums(everything.ledger)
    assert len(sums(rebuilt)) > 10
    alive.close()


async def test_books_that_cannot_be_asked_are_not_taken_for_empty(tmp_path: Path) -> None:
    nobody = Collector(address=Address("127.0.0.1", 1))
    books = BudgetBooks(lambda: POLICY, tmp_path, lambda: nobody)
    with pytest.raises(BooksClosed):
        await books.truth()


def test_a_dimension_that_is_none_is_refused(database: Database) -> None:
    connection = database.reader()
    with pytest.raises(ValueError, match="is not one of"):
        read_spent(connection, [Wanted(unit="usd", by=["calls; DROP TABLE calls"], since_us=0)])
    connection.close()

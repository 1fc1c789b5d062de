"""The store of one process: rebuilt exactly from the journal, whatever end the process had."""

from collections.abc import Sequence
from pathlib import Path

from collector.domain.credit import Claim, Counter, Granted, Refused, Unit
from collector.domain.record import CallRecord, Intent
from collector.journal import JournalWriter
from sidecar.budgets import checkpoint
from sidecar.budgets.ledger import IDLE_US, KEEP_US, Ledger
from sidecar.budgets.memory import MemoryStore
from sidecar.budgets.store import Truth
from tests.sidecar.budgets.past_frames import call_record, intent

NANO = 1000
TEAM = Counter("team", "", "acme", "total", Unit.USD, 10_000, 0, None)
ROLLING = Counter("roll", "", "acme", "rolling:24h", Unit.USD, 10_000, 100 * 3600, None, 3600)


def charges(item: CallRecord | Intent) -> list[Claim]:
    pico = item.hold_cost_pico if isinstance(item, Intent) else item.effective_cost_pico
    return [Claim(TEAM, pico // NANO), Claim(ROLLING, pico // NANO)]


class Run:
    """One run of a sidecar, with a real journal."""

    def __init__(self, folder: Path, source: str, truth: Truth | None = None) -> None:
        async def books() -> Truth:
            assert truth is not None
            return truth

        self.journal = JournalWriter(folder, source)
        self.store = MemoryStore(
            source, directory=folder, charges=charges, truth=books if truth is not None else None
        )

    def begin(self, call: str, hold: int) -> None:
        claims = [Claim(TEAM, hold), Claim(ROLLING, hold)]
        assert isinstance(self.store.reserve(call, claims, 60.0), Granted)
        self.journal.intent(intent(call, hold * NANO))

    def end(self, call: str, cost: int) -> None:
        self.journal.record(call_record(call, cost * NANO))
        self.store.settle(call, [Claim(TEAM, cost), Claim(ROLLING, cost)], self.journal.sequence)

    def standing(self) -> list[tuple[int, int]]:
        return [(one.spent, one.held) for one in self.store.standings([TEAM, ROLLING])]

    def crash(self) -> None:
        """As by kill -9: the journal is whole, nothing else was said."""
        if self.store._tending:
            self.store._tending.cancel()
        self.journal.close()


async def test_what_was_spent_survives_a_crash_and_an_intent_without_a_record_is_charged_at_its_hold(
    tmp_path: Path,
) -> None:
    first = Run(tmp_path, "h-0-a")
    await first.store.start()
    first.begin("a", 500)
    first.begin("b", 700)
    first.begin("c", 900)
    first.end("a", 120)
    assert first.standing() == [(120, 1600), (120, 1600)]
    first.end("b", 700)
    first.crash()

    second = Run(tmp_path, "h-0-b")
    await second.store.start()
    assert second.standing() == [(120 + 700 + 900, 0)] * 2
    assert second.store.ledger.accounts[TEAM[:4]].unsettled == 900
    second.crash()


async def test_a_checkpoint_and_the_journal_after_it_give_the_same_as_the_journal_alone(
    tmp_path: Path,
) -> None:
    first = Run(tmp_path, "h-0-a")
    await first.store.start()
    first.begin("settled before", 500)
    first.end("settled before", 100)
    first.begin("running", 300)
    first.begin("crashes", 250)
    # Reserved, but its intent is never written: it was never sent.
    first.store.reserve("never sent", [Claim(TEAM, 2000)], 60.0)
    file = tmp_path / checkpoint.FILE
    checkpoint.write(file, checkpoint.taken(first.store.ledger, dict(first.store.ledger.marks)))
    first.end("running", 40)
    first.crash()
    kept = file.read_bytes()

    for name in ("h-0-b", "h-0-c"):
        again = Run(tmp_path, name)
        await again.store.start()
        assert again.standing() == [(100 + 40 + 250, 0)] * 2
        again.crash()
        # The second time without: as if it had been lost.
        file.unlink()
    file.write_bytes(kept[:-1] + b"?")
    damaged = Run(tmp_path, "h-0-d")
    await damaged.store.start()
    assert damaged.standing() == [(390, 0)] * 2
    damaged.crash()


async def test_an_expired_lease_is_not_charged_twice_by_a_checkpoint(tmp_path: Path) -> None:
    now = [0]
    first = Run(tmp_path, "h-0-a")
    first.store._clock_us = lambda: now[0]
    await first.store.start()
    first.begin("slow", 300)
    now[0] = 120_000_000
    first.store.ledger.reap(now[0])
    assert first.standing() == [(300, 0)] * 2
    await first.store.close()
    first.end("slow", 80)
    first.crash()

    second = Run(tmp_path, "h-0-b")
    await second.store.start()
    assert second.standing() == [(80, 0)] * 2
    second.crash()


async def test_without_a_checkpoint_the_books_say_what_the_journal_no_longer_has(tmp_path: Path) -> None:
    first = Run(tmp_path, "h-0-a")
    await first.store.start()
    first.begin("a", 500)
    first.end("a", 100)
    first.begin("b", 500)
    first.end("b", 30)
    first.crash()
    (tmp_path / checkpoint.FILE).unlink()
    # The books have the call that ended at frame 2, and a month that the journal has not.
    second = Run(tmp_path, "h-0-b", Truth(sums={TEAM: 5000 + 100}, marks={"h-0-a": 2}))
    await second.store.start()
    assert second.standing()[0] == (5130, 0)
    second.crash()


def test_a_settlement_that_comes_again_counts_once() -> None:
    store = MemoryStore("s")
    store.reserve("a", [Claim(TEAM, 500)], 60.0)
    for _ in range(3):
        store.settle("a", [Claim(TEAM, 100)], 7)
    assert store.standings([TEAM])[0][1:3] == (100, 0)


def test_a_negative_amount_and_a_counter_named_twice_are_refused_as_mistakes() -> None:
    store = MemoryStore("s")
    for claims in ([Claim(TEAM, -1)], [Claim(TEAM, 1), Claim(TEAM, 2)]):
        try:
            store.reserve("a", claims, 60.0)
        except ValueError:
            continue
        raise AssertionError("taken")
    assert store.standings([TEAM])[0][1:3] == (0, 0)


def test_rooms_and_limits_follow_the_limit_of_the_call_at_hand() -> None:
    store = MemoryStore("s")
    store.reserve("a", [Claim(TEAM, 6_000)], 60.0)
    assert isinstance(store.reserve("b", [Claim(TEAM._replace(limit=5_000), 1)], 60.0), Refused)
    assert store.reserve("c", [Claim(TEAM._replace(limit=20_000), 9_000)], 60.0) == Granted((5_000,))
    # A claim of nothing needs no room.
    assert isinstance(store.reserve("d", [Claim(TEAM._replace(limit=5_000), 0)], 60.0), Granted)


def test_windows_long_over_are_forgotten_and_running_ones_are_not() -> None:
    ledger = Ledger()
    day = 86_400_000_000
    over = Counter("day", "", "", "day:1", Unit.USD, 1000, 0, day)
    running = Counter("day", "", "", "day:99", Unit.USD, 1000, 0, 200 * day)
    talk = Counter("talk", "", "", "conversation:1", Unit.USD, 1000, 0, None, fades=True)
    user = Counter("users", "ann", "", "total", Unit.USD, 1000, 0, None)
    forever: Sequence[Counter] = [TEAM, running, user]
    for number, counter in enumerate([over, talk, *forever]):
        ledger.reserve(str(number), [Claim(counter, 10)], 0, 1000)
        ledger.finish(str(number), [Claim(counter, 10)])
    now_us = 100 * day
    ledger.forget(now_us)
    ledger.forget(now_us + 1)
    kept = {counter[:4] for counter in forever}
    assert set(ledger.accounts) == {talk[:4], *kept}
    ledger.forget(now_us + IDLE_US)
    assert set(ledger.accounts) == kept
    assert KEEP_US < IDLE_US


def test_a_million_settlements_of_random_size_sum_up_exactly() -> None:
    import random

    rng = random.Random(7)
    ledger, counter = Ledger(), TEAM._replace(limit=9_000_000 * 10**9)
    total = 0
    for number in range(1, 100_001):
        amount = rng.randrange(0, 10**9)
        total += amount
        ledger.settle("s", number - 1, number, "", [Claim(counter, amount)])
    assert ledger.standing(counter).spent == total

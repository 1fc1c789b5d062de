"""Corrections of what is spent: counted once, in every home, and again after whatever is lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.domain.credit import Claim, Counter, Granted
from collector.domain.policy import (
    Action,
    Allow,
    Ask,
    Budget,
    Crossed,
    Policy,
    State,
    Threshold,
    Window,
    decide,
)
from collector.journal import JournalWriter
from sidecar.budgets import checkpoint
from sidecar.budgets.charges import charges_by
from sidecar.budgets.corrections import Correction, Corrections, WrongCorrection
from sidecar.budgets.keeper.tally import Tally
from sidecar.budgets.memory import MemoryStore
from tests.sidecar.budgets.redis_server import RedisServer, until
from tests.sidecar.budgets.world import USD, World, budget

NOON = 1_764_072_000 * 1_000_000  # 2025-11-25 12:00 UTC
HOUR_US = 3_600_000_000

DAY = Budget(name="day", limit=10 * USD, window=Window.parse("day"), at=(Threshold(5_000, Action.NOTIFY),))
AGENTS = Budget(name="agents", limit=10 * USD, window=Window.parse("total"), each="agent")
ROLLING = Budget(name="rolling", limit=10 * USD, window=Window.parse("rolling 24h"))
TALKS = Budget(name="talks", limit=10 * USD, window=Window.parse("conversation"))
POLICY = Policy(budgets=[DAY, AGENTS, ROLLING, TALKS])


def ask(**who: str) -> Ask:
    return Ask(call_id="c", model="m", agent=who.get("agent", ""), conversation=who.get("conversation", ""))


class Office:
    """Credit control of a sidecar with a real journal, as far as corrections need it."""

    def __init__(self, folder: Path, source: str = "h-0-a") -> None:
        self.journal = JournalWriter(folder, source)
        self.now = NOON
        self.state = State(POLICY)
        self.store = MemoryStore(source, directory=folder, charges=charges_by(lambda: POLICY))
        self.crossed: list[Crossed] = []
        self.corrections = Corrections(
            self.state,
            self.store,
            self.journal,
            now_us=lambda: self.now,
            on_crossed=self.crossed.extend,
        )

    def spend(self, amount: int, **who: str) -> None:
        """One call, let in, and settled at so much of every budget."""
        allow = decide(POLICY, self.state, ask(**who), self.now)
        assert isinstance(allow, Allow)
        self.state.claimed(allow, self.now)
        charges = [amount] * len(allow.claims)
        lease = f"c{self.journal.sequence}"
        assert isinstance(self.store.reserve(lease, allow.claims, 60.0), Granted)
        held = [claim.amount for claim in allow.claims]
        self.crossed += self.state.settled(allow, held, charges, 0, self.now)
        self.store.ledger.finish(lease, [Claim(counter, amount) for counter, _ in allow.claims])

    async def correct(self, budget: Budget, amount: int, **more: object) -> int:
        wanted = {"subject": "", "lifetime": "", "at_us": None, "reason": "a test", "source": "ann", **more}
        made = await self.corrections.make(Correction(budget=budget, amount=amount, **wanted))  # type: ignore[arg-type]
        return made.spent

    def spent(self, budget: Budget, **who: str) -> tuple[int, int]:
        """As decisions know it, and as the store does."""
        [slot] = [one for one in self.state.slots_of(ask(**who), self.now) if one.budget is budget]
        return slot.spent, self.store.standings([slot.counter])[0].spent


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    office.journal.close()


async def test_what_is_given_back_may_be_spent_again_and_its_thresholds_fire_again(office: Office) -> None:
    office.spend(8 * USD)
    assert await office.correct(DAY, -7 * USD) == 1 * USD
    assert office.spent(DAY) == (1 * USD, 1 * USD)
    office.spend(6 * USD)
    assert [one.threshold.share for one in office.crossed] == [5_000, 5_000]
    assert await office.correct(DAY, 2 * USD) == 9 * USD


async def test_each_counter_of_a_budget_is_corrected_alone(office: Office) -> None:
    office.spend(3 * USD, agent="a", conversation="k")
    office.spend(3 * USD, agent="b", conversation="l")
    await office.correct(AGENTS, -2 * USD, subject="a")
    await office.correct(TALKS, -1 * USD, lifetime="l")
    assert office.spent(AGENTS, agent="a") == (1 * USD, 1 * USD)
    assert office.spent(AGENTS, agent="b") == (3 * USD, 3 * USD)
    assert office.spent(TALKS, conversation="l") == (2 * USD, 2 * USD)


async def test_spending_that_a_rolling_window_forgets_takes_its_correction_with_it(office: Office) -> None:
    office.spend(8 * USD)
    spent_at = office.now
    office.now += 10 * HOUR_US
    office.spend(1 * USD)
    assert await office.correct(ROLLING, -8 * USD, at_us=spent_at) == 1 * USD
    assert office.spent(ROLLING) == (1 * USD, 1 * USD)
    office.now += 20 * HOUR_US
    assert office.spent(ROLLING) == (1 * USD, 1 * USD)


@pytest.mark.parametrize(
    ("corrected", "more", "says"),
    [
        (DAY, {}, "counts only 3 USD"),
        (DAY, {"subject": "a"}, "one counter in all"),
        (ROLLING, {}, "say when it was spent"),
        (TALKS, {}, "a counter for each conversation"),
    ],
)
async def test_a_correction_that_cannot_be_is_refused_in_words(
    office: Office, corrected: Budget, more: dict[str, str], says: str
) -> None:
    office.spend(3 * USD)
    with pytest.raises(WrongCorrection, match=says):
        await office.correct(corrected, -4 * USD, **more)
    assert office.journal.sequence == 0


@pytest.mark.parametrize("kept", ["journal", "checkpoint before", "checkpoint after"])
async def test_a_restart_counts_a_correction_once(tmp_path: Path, kept: str) -> None:
    first = Office(tmp_path)
    await first.store.start()
    (tmp_path / checkpoint.FILE).unlink()
    await first.correct(DAY, 5 * USD)
    if kept == "checkpoint before":
        first.store._checkpoint()
    await first.correct(DAY, -2 * USD)
    if kept == "checkpoint after":
        first.store._checkpoint()
    assert first.store._tending is not None
    first.store._tending.cancel()
    first.journal.close()
    tally = Tally(tmp_path, charges_by(lambda: POLICY))
    tally.restore()
    tally.count()
    second = Office(tmp_path, "h-0-b")
    await second.store.start()
    [counter] = [one.counter for one in second.state.slots_of(ask(), NOON) if one.budget is DAY]
    assert second.store.standings([counter])[0].spent == 3 * USD
    assert tally.ledger.standing(counter).spent == 3 * USD
    await second.store.close()
    second.journal.close()


async def test_in_a_shared_store_a_correction_counts_once_for_all_and_draws_on_no_slice(
    redis: RedisServer,
) -> None:
    world = World(redis.url, 2, seed=3)
    await world.start()
    one = world.sidecars[0]
    counter = budget("team", 100 * USD)

    async def spent() -> list[int]:
        return [(await side.store.standings([counter]))[0].spent for side in world.sidecars]

    for number in range(20):
        lease = f"{one.source}-{number}"
        while not isinstance(await world.decide(one, lease, [Claim(counter, USD)]), Granted):
            pass
        one.record(lease, [Claim(counter, USD)])
    for side in world.sidecars:
        side.store.tag("acme")
    await world.ready()
    view = one.store.escrow.view(counter)
    await until(lambda: view.capacity > 0 and not view.used)
    await correct(one, counter, -12 * USD)
    await world.drained()
    assert await spent() == [8 * USD] * 2
    capacity = view.capacity
    await correct(one, counter, 3 * USD)
    await world.drained()
    assert await spent() == [11 * USD] * 2
    assert view.capacity == capacity
    redis.say("FLUSHALL")
    await until(lambda: not one.store.tag("acme").ready)
    await world.ready()
    await world.drained()
    assert await spent() == [11 * USD] * 2
    await world.close()


async def correct(side: object, counter: Counter, amount: int) -> None:
    side.record("!", [Claim(counter, amount)])  # type: ignore[attr-defined]

"""The same random histories in memory, in Redis and in a plain model: same answers, never too much."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from collector.domain.credit import Answer, Claim, Counter
from sidecar.budgets.ledger import Lease, Ledger
from sidecar.budgets.redis_scripts import load_scripts
from tests.sidecar.budgets.homes import (
    HOUR,
    KeeperHome,
    LuaHome,
    MemoryHome,
    Model,
    NonAtomicLua,
    NonAtomicMemory,
    Said,
    counters,
    rolling,
)
from tests.sidecar.budgets.redis_server import RedisServer

SECOND = 1_000_000
STEPS = 120


class Violation(AssertionError):
    """A home did not do what the rules say."""


class History:
    """Three sources that reserve, settle, die, and repeat themselves; all from one seed."""

    def __init__(self, seed: int, home: Any, *, rollback: bool) -> None:
        self.random = random.Random(seed)
        self.now_us = 1_700_000_000 * SECOND
        self.counters = counters(self.random, self.now_us)
        self.home = home
        self.model = Model()
        self.rollback = rollback
        self.rolled_back = False
        self.snapshot: Any = None
        self.number = 0
        self.running: dict[str, tuple[str, list[Claim]]] = {}
        self.journal: dict[str, list[tuple[int, str, list[Claim]]]] = {"s1": [], "s2": [], "s3": []}
        self.sent: dict[str, int] = dict.fromkeys(self.journal, 0)

    def run(self) -> None:
        actions: list[Callable[[], None]] = [
            *[self.reserve] * 3, self.two, self.again, self.extend, *[self.settle] * 3, self.late, self.twice,
            self.early, self.lost_reply, self.release, self.tick,
        ]  # fmt: skip
        if self.rollback:
            actions += [self.keep_or_roll_back]
        for _ in range(STEPS):
            self.random.choice(actions)()
            self.compare()
        self.drain()

    # -- what happens

    def some_claims(self) -> list[Claim]:
        chosen = self.random.sample(self.counters, self.random.randrange(1, 5))
        return [Claim(self.present(counter), self.random.randrange(1, 300)) for counter in chosen]

    def present(self, counter: Counter) -> Counter:
        return rolling(counter.limit, self.now_us) if counter.bucket_us else counter

    def new_lease(self, claims: list[Claim]) -> tuple[str, str]:
        self.number += 1
        source = self.random.choice(list(self.journal))
        return f"call-{self.number}", source

    def both(self, what: str, *arguments: Any) -> Any:
        told, expected = getattr(self.home, what)(*arguments), getattr(self.model, what)(*arguments)
        if told != expected:
            raise Violation(f"{what}{arguments}: {told} is not {expected}")
        return told

    def reserve(self) -> None:
        claims = self.some_claims()
        lease, source = self.new_lease(claims)
        if self.both("reserve", lease, claims, self.now_us, 60 * SECOND)[0] == "granted":
            self.running[lease] = (source, claims)

    def two(self) -> None:
        claims = [self.some_claims(), self.some_claims()]
        leases = [self.new_lease(mine) for mine in claims]
        names = [name for name, _ in leases]
        answers: list[Said] = self.both("reserve_two", names, claims, self.now_us, 60 * SECOND)
        for (lease, source), mine, answer in zip(leases, claims, answers, strict=True):
            if answer[0] == "granted":
                self.running[lease] = (source, mine)

    def again(self) -> None:
        if self.running:
            lease = self.random.choice(list(self.running))
            self.both("reserve", lease, self.running[lease][1], self.now_us, 60 * SECOND)

    def extend(self) -> None:
        if self.running:
            lease = self.random.choice(list(self.running))
            source, claims = self.running[lease]
            totals = [Claim(counter, amount + self.random.randrange(0, 100)) for counter, amount in claims]
            if self.both("raise_to", lease, totals, self.now_us, 60 * SECOND)[0] == "granted":
                self.running[lease] = (source, totals)

    def end(self, lease: str) -> str:
        source, claims = self.running.pop(lease)
        actuals = [Claim(counter, self.random.randrange(0, amount + 1)) for counter, amount in claims]
        written = self.journal[source]
        # Frames of other kinds lie between: sequences have gaps.
        sequence = (written[-1][0] if written else 0) + self.random.randrange(1, 4)
        written.append((sequence, lease, actuals))
        return source

    def send(self, source: str) -> None:
        """Send what the journal has after what is known to be counted, as a sidecar does."""
        for sequence, lease, actuals in self.journal[source]:
            if sequence > self.sent[source]:
                mark = self.both("settle", source, self.sent[source], sequence, lease, actuals)[1]
                self.sent[source] = mark
                if mark != sequence:
                    return

    def settle(self) -> None:
        if self.running:
            self.send(self.end(self.random.choice(list(self.running))))

    def late(self) -> None:
        if self.running:
            self.end(self.random.choice(list(self.running)))

    def twice(self) -> None:
        source = self.random.choice(list(self.journal))
        if self.journal[source]:
            sequence, lease, actuals = self.random.choice(self.journal[source])
            before = max((s for s, _, _ in self.journal[source] if s < sequence), default=0)
            if sequence <= self.sent[source]:
                self.both("settle", source, before, sequence, lease, actuals)

    def early(self) -> None:
        source = self.random.choice(list(self.journal))
        waiting = [item for item in self.journal[source] if item[0] > self.sent[source]]
        if len(waiting) > 1:
            before, (sequence, lease, actuals) = waiting[-2][0], waiting[-1]
            self.both("settle", source, before, sequence, lease, actuals)

    def lost_reply(self) -> None:
        claims = self.some_claims()
        lease, _ = self.new_lease(claims)
        self.both("reserve", lease, claims, self.now_us, 60 * SECOND)
        self.both("release", lease)

    def release(self) -> None:
        if self.running:
            lease = self.random.choice(list(self.running))
            del self.running[lease]
            self.both("release", lease)

    def tick(self) -> None:
        self.now_us += self.random.choice([SECOND, 20 * SECOND, 70 * SECOND, HOUR, 5 * HOUR])
        self.both("reap", self.now_us)

    def keep_or_roll_back(self) -> None:
        if self.snapshot is None:
            self.snapshot = (self.home.snapshot(), self.model.snapshot())
        elif self.random.random() < 0.3:
            self.home.restore(self.snapshot[0])
            self.model.restore(self.snapshot[1])
            self.rolled_back = True
            # The store says how far it is, and everyone goes back to there.
            self.sent = {source: self.model.marks.get(source, 0) for source in self.journal}
            self.snapshot = None

    # -- what must hold

    def compare(self) -> None:
        present = [self.present(counter) for counter in self.counters]
        for counter, standing in zip(present, self.home.standings(present), strict=True):
            if standing != self.model.standing(counter):
                raise Violation(f"{counter.budget}: {standing} is not {self.model.standing(counter)}")
            if min(standing) < 0:
                raise Violation(f"{counter.budget}: negative: {standing}")
            if not self.rolled_back and standing[0] + standing[1] > counter.limit:
                raise Violation(f"{counter.budget}: {standing} is over {counter.limit}")

    def drain(self) -> None:
        for lease in list(self.running):
            self.end(lease)
        for source in self.journal:
            while self.journal[source] and self.sent[source] < self.journal[source][-1][0]:
                self.send(source)
        if self.rolled_back:
            # Leases that a snapshot brought back though they had ended: their time runs out, and their
            # settlements have been counted already, so whoever owns them gives them back.
            for lease in list(self.model.leases):
                self.both("release", lease)
        fixed = [counter for counter in self.counters if not counter.bucket_us]
        everything = [claim for written in self.journal.values() for _, _, mine in written for claim in mine]
        for counter, standing in zip(fixed, self.home.standings(fixed), strict=True):
            truth = sum(claim.amount for claim in everything if claim.counter.budget == counter.budget)
            if standing != (truth, 0, 0):
                raise Violation(f"{counter.budget}: {standing} is not {truth} and nothing held")


def run_both(seed: int, redis: RedisServer, *, rollback: bool) -> None:
    lua = LuaHome(redis.port)
    try:
        for home in (MemoryHome(), lua):
            History(seed, home, rollback=rollback).run()
    finally:
        lua.close()


@pytest.mark.parametrize("start", range(0, 40, 20))
def test_random_histories_end_the_same_in_memory_in_redis_and_in_a_plain_model(
    redis: RedisServer, start: int
) -> None:
    for seed in range(start, start + 20):
        run_both(seed, redis, rollback=False)


@pytest.mark.parametrize("rollback", [False, True])
def test_random_histories_end_the_same_in_the_store_of_several_workers(*, rollback: bool) -> None:
    for seed in range(2000, 2020):
        History(seed, KeeperHome(), rollback=rollback).run()


def test_a_store_that_was_rolled_back_is_exact_after_replay(redis: RedisServer) -> None:
    for seed in range(1000, 1020):
        run_both(seed, redis, rollback=True)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("rollback", [False, True])
def test_a_thousand_random_histories_hold_without_a_violation(redis: RedisServer, *, rollback: bool) -> None:
    for seed in range(500):
        run_both(10_000 + seed, redis, rollback=rollback)


# ---- the tests tested ----------------------------------------------------------------------------


class FirstScopeOnly(Ledger):
    def reserve(self, lease: str, claims: Any, now_us: int, ttl_us: int) -> Answer:
        answer = super().reserve(lease, claims[:1], now_us, ttl_us)
        if answer[0].__class__ is tuple and len(claims) > 1:
            return self.raise_to(lease, claims, now_us, ttl_us, force=True)
        return answer


class NoSequence(Ledger):
    def settle(self, source: str, after: int, sequence: int, lease: str, actuals: Any) -> int:
        self.finish(lease, actuals)
        self.marks[source] = max(sequence, self.marks.get(source, 0))
        return self.marks[source]


class ChargedTwice(Ledger):
    def _give_back(self, lease: Lease) -> None:
        if not lease.expired:
            super()._give_back(lease)


class NotReleased(Ledger):
    def _give_back(self, lease: Lease) -> None:
        if lease.expired:
            super()._give_back(lease)


GIVE_BACK = """  if state == 'x' then
    uncharge(holds)
  end
  for key, hold in pairs(holds) do"""

LUA_MUTANTS = {
    "checks only the first scope": (
        "if left < 0 and delta > 0 and not force then",
        "if i == 1 and left < 0 and delta > 0 and not force then",
    ),
    "ignores the sequence": ("if upto <= mark or after ~= mark then", "if false then"),
    "adds an expired charge twice": (GIVE_BACK, "  for key, hold in pairs(state == 'x' and {} or holds) do"),
    "does not release the hold": (
        GIVE_BACK,
        GIVE_BACK.replace("pairs(holds)", "pairs(state == 'x' and holds or {})"),
    ),
    "does not check at all": ("if left < 0 and delta > 0 and not force then", "if false then"),
    "counts rolling windows for ever": ("> first then", "> first - 1000000 then"),
    "takes the last refusal for the tightest": ("or room < tight_room then", "or true then"),
}


def killed(home: Callable[[], Any]) -> bool:
    """Whether some history finds fault with the mutant."""
    for seed in range(40):
        subject = home()
        try:
            History(seed, subject, rollback=False).run()
        except Violation:
            return True
        finally:
            if isinstance(subject, LuaHome):
                subject.close()
    return False


@pytest.mark.parametrize("mutant", [FirstScopeOnly, NoSequence, ChargedTwice, NotReleased])
def test_a_ledger_with_a_seeded_bug_is_found_out(mutant: type[Ledger]) -> None:
    assert killed(lambda: MemoryHome(mutant))


@pytest.mark.parametrize("name", LUA_MUTANTS)
def test_a_script_with_a_seeded_bug_is_found_out(redis: RedisServer, name: str) -> None:
    assert any(LUA_MUTANTS[name][0] in script.text for script in load_scripts().values())
    assert killed(lambda: LuaHome(redis.port, LUA_MUTANTS[name]))


def test_looking_first_and_taking_later_is_found_out(redis: RedisServer) -> None:
    assert killed(NonAtomicMemory)
    assert killed(lambda: NonAtomicLua(redis.port))


@pytest.fixture(autouse=True)
def _leave_nothing(redis: RedisServer) -> Iterator[None]:
    yield
    redis.say("FLUSHALL")

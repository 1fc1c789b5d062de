"""Several sidecars on one Redis: clients that call, die and are refused, and the books that know."""

import asyncio
import random
import time
from collections import Counter as Tally
from collections.abc import Sequence

from collector.domain.credit import Answer, Claim, Counter, Granted, Refused, Unit
from sidecar.budgets.redis_store import RedisStore
from sidecar.budgets.store import ENDED, Settlement, Truth
from tests.sidecar.budgets.redis_server import until

USD = 10**9
DAY = 86_400_000_000


def budget(name: str, limit: int, *, tenant: str = "acme", hard: bool = True) -> Counter:
    """A budget of one day in nano-USD."""
    return Counter(name, "", tenant, "day:2026-11-22", Unit.USD, limit, 0, 2**52, 0, hard)


class Sidecar:
    """One store, and a journal as a list."""

    def __init__(self, world: "World", url: str, source: str, *, escrow: bool = True) -> None:
        self.world = world
        self.source = source
        self.journal: list[Settlement] = []
        self.open: dict[str, tuple[Claim, ...]] = {}
        """Intents without a record."""
        self.dead = False
        self.sequence = 0
        self.store = RedisStore(url, source, truth=world.truth, history=world.history, escrow=escrow)

    def intent(self, lease: str, claims: Sequence[Claim]) -> None:
        self.sequence += 1
        self.open[lease] = tuple(claims)

    def record(self, lease: str, actuals: Sequence[Claim]) -> None:
        self.sequence += 1
        self.open.pop(lease, None)
        self.journal.append(Settlement(self.sequence, lease, tuple(actuals)))
        self.store.settle(lease, actuals, self.sequence)

    async def die(self) -> None:
        """As by kill -9: nothing is sent, nothing is given back."""
        self.dead = True
        tasks = [tag.joining for tag in self.store.tags.values() if tag.joining]
        if self.store._ticker:
            tasks.append(self.store._ticker)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.store.links.close()


class World:
    """All of them."""

    def __init__(self, url: str, sidecars: int, seed: int, *, escrow: bool = True) -> None:
        self.random = random.Random(seed)
        self.sidecars = [Sidecar(self, url, f"source-{n}", escrow=escrow) for n in range(sidecars)]
        self.billed: Tally[str] = Tally()
        self.said: Tally[str] = Tally()
        self.decisions_s: list[float] = []
        self.lags_s: list[float] = []
        """How late the event loop itself was: the machine is shared."""
        self.truths = 0
        self.stopped = False

    async def start(self) -> None:
        await asyncio.gather(*(sidecar.store.start() for sidecar in self.sidecars))

    async def close(self) -> None:
        await asyncio.gather(*(sidecar.store.close() for sidecar in self.sidecars if not sidecar.dead))

    # -- the books

    async def truth(self) -> Truth:
        """What a collector would say: all records, and a dead source's intents at their holds."""
        self.truths += 1
        sums: Tally[Counter] = Tally()
        marks = {}
        for sidecar in self.sidecars:
            if sidecar.journal:
                marks[sidecar.source] = sidecar.journal[-1].sequence
            claims = [claim for item in sidecar.journal for claim in item.actuals]
            if sidecar.dead:
                marks[sidecar.source] = ENDED
                claims += [claim for held in sidecar.open.values() for claim in held]
            for counter, amount in claims:
                sums[counter] += amount
        return Truth(sums=sums, marks=marks)

    def history(self, source: str, after: int, most: int) -> tuple[list[Settlement], int]:
        journal = next(sidecar.journal for sidecar in self.sidecars if sidecar.source == source)
        found = [item for item in list(journal) if item.sequence > after][:most]
        return found, found[-1].sequence if found else after

    # -- the calls

    async def decide(self, sidecar: Sidecar, lease: str, claims: Sequence[Claim]) -> Answer:
        started = time.perf_counter()
        answer = sidecar.store.reserve(lease, claims, 60.0)
        if not isinstance(answer, Granted | Refused):
            answer = await answer
        self.decisions_s.append(time.perf_counter() - started)
        self.said["granted" if isinstance(answer, Granted) else answer.reason] += 1
        return answer

    async def client(self, sidecar: Sidecar, number: int, counters: Sequence[Counter], hold: int) -> None:
        """Calls one after another until stopped; one in ten calls is never settled by its client."""
        calls = 0
        rng = random.Random(f"{self.random.random()}-{number}")
        while not self.stopped and not sidecar.dead:
            calls += 1
            lease = f"{sidecar.source}-{number}-{calls}"
            claims = [Claim(counter, hold) for counter in counters]
            answer = await self.decide(sidecar, lease, claims)
            if isinstance(answer, Refused):
                await asyncio.sleep(rng.uniform(0.03, 0.1))
                continue
            sidecar.intent(lease, claims)
            actual = rng.randrange(hold // 10, hold + 1)
            # Whatever becomes of the client, the provider bills this.
            for counter in counters:
                self.billed[counter.budget] += actual
            await asyncio.sleep(rng.uniform(0.005, 0.04))
            if rng.random() < 0.1:
                continue
            if sidecar.dead:
                return
            sidecar.record(lease, [Claim(counter, actual) for counter in counters])

    async def run_clients(self, each: int, counters: Sequence[Counter], hold: int) -> asyncio.Task[None]:
        """Start ``each`` clients on every sidecar."""

        async def watch() -> None:
            while not self.stopped:
                started = time.perf_counter()
                await asyncio.sleep(0.01)
                self.lags_s.append(time.perf_counter() - started - 0.01)

        async def all_of_them() -> None:
            await asyncio.gather(
                watch(),
                *(
                    self.client(sidecar, number, counters, hold)
                    for sidecar in self.sidecars
                    for number in range(each)
                ),
            )

        return asyncio.create_task(all_of_them())

    # -- the end

    async def ready(self) -> None:
        """Redis decides again, for every sidecar that is alive."""
        alive = [sidecar for sidecar in self.sidecars if not sidecar.dead]
        await until(
            lambda: all(tag.ready for sidecar in alive for tag in sidecar.store.tags.values()),
            timeout_s=15.0,
        )

    async def drained(self) -> None:
        """Everything that is alive has told Redis all it knows."""
        await until(
            lambda: all(
                tag.ready and not tag.outbox
                for sidecar in self.sidecars
                if not sidecar.dead
                for tag in sidecar.store.tags.values()
            ),
            timeout_s=15.0,
        )

    def settled(self, counter: Counter) -> int:
        return sum(
            amount
            for sidecar in self.sidecars
            for item in sidecar.journal
            for spent, amount in item.actuals
            if spent[:4] == counter[:4]
        )

    def unsettled(self, counter: Counter) -> int:
        return sum(
            amount
            for sidecar in self.sidecars
            for claims in sidecar.open.values()
            for held, amount in claims
            if held[:4] == counter[:4]
        )

    def billed_or_held(self, counter: Counter) -> int:
        return self.settled(counter) + self.unsettled(counter)

    def slowest_s(self) -> float:
        """The 99th percentile of decisions, less how late the loop was to notice the time and to say so."""
        decisions = sorted(self.decisions_s)
        return decisions[int(len(decisions) * 0.99)] - 2 * max(self.lags_s)

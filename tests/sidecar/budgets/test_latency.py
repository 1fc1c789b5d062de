"""What a decision costs: four counters, reserve and settle, in each home. Run with ``-m bench -s``."""

import asyncio
import resource
import time
from collections.abc import Awaitable, Callable

import pytest

from collector.domain.credit import Claim, Granted, Refused
from sidecar.budgets.memory import MemoryStore
from sidecar.budgets.redis_store import RedisStore
from tests.sidecar.budgets.redis_server import RedisServer, until
from tests.sidecar.budgets.world import USD, budget

CALLS = 20_000
COUNTERS = [budget(name, 1_000_000 * USD) for name in ("team", "agent", "key", "model")]
CLAIMS = [Claim(counter, 2_000_000) for counter in COUNTERS]
ACTUALS = [Claim(counter, 700_000) for counter in COUNTERS]


def cpu_us() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


def told(name: str, decisions_us: list[float], calls: int, cpu: float) -> None:
    decisions_us.sort()
    p50, p99 = decisions_us[len(decisions_us) // 2], decisions_us[int(len(decisions_us) * 0.99)]
    print(
        f"{name:10} decision p50 {p50:8.1f} us, p99 {p99:8.1f} us; CPU {cpu / calls:6.1f} us a reserve+settle"
    )


async def measure(
    name: str,
    store: MemoryStore | RedisStore,
    calls: int,
    at_once: int,
    drained: Callable[[], Awaitable[None]],
) -> None:
    decisions_us: list[float] = []
    for timed in (False, True):
        # CPU is measured without the clock's own cost.
        started = cpu_us()

        async def client(number: int, timed: bool = timed) -> None:
            for turn in range(calls // at_once):
                lease = f"{timed}-{number}-{turn}"
                began = time.perf_counter_ns() if timed else 0
                answer = store.reserve(lease, CLAIMS, 60.0)
                if not isinstance(answer, Granted | Refused):
                    answer = await answer
                if timed:
                    decisions_us.append((time.perf_counter_ns() - began) / 1000)
                if isinstance(answer, Refused):
                    # Too many at once for this machine: it took longer than a call waits.
                    refused[0] += 1
                    continue
                sequence[0] += 1
                store.settle(lease, ACTUALS, sequence[0])
                if turn % 50 == 49:
                    await asyncio.sleep(0)

        await asyncio.gather(*(client(number) for number in range(at_once)))
        await drained()
        if not timed:
            cpu = cpu_us() - started
    told(name, decisions_us, calls, cpu)
    if refused[0]:
        print(f"{name:10} {refused[0]} of {2 * calls} were not answered in time")


sequence = [0]
refused = [0]


@pytest.mark.bench
async def test_cost_of_a_decision_in_memory() -> None:
    async def nothing() -> None:
        return

    await measure("memory", MemoryStore("s"), CALLS, 1, nothing)


@pytest.mark.bench
@pytest.mark.parametrize(("name", "escrow"), [("escrow", True), ("redis", False)])
async def test_cost_of_a_decision_through_redis(redis: RedisServer, name: str, escrow: bool) -> None:
    store = RedisStore(redis.url, "s", escrow=escrow)
    await store.start()

    async def drained() -> None:
        await until(lambda: not any(tag.outbox for tag in store.tags.values()))

    for warm in range(200):
        answer = store.reserve(f"w{warm}", CLAIMS, 60.0)
        if not isinstance(answer, Granted | Refused):
            await answer
        await asyncio.sleep(0.005)
        sequence[0] += 1
        store.settle(f"w{warm}", ACTUALS, sequence[0])
    await drained()
    await measure(name, store, CALLS if escrow else 4000, 1 if escrow else 50, drained)
    if not escrow:
        refused[0] = 0
        await measure(f"{name}, 1", store, 500, 1, drained)
        print(redis.say("INFO", "commandstats").split(b"cmdstat_evalsha:")[1].split(b"\r\n")[0].decode())
    await store.close()

"""A million settlements of any size add up exactly, in memory and in Redis: no float, no rounding."""

import random
from typing import Any

import pytest

from collector.domain.credit import Claim, Counter, Unit
from sidecar.budgets.store import MAX_LIMIT
from tests.sidecar.budgets.homes import TENANT, LuaHome, MemoryHome
from tests.sidecar.budgets.redis_server import RedisServer

COUNTER = Counter("big", "", TENANT, "total", Unit.USD, MAX_LIMIT, 0, None)


def settle_many(home: Any, count: int, seed: int) -> tuple[int, int]:
    """Settle so many calls; what the home counted, and the sum of integers."""
    chance = random.Random(seed)
    largest = 2 * MAX_LIMIT // count
    truth = 0
    for sequence in range(1, count + 1):
        amount = chance.randrange(largest) if chance.random() < 0.5 else chance.randrange(1000)
        truth += amount
        home.settle("s1", sequence - 1, sequence, "", [Claim(COUNTER, amount)])
    return home.standings([COUNTER])[0][0], truth


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_settlements_in_memory_add_up_to_the_last_nano_usd(count: int) -> None:
    counted, truth = settle_many(MemoryHome(), count, seed=1)
    assert counted == truth
    assert truth > MAX_LIMIT // 3  # far beyond what a float of 32 bits, or an int of 32 bits, could count


@pytest.mark.parametrize(
    "count",
    [2_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])],
)
def test_settlements_in_redis_add_up_to_the_last_nano_usd(redis: RedisServer, count: int) -> None:
    home = LuaHome(redis.port)
    try:
        counted, truth = settle_many(home, count, seed=2)
    finally:
        home.close()
    assert counted == truth

"""Directives: at once here, within a second everywhere, and for no longer than they say."""

import asyncio
import time

import pytest

from sidecar.budgets.directives import Directives
from tests.sidecar.budgets.redis_server import RedisServer, until


def in_a_minute() -> int:
    return time.time_ns() // 1000 + 60_000_000


def test_a_directive_is_in_force_at_once_and_until_it_expires() -> None:
    now = [1_000]
    directives = Directives(wall_us=lambda: now[0])
    directives.add({"id": "d", "action": "pause", "expires_us": 2_000})
    assert [item["id"] for item in directives.active(1_999)] == ["d"]
    assert directives.active(2_000) == []
    now[0] = 5_000
    assert directives.list() == []


@pytest.mark.parametrize(
    "wrong", [{}, {"id": ""}, {"id": "x"}, {"id": "x", "expires_us": 5}, {"id": 7, "expires_us": 2**60}]
)
def test_a_directive_without_a_name_or_a_future_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="directive"):
        Directives().add(wrong)


async def test_a_directive_reaches_every_sidecar_within_a_second_and_so_does_its_end(
    redis: RedisServer,
) -> None:
    sidecars = [Directives(redis.url) for _ in range(3)]
    for sidecar in sidecars:
        await sidecar.start()
    await until(lambda: b"b:directives" in redis.say("PUBSUB", "CHANNELS"))
    started = time.monotonic()
    sidecars[0].add({"id": "d", "action": "downgrade", "expires_us": in_a_minute()})
    assert sidecars[0].list()
    await until(lambda: all(sidecar.list() for sidecar in sidecars), timeout_s=1.0)
    late = Directives(redis.url)
    await late.start()
    await until(late.list, timeout_s=1.0)
    assert sidecars[2].remove("d")
    await until(lambda: not any(sidecar.list() for sidecar in [*sidecars, late]), timeout_s=1.0)
    assert time.monotonic() - started < 3.0
    for sidecar in [*sidecars, late]:
        await sidecar.close()


async def test_a_redis_that_lost_everything_is_told_again_what_is_in_force(own_redis: RedisServer) -> None:
    one, two = Directives(own_redis.url), Directives(own_redis.url)
    await one.start()
    await two.start()
    until_us = time.time_ns() // 1000 + 600_000_000
    one.add({"id": "d1", "expires_us": until_us})
    one.add({"id": "d2", "expires_us": until_us})
    await until(lambda: len(two.list()) == 2, timeout_s=30)
    own_redis.say("FLUSHALL")
    # Told one by one, so that for a moment the other may see only the first.
    await until(lambda: b"d2" in own_redis.say("HKEYS", "b:{-}:directives"), timeout_s=30)
    await until(lambda: len(one.list()) == len(two.list()) == 2, timeout_s=30)
    # And what was taken back meanwhile stays away.
    one.remove("d1")
    await until(lambda: [item["id"] for item in two.list()] == ["d2"], timeout_s=30)
    await one.close()
    await two.close()


async def test_what_was_said_while_redis_was_away_is_shared_when_it_is_back(own_redis: RedisServer) -> None:
    one, other = Directives(own_redis.url), Directives(own_redis.url)
    await one.start()
    await other.start()
    await until(lambda: b"b:directives" in own_redis.say("PUBSUB", "CHANNELS"))
    await asyncio.to_thread(own_redis.kill)
    one.add({"id": "d", "action": "cut", "expires_us": in_a_minute()})
    assert one.list()
    await asyncio.to_thread(own_redis.start)
    await until(other.list)
    await one.close()
    await other.close()

"""Directives: at once here, within a second everywhere, and for no longer than they say."""

import asyncio
import time
from functools import partial

import pytest

from sidecar.budgets.directives import Directives
from tests.sidecar.budgets.redis_server import RedisServer, until

HASH = "b:{-}:directives"


def knows(sidecar: Directives, count: int) -> bool:
    return len(sidecar.list()) == count


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
    own_redis.say("PUBLISH", "b:directives", "look")
    await until(lambda: b"d2" in own_redis.say("HKEYS", HASH), timeout_s=30)
    assert len(one.list()) == len(two.list()) == 2
    # And what was taken back meanwhile stays away.
    one.remove("d1")
    await until(lambda: [item["id"] for item in two.list()] == ["d2"], timeout_s=30)
    await one.close()
    await two.close()


async def test_nobody_misses_a_directive_for_a_moment_however_often_redis_loses_everything(
    own_redis: RedisServer,
) -> None:
    """One that comes with empty hands and is first after a loss once made all others forget theirs."""
    one, two = Directives(own_redis.url), Directives(own_redis.url)
    await one.start()
    await two.start()
    everything = {f"d{number}" for number in range(50)}
    for name in everything:
        one.add({"id": name, "expires_us": in_a_minute()})
    await until(lambda: len(two.list()) == len(everything))

    short: list[set[str]] = []
    looks = 0

    async def watch() -> None:
        nonlocal looks
        while True:
            # Between any two steps of either.
            for sidecar in (one, two):
                seen = {item["id"] for item in sidecar.list()}
                looks += 1
                if seen != everything:
                    short.append(everything - seen)
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    newcomers = []
    for number in range(6):
        # In the middle of whatever they do, and again while they tell it anew.
        for _ in range(3):
            own_redis.say("FLUSHALL")
            own_redis.say("PUBLISH", "b:directives", "look")
            await asyncio.sleep(0.0007 * number)
        newcomer = Directives(own_redis.url)
        await newcomer.start()
        newcomers.append(newcomer)
        own_redis.say("FLUSHALL")
        await until(partial(knows, newcomer, len(everything)))
    watching.cancel()
    assert looks > 100
    assert short == []
    for sidecar in [one, two, *newcomers]:
        await sidecar.close()


async def test_what_others_ended_during_a_restart_does_not_come_back_and_what_nobody_ended_does(
    own_redis: RedisServer,
) -> None:
    before, other = Directives(own_redis.url), Directives(own_redis.url)
    for sidecar in (before, other):
        await sidecar.start()
    known = [{"id": name, "action": "pause", "expires_us": in_a_minute()} for name in ("ended", "kept")]
    for directive in known:
        before.add(directive)
    await until(partial(knows, other, 2))
    await before.close()
    other.remove("ended")
    await until(lambda: b"pause" not in own_redis.say("HGET", HASH, "ended"))
    after = Directives(own_redis.url)
    for directive in [*known, {"id": "untold", "action": "pause", "expires_us": in_a_minute()}]:
        after.add(directive, is_recalled=True)
    assert knows(after, 3)
    await after.start()
    for sidecar in (after, other):
        await until(lambda sidecar=sidecar: {item["id"] for item in sidecar.list()} == {"kept", "untold"})
    await asyncio.sleep(0.3)
    assert {item["id"] for item in other.list()} == {"kept", "untold"}
    for sidecar in (after, other):
        await sidecar.close()


async def test_what_was_ended_is_not_said_again_by_one_that_missed_it_nor_by_an_old_snapshot(
    own_redis: RedisServer,
) -> None:
    one, two = Directives(own_redis.url), Directives(own_redis.url)
    await one.start()
    one.add({"id": "kept", "expires_us": in_a_minute()})
    one.add({"id": "ended", "expires_us": in_a_minute()})
    await two.start()
    await until(lambda: len(two.list()) == 2)
    snapshot = own_redis.save()
    one.add({"id": "later", "expires_us": in_a_minute()})
    assert one.remove("ended")
    await until(lambda: {item["id"] for item in two.list()} == {"kept", "later"})
    await asyncio.to_thread(own_redis.restore, snapshot)
    # The server is an old one, and says so only by having fewer changes.
    await until(lambda: b"later" in own_redis.say("HKEYS", HASH))
    await asyncio.sleep(0.05)
    assert {item["id"] for item in one.list()} == {"kept", "later"}
    await until(lambda: {item["id"] for item in two.list()} == {"kept", "later"}, timeout_s=3)
    await one.close()
    await two.close()


async def test_what_is_expired_leaves_the_hash_but_not_when_it_was_extended_meanwhile(
    redis: RedisServer,
) -> None:
    now = [10**15]
    one = Directives(redis.url, wall_us=lambda: now[0])
    await one.start()
    one.add({"id": "short", "expires_us": now[0] + 1_000})
    one.add({"id": "long", "expires_us": now[0] + 1_000})
    await until(lambda: b"long" in redis.say("HKEYS", HASH))
    redis.say("HSET", HASH, "long", f'{{"id":"long","expires_us":{now[0] + 10**9}}}')
    now[0] += 2_000
    redis.say("PUBLISH", "b:directives", "look")
    await until(lambda: b"short" not in redis.say("HKEYS", HASH))
    # The answer to it may still be under way to us.
    await until(lambda: [item["id"] for item in one.list()] == ["long"])
    assert b"long" in redis.say("HKEYS", HASH)
    await one.close()


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

"""What the shared store promises beside never overshooting: to be there, to recover, to stay in its slot."""

import asyncio
import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest

from collector.domain.credit import Claim, Counter, Granted, Refused, Unit
from sidecar.budgets.inheritance import inherit
from sidecar.budgets.redis_keys import ACL_RULES, TagKeys, slot_of, tag_of
from sidecar.budgets.redis_link import UnsuitableRedis
from sidecar.budgets.redis_scripts import Script
from sidecar.budgets.redis_store import RedisStore
from sidecar.budgets.store import BUCKETS, MAX_LIMIT, UnusableLimit
from tests.sidecar.budgets.redis_server import RedisServer, SlowProxy, until
from tests.sidecar.budgets.world import USD, World, budget

LIMIT = 100 * USD


async def reserved(
    store: RedisStore, lease: str, claims: list[Claim], ttl_s: float = 60.0
) -> Granted | Refused:
    answer = store.reserve(lease, claims, ttl_s)
    return answer if isinstance(answer, Granted | Refused) else await answer


async def test_all_keys_of_a_script_call_share_a_slot(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, list[str]]] = []
    original = Script.command

    def spy(self: Script, keys: Any, arguments: Any) -> bytes:
        called.append((self.name, list(keys)))
        return original(self, keys, arguments)

    monkeypatch.setattr(Script, "command", spy)
    world = World(redis.url, 2, seed=1)
    await world.start()
    tenants = ["acme", "", "a{b}c", "t.acme", "ünï"]
    for number, tenant in enumerate(tenants):
        for side in world.sidecars:
            counters = [budget("b{x}", LIMIT, tenant=tenant), budget("c", LIMIT, tenant="acme")]
            claims = [Claim(counter, 1000) for counter in counters]
            lease = f"{side.source}{number}"
            async with asyncio.timeout(30):
                # On a busy machine a tenant's first call may be over before it is joined.
                while not isinstance(await reserved(side.store, lease, claims), Granted):
                    await asyncio.sleep(0.02)
            side.record(lease, claims)
    await world.drained()
    await until(lambda: {"keep", "reap", "shrink"} & {name for name, _ in called} >= {"keep", "reap"})
    await world.close()
    assert {"hold", "settle", "enter", "commit", "joined", "release"} <= {name for name, _ in called}
    for name, keys in called:
        assert len({slot_of(key) for key in keys}) == 1, (name, keys)


def test_no_tenant_can_name_the_keys_of_another() -> None:
    names = ["", "-", "acme", "t.acme", "acme}", "{acme", "acme%7D", "a}:c:x{"]
    assert len({tag_of(name) for name in names}) == len(names)
    for name in names:
        assert TagKeys(tag_of(name)).epoch.count("}") == 1


async def test_a_limit_that_doubles_do_not_count_exactly_is_refused_by_name(redis: RedisServer) -> None:
    store = RedisStore(redis.url, "s")
    await store.start()
    with pytest.raises(UnusableLimit, match=r"'huge'.*9,000,000 USD"):
        store.reserve("l", [Claim(budget("huge", MAX_LIMIT + 1), 1)], 60.0)
    await store.close()


async def test_the_refusal_names_the_tightest_and_holds_nothing_anywhere(redis: RedisServer) -> None:
    store = RedisStore(redis.url, "s", escrow=False)
    await store.start()
    rooms = {"a": 500, "b": 300, "c": 900, "other tenant": 100_000}
    counters = [
        budget(name, room, tenant="x" if name == "other tenant" else "acme") for name, room in rooms.items()
    ]
    for order in (counters, counters[::-1], counters[1:] + counters[:1]):
        answer = await reserved(store, "l", [Claim(counter, 400) for counter in order])
        assert isinstance(answer, Refused)
        assert (answer.counter.budget, answer.room, answer.reason) == ("b", 300, "budget_exceeded")
    await until(lambda: not any(tag.to_release for tag in store.tags.values()))
    assert [standing.held for standing in await store.standings(counters)] == [0, 0, 0, 0]
    await store.close()


async def test_six_sidecars_that_start_on_an_empty_redis_count_what_the_books_know_once(
    redis: RedisServer,
) -> None:
    world = World(redis.url, 6, seed=1)
    known = budget("known", 1000 * USD)
    for side in world.sidecars:
        # What earlier runs spent, long confirmed.
        side.journal.clear()
    world.sidecars[0].sequence = 5
    world.sidecars[0].journal.append(_settlement(5, "old", known, 100 * USD))
    await world.start()
    for side in world.sidecars:
        side.store.tag("acme")
    await world.drained()
    for side in world.sidecars:
        assert (await side.store.standings([known]))[0].spent == 100 * USD
    await world.close()


def _settlement(sequence: int, lease: str, counter: Counter, amount: int) -> Any:
    from sidecar.budgets.store import Settlement

    return Settlement(sequence, lease, (Claim(counter, amount),))


async def test_a_replica_that_takes_over_without_the_last_writes_is_exact_after_replay(
    redis: RedisServer, redis_program: str, tmp_path: Path
) -> None:
    replica = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(redis.port))
    replica.start()
    proxy = SlowProxy(redis.port)
    await proxy.start()
    world = World(proxy.url, 2, seed=1)
    await world.start()
    counter = budget("b", LIMIT)

    async def spend(name: str, count: int) -> None:
        for number in range(count):
            for side in world.sidecars:
                lease = f"{name}-{side.source}-{number}"
                if isinstance(await world.decide(side, lease, [Claim(counter, 1000)]), Granted):
                    side.intent(lease, [Claim(counter, 1000)])
                    side.record(lease, [Claim(counter, 700)])

    await spend("seen", 20)
    await world.drained()
    key = TagKeys(tag_of("acme")).counter(counter)
    await until(lambda: replica.say("HGET", key, "s") == redis.say("HGET", key, "s"), timeout_s=30)
    replica.say("REPLICAOF", "NO", "ONE")
    # These the replica never hears of.
    await spend("lost", 20)
    await world.drained()
    assert replica.say("HGET", key, "s") != redis.say("HGET", key, "s")
    proxy.target = replica.port
    for task in list(proxy._tasks):
        task.cancel()
    await until(lambda: not any(tag.ready for side in world.sidecars for tag in side.store.tags.values()), 30)
    await until(lambda: all(tag.ready for side in world.sidecars for tag in side.store.tags.values()), 60)
    await world.drained()
    assert world.settled(counter) > 0
    for side in world.sidecars:
        [standing] = await side.store.standings([counter])
        assert standing.spent == world.settled(counter)
    await world.close()
    await proxy.close()
    replica.kill()


async def test_a_lowered_limit_counts_for_the_next_call_and_a_raised_one_too(redis: RedisServer) -> None:
    store = RedisStore(redis.url, "s")
    await store.start()
    for number in range(3):
        assert isinstance(await reserved(store, f"l{number}", [Claim(budget("b", LIMIT), 1000)]), Granted)
    lowered = await reserved(store, "low", [Claim(budget("b", 3500), 1000)])
    assert isinstance(lowered, Refused)
    assert isinstance(await reserved(store, "high", [Claim(budget("b", 2 * LIMIT), 1000)]), Granted)
    await store.close()


async def test_a_caller_that_goes_away_while_redis_is_asked_leaves_nothing_held(redis: RedisServer) -> None:
    store = RedisStore(redis.url, "s", escrow=False)
    await store.start()
    counter = budget("b", LIMIT)
    await reserved(store, "first", [Claim(counter, 1)])
    store.release("first")
    asking = asyncio.ensure_future(store.reserve("gone", [Claim(counter, 1000)], 60.0))  # type: ignore[arg-type]
    await asyncio.sleep(0)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await until(lambda: not any(tag.to_release for tag in store.tags.values()))
    assert (await store.standings([counter]))[0].held == 0
    await store.close()


async def test_a_running_stream_extends_and_is_settled_at_what_it_spent(redis: RedisServer) -> None:
    for escrow in (False, True):
        store = RedisStore(redis.url, f"s{escrow}", escrow=escrow)
        await store.start()
        counter = budget(f"b{escrow}", LIMIT)
        for warm in range(3):
            await reserved(store, f"w{warm}", [Claim(counter, 5_000_000)])
            store.settle(f"w{warm}", [Claim(counter, 0)], warm + 1)
            await until(lambda store=store: not any(tag.outbox for tag in store.tags.values()))
        await reserved(store, "stream", [Claim(counter, 1000)])
        for step in (10, 5_000_000, 90_000_000_000):
            answer = store.extend("stream", [Claim(counter, step)], 60.0)
            assert isinstance(answer if isinstance(answer, Granted | Refused) else await answer, Granted)
        answer = store.extend("stream", [Claim(counter, LIMIT)], 60.0)
        assert isinstance(answer if isinstance(answer, Granted | Refused) else await answer, Refused)
        store.settle("stream", [Claim(counter, 77)], 9)
        await until(lambda store=store: not any(tag.outbox for tag in store.tags.values()))
        standing = (await store.standings([counter]))[0]
        assert (standing.spent, standing.held) == (77, 0)
        view = store.escrow.views[counter[:4]]
        assert view.used == 0
        await store.close()


async def test_a_sidecar_killed_between_hold_and_settlement_is_settled_by_the_next_one(
    redis: RedisServer, tmp_path: Path
) -> None:
    from collector.domain.record import CallRecord, Intent
    from collector.journal import JournalWriter
    from sidecar.budgets.replay import JournalReader
    from tests.sidecar.budgets.past_frames import call_record, intent

    counter = budget("b", LIMIT)

    def charges(item: CallRecord | Intent) -> list[Claim]:
        pico = item.hold_cost_pico if isinstance(item, Intent) else item.effective_cost_pico
        return [Claim(counter, -(-pico // 1000))]

    reader = JournalReader(tmp_path, charges)
    first = RedisStore(redis.url, "host-0-first", history=reader.history)
    journal = JournalWriter(tmp_path, "host-0-first")
    await first.start()
    for number in range(4):
        await reserved(first, f"call-{number}", [Claim(counter, 9_000_000)], ttl_s=1.0)
        journal.intent(intent(call_id=f"call-{number}", hold_cost_pico=9_000_000_000))
    journal.record(call_record(call_id="call-0", effective_cost_pico=1_000_000_000))
    first.settle("call-0", [Claim(counter, 1_000_000)], journal.sequence)
    await until(lambda: not any(tag.outbox for tag in first.tags.values()))
    # This one is written down and never sent.
    journal.record(call_record(call_id="call-1", effective_cost_pico=2_000_000_000))
    await first.links.close()
    journal.close()

    second = RedisStore(redis.url, "host-0-second", history=reader.history)
    await second.start()
    assert await inherit(second, reader) == 1
    standing = (await second.standings([counter]))[0]
    assert (standing.spent, standing.held) == (1_000_000 + 2_000_000 + 2 * 9_000_000, 0)
    assert await inherit(second, reader) == 0
    for tag in first.tags.values():
        tag.ready = False
    await first.close()
    await second.close()


async def test_a_lease_that_nobody_settles_is_charged_and_corrected_when_its_record_comes(
    redis: RedisServer,
) -> None:
    store = RedisStore(redis.url, "s", escrow=False)
    await store.start()
    counter = budget("b", LIMIT)
    await reserved(store, "l", [Claim(counter, 5000)], ttl_s=0.05)

    async def charged() -> bool:
        standing = (await store.standings([counter]))[0]
        return (standing.spent, standing.held) == (5000, 0)

    async with asyncio.timeout(30):
        while not await charged():
            await asyncio.sleep(0.05)
    store.settle("l", [Claim(counter, 1200)], 1)
    await until(lambda: not any(tag.outbox for tag in store.tags.values()))
    assert (await store.standings([counter]))[0][1:3] == (1200, 0)
    await store.close()


# ---- Redis ill -----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere.invalid"])
async def test_without_redis_hard_budgets_are_closed_and_soft_ones_open(address: str) -> None:
    store = RedisStore(f"redis://{address}", "s")
    store.links.seed.start()
    hard, soft = budget("hard", LIMIT), budget("soft", LIMIT, hard=False)
    answer = await reserved(store, "l", [Claim(soft, 1), Claim(hard, 1)])
    assert answer == Refused(hard, 0, "store_lost")
    assert isinstance(await reserved(store, "m", [Claim(soft, 1)]), Granted)
    assert store.offline_grants == 1
    await store.close()


async def test_it_starts_degraded_and_joins_when_redis_comes(redis_program: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    store = RedisStore(server.url, "s")
    store.links.seed.start()
    soft = budget("b", LIMIT, hard=False)
    assert isinstance(await reserved(store, "early", [Claim(soft, 1000)]), Granted)
    store.settle("early", [Claim(soft, 700)], 1)
    await asyncio.to_thread(server.start)
    await until(lambda: store.tag("acme").ready and not store.tag("acme").outbox)
    assert (await store.standings([soft]))[0].spent == 700
    await store.close()
    server.kill()


async def test_a_frozen_redis_is_noticed_once_logged_once_and_left_at_once_when_it_thaws(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(own_redis.url, 1, seed=1, escrow=False)
    await world.start()
    side = world.sidecars[0]
    counter = budget("b", LIMIT)
    await world.decide(side, "warm", [Claim(counter, 1)])
    world.decisions_s.clear()
    caplog.clear()
    own_redis.freeze()
    with caplog.at_level(logging.INFO):
        for number in range(200):
            answer = await world.decide(side, f"f{number}", [Claim(counter, 1)])
            assert isinstance(answer, Refused)
            await asyncio.sleep(0.002)
    own_redis.thaw()
    await until(lambda: side.store.healthy, timeout_s=30.0)
    assert isinstance(await world.decide(side, "after", [Claim(counter, 1)]), Granted)
    # The breaker opens after a few; all others are decided without waiting.
    assert sorted(world.decisions_s)[len(world.decisions_s) // 2] < 0.040
    assert len(caplog.records) <= 4
    # What was asked in vain and done after all has been given back.
    await until(lambda: not side.store.tag("acme").to_release)
    assert (await side.store.standings([counter]))[0].held == 2
    await world.close()


@pytest.mark.parametrize("sick", ["slow", "cut"])
async def test_a_slow_or_broken_way_to_redis_costs_no_call_more_than_its_patience(
    redis: RedisServer, sick: str
) -> None:
    proxy = SlowProxy(redis.port)
    await proxy.start()
    world = World(proxy.url, 1, seed=1)
    await world.start()
    side = world.sidecars[0]
    counter = budget("b", 1000 * USD)
    for number in range(5):
        await world.decide(side, f"w{number}", [Claim(counter, 1000)])
    await until(lambda: side.store.escrow.views[counter[:4]].free > 1000)
    world.said.clear()
    if sick == "slow":
        proxy.delay_s = 0.2
    else:
        proxy.cut_after = 3
    other = budget("cold", LIMIT)
    for number in range(20):
        await world.decide(side, f"x{number}", [Claim(other, 1000)])
    # What is held in advance goes on serving.
    assert isinstance(await world.decide(side, "held", [Claim(counter, 1000)]), Granted)
    assert sorted(world.decisions_s)[len(world.decisions_s) // 2] < 0.080
    assert world.said["store_lost"] >= 17
    proxy.delay_s, proxy.cut_after = 0.0, None
    await until(lambda: side.store.healthy, timeout_s=30.0)
    await world.drained()
    assert await world.decide(side, "y", [Claim(other, 1000)]) == Granted((LIMIT - 1000,))
    await world.close()
    await proxy.close()


async def test_scripts_that_the_server_forgot_are_told_again(redis: RedisServer) -> None:
    store = RedisStore(redis.url, "s", escrow=False)
    await store.start()
    counter = budget("b", LIMIT)
    await reserved(store, "a", [Claim(counter, 1)])
    redis.say("SCRIPT", "FLUSH")
    assert isinstance(await reserved(store, "b", [Claim(counter, 1)]), Granted)
    assert store.healthy
    await store.close()


async def test_a_redis_busy_with_somebodys_script_closes_hard_budgets_until_it_has_ended(
    own_redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisStore(own_redis.url, "s", escrow=False)
    await store.start()
    counter = budget("b", LIMIT)
    async with asyncio.timeout(30):
        while not isinstance(await reserved(store, "a", [Claim(counter, 1)]), Granted):
            await asyncio.sleep(0.02)
    caplog.clear()
    own_redis.say("CONFIG", "SET", "lua-time-limit", "1")
    _, endless = await asyncio.open_connection("127.0.0.1", own_redis.port)
    endless.write(b"EVAL 'while true do end' 0\r\n")
    async with asyncio.timeout(30):
        while not (await asyncio.to_thread(own_redis.say, "PING")).startswith(b"-BUSY"):
            await asyncio.sleep(0.005)
    for number in range(10):
        answer = await reserved(store, f"b{number}", [Claim(counter, 1)])
        assert isinstance(answer, Refused) and answer.reason == "store_lost"
    assert 1 <= len(caplog.records) <= 4
    assert b"OK" in await asyncio.to_thread(own_redis.say, "SCRIPT", "KILL")
    async with asyncio.timeout(30):
        while not isinstance(await reserved(store, "c", [Claim(counter, 1)]), Granted):
            await asyncio.sleep(0.02)
    await until(lambda: not any(tag.to_release for tag in store.tags.values()))
    assert (await store.standings([counter]))[0].held == 2
    endless.close()
    await endless.wait_closed()
    await store.close()


@pytest.mark.parametrize(
    "damage",
    ["wrong type", "wrong type of the epoch", "no number", "out of memory", "read only"],
)
async def test_an_answer_that_is_none_closes_hard_budgets_and_is_logged_once(
    own_redis: RedisServer, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = RedisStore(own_redis.url, "s", escrow=False)
    await store.start()
    counter = budget("b", LIMIT)
    await reserved(store, "a", [Claim(counter, 1)])
    key = TagKeys(tag_of("acme")).counter(counter)
    if damage == "wrong type":
        own_redis.say("SET", key, "text")
    elif damage == "wrong type of the epoch":
        own_redis.say("SET", TagKeys(tag_of("acme")).epoch, "text")
    elif damage == "no number":
        own_redis.say("HSET", key, "h", "text")
    elif damage == "out of memory":
        own_redis.say("CONFIG", "SET", "maxmemory", "1")
    else:
        own_redis.say("CONFIG", "SET", "min-replicas-to-write", "1")
    caplog.clear()
    for number in range(30):
        answer = await reserved(store, f"b{number}", [Claim(counter, 1)])
        assert isinstance(answer, Refused) and answer.reason == "store_lost"
    assert 1 <= len(caplog.records) <= 2
    own_redis.kill()
    await until(lambda: not store.links.seed.quick)
    store.tag("acme").ready = store.tag("").ready = False
    await store.close()


async def test_a_redis_that_evicts_is_refused(redis_program: str, tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    server.start()
    with pytest.raises(UnsuitableRedis, match="noeviction"):
        await RedisStore(server.url, "s").start()
    server.kill()


async def test_the_listed_permissions_suffice_and_allow_nothing_else(own_redis: RedisServer) -> None:
    own_redis.say("ACL", "SETUSER", "bursar", "on", ">secret", *ACL_RULES.split())
    url = f"redis://bursar:secret@127.0.0.1:{own_redis.port}"
    world = World(url, 2, seed=1)
    await world.start()
    counters = [budget("b", LIMIT), Counter("r", "", "acme", "rolling", Unit.USD, LIMIT, 10**15, None, 10**9)]
    for side in world.sidecars:
        claims = [Claim(counter, 1000) for counter in counters]
        assert isinstance(await world.decide(side, side.source, claims), Granted)
        side.record(side.source, claims)
    await world.drained()
    assert [standing.spent for standing in await world.sidecars[0].store.standings(counters)] == [2000, 2000]
    link = world.sidecars[0].store.links.seed
    import hiredis

    for forbidden in (("CONFIG", "GET", "*"), ("KEYS", "*"), ("FLUSHALL",), ("GET", "other:key")):
        with pytest.raises(hiredis.ReplyError, match="NOPERM"):
            await link.command(*forbidden)
    await world.close()
    assert not re.search(r"\+@", ACL_RULES)


async def test_a_tenant_long_idle_is_let_go_and_comes_back_as_it_was(redis: RedisServer) -> None:
    world = World(redis.url, 1, seed=1)
    await world.start()
    side = world.sidecars[0]
    counter = budget("b", LIMIT)
    async with asyncio.timeout(30):
        # On a busy machine a tenant's first call may be over before it is joined.
        while not isinstance(await world.decide(side, "a", [Claim(counter, 1000)]), Granted):
            await asyncio.sleep(0.02)
    side.record("a", [Claim(counter, 400)])
    await world.drained()
    # As if a day had gone by: the background gives the slice back, then lets go.
    side.store.escrow.views[counter[:4]].touched -= 1000
    await until(lambda: side.store.escrow.views[counter[:4]].capacity == 0)
    side.store.tag("acme").touched -= 1000
    await until(lambda: set(side.store.tags) == {""})
    assert await world.decide(side, "b", [Claim(counter, 1000)]) == Granted((LIMIT - 1400,))
    await world.close()


async def test_what_a_counter_is_for_says_how_long_redis_keeps_it(redis: RedisServer) -> None:
    """Conversations fade with disuse; a rolling window that is used never ends; what is for ever stays."""
    store = RedisStore(redis.url, "a", escrow=False)
    await store.start()
    hour_us = 3_600_000_000
    now_us = time.time_ns() // 1000
    begun = (now_us // hour_us - BUCKETS + 1) * hour_us
    talk = Counter("talk", "", "", "conversation:1", Unit.USD, LIMIT, 0, None, fades=True)
    rolling = Counter("rolling", "", "", "rolling:24h", Unit.USD, LIMIT, begun, None, hour_us)
    total = Counter("users", "ann", "", "total", Unit.USD, LIMIT, 0, None)

    def days_left(counter: Counter) -> int:
        said = redis.say("PTTL", TagKeys(tag_of("")).counter(counter))
        milliseconds = int(said[1:].split(b"\r")[0])
        return round(milliseconds / 86_400_000) if milliseconds >= 0 else -1

    for lease in ("first", "second"):
        async with asyncio.timeout(30):
            while not isinstance(
                await reserved(store, lease, [Claim(one, 1) for one in (talk, rolling, total)]), Granted
            ):
                await asyncio.sleep(0.02)
        assert [days_left(one) for one in (talk, rolling, total)] == [40, 41, -1]
        for one in (talk, rolling):
            redis.say("PEXPIRE", TagKeys(tag_of("")).counter(one), "60000")
    store.settle("second", [Claim(talk, 1)], 1)
    await until(lambda: days_left(talk) == 40, timeout_s=30.0)
    await store.close()

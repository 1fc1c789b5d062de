"""Answers in a real Redis: edited, moved, slow, gone and full."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from sidecar.budgets.redis_connection import parse_address
from sidecar.cache.entry import Entry
from sidecar.cache.key import Key
from sidecar.cache.redis_store import RedisStore, is_full
from sidecar.cache.sealing import Sealer
from tests.sidecar.budgets.redis_server import RedisServer, SlowProxy, until
from tests.sidecar.cache.conftest import entry_with
from tests.support.ports import free_port

SECRET = b"0123456789abcdef"
ONE, TWO = Key(b"s" * 16, b"1" * 20), Key(b"s" * 16, b"2" * 20)


@dataclass
class Told:
    tampered: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def edited(self) -> None:
        self.tampered += 1

    def drop(self, reason: str) -> None:
        self.dropped[reason] += 1


@asynccontextmanager
async def store_at(
    redis: RedisServer, told: Told, *, encrypt: bool = False, secret: bytes = SECRET
) -> AsyncIterator[RedisStore]:
    store = RedisStore(parse_address(redis.url), Sealer(secret, encrypt=encrypt), told.edited, told.drop)
    store.start()
    try:
        await until(lambda: store.quick, 30)
        yield store
    finally:
        await store.close()


def fresh(**changes: object) -> Entry:
    now = time.time()
    return entry_with(stored_at=now, expires_at=now + 60, last_asked_at=now, **changes)


async def comes(store: RedisStore, key: Key, tenant: str = "acme") -> Entry:
    for _ in range(1000):
        found = await store.get(key, tenant, "m", time.time())
        if found is not None:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("the answer did not come")


@pytest.mark.parametrize("encrypt", [False, True])
async def test_an_answer_comes_back_as_it_was_with_a_time_to_live(redis: RedisServer, encrypt: bool) -> None:
    entry = fresh(body=b'{"words":"in the clear?"}')
    async with store_at(redis, Told(), encrypt=encrypt) as store:
        store.put(ONE, entry)
        assert await comes(store, ONE) == entry
        name = store.name_of(ONE, "acme", "m")
        assert 0 < int(redis.say("PTTL", name).strip(b":\r\n")) <= 60_000
        assert (b"in the clear?" in redis.say("GET", name)) is not encrypt
        assert b"acme" not in redis.say("KEYS", "*")
        assert await store.get(ONE, "other", "m", time.time()) is None
        assert await store.get(ONE, "acme", "m", time.time() + 61) is None


@pytest.mark.parametrize("encrypt", [False, True])
async def test_an_edited_or_moved_answer_is_a_miss_and_is_told(redis: RedisServer, encrypt: bool) -> None:
    told = Told()
    async with store_at(redis, told, encrypt=encrypt) as store:
        store.put(ONE, fresh())
        await comes(store, ONE)
        one, two = store.name_of(ONE, "acme", "m"), store.name_of(TWO, "acme", "m")
        redis.say("COPY", one, two)
        assert await store.get(TWO, "acme", "m", time.time()) is None
        redis.say("SETRANGE", one, "60", "X" * 16)  # One byte could have been that by chance.
        assert await store.get(ONE, "acme", "m", time.time()) is None
        assert told.tampered == 2
        await until(lambda: b"0" in redis.say("EXISTS", one), 30)
        for junk in ("", "x", "\x01" * 40):
            redis.say("SET", one, junk)
            assert await store.get(ONE, "acme", "m", time.time()) is None
        redis.say("DEL", one)
        redis.say("LPUSH", one, "a")  # Another type: an error of the server's, not an edit.
        assert await store.get(ONE, "acme", "m", time.time()) is None


async def test_installations_with_different_peppers_do_not_see_each_other(redis: RedisServer) -> None:
    told = Told()
    async with store_at(redis, told) as ours, store_at(redis, told, secret=b"another") as theirs:
        theirs.put(ONE, fresh())
        await comes(theirs, ONE)
        assert await ours.get(ONE, "acme", "m", time.time()) is None
        assert told.tampered == 0


async def test_answers_are_taken_away_by_tenant_model_and_tag(redis: RedisServer) -> None:
    async with store_at(redis, Told()) as store:
        store.put(ONE, fresh())
        store.put(TWO, fresh(tenant="beta", tags={"env": "test"}))
        await comes(store, ONE)
        await comes(store, TWO, "beta")
        assert (await store.purge("nobody", None, None)).answers == 0
        assert await store.purge(None, None, ("env", "test")) == (1, [TWO.digest])
        assert (await store.purge("acme", "m", None)).answers == 1
        assert (await store.purge(None, None, None)).answers == 0


async def test_a_frozen_server_is_soon_asked_no_more_and_used_again_when_it_thaws(
    own_redis: RedisServer,
) -> None:
    async with store_at(own_redis, Told()) as store:
        store.put(ONE, fresh())
        await comes(store, ONE)
        own_redis.freeze()
        try:
            for _ in range(3):
                assert await store.get(ONE, "acme", "m", time.time()) is None
            assert not store.quick
            began = asyncio.get_running_loop().time()
            assert [await store.get(ONE, "acme", "m", time.time()) for _ in range(1000)] == [None] * 1000
            assert asyncio.get_running_loop().time() - began < 5  # Against 20 s, had each been asked.
        finally:
            own_redis.thaw()
        await comes(store, ONE)


@pytest.mark.parametrize("sick", ["slow", "cut"])
async def test_a_slow_or_broken_way_to_the_server_is_soon_left_alone(
    own_redis: RedisServer, sick: str
) -> None:
    proxy = SlowProxy(own_redis.port)
    await proxy.start()
    store = RedisStore(parse_address(proxy.url), Sealer(SECRET), lambda: None, lambda reason: None)
    store.start()
    try:
        await until(lambda: store.quick, 30)
        store.put(ONE, fresh())
        await comes(store, ONE)
        if sick == "slow":
            proxy.delay_s = 0.2  # On every command.
        else:
            proxy.cut_after = 3
        assert [await store.get(ONE, "acme", "m", time.time()) for _ in range(500)] == [None] * 500
        await until(lambda: not store.quick, 30)
        proxy.delay_s, proxy.cut_after = 0.0, None
        await comes(store, ONE)
    finally:
        await store.close()
        await proxy.close()


async def test_a_server_that_evicts_is_stored_in_on_and_on_and_what_it_let_go_is_a_miss(
    own_redis: RedisServer,
) -> None:
    told = Told()
    own_redis.say("CONFIG", "SET", "maxmemory", "6mb")
    own_redis.say("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    async with store_at(own_redis, told) as store:
        keys = [Key(b"s" * 16, number.to_bytes(20)) for number in range(100)]
        for key in keys:
            store.put(key, fresh(body=b"x" * 100_000))
        await until(lambda: b":1" in own_redis.say("EXISTS", store.name_of(keys[-1], "acme", "m")), 30)
        there = [b":1" in own_redis.say("EXISTS", store.name_of(key, "acme", "m")) for key in keys]
        assert 0 < sum(there) < 70  # 10 MB do not go into 6.
        gone = keys[there.index(False)]
        assert await store.get(gone, "acme", "m", time.time()) is None
        await comes(store, keys[there.index(True)])
        assert not told.dropped["refused"] and not told.tampered


async def test_without_a_server_every_look_up_is_a_miss() -> None:
    told = Told()
    store = RedisStore(
        parse_address(f"redis://127.0.0.1:{free_port()}"), Sealer(SECRET), told.edited, told.drop
    )
    store.start()
    assert await store.get(ONE, "acme", "m", time.time()) is None
    store.put(ONE, fresh())
    assert told.dropped == {"unreachable": 1}
    await store.close()


def test_a_server_that_keeps_everything_is_left_alone_when_it_is_half_full() -> None:
    said = b"used_memory:%d\r\nmaxmemory:1000\r\nmaxmemory_policy:%s\r\n"
    assert is_full(said % (501, b"noeviction"))
    assert not is_full(said % (500, b"noeviction"))
    assert not is_full(said % (999, b"allkeys-lru"))
    assert not is_full(b"used_memory:501\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\n")


async def test_a_full_server_takes_no_more_and_the_rest_goes_on(own_redis: RedisServer) -> None:
    told = Told()
    own_redis.say("CONFIG", "SET", "maxmemory", "1mb")
    async with store_at(own_redis, told) as store:
        store.full = False
        store.put(ONE, fresh(body=b"x" * 2_000_000))
        store.put(TWO, fresh())
        await until(lambda: told.dropped["refused"] >= 1, 30)
        assert await store.get(ONE, "acme", "m", time.time()) is None

"""Questions that many sidecars share: in plain hashes of a real Redis, or searched by one that can."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="similar answers need the semantic extra")

from sidecar.budgets.redis_connection import parse_address  # noqa: E402
from sidecar.cache.names import digest_of  # noqa: E402
from sidecar.cache.redis_store import RedisStore  # noqa: E402
from sidecar.cache.sealing import Sealer  # noqa: E402
from sidecar.cache.similar.finder import Finder  # noqa: E402
from sidecar.cache.similar.runners import TfIdf  # noqa: E402
from sidecar.cache.similar.shelf import Shelf  # noqa: E402
from tests.sidecar.budgets.redis_server import RedisServer, until  # noqa: E402

ROOT = Path(__file__).resolve().parents[3]
SEARCHING = ROOT / ".venvs/redis-search/bin"
SECRET = b"0123456789abcdef"
OWNER = (digest_of("acme"), digest_of("m"))
SCOPE = b"s" * 20
KEYS = [b"%020d" % number for number in range(5)]


@pytest.fixture(scope="module", params=["redis-with-search", "redis-with-vector-sets"])
def searching(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    if not (SEARCHING / request.param).exists():
        pytest.skip(f"no {request.param} here: scripts/setup/redis_search.sh")
    server = RedisServer(tmp_path_factory.mktemp("searching"))
    server.command[0] = str(SEARCHING / request.param)
    server.start()
    yield server
    server.kill()


@asynccontextmanager
async def finder_at(
    redis: RedisServer,
    *,
    encrypt: bool = False,
    searches: bool = False,
    on_edited: Callable[[], None] = lambda: None,
) -> AsyncIterator[Finder]:
    shelf = Shelf(redis.url, SECRET, "tfidf", encrypt=encrypt, on_edited=on_edited)
    shelf.start()
    try:
        await until(lambda: shelf._connection is not None, 30)
        assert shelf.searches is searches
        yield Finder(TfIdf(), 100, shelf)
    finally:
        await shelf.close()


async def add(finder: Finder, key: bytes, text: str, scope: bytes = SCOPE, lives_s: float = 600) -> None:
    await finder.answer([0, "add", scope, OWNER, key, text, time.time() + lives_s])


async def find(finder: Finder, text: str, scope: bytes = SCOPE) -> list[bytes]:
    said = await finder.answer([1, "find", scope, text, 0.10, time.monotonic() + 60])
    return [key for key, _, _ in said]


async def found(finder: Finder, text: str, scope: bytes = SCOPE) -> list[bytes]:
    """What is found in the end: news of others come with the next look-up, but for a second."""
    async with asyncio.timeout(30):
        while not (keys := await find(finder, text, scope)):
            await asyncio.sleep(0.05)
    return keys


async def shared(redis: RedisServer, *, searches: bool) -> None:
    redis.say("FLUSHALL")
    async with finder_at(redis, searches=searches) as one, finder_at(redis, searches=searches) as other:
        await add(one, KEYS[0], "How do I cancel order 4471?")
        await add(other, KEYS[1], "Where is my parcel?")
        assert await found(other, "how can i cancel order 4471") == [KEYS[0]]
        assert await found(one, "where is my parcel") == [KEYS[1]]
        assert await find(other, "how can i cancel order 4417") == []
        assert await find(other, "where is my parcel", b"t" * 20) == []
        assert len(one) == (0 if searches else 2)


async def test_what_one_sidecar_adds_others_find_in_plain_hashes(redis: RedisServer) -> None:
    await shared(redis, searches=False)


@pytest.mark.slow
async def test_a_server_with_vector_search_searches_itself(searching: RedisServer) -> None:
    await shared(searching, searches=True)


@pytest.mark.slow
async def test_what_is_dropped_is_not_found_by_the_server_either(searching: RedisServer) -> None:
    searching.say("FLUSHALL")
    async with finder_at(searching, searches=True) as finder:
        await add(finder, KEYS[0], "Where is my parcel?")
        assert await found(finder, "where is my parcel") == [KEYS[0]]
        await finder.answer([0, "drop", SCOPE, OWNER, KEYS[0]])
        async with asyncio.timeout(30):
            while await find(finder, "where is my parcel"):
                await asyncio.sleep(0.05)


@pytest.mark.slow
async def test_what_has_expired_is_not_found_by_the_server_and_what_is_behind_it_is(
    searching: RedisServer,
) -> None:
    searching.say("FLUSHALL")
    async with finder_at(searching, searches=True) as finder:
        for number in range(12):
            await add(finder, b"%020d" % (100 + number), "Where is my parcel?", lives_s=0.5)
        await add(finder, KEYS[0], "where is my parcel please")
        await asyncio.sleep(0.6)
        assert await found(finder, "where is my parcel") == [KEYS[0]]
        assert await find(finder, "how do i cancel") == []


async def test_a_finder_that_starts_anew_finds_what_is_there_and_what_has_expired_never(
    redis: RedisServer,
) -> None:
    redis.say("FLUSHALL")
    async with finder_at(redis) as finder:
        await add(finder, KEYS[0], "Where is my parcel?")
        await add(finder, KEYS[1], "Where is my letter?", lives_s=0.05)
        await add(finder, KEYS[2], "Where is my box?")
        await finder.answer([0, "drop", SCOPE, OWNER, KEYS[2]])
        await until(lambda: b"$" in redis.say("GET", "none"), 30)
    async with finder_at(redis) as finder:
        assert await found(finder, "where is my parcel") == [KEYS[0]]
        assert await find(finder, "where is my box") == []
        await asyncio.sleep(0.06)
        assert await find(finder, "where is my letter") == []


def names(redis: RedisServer, pattern: str) -> list[str]:
    return [line for line in redis.say("KEYS", pattern).decode().split("\r\n") if line.startswith("bursar:")]


@pytest.mark.parametrize("field", ["v", "t"])
async def test_a_question_that_somebody_edited_is_not_found_and_told_once(
    redis: RedisServer, field: str
) -> None:
    await edited(redis, field, searches=False)


@pytest.mark.slow
@pytest.mark.parametrize("field", ["v", "t"])
async def test_what_somebody_edited_is_not_found_by_the_server_either(
    searching: RedisServer, field: str
) -> None:
    await edited(searching, field, searches=True)


async def edited(redis: RedisServer, field: str, *, searches: bool) -> None:
    redis.say("FLUSHALL")
    told: list[bool] = []
    async with finder_at(redis, searches=searches) as finder:
        await add(finder, KEYS[0], "Where is my parcel?")
        assert await found(finder, "where is my parcel") == [KEYS[0]]
    (name,) = names(redis, "bursar:cachevec:*")
    redis.say("HSET", name, field, "x" * 4096)
    async with finder_at(redis, searches=searches, on_edited=lambda: told.append(True)) as finder:
        assert await find(finder, "where is my parcel") == []
        assert told == [True]
        await until(lambda: not names(redis, "bursar:cachevec:*"), 30)
        assert await find(finder, "where is my parcel") == [] and told == [True]


async def test_nothing_that_was_asked_can_be_read_there_when_it_is_encrypted(redis: RedisServer) -> None:
    pytest.importorskip("cryptography")
    redis.say("FLUSHALL")
    async with finder_at(redis, encrypt=True) as finder:
        await add(finder, KEYS[0], "Where is my parcel?")
        await until(lambda: names(redis, "bursar:cachevec:*"), 30)
        (name,) = names(redis, "bursar:cachevec:*")
        assert b"parcel" not in redis.say("HGET", name, "t")
        assert await find(finder, "where is my parcel") == [KEYS[0]]


async def test_questions_are_taken_away_with_their_answers(redis: RedisServer) -> None:
    redis.say("FLUSHALL")
    store = RedisStore(parse_address(redis.url), Sealer(SECRET), lambda: None, lambda reason: None)
    store.start()
    try:
        await until(lambda: store.quick, 30)
        async with finder_at(redis) as finder:
            await add(finder, KEYS[0], "Where is my parcel?")
            await until(lambda: names(redis, "bursar:cachevec:*"), 30)
            await store.purge("beta", None, None)
            assert names(redis, "bursar:cachevec:*")
            await store.purge("acme", None, None)
            assert not names(redis, "bursar:cachevec:*")
    finally:
        await store.close()


@pytest.mark.slow
async def test_vectors_leave_the_server_with_their_answers(searching: RedisServer) -> None:
    searching.say("FLUSHALL")
    store = RedisStore(parse_address(searching.url), Sealer(SECRET), lambda: None, lambda reason: None)
    store.start()
    try:
        await until(lambda: store.quick, 30)
        async with finder_at(searching, searches=True) as finder:
            await add(finder, KEYS[0], "Where is my parcel?")
            assert await found(finder, "where is my parcel") == [KEYS[0]]
            in_sets = bool(names(searching, "bursar:cachevset:*"))
            assert in_sets is (searching.command[0].endswith("vector-sets"))
            await store.purge("acme", None, None)
            assert not names(searching, "bursar:cachevec:*") + names(searching, "bursar:cachevset:*")
    finally:
        await store.close()


async def test_sidecars_leave_each_other_what_they_compared(redis: RedisServer) -> None:
    redis.say("FLUSHALL")
    told = []
    stores = [
        RedisStore(parse_address(redis.url), Sealer(SECRET), lambda: told.append(1), lambda reason: None)
        for _ in range(2)
    ]
    try:
        for store in stores:
            store.start()
        await until(lambda: all(store.quick for store in stores), 30)
        stores[0].keep_note("bound", "one", b"what one knows")
        stores[1].keep_note("bound", "two", b"what two knows")
        await until(lambda: len(names(redis, "bursar:cachenote:*")) == 2, 30)
        assert sorted(await stores[0].notes("bound")) == [
            ("one", b"what one knows"),
            ("two", b"what two knows"),
        ]
        (name,) = names(redis, "bursar:cachenote:*:one")
        redis.say("SET", name, "edited")
        assert await stores[1].notes("bound") == [("two", b"what two knows")] and told == [1]
        redis.say("DEL", name)
        assert await stores[1].notes("bound") == [("two", b"what two knows")]
    finally:
        for store in stores:
            await store.close()


async def test_a_redis_that_is_gone_is_a_miss(own_redis: RedisServer) -> None:
    async with finder_at(own_redis) as finder:
        await add(finder, KEYS[0], "Where is my parcel?")
        own_redis.kill()
        assert await find(finder, "where is my parcel") == [KEYS[0]]  # Known here as well.
        assert await find(finder, "where is my parcel", b"t" * 20) == []

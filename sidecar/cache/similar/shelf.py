"""Texts and vectors in a Redis that many sidecars share; used in the finder's process alone.

    bursar:cachevec:MARK:TENANT:MODEL:DIGEST   hash: v vector, s scope, r runner, t text, sealed
    bursar:cachescope:MARK:RUNNER:SCOPE        sorted set: the digests of a scope, by when they were added
    bursar:cachevset:MARK:RUNNER:SCOPE         vector set: the same, where the server has such

These are plain hashes, which any Redis or Valkey has: what is new in a scope is read when it is searched, and
searched here. A server with vector search (``FT.SEARCH``: Redis Stack, Redis 8 with its modules) or with
vector sets (``VSIM``: any Redis 8) searches by itself; then nothing is held here. The text is sealed together
with what its vector is (:mod:`sidecar.cache.sealing`): an edited one is not found, but taken away and told.
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import hiredis
import msgspec
import numpy as np

from collector.logs import get
from sidecar.budgets.redis_connection import (
    RedisConnection,
    RedisLost,
    Reply,
    connect,
    pack,
    parse_address,
)
from sidecar.cache.sealing import EncryptionMissing, Sealer, Tampered
from sidecar.cache.similar.runners import Vectors

log = get("bursar.cache")

PATIENCE_S: Final = 0.5
"""How long the server may take; the call that asked has gone on long before."""
RETRY_S: Final = 1.0
NEWS_EVERY_S: Final = 1.0
"""How often it is asked what is new in a scope."""
OVERLAP_MS: Final = 5_000
"""Clocks of sidecars may differ by so much."""
MOST_NEWS: Final = 2_000
MOST_SCOPES: Final = 5_000

Owner = tuple[bytes, bytes]


class Rest(msgspec.Struct, array_like=True):
    """What is sealed."""

    text: str
    expires_at: float
    vector_digest: bytes


class Shelved(NamedTuple):
    """A text that some sidecar has put here."""

    key: bytes
    owner: Owner
    text: str
    vector: Vectors
    expires_at: float


class Shelf:
    """Puts texts there and finds those of others.

    Args:
        redis: the server's address.
        runner: what made the vectors; those of others are not looked at.
        on_edited: called for each question that somebody else has written to.
    """

    def __init__(
        self,
        redis: str,
        secret: bytes,
        runner: str,
        *,
        encrypt: bool = False,
        on_edited: Callable[[], None] = lambda: None,
    ) -> None:
        self._address = parse_address(redis)
        self._sealer = Sealer(secret, encrypt=encrypt)
        self._on_edited = on_edited
        self._runner = hashlib.blake2b(runner.encode(), digest_size=4).hexdigest()
        self._connection: RedisConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._seen: dict[bytes, tuple[float, int]] = {}
        """By scope: when it was asked for news last, and the latest of what came."""
        self._indexed = False
        self._in_sets = False
        self.searches = False
        """Whether the server has vector search, or vector sets."""

    def start(self) -> None:
        """Connect, and stay connected."""
        self._task = asyncio.create_task(self._tend(), name="shelf")

    async def close(self) -> None:
        """Give the connection up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self._connection is not None:
            self._connection.close()

    def put(
        self, scope: bytes, owner: Owner, key: bytes, text: str, vector: Vectors, expires_at: float
    ) -> None:
        """Show ``text`` to the others; nobody waits for it."""
        connection = self._connection
        lives_ms = int((expires_at - time.time()) * 1000)
        if connection is None or lives_ms <= 0:
            return
        name, raw = self._name(owner, key), vector.astype(np.float32).tobytes()
        rest = Rest(text, expires_at, hashlib.blake2b(raw + scope, digest_size=16).digest())
        sealed = self._sealer.seal(name.encode(), msgspec.msgpack.encode(rest))
        listed = self._scope_name(scope)
        fields = ("v", raw, "s", scope.hex(), "r", self._runner, "t", sealed)
        member = owner[0] + owner[1] + key
        commands: list[tuple[Any, ...]] = [
            ("HSET", name, *fields),
            ("PEXPIRE", name, lives_ms),
            ("ZADD", listed, int(time.time() * 1000), member),
            ("PEXPIRE", listed, 2 * lives_ms),
        ]
        if self._in_sets:
            inside = self._set_name(scope)
            commands += [("VADD", inside, "FP32", raw, member), ("PEXPIRE", inside, 2 * lives_ms)]
        for command in commands:
            connection.send(pack(command), _ignore, PATIENCE_S)

    def drop(self, scope: bytes, owner: Owner, key: bytes) -> None:
        """Show it no more."""
        connection = self._connection
        if connection is not None:
            connection.send(pack(("UNLINK", self._name(owner, key))), _ignore, PATIENCE_S)
            member = owner[0] + owner[1] + key
            connection.send(pack(("ZREM", self._scope_name(scope), member)), _ignore, PATIENCE_S)
            if self._in_sets:
                connection.send(pack(("VREM", self._set_name(scope), member)), _ignore, PATIENCE_S)

    async def news(self, scope: bytes) -> list[Shelved]:
        """What was put into ``scope`` since this was asked last; nothing where the server does not answer."""
        now = time.monotonic()
        asked_at, latest = self._seen.get(scope, (float("-inf"), 0))
        connection = self._connection
        if connection is None or now - asked_at < NEWS_EVERY_S:
            return []
        listed = self._scope_name(scope)
        try:
            said = await connection.ask(
                "ZREVRANGEBYSCORE", listed, "+inf", max(0, latest - OVERLAP_MS), "WITHSCORES",
                "LIMIT", 0, MOST_NEWS, timeout_s=PATIENCE_S,
            )  # fmt: skip
            members, scores = said[::2], [int(float(score)) for score in said[1::2]]
            opened = await self._read(connection, scope, members)
        except (RedisLost, hiredis.ReplyError, ValueError, TypeError):
            return []
        if len(self._seen) >= MOST_SCOPES:
            del self._seen[next(iter(self._seen))]
        self._seen[scope] = (now, max(scores, default=latest))
        return [one for one in reversed(opened) if one is not None]

    async def _read(
        self, connection: RedisConnection, scope: bytes, members: list[bytes]
    ) -> list[Shelved | None]:
        """What lies under these names; None for what has left."""
        owners = [((member[:6], member[6:12]), member[12:]) for member in members]
        asked = [
            connection.ask("HMGET", self._name(owner, key), "v", "t", timeout_s=PATIENCE_S)
            for owner, key in owners
        ]
        replies = await asyncio.gather(*asked)
        return [
            self._opened(scope, owner, key, *reply)
            for (owner, key), reply in zip(owners, replies, strict=True)
        ]

    async def search(self, scope: bytes, vector: Vectors, most: int) -> list[tuple[Shelved, float]]:
        """The nearest in ``scope`` with their cosine distances, found by the server."""
        connection = self._connection
        if connection is None:
            return []
        try:
            if self._in_sets:
                return await self._in_set(connection, scope, vector, most)
            if not self._indexed:
                await self._index(connection, vector.size)
            said = await connection.ask(
                "FT.SEARCH", self._index_name,
                f"(@s:{{{scope.hex()}}} @r:{{{self._runner}}})=>[KNN {most} @v $q AS d]",
                "PARAMS", 2, "q", vector.astype(np.float32).tobytes(),
                "SORTBY", "d", "RETURN", 3, "v", "t", "d", "DIALECT", 2, timeout_s=PATIENCE_S,
            )  # fmt: skip
        except (RedisLost, hiredis.ReplyError):
            return []
        found = []
        for name, fields in zip(said[1::2], said[2::2], strict=False):
            told = dict(zip(fields[::2], fields[1::2], strict=False))
            tenant, model, key = (bytes.fromhex(part) for part in name.decode().split(":")[3:6])
            shelved = self._opened(scope, (tenant, model), key, told.get(b"v"), told.get(b"t"))
            if shelved is not None:
                found.append((shelved, float(told[b"d"])))
        return found

    async def _in_set(
        self, connection: RedisConnection, scope: bytes, vector: Vectors, most: int
    ) -> list[tuple[Shelved, float]]:
        """The nearest by the server's vector set, which keeps a byte a column: the distances are ours."""
        inside, raw = self._set_name(scope), vector.astype(np.float32).tobytes()
        # As many again: what has expired stays in the set until it is met.
        members = await connection.ask("VSIM", inside, "FP32", raw, "COUNT", 2 * most, timeout_s=PATIENCE_S)
        found = []
        for member, shelved in zip(members, await self._read(connection, scope, members), strict=True):
            if shelved is None:
                connection.send(pack(("VREM", inside, member)), _ignore, PATIENCE_S)
            elif shelved.vector.size == vector.size:
                found.append((shelved, 1.0 - float(shelved.vector @ vector)))
        return sorted(found, key=lambda one: one[1])[:most]

    def _opened(self, scope: bytes, owner: Owner, key: bytes, raw: Any, sealed: Any) -> Shelved | None:
        """What was put there; None where it has left, or somebody else has written to it."""
        if not isinstance(raw, bytes) or not isinstance(sealed, bytes) or len(raw) % 4:
            return None
        try:
            opened = self._sealer.open(self._name(owner, key).encode(), sealed)
            rest = msgspec.msgpack.decode(opened, type=Rest)
            if rest.vector_digest != hashlib.blake2b(raw + scope, digest_size=16).digest():
                raise Tampered
        except Tampered:
            self._on_edited()
            self.drop(scope, owner, key)  # Or it would be told again with every look-up.
            return None
        except (msgspec.MsgspecError, ValueError, EncryptionMissing):
            return None  # Of another version of ours.
        return Shelved(key, owner, rest.text, np.frombuffer(raw, np.float32), rest.expires_at)

    def _name(self, owner: Owner, key: bytes) -> str:
        return f"bursar:cachevec:{self._sealer.mark}:{owner[0].hex()}:{owner[1].hex()}:{key.hex()}"

    def _scope_name(self, scope: bytes) -> str:
        return f"bursar:cachescope:{self._sealer.mark}:{self._runner}:{scope.hex()}"

    def _set_name(self, scope: bytes) -> str:
        return f"bursar:cachevset:{self._sealer.mark}:{self._runner}:{scope.hex()}"

    @property
    def _index_name(self) -> str:
        return f"bursar:cacheindex:{self._sealer.mark}:{self._runner}"

    async def _index(self, connection: RedisConnection, columns: int) -> None:
        """Have the server index what is there and what comes."""
        with contextlib.suppress(hiredis.ReplyError):  # It is there already.
            await connection.ask(
                "FT.CREATE", self._index_name, "ON", "HASH",
                "PREFIX", 1, f"bursar:cachevec:{self._sealer.mark}:",
                "SCHEMA", "s", "TAG", "r", "TAG",
                "v", "VECTOR", "HNSW", 6, "TYPE", "FLOAT32", "DIM", columns, "DISTANCE_METRIC", "COSINE",
                timeout_s=4 * PATIENCE_S,
            )  # fmt: skip
        self._indexed = True

    # -- staying connected

    async def _tend(self) -> None:
        complained = False
        while True:
            lost = asyncio.Event()
            try:
                connection = await connect(self._address, lost.set, timeout_s=1.0)
                searches = await _has(connection, "FT._LIST")
                self._in_sets = not searches and await _has(connection, "VCARD", self._set_name(b""))
                self.searches = searches or self._in_sets
                self._indexed = False
                self._connection = connection
                complained = False
                await lost.wait()
            except (OSError, RedisLost, hiredis.ReplyError, TimeoutError) as error:
                if not complained:
                    complained = True
                    log.warning(
                        "no Redis to keep questions in", address=str(self._address), reason=str(error)
                    )
            finally:
                connection_lost, self._connection = self._connection, None
                if connection_lost is not None:
                    connection_lost.close()
            await asyncio.sleep(RETRY_S)


async def _has(connection: RedisConnection, *command: str) -> bool:
    """Whether the server knows a command, and lets us use it."""
    try:
        await connection.ask(*command, timeout_s=1.0)
    except hiredis.ReplyError:
        return False
    return True


def _ignore(reply: Reply) -> None:
    """Nobody waits for it."""

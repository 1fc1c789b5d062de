"""Answers in a Redis that many sidecars share. It may be slow, gone, full or hostile: a call never minds.

    bursar:cache:MARK:TENANT:MODEL:SCOPE:DIGEST    one sealed answer, with its time to live
    bursar:cachetag:MARK:TAG                       the names of answers that have a tag

MARK names our pepper, TENANT, MODEL and TAG are digests of these. A look-up waits :data:`PATIENCE_S`; after
three that were not answered in time none is sent until a probe is. Where the server keeps what it is given
(``noeviction``), nothing more is stored once half of its memory is full: budgets may live there too.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import hiredis
import msgspec

from collector.logs import get
from sidecar.budgets.redis_connection import (
    RedisAddress,
    RedisConnection,
    RedisLost,
    Reply,
    connect,
    fulfil,
    pack,
)
from sidecar.cache.entry import Entry
from sidecar.cache.key import Key
from sidecar.cache.names import digest_of
from sidecar.cache.sealing import EncryptionMissing, Sealer, Tampered

log = get("bursar.cache")

PATIENCE_S: Final = 0.02
"""How long a call waits for a look-up."""
BACKGROUND_S: Final = 2.0
TRIPS: Final = 3
LOOK_EVERY_S: Final = 5.0
"""Between two looks at how full the server is."""
PROBE_EVERY_S: Final = 0.25
RETRY_S: Final = 1.0
NOTE_LIVES_S: Final = 30 * 86_400
FULL: Final = 0.5
"""Share of a keeping server's memory above which nothing more is stored."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Entry).decode


class Taken(NamedTuple):
    """Answers that were forgotten."""

    answers: int
    digests: list[bytes]
    """Of those that had a tag, as their keys say."""


class RedisStore:
    """Looks answers up and stores them.

    Args:
        on_tampered: called for each answer that somebody edited.
        on_dropped: called with the reason when an answer could not be stored.
    """

    def __init__(
        self,
        address: RedisAddress,
        sealer: Sealer,
        on_tampered: Callable[[], None],
        on_dropped: Callable[[str], None],
    ) -> None:
        self._address = address
        self._sealer = sealer
        self._on_tampered = on_tampered
        self._on_dropped = on_dropped
        self._connection: RedisConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()
        self.quick = False
        """Whether look-ups are sent: the server is there and answers in time."""
        self.full = False

    def start(self) -> None:
        """Begin to connect; never raises."""
        self._task = asyncio.create_task(self._tend(), name="cache-redis")

    async def close(self) -> None:
        """Give the connection up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._drop()

    def name_of(self, key: Key, tenant: str, model: str) -> str:
        """What the answer is kept under."""
        return f"bursar:cache:{self._sealer.mark}:{_short(tenant)}:{_short(model)}:{key.name}"

    async def get(self, key: Key, tenant: str, model: str, now: float) -> Entry | None:
        """The answer kept under ``key``; None when there is none, or it does not come in time."""
        connection = self._connection
        if not self.quick or connection is None:
            return None
        name = self.name_of(key, tenant, model)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        connection.send(pack(("GET", name)), lambda reply: fulfil(future, reply), PATIENCE_S)
        try:
            sealed = await future
        except (RedisLost, hiredis.ReplyError):
            if connection.timeouts >= TRIPS and self.quick:
                self.quick = False
                log.warning("Redis is slow: answers are not reused", address=str(self._address))
            return None
        if not isinstance(sealed, bytes):
            return None
        try:
            entry = _decode(self._sealer.open(name.encode(), sealed))
        except Tampered:
            log.warning("an answer in Redis was edited; it is not used", address=str(self._address))
            self._on_tampered()
            connection.send(pack(("UNLINK", name)), _ignore, BACKGROUND_S)
            return None
        except (msgspec.MsgspecError, ValueError, EncryptionMissing):
            return None  # Of another version of ours.
        return entry if entry.expires_at > now else None

    def put(self, key: Key, entry: Entry) -> None:
        """Keep ``entry``; nobody waits for it."""
        connection = self._connection
        if not self.quick or connection is None or self.full:
            self._on_dropped("full" if self.full else "unreachable")
            return
        name = self.name_of(key, entry.tenant, entry.request_model)
        lives_ms = max(1, int((entry.expires_at - entry.stored_at) * 1000))
        sealed = self._sealer.seal(name.encode(), _encode(entry))
        connection.send(pack(("SET", name, sealed, "PX", lives_ms)), self._stored, BACKGROUND_S)
        for tag, value in entry.tags.items():
            listed = self._tag_name(tag, value)
            connection.send(pack(("SADD", listed, name)), _ignore, BACKGROUND_S)
            connection.send(pack(("PEXPIRE", listed, 2 * lives_ms)), _ignore, BACKGROUND_S)

    async def purge(self, tenant: str | None, model: str | None, tag: tuple[str, str] | None) -> Taken:
        """Forget every answer of these.

        Raises:
            RedisLost: the server does not answer.
        """
        connection = self._connection
        if connection is None:
            raise RedisLost("Redis is not reachable")
        parts = [_short(what) if what is not None else "*" for what in (tenant, model)]
        prefix = f"bursar:cache:{self._sealer.mark}"
        if tag is not None:
            names = await connection.ask("SMEMBERS", self._tag_name(*tag), timeout_s=BACKGROUND_S)
            wanted = [name for name in names if all(p in ("*", w) for p, w in zip(parts, _owner(name)))]  # noqa: B905
            questions = [f"bursar:cachevec:{self._sealer.mark}:{_question(name)}" for name in wanted]
            for start in range(0, len(questions), 500):
                await self._out_of_sets(connection, questions[start : start + 500])
                await connection.ask("UNLINK", *questions[start : start + 500], timeout_s=BACKGROUND_S)
            gone = 0
            for start in range(0, len(wanted), 500):
                gone += await connection.ask("UNLINK", *wanted[start : start + 500], timeout_s=BACKGROUND_S)
            return Taken(gone, [bytes.fromhex(_question(name).rpartition(":")[2]) for name in wanted])
        pattern = f"bursar:cachevec:{self._sealer.mark}:{parts[0]}:{parts[1]}:*"
        await self._unlink(connection, pattern, self._out_of_sets)
        return Taken(await self._unlink(connection, f"{prefix}:{parts[0]}:{parts[1]}:*"), [])

    async def _out_of_sets(self, connection: RedisConnection, questions: Sequence[str | bytes]) -> None:
        """Take the vectors of ``questions`` out of the vector sets of their scopes, where there are such."""
        asked = [connection.ask("HMGET", name, "s", "r", timeout_s=BACKGROUND_S) for name in questions]
        for name, (scope, runner) in zip(questions, await asyncio.gather(*asked), strict=True):
            if scope is None or runner is None:
                continue
            text = name.decode() if isinstance(name, bytes) else name
            inside = f"bursar:cachevset:{self._sealer.mark}:{runner.decode()}:{scope.decode()}"
            try:
                member = bytes.fromhex("".join(text.split(":")[3:6]))
                await connection.ask("VREM", inside, member, timeout_s=BACKGROUND_S)
            except (hiredis.ReplyError, ValueError):
                return  # A server without vector sets.

    async def _unlink(
        self,
        connection: RedisConnection,
        pattern: str,
        first: Callable[[RedisConnection, Sequence[bytes]], Awaitable[None]] | None = None,
    ) -> int:
        """Take away all that is named so, after what is to be done ``first``; how many there were."""
        gone, cursor = 0, b"0"
        while True:
            cursor, names = await connection.ask(
                "SCAN", cursor, "MATCH", pattern, "COUNT", 1000, timeout_s=BACKGROUND_S
            )
            if names and first is not None:
                await first(connection, names)
            if names:
                gone += await connection.ask("UNLINK", *names, timeout_s=BACKGROUND_S)
            if cursor == b"0":
                return gone

    # -- notes that sidecars leave each other

    def keep_note(self, kind: str, who: str, note: bytes) -> None:
        """Leave ``note`` for the others, in place of the last; nobody waits for it."""
        connection = self._connection
        if not self.quick or connection is None or self.full:
            return
        listed = f"bursar:cachenotes:{self._sealer.mark}:{kind}"
        name = f"bursar:cachenote:{self._sealer.mark}:{kind}:{who}"
        sealed = self._sealer.seal(name.encode(), note)
        connection.send(pack(("SET", name, sealed, "EX", NOTE_LIVES_S)), self._stored, BACKGROUND_S)
        connection.send(pack(("SADD", listed, who)), _ignore, BACKGROUND_S)
        connection.send(pack(("EXPIRE", listed, NOTE_LIVES_S)), _ignore, BACKGROUND_S)

    async def notes(self, kind: str) -> list[tuple[str, bytes]]:
        """What sidecars have left for each other, with who they are; an edited one is not among them."""
        connection = self._connection
        if not self.quick or connection is None:
            return []
        found: list[tuple[str, bytes]] = []
        listed = f"bursar:cachenotes:{self._sealer.mark}:{kind}"
        try:
            for member in await connection.ask("SMEMBERS", listed, timeout_s=BACKGROUND_S):
                who = member.decode()
                name = f"bursar:cachenote:{self._sealer.mark}:{kind}:{who}"
                sealed = await connection.ask("GET", name, timeout_s=BACKGROUND_S)
                if sealed is None:
                    connection.send(pack(("SREM", listed, who)), _ignore, BACKGROUND_S)
                    continue
                try:
                    found.append((who, self._sealer.open(name.encode(), sealed)))
                except Tampered:
                    self._on_tampered()
        except (RedisLost, hiredis.ReplyError, UnicodeDecodeError, ValueError):
            return found
        return found

    def _tag_name(self, tag: str, value: str) -> str:
        return f"bursar:cachetag:{self._sealer.mark}:{_short(f'{tag}={value}')}"

    def _stored(self, reply: Reply) -> None:
        if isinstance(reply, hiredis.ReplyError):
            self._on_dropped("refused")  # Out of memory, say, or not allowed to write.
        elif isinstance(reply, Exception):
            self._on_dropped("unreachable")

    # -- staying connected

    async def _tend(self) -> None:
        complained = False
        while True:
            try:
                await self._serve()
            except (OSError, RedisLost, hiredis.ReplyError, TimeoutError) as error:
                if not complained:
                    complained = True
                    log.warning("no Redis to keep answers in", address=str(self._address), reason=str(error))
            else:
                complained = False
            self._drop()
            await asyncio.sleep(RETRY_S)

    async def _serve(self) -> None:
        """Connect, and look after the connection until it is lost."""
        lost = self._lost = asyncio.Event()
        connection = self._connection = await connect(self._address, lost.set, timeout_s=1.0)
        loop = asyncio.get_running_loop()
        look_at = 0.0
        while connection.open and not lost.is_set():
            if loop.time() >= look_at:
                look_at = loop.time() + LOOK_EVERY_S
                with contextlib.suppress(RedisLost):
                    said = await connection.ask("INFO", "memory", timeout_s=1.0)
                    self.full = is_full(said if isinstance(said, bytes) else b"")
            if not self.quick:
                with contextlib.suppress(RedisLost):
                    await connection.ask("PING", timeout_s=PATIENCE_S)
                    connection.timeouts = 0
                    self.quick = True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_EVERY_S):
                    await lost.wait()

    def _drop(self) -> None:
        self.quick = False
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def is_full(said: bytes) -> bool:
    """Whether a server that never evicts is so full that others may soon find no room."""
    lines = said.decode("utf-8", "replace").splitlines()
    fields = {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}
    most = int(fields.get("maxmemory", "0") or 0)
    if not most or fields.get("maxmemory_policy", "noeviction") != "noeviction":
        return False
    return int(fields.get("used_memory", "0")) > FULL * most


def _short(what: str) -> str:
    return digest_of(what).hex()


def _question(name: bytes) -> str:
    """Tenant, model and digest of an answer's name: what its question is kept under."""
    tenant, model, _, digest = name.decode().split(":")[3:7]
    return f"{tenant}:{model}:{digest}"


def _owner(name: bytes) -> list[str]:
    return name.decode().split(":")[3:5]


def _ignore(reply: Reply) -> None:
    """Nobody waits for it."""

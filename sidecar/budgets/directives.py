"""What operators and alerts ask of all sidecars for a while: directives, shared through Redis or not.

A directive is a small table with an id, an action and an expiry; what it means is for others to say.
It is in force here at once, and in every other sidecar within a second: Redis announces it, and a hash
keeps it for those who come later or missed it. Without Redis each keeps what it was told itself.

The hash has a name and counts its changes. Where the name is another than last time, or the count went
back, Redis has lost something: then everybody who comes says all that it knows in one step, before it
believes what it reads, so nothing that is in force is out of force for a moment. What was ended is kept,
too, as its expiry alone, so that nobody who missed the end can say it again.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from collector.logs import get
from sidecar.clock import now_us

if TYPE_CHECKING:
    from sidecar.budgets.redis_connection import RedisAddress, RedisConnection, Reply

log = get("bursar.budgets")

CHANNEL = "b:directives"
LOOK_S = 0.9
"""Between two looks at the hash: so long a message that was lost may go unnoticed."""
NAME = b"~"
"""In the hash: another one says that all before it is lost."""
COUNT = b"~n"
"""In the hash: how often it was written to; a lower one says that something is lost."""
REMEMBERED_US = 60_000_000
"""How long the end of a directive is remembered that was not known here."""
MAX_DIRECTIVES = 1_000
TIMEOUT_S = 1.0
RETRY_S = 0.2

News = tuple[str | bytes, bytes, str]
"""An id, what the hash shall keep of it, and how: see ``tell.lua``."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Directives:
    """Directives in force, by id; read by every call, so reading costs nothing.

    Args:
        url: of a Redis to share them through; None to keep them here.
        wall_us: the time that expiries speak of, microseconds since the Unix epoch.
    """

    def __init__(self, url: str | None = None, *, wall_us: Callable[[], int] = now_us) -> None:
        self._address: RedisAddress | None = None
        if url:
            from sidecar.budgets.redis_connection import parse_address

            self._address = parse_address(url)
        self._wall_us = wall_us
        self._known: dict[str, dict[str, Any]] = {}
        self._ended: dict[str, int] = {}
        """Taken back here, and when they would have expired."""
        self._unsent: dict[str, dict[str, Any] | int] = {}
        """Added here, or the expiry of what was taken back here, and not confirmed there."""
        self._hash = (b"", 0)
        """Name of the hash and its changes, as last seen."""
        self._task: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self.version = 0
        """Goes up with every change, for whoever keeps something derived."""

    def add(self, directive: Mapping[str, Any], *, is_recalled: bool = False) -> None:
        """Put ``directive`` in force; one with the same id is replaced.

        Args:
            directive: with ``id`` and ``expires_us``.
            is_recalled: it was in force before a restart, and holds unless others ended it meanwhile.

        Raises:
            ValueError: it has no ``id``, no ``expires_us`` in the future, or there are too many.
        """
        name, until_us = directive.get("id"), directive.get("expires_us")
        if not isinstance(name, str) or not 0 < len(name) <= 200 or name.startswith("~"):
            raise ValueError("a directive needs an id of 1 to 200 characters, the first of them no '~'")
        if not isinstance(until_us, int) or until_us <= self._wall_us():
            raise ValueError(f"directive {name!r}: expires_us is not a time in the future")
        self._drop_expired()
        if name not in self._known and len(self._known) >= MAX_DIRECTIVES:
            raise ValueError(f"there are {MAX_DIRECTIVES:,} directives already")
        self._known[name] = dict(directive)
        if is_recalled:
            self.version += 1
        else:
            self._tell(name, self._known[name])

    def remove(self, name: str) -> bool:
        """End a directive; whether it was known."""
        known = self._known.pop(name, None)
        self._tell(name, known["expires_us"] if known else self._wall_us() + REMEMBERED_US)
        return known is not None

    def active(self, now_us: int) -> list[dict[str, Any]]:
        """Those in force at ``now_us``."""
        return [item for item in self._known.values() if item["expires_us"] > now_us]

    def list(self) -> list[dict[str, Any]]:
        """Those in force now."""
        return self.active(self._wall_us())

    async def start(self) -> None:
        """Share them from now on, as soon as Redis lets us."""
        if self._address is not None:
            self._task = asyncio.create_task(self._share(), name="directives")

    async def close(self) -> None:
        """Stop sharing."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _tell(self, name: str, what: dict[str, Any] | int) -> None:
        self.version += 1
        if self._address is not None:
            self._unsent[name] = what
            self._look.set()

    def _drop_expired(self) -> None:
        now_us = self._wall_us()
        for name in [name for name, item in self._known.items() if item["expires_us"] <= now_us]:
            del self._known[name]
            self.version += 1

    # -- sharing

    async def _share(self) -> None:
        # What talks to Redis is imported where there is one to talk to.
        import hiredis

        from sidecar.budgets.redis_connection import RedisLost

        complained = False
        while True:
            try:
                await self._share_once()
            except (OSError, RedisLost, hiredis.ReplyError) as error:
                if not complained:
                    complained = True
                    log.warning("directives are not shared now", reason=f"{type(error).__name__}: {error}")
            await asyncio.sleep(RETRY_S)

    async def _share_once(self) -> None:
        from sidecar.budgets.redis_connection import connect, pack

        assert self._address is not None
        lost = asyncio.Event()

        def over() -> None:
            lost.set()
            self._look.set()

        talking = await connect(self._address, over, timeout_s=TIMEOUT_S)
        try:
            hearing = await connect(self._address, over, timeout_s=TIMEOUT_S, on_push=self._heard)
        except BaseException:
            talking.close()
            raise
        try:
            hearing.send(pack(("SUBSCRIBE", CHANNEL)), lambda _: None, TIMEOUT_S)
            while not lost.is_set():
                self._look.clear()
                await self._synchronize(talking)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._look.wait()
        finally:
            talking.close()
            hearing.close()

    def _heard(self, _: "Reply") -> None:
        """Something has changed; the hash says what."""
        self._look.set()

    async def _synchronize(self, connection: "RedisConnection") -> None:
        there = pairs(await connection.ask("HGETALL", _key(), timeout_s=TIMEOUT_S))
        while True:
            lost = self._has_lost(there)
            unsent = dict(self._unsent)
            news = self._news(there, unsent, all_of_it=lost)
            if not news and NAME in there:
                break
            there = await self._say(connection, news)
            for name, what in unsent.items():
                if self._unsent.get(name) is what:
                    del self._unsent[name]
                    self._remember(name, what)
            if lost or not self._has_lost(there):
                break
            # It was lost between the two, so it has only what was new.
        self._hash = name_and_count(there)
        self._learn(there)

    def _has_lost(self, there: Mapping[bytes, bytes]) -> bool:
        name, count = name_and_count(there)
        return name != self._hash[0] or count < self._hash[1]

    async def _say(self, connection: "RedisConnection", news: Sequence[News]) -> dict[bytes, bytes]:
        """Tell the hash, and all who listen; what it has then."""
        from sidecar.budgets.redis_scripts import load_scripts

        words: list[str | bytes] = [uuid.uuid4().hex]
        for change in news:
            words += change
        script = load_scripts()["tell"].text
        there = pairs(await connection.ask("EVAL", script, 1, _key(), *words, timeout_s=TIMEOUT_S))
        if any(how != "gone" for _, _, how in news):
            await connection.ask("PUBLISH", CHANNEL, "changed", timeout_s=TIMEOUT_S)
        return there

    def _news(
        self, there: Mapping[bytes, bytes], unsent: Mapping[str, dict[str, Any] | int], *, all_of_it: bool
    ) -> Sequence[News]:
        """What the hash must be told, given what it has."""
        now_us = self._wall_us()
        news: list[News] = []
        if all_of_it:
            news += [
                (known["id"], _encode(known), "again")
                for known in self._known.values()
                if known["expires_us"] > now_us and known["id"] not in unsent
            ]
            news += [(ended, b"%d" % until_us, "new") for ended, until_us in self._ended.items()]
        for field, packed in there.items():
            if field not in (NAME, COUNT) and expiry_of(packed) <= now_us:
                news.append((field, packed, "gone"))
        for ident, what in unsent.items():
            news.append((ident, b"%d" % what if isinstance(what, int) else _encode(what), "new"))
        return news

    def _remember(self, name: str, what: dict[str, Any] | int) -> None:
        now_us = self._wall_us()
        self._ended.pop(name, None)
        if isinstance(what, int) and what > now_us:
            self._ended[name] = what
        if len(self._ended) > MAX_DIRECTIVES:
            self._ended = {ended: until_us for ended, until_us in self._ended.items() if until_us > now_us}
            while len(self._ended) > MAX_DIRECTIVES:
                del self._ended[next(iter(self._ended))]

    def _learn(self, there: Mapping[bytes, bytes]) -> None:
        """Take over what is in force by the hash, and by what was said here while we looked there."""
        now_us = self._wall_us()
        found: dict[str, dict[str, Any]] = {}
        for field, packed in there.items():
            item = None if field in (NAME, COUNT) else read_directive(packed)
            if item is not None and item["expires_us"] > now_us and len(found) < MAX_DIRECTIVES:
                found[item["id"]] = item
        for name in found.keys() & self._ended.keys():
            # Somebody has said it anew since.
            del self._ended[name]
        for name, what in self._unsent.items():
            found.pop(name, None)
            if not isinstance(what, int):
                found[name] = what
        if found != self._known:
            self._known = found
            self.version += 1


def _key() -> str:
    """Of the hash."""
    from sidecar.budgets.redis_keys import NO_TENANT, TagKeys

    return TagKeys(NO_TENANT).directives


def pairs(flat: list[bytes]) -> dict[bytes, bytes]:
    """A hash as Redis tells it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def name_and_count(there: Mapping[bytes, bytes]) -> tuple[bytes, int]:
    """Which hash it is, and how often it was written to; of no name where it is gone."""
    count = there.get(COUNT, b"")
    return there.get(NAME, b""), int(count) if count.isdigit() else 0


def expiry_of(packed: bytes) -> int:
    """When a directive, or the end of one, need not be kept any more; 0 for anything else."""
    if packed.isdigit():
        return int(packed)
    item = read_directive(packed)
    return 0 if item is None else int(item["expires_us"])


def read_directive(packed: bytes) -> dict[str, Any] | None:
    """A directive as the hash keeps it; None when it is none, or was ended."""
    try:
        item = _decode(packed)
    except msgspec.DecodeError:
        return None
    if isinstance(item.get("id"), str) and isinstance(item.get("expires_us"), int):
        return item
    return None

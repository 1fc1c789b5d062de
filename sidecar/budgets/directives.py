"""What operators and alerts ask of all sidecars for a while: directives, shared through Redis or not.

A directive is a small table with an id, an action and an expiry; what it means is for others to say.
It is in force here at once, and in every other sidecar within a second: Redis announces it, and a hash
keeps it for those who come later or missed it. A Redis that lost the hash is told again by all who know.
Without Redis each keeps what it was told itself.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import hiredis
import msgspec

from collector.logs import get
from sidecar.budgets.redis_connection import RedisConnection, RedisLost, Reply, connect, pack, parse_address
from sidecar.budgets.redis_keys import NO_TENANT, TagKeys
from sidecar.clock import now_us

log = get("bursar.budgets")

CHANNEL = "b:directives"
LOOK_S = 0.9
"""Between two looks at the hash: so long a message that was lost may go unnoticed."""
MARKER = "~"
"""In the hash for as long as it has lost nothing."""
MAX_DIRECTIVES = 1_000
TIMEOUT_S = 1.0
RETRY_S = 0.2

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Directives:
    """Directives in force, by id; read by every call, so reading costs nothing.

    Args:
        url: of a Redis to share them through; None to keep them here.
        wall_us: the time that expiries speak of, microseconds since the Unix epoch.
    """

    def __init__(self, url: str | None = None, *, wall_us: Callable[[], int] = now_us) -> None:
        self._address = parse_address(url) if url else None
        self._wall_us = wall_us
        self._known: dict[str, dict[str, Any]] = {}
        self._unsent: dict[str, dict[str, Any] | None] = {}
        """Added or removed here and not confirmed there."""
        self._keys = TagKeys(NO_TENANT)
        self._connection: RedisConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self.version = 0
        """Goes up with every change, for whoever keeps something derived."""

    def add(self, directive: Mapping[str, Any]) -> None:
        """Put ``directive`` in force; one with the same id is replaced.

        Raises:
            ValueError: it has no ``id``, no ``expires_us`` in the future, or there are too many.
        """
        name, until_us = directive.get("id"), directive.get("expires_us")
        if not isinstance(name, str) or not 0 < len(name) <= 200:
            raise ValueError("a directive needs an id of 1 to 200 characters")
        if not isinstance(until_us, int) or until_us <= self._wall_us():
            raise ValueError(f"directive {name!r}: expires_us is not a time in the future")
        self._drop_expired()
        if name not in self._known and len(self._known) >= MAX_DIRECTIVES:
            raise ValueError(f"there are {MAX_DIRECTIVES:,} directives already")
        self._known[name] = dict(directive)
        self._tell(name, self._known[name])

    def remove(self, name: str) -> bool:
        """End a directive; whether it was known."""
        known = self._known.pop(name, None) is not None
        self._tell(name, None)
        return known

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

    def _tell(self, name: str, directive: dict[str, Any] | None) -> None:
        self.version += 1
        if self._address is not None:
            self._unsent[name] = directive
            self._look.set()

    def _drop_expired(self) -> None:
        now_us = self._wall_us()
        for name in [name for name, item in self._known.items() if item["expires_us"] <= now_us]:
            del self._known[name]
            self.version += 1

    # -- sharing

    async def _share(self) -> None:
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

    def _heard(self, _: Reply) -> None:
        """Something has changed; the hash says what."""
        self._look.set()

    async def _synchronize(self, connection: RedisConnection) -> None:
        key = self._keys.directives
        changed = False
        if await connection.ask("HSETNX", key, MARKER, "1", timeout_s=TIMEOUT_S):
            # It is new, or has lost what it knew: then each says again what is in force.
            now_us = self._wall_us()
            for name, known in self._known.items():
                if known["expires_us"] > now_us:
                    self._unsent.setdefault(name, known)
        for name, directive in list(self._unsent.items()):
            if directive is None:
                await connection.ask("HDEL", key, name, timeout_s=TIMEOUT_S)
            else:
                await connection.ask("HSET", key, name, _encode(directive), timeout_s=TIMEOUT_S)
            changed = True
            if self._unsent.get(name) is directive:
                del self._unsent[name]
        if changed:
            await connection.ask("PUBLISH", CHANNEL, "changed", timeout_s=TIMEOUT_S)
        flat = await connection.ask("HGETALL", key, timeout_s=TIMEOUT_S)
        now_us = self._wall_us()
        found: dict[str, dict[str, Any]] = {}
        for name, packed in zip(flat[::2], flat[1::2], strict=True):
            if name == MARKER.encode():
                continue
            item = read_directive(packed)
            if item is None or item["expires_us"] <= now_us:
                await connection.ask("HDEL", key, name, timeout_s=TIMEOUT_S)
            elif len(found) < MAX_DIRECTIVES:
                found[item["id"]] = item
        for name, directive in self._unsent.items():
            # Said here while we looked there.
            found.pop(name, None)
            if directive is not None:
                found[name] = directive
        if found != self._known:
            self._known = found
            self.version += 1


def read_directive(packed: bytes) -> dict[str, Any] | None:
    """A directive as the hash keeps it; None when it is none."""
    try:
        item = _decode(packed)
    except msgspec.DecodeError:
        return None
    if isinstance(item.get("id"), str) and isinstance(item.get("expires_us"), int):
        return item
    return None

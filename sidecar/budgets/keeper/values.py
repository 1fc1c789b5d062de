"""Hashes, sorted sets and texts in memory, each with an expiry: what our scripts need of a Redis."""

import time
from collections.abc import Callable, Sequence
from typing import Any

Answer = int | bytes | list[bytes | None] | None

SWEEP_AT_ONCE = 1_000
"""Keys looked at in one sweep."""


class WrongCommand(Exception):
    """Not a command of ours, or not for this key; the message is for whoever sent it."""


class Values:
    """Commands by name, as Redis words them; every argument and answer is bytes, or a whole number.

    Args:
        wall_ms: milliseconds since the Unix epoch.
    """

    def __init__(self, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self.wall_ms = wall_ms
        self._hashes: dict[bytes, dict[bytes, bytes]] = {}
        self._sorted: dict[bytes, dict[bytes, float]] = {}
        self._texts: dict[bytes, bytes] = {}
        self._expires: dict[bytes, int] = {}
        self._to_sweep: list[bytes] = []
        self.commands: dict[bytes, Callable[..., Answer]] = {
            name.removeprefix("_do_").upper().encode(): getattr(self, name)
            for name in dir(self)
            if name.startswith("_do_")
        }

    @property
    def kept(self) -> tuple[dict[bytes, Any], ...]:
        """All that is kept: to look at, or to go back to."""
        return (*self._holders, self._expires)

    @kept.setter
    def kept(self, kept: tuple[dict[bytes, Any], ...]) -> None:
        self._hashes, self._sorted, self._texts, self._expires = kept

    def do(self, name: bytes, arguments: Sequence[bytes]) -> Answer:
        """Carry out one command.

        Raises:
            WrongCommand: there is none such, or it cannot be done.
        """
        command = self.commands.get(name) or self.commands.get(name.upper())
        if command is None:
            raise WrongCommand(f"ERR unknown command '{name.decode('utf-8', 'replace')[:40]}'")
        try:
            return command(*arguments)
        except (TypeError, ValueError) as error:
            raise WrongCommand(f"ERR {error}") from error

    def sweep(self) -> None:
        """Drop some of what has run out and nobody asks for."""
        if not self._to_sweep:
            self._to_sweep = list(self._expires)
        now = self.wall_ms()
        for key in self._to_sweep[-SWEEP_AT_ONCE:]:
            if self._expires.get(key, now + 1) <= now:
                self._drop(key)
        del self._to_sweep[-SWEEP_AT_ONCE:]

    def _drop(self, key: bytes) -> bool:
        self._expires.pop(key, None)
        # A key is of one kind at a time.
        return any(holder.pop(key, None) is not None for holder in self._holders)

    @property
    def _holders(
        self,
    ) -> tuple[dict[bytes, Any], ...]:
        return self._hashes, self._sorted, self._texts

    def _hash(self, key: bytes) -> dict[bytes, bytes] | None:
        found = self._hashes.get(key)
        if found is not None and key in self._expires and self._expires[key] <= self.wall_ms():
            self._drop(key)
            return None
        return found

    # -- hashes

    def _do_hget(self, key: bytes, field: bytes) -> bytes | None:
        found = self._hash(key)
        return None if found is None else found.get(field)

    def _do_hmget(self, key: bytes, *fields: bytes) -> list[bytes | None]:
        found = self._hash(key) or {}
        return [found.get(field) for field in fields]

    def _do_hgetall(self, key: bytes) -> list[bytes | None]:
        flat: list[bytes | None] = []
        for pair in (self._hash(key) or {}).items():
            flat += pair
        return flat

    def _do_hkeys(self, key: bytes) -> list[bytes | None]:
        return [*(self._hash(key) or {})]

    def _do_hlen(self, key: bytes) -> int:
        return len(self._hash(key) or {})

    def _do_hset(self, key: bytes, *pairs: bytes) -> int:
        if not pairs or len(pairs) % 2:
            raise WrongCommand("ERR wrong number of arguments for 'hset' command")
        found = self._hash(key)
        if found is None:
            found = self._hashes[key] = {}
        before = len(found)
        for at in range(0, len(pairs), 2):
            found[pairs[at]] = pairs[at + 1]
        return len(found) - before

    def _do_hsetnx(self, key: bytes, field: bytes, value: bytes) -> int:
        found = self._hash(key)
        return 0 if found is not None and field in found else self._do_hset(key, field, value)

    def _do_hdel(self, key: bytes, *fields: bytes) -> int:
        found = self._hash(key)
        if found is None:
            return 0
        gone = sum([found.pop(field, None) is not None for field in fields])
        if not found:
            self._drop(key)
        return gone

    def _do_hincrby(self, key: bytes, field: bytes, amount: bytes) -> int:
        found = self._hash(key)
        if found is None:
            found = self._hashes[key] = {}
        total = int(found.get(field, 0)) + int(amount)
        found[field] = b"%d" % total
        return total

    # -- sorted sets; short ones, looked through as a whole

    def _do_zadd(self, key: bytes, score: bytes, member: bytes) -> int:
        members = self._sorted.setdefault(key, {})
        before = len(members)
        members[member] = float(score)
        return len(members) - before

    def _do_zrem(self, key: bytes, *names: bytes) -> int:
        members = self._sorted.get(key, {})
        gone = sum([members.pop(name, None) is not None for name in names])
        if not members:
            self._sorted.pop(key, None)
        return gone

    def _do_zrangebyscore(
        self, key: bytes, low: bytes, high: bytes, _: bytes, first: bytes, most: bytes
    ) -> list[bytes | None]:
        least, largest = float(low), float(high)
        found = sorted(
            (score, member)
            for member, score in self._sorted.get(key, {}).items()
            if least <= score <= largest
        )
        return [member for _, member in found[int(first) : int(first) + int(most)]]

    # -- texts

    def _do_get(self, key: bytes) -> bytes | None:
        if self._expires.get(key, 1 << 62) <= self.wall_ms():
            self._drop(key)
        return self._texts.get(key)

    def _do_set(self, key: bytes, value: bytes, *options: bytes) -> bytes | None:
        if b"NX" in options and self._do_get(key) is not None:
            return None
        self._drop(key)
        self._texts[key] = value
        if b"PX" in options:
            self._expires[key] = self.wall_ms() + int(options[options.index(b"PX") + 1])
        return b"OK"

    # -- keys

    def _do_del(self, *keys: bytes) -> int:
        return sum([self._drop(key) for key in keys])

    def _do_pexpire(self, key: bytes, milliseconds: bytes) -> int:
        return self._do_pexpireat(key, b"%d" % (self.wall_ms() + int(milliseconds)))

    def _do_pexpireat(self, key: bytes, at_ms: bytes) -> int:
        if not any(key in holder for holder in self._holders):
            return 0
        self._expires[key] = int(at_ms)
        return 1

    def _do_dbsize(self) -> int:
        return sum(len(holder) for holder in self._holders)

    def _do_flushall(self) -> bytes:
        for holder in self.kept:
            holder.clear()
        return b"OK"

    def _do_time(self) -> list[bytes | None]:
        now = self.wall_ms()
        return [b"%d" % (now // 1000), b"%d" % (now % 1000 * 1000)]

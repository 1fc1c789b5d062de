"""Answers in this process: within a bound of bytes, those leave that are expected to save least.

What an answer is expected to save in a second: its cost, times how often it was asked for, fading by half
with each :data:`HALF_LIFE_S` since the last time (a forgetting curve, Ebbinghaus 1885), for each byte that
it takes. Of a handful drawn by lot the worst leaves, as in Redis' approximated LRU: no heap is kept, and
a look-up costs one dictionary access.
"""

import random
from collections.abc import Callable
from typing import Final

from sidecar.cache.entry import Entry
from sidecar.cache.key import Key

HALF_LIFE_S: Final = 120.0
"""Chosen on recorded calls (``tests/bench/retention.py``): with 900 s a large room loses to plain LRU."""
DRAWN: Final = 24
"""Answers that are compared when one must leave."""


class MemoryStore:
    """Keeps answers up to ``room`` bytes.

    Args:
        by_value: whether the answer leaves that saves least; else the one not used longest.
    """

    def __init__(self, room: int, *, by_value: bool = True, seed: int | None = None) -> None:
        self.room = room
        self._by_value = by_value
        self._entries: dict[Key, Entry] = {}
        self._keys: list[Key] = []
        self._places: dict[Key, int] = {}
        self._random = random.Random(seed)  # noqa: S311 - which answers are compared is no secret
        self.size = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Entry | None:
        """The answer kept under ``key``, unless its time is over."""
        entry = self._entries.get(key)
        if entry is not None and entry.expires_at <= now:
            self.remove(key)
            return None
        return entry

    def put(self, key: Key, entry: Entry) -> None:
        """Keep ``entry``; others leave for it."""
        self.remove(key)
        if entry.size > self.room // 4:
            return
        while self.size + entry.size > self.room:
            self.evicted += 1
            self.remove(self._worst(entry.stored_at))
        self._entries[key] = entry
        self._places[key] = len(self._keys)
        self._keys.append(key)
        self.size += entry.size

    def remove(self, key: Key) -> None:
        """Forget what is kept under ``key``."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        self.size -= entry.size
        place, last = self._places.pop(key), self._keys.pop()
        if last != key:
            self._keys[place] = last
            self._places[last] = place

    def purge(self, fits: Callable[[Entry], bool]) -> list[Key]:
        """Forget every answer that ``fits``; which there were."""
        gone = [key for key, entry in self._entries.items() if fits(entry)]
        for key in gone:
            self.remove(key)
        return gone

    def _worst(self, now: float) -> Key:
        keys = self._keys
        drawn = keys if len(keys) <= DRAWN else self._random.choices(keys, k=DRAWN)
        if self._by_value:
            return min(drawn, key=lambda key: value_of(self._entries[key], now))
        return min(drawn, key=lambda key: self._entries[key].last_asked_at)


def value_of(entry: Entry, now: float) -> float:
    """What a byte of ``entry`` is expected to save; comparable between answers at one time only."""
    if entry.expires_at <= now:
        return -1.0
    faded: float = 0.5 ** (max(0.0, now - entry.last_asked_at) / HALF_LIFE_S)
    return (entry.cost_pico + 1) * (entry.hits + 1) * faded / entry.size

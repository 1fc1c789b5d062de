"""One coarse timer for all deadlines of a server or a pool.

A timer for each request costs microseconds to set and to cancel, and nearly
never fires. So a connection only notes when something began, and is asked a few
times a second whether it has waited too long.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

Clock = Callable[[], int]
"""Monotonic nanoseconds."""

_LONGEST_TICK_S = 0.5
_SHORTEST_TICK_S = 0.005
CHECKED_AT_ONCE = 256
"""Members checked in one go, which takes a fraction of a millisecond; the loop then looks at its sockets."""
_BETWEEN_S = 0.001


class Watched(Protocol):
    """Something with deadlines."""

    def check(self, now_ns: int) -> None:
        """Act on any deadline that has passed."""


def tick_for(deadlines_s: Iterable[float]) -> float:
    """Seconds between two sweeps that keep the shortest deadline within a quarter of its length."""
    return max(_SHORTEST_TICK_S, min(_LONGEST_TICK_S, min(deadlines_s) / 4))


class Sweep:
    """Checks its members every ``tick_s`` seconds, some at a time; asleep while it has none."""

    __slots__ = ("_clock", "_handle", "_loop", "_members", "_round", "_tick_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock, tick_s: float) -> None:
        self._loop = loop
        self._clock = clock
        self._tick_s = tick_s
        self._members: set[Watched] = set()
        self._round: list[Watched] = []  # those still to be checked this time
        self._handle: asyncio.TimerHandle | None = None

    def add(self, member: Watched) -> None:
        """Check ``member`` from now on."""
        self._members.add(member)
        if self._handle is None:
            self._handle = self._loop.call_later(self._tick_s, self._run)

    def discard(self, member: Watched) -> None:
        """Check ``member`` no more."""
        self._members.discard(member)

    def _run(self) -> None:
        self._handle = None
        members, left = self._members, self._round or list(self._members)
        now_ns = self._clock()
        for member in left[-CHECKED_AT_ONCE:]:
            if member in members:
                member.check(now_ns)
        del left[-CHECKED_AT_ONCE:]
        self._round = left
        if left or members:
            self._handle = self._loop.call_later(_BETWEEN_S if left else self._tick_s, self._run)

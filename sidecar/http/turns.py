"""Many requests at once are begun a few at a time, so that those under way go on in between.

The loop hands over all that its sockets hold before it looks at them again. A hundred requests that come
together would all be begun before the first answer to one of them is read, and every stream that runs
would stand still as long.

How few: what is begun together leaves together, behind one write to the journal, and the more the cheaper;
but the first of them waits for the last. So a burst in the quiet begins with few, whose answers then pass
before the others are begun, and as long as more have come than were begun, half as many again are begun.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 32
"""A millisecond and a half of beginning calls.

With 8 the processor had a quarter more to do for each call of 64 connections, and of a thousand streams one
chunk in a hundred was 1.4 ms late instead of 4.5.
"""
FEW_AT_ONCE: Final = 4
"""How many are begun at once after a while of quiet."""
QUIET_NS: Final = 15_000_000
"""Without a request for so long it is quiet."""


def few_of(before: int, most: int) -> int:
    """How many are taken on at once after ``before`` of the same burst; no more than ``most``."""
    return max(FEW_AT_ONCE, min(before // 2, most))


class Turns:
    """Runs what begins a request: at once, or after the loop has looked at its sockets again."""

    __slots__ = ("_before", "_begun", "_last_ns", "_loop", "_most", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._begun = 0  # at once, of those in
        self._before = 0  # this burst
        self._most = FEW_AT_ONCE
        self._last_ns = 0
        self._waiting: deque[Callable[[], None]] = deque()

    @property
    def crowded(self) -> bool:
        """Whether as many are begun at once as ever: what they cost counts for more than when they leave."""
        return self._most == MOST_AT_ONCE

    def take(self, begin: Callable[[], None], now_ns: int) -> None:
        """Call ``begin`` now if few were begun of late, else when those before it have been.

        ``now_ns``: monotonic.
        """
        if self._begun < self._most and now_ns - self._last_ns > QUIET_NS:
            self._most = FEW_AT_ONCE
            self._begun = self._before = 0
        self._last_ns = now_ns
        if self._begun >= self._most:
            self._waiting.append(begin)
            return
        self._note()
        begin()

    def _note(self) -> None:
        self._begun += 1
        if self._begun == self._most:
            self._loop.call_soon(self._look_first)

    def _look_first(self) -> None:
        # What this turn reads goes before, and what the next one reads of those just begun too.
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._before += self._begun
        self._begun = 0
        waiting = self._waiting
        if waiting:
            self._most = few_of(self._before, MOST_AT_ONCE)
        while waiting and self._begun < self._most:
            self._note()
            waiting.popleft()()


class Endings:
    """Runs what ends a stream after the requests that have come by then were begun, a few in a turn.

    What is left of an end is bookkeeping: who asks waits for more.
    """

    __slots__ = ("_loop", "_most", "_waiting")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._most = FEW_AT_ONCE
        self._waiting: deque[Callable[[], None]] = deque()

    def take(self, end: Callable[[], None]) -> None:
        """Call ``end`` in the next turn of the loop, or in one of those after it."""
        if not self._waiting:
            self._loop.call_soon(self._look_first)
        self._waiting.append(end)

    def _look_first(self) -> None:
        self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        waiting = self._waiting
        for _ in range(min(self._most, len(waiting))):
            try:
                waiting.popleft()()
            except Exception:  # The others have nothing to do with it.
                logger.exception("a stream could not be ended")
        if waiting:
            self._most = min(2 * self._most, MOST_AT_ONCE)
            self._loop.call_soon(self._look_first)
        else:
            self._most = FEW_AT_ONCE

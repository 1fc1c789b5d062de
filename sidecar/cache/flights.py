"""Identical calls in the air: one asks, the others wait for its answer.

When the one that asks leaves before its answer is there, one of the others asks in its place. When its
answer cannot be given to others (an error, a cut, a refusal by a budget of its own), waiting longer is no
use: all of them go on by themselves, as if there were no cache.
"""

import asyncio
from collections import deque

from sidecar.cache.entry import Entry
from sidecar.cache.key import Key


class Flight:
    """One call that asks, and those who wait."""

    def __init__(self, flights: "Flights", key: Key) -> None:
        self._flights = flights
        self._key = key
        self.waiting: deque[asyncio.Future[Entry | Flight | None]] = deque()
        self._ended = False

    async def wait(self, timeout_s: float) -> "Entry | Flight | None":
        """The answer; or this flight, to be led from now on; or None to go on alone."""
        future: asyncio.Future[Entry | Flight | None] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            if future.done() and not future.cancelled() and future.result() is self:
                return self
            return None
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.result() is self:
                self.left()  # It had just been made the one that asks.
            raise

    def landed(self, entry: Entry | None) -> None:
        """The call has ended; ``entry`` is its answer, None when others cannot have it."""
        if self._ended:
            return
        self._ended = True
        self._flights.forget(self._key, self)
        for future in self.waiting:
            if not future.done():
                future.set_result(entry)
        self.waiting.clear()

    def left(self) -> None:
        """Whoever asked has left before the answer; the next one asks."""
        while self.waiting and not self._ended:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(self)
                return
        self.landed(None)


class Flights:
    """The calls in the air, by key."""

    def __init__(self) -> None:
        self._flying: dict[Key, Flight] = {}

    def __len__(self) -> int:
        return len(self._flying)

    def of(self, key: Key) -> Flight | None:
        """The flight to wait for."""
        return self._flying.get(key)

    def begin(self, key: Key) -> Flight:
        """A new flight; the caller asks."""
        flight = self._flying[key] = Flight(self, key)
        return flight

    def forget(self, key: Key, flight: Flight) -> None:
        """It has landed."""
        if self._flying.get(key) is flight:
            del self._flying[key]

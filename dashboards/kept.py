"""Answers that are kept for a while, shared by all readers of the process; and the last good ones."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

Body = tuple[bytes, datetime]
"""An Arrow stream, and when it was given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """An answer, or the promise of one, and until when it serves."""

    body: Future[Body]
    until: float


class Answers:
    """Answers by what was asked; of those who ask the same at once, one asks.

    Args:
        most: answers that are kept; the oldest go first.
        clock: monotonic seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._kept: OrderedDict[Hashable, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def claim(self, asked: Sequence[tuple[Hashable, float]]) -> tuple[list[Future[Body]], list[int]]:
        """The answers, kept or promised, and the places of those that the caller has to bring.

        Args:
            asked: what, and for how many seconds its answer will serve.
        """
        found, mine, now = [], [], self._clock()
        with self._lock:
            for place, (key, lasts_s) in enumerate(asked):
                kept = self._kept.get(key)
                if kept is None or kept.until <= now:
                    kept = Kept(body=Future(), until=now + lasts_s)
                    self._kept[key] = kept
                    self._kept.move_to_end(key)
                    mine.append(place)
                found.append(kept.body)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found, mine

    def drop(self, key: Hashable, body: Future[Body]) -> None:
        """Forget an answer that did not come, so that the next reader asks again."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and kept.body is body:
                del self._kept[key]

    def clear(self) -> None:
        """Forget everything; what is being asked for still reaches those who wait for it."""
        with self._lock:
            self._kept.clear()


class LastGood:
    """The last good answers, by who asked whom for what, apart from the moving window; bounded.

    Args:
        most: answers.
        most_bytes: of all of them; a quarter of it is the most of one.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._answers: OrderedDict[Hashable, Body] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Body | None:
        """The last good answer."""
        with self._lock:
            return self._answers.get(key)

    def put(self, key: Hashable, body: bytes, answered_at: datetime) -> None:
        """Remember an answer in place of the one before."""
        if len(body) > self._most_bytes // 4:
            return
        with self._lock:
            replaced = self._answers.pop(key, None)
            self._answers[key] = (body, answered_at)
            self._bytes += len(body) - (len(replaced[0]) if replaced else 0)
            while len(self._answers) > self._most or self._bytes > self._most_bytes:
                _, (dropped, _) = self._answers.popitem(last=False)
                self._bytes -= len(dropped)

"""Newer prices into the ledger: sidecars charge by them, and each of their records names their version.

What sidecars of this machine have read is taken as they leave it, and the same source is read as well, for
those elsewhere. It is written to the ledger's table of prices whenever it is new, so that a bill can be shown
line by line whatever prices it was made with.
"""

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from collector import logs
from collector.ingest.books import Books
from collector.memory import give_back_memory
from collector.pricing.table import InvalidTable
from collector.store import prices
from collector.store.duckdb import DatabaseError, StoreError

_log = logs.get("collector.prices")
_SOON_S = 1.0
"""Between two looks at what sidecars have left."""


class PriceSource(NamedTuple):
    """Where newer prices are, and how often to look."""

    address: str
    every_s: float


@contextlib.contextmanager
def removed(path: Path) -> Iterator[None]:
    """Remove what has been taken, and what never can be; keep what only the ledger could not take now."""
    try:
        yield
    except InvalidTable:
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


class PriceWatch:
    """Reads a source of prices again and again, and what the sidecars of this machine have read of it.

    Args:
        source: where they are.
        configured: prices that win, USD per million tokens by model.
        books: the ledger's, None while it is not open.
        data_dir: where sidecars leave what they price by.
        stop: set to end.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        source: PriceSource,
        configured: Mapping[str, Mapping[str, Decimal]],
        books: Callable[[], Books | None],
        data_dir: Path,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._configured = configured
        self._books = books
        self._data_dir = data_dir
        self._stop = stop
        self._clock = clock
        self._due = 0.0
        self._seen = b""

    def run(self) -> None:
        """The thread's work."""
        while not self._stop.wait(_SOON_S):
            self.look()

    def look(self) -> bool:
        """Take what is new; whether the ledger was open for it."""
        from collector.pricing.refresh import fetch, left_prices

        books = self._books()
        if books is None:
            return False
        try:
            for path, day in left_prices(self._data_dir):
                with removed(path):
                    self._take(books, path.read_bytes(), day)
            if self._clock() >= self._due:
                self._due = self._clock() + self._source.every_s
                self._take(books, fetch(self._source.address), datetime.now(UTC).date())
        except (OSError, ValueError, StoreError, DatabaseError) as error:
            _log.warning("newer prices are not in the ledger", reason=str(error)[:200])
        return True

    def _take(self, books: Books, data: bytes, day: date) -> None:
        from collector.pricing.book import PriceBook
        from collector.pricing.refresh import load_overlay

        digest = hashlib.blake2b(data, person=day.isoformat().encode()).digest()
        if digest == self._seen:
            return
        base = PriceBook.load(self._configured)
        book = load_overlay(base, data, self._source.address, day)
        rows = prices.remember(books.database, time.time_ns() // 1000, book=book)
        self._seen = digest
        if rows:
            _log.info("newer prices are in the ledger", version=book.version, rows=rows)
        give_back_memory()

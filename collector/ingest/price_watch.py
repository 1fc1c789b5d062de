"""Newer prices into the ledger: sidecars charge by them, and each of their records names their version.

The same source is read as the sidecars read, and what it says is written to the ledger's table of prices
whenever that is new, so that a bill can be shown line by line whatever prices it was made with.
"""

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from collector import logs
from collector.ingest.books import Books
from collector.ingest.memory import give_back_memory
from collector.store import prices
from collector.store.duckdb import DatabaseError, StoreError

_log = logs.get("collector.prices")
_SOON_S = 1.0
"""Until the ledger is looked for again, where it is not open."""


class PriceSource(NamedTuple):
    """Where newer prices are, and how often to look."""

    address: str
    every_s: float


class PriceWatch:
    """Reads a source of prices again and again.

    Args:
        source: where they are.
        configured: prices that win, USD per million tokens by model.
        books: the ledger's, None while it is not open.
        stop: set to end.
    """

    def __init__(
        self,
        source: PriceSource,
        configured: Mapping[str, Mapping[str, Decimal]],
        books: Callable[[], Books | None],
        stop: threading.Event,
    ) -> None:
        self._source = source
        self._configured = configured
        self._books = books
        self._stop = stop
        self._seen = b""

    def run(self) -> None:
        """The thread's work."""
        pause_s = 0.0
        while not self._stop.wait(pause_s):
            pause_s = self._source.every_s if self.look() else _SOON_S

    def look(self) -> bool:
        """Take what is new; whether there is nothing to do before the next time."""
        from collector.pricing.book import PriceBook
        from collector.pricing.refresh import fetch, load_overlay

        books = self._books()
        if books is None:
            return False
        address = self._source.address
        try:
            data = fetch(address)
            digest = hashlib.blake2b(data).digest()
            if digest == self._seen:
                return True
            base = PriceBook.load(self._configured)
            book = load_overlay(base, data, address, datetime.now(UTC).date())
            rows = prices.remember(books.database, time.time_ns() // 1000, book=book)
        except (OSError, ValueError, StoreError, DatabaseError) as error:
            _log.warning("newer prices are not in the ledger", reason=str(error)[:200])
            return True
        self._seen = digest
        if rows:
            _log.info("newer prices are in the ledger", version=book.version, rows=rows)
        give_back_memory()
        return True

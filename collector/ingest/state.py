"""What the collector process is doing at this moment, shared by its threads and its API."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from collector.ingest.books import Books
from collector.ingest.follower import Follower
from collector.store.reader import LedgerReader
from collector.store.snapshot import Publisher

if TYPE_CHECKING:
    from prometheus_client.registry import Collector


@dataclass(slots=True)
class Ledger:
    """An open ledger and those who work on it."""

    books: Books
    reader: LedgerReader
    follower: Follower
    publisher: Publisher


@dataclass(slots=True)
class State:
    """The process."""

    data_dir: Path
    ledger: Ledger | None = None
    """None while the database cannot be opened."""
    trouble: str = "starting"
    """Why it is not ready; empty when it is."""
    rebuilds: int = 0
    """Databases that were set aside since the process started."""
    _began: float = field(default_factory=time.monotonic)
    measured: list["Collector"] = field(default_factory=list)
    """Others of the process that have metrics."""
    told: list[Callable[[], str]] = field(default_factory=list)
    """Others of the process that write the text of their metrics themselves."""

    @property
    def snapshot(self) -> Path:
        """The published copy."""
        return self.data_dir / "snapshot.duckdb"

    def books(self) -> Books | None:
        """The ledger's writer; None while it is not open."""
        ledger = self.ledger
        return ledger.books if ledger is not None else None

    def lag_s(self) -> float:
        """How long the oldest journal frame that is not booked has been waiting."""
        if self.ledger is None:
            return self.uptime_s()
        return self.ledger.follower.lag_s()

    def uptime_s(self) -> float:
        """Since the process started."""
        return time.monotonic() - self._began

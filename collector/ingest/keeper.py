"""The thread that keeps the books: opens the ledger, follows the journal, tidies up.

It never gives up. A database held by somebody else, a full disk, a damaged file: each is
waited for or repaired, the reason is on `/readyz` and in the log, and the journal keeps what
comes in meanwhile.
"""

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from collector import logs
from collector.ingest.archive import ArchiveConfig
from collector.ingest.archive import let_go as let_go_of_segments
from collector.ingest.books import Books
from collector.ingest.entry import RecordSink
from collector.ingest.follower import Follower, FollowerConfig
from collector.ingest.state import Ledger, State
from collector.memory import give_back_memory
from collector.store import prices, retention
from collector.store.duckdb import (
    CHECKPOINT_BYTES,
    ROW_GROUP,
    DatabaseConfig,
    DatabaseDamaged,
    DatabaseError,
    StoreError,
    told_apart,
)
from collector.store.opening import open_ledger
from collector.store.reader import LedgerReader
from collector.store.snapshot import Publisher

_log = logs.get("collector.keeper")

_PATIENCE = 5
"""Few records wait this many commit intervals: a commit costs as much as booking four hundred calls."""
_SUMS_INTERVAL_S = 30.0
_PRICES_INTERVAL_S = 5.0
_TIDY_INTERVAL_S = 60.0
_RETENTION_INTERVAL_S = 3600.0
_IDLE_CHECKPOINT_S = 10.0
_LONGEST_UNFOLDED_S = 60.0
"""No calls come in, and others still write now and then: what they wrote waits for a minute at most.

A burst of calls is judged for some time after it, and each checkpoint writes the last rows of a table anew.
"""
_LONGEST_RETRY_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperConfig:
    """How the books are kept."""

    data_dir: Path
    commit_interval_s: float = 1.0
    """Between two commits while many records come in; while few do, and nobody asks, it is longer."""
    snapshot_interval_s: float = 60.0
    retention_s: float = 90 * 86_400.0
    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    follower: FollowerConfig = field(default_factory=FollowerConfig)
    database: DatabaseConfig = field(default_factory=DatabaseConfig)
    prices: Mapping[str, Mapping[str, Decimal]] = field(default_factory=dict)
    """What the configuration says that models cost: USD per million tokens, by model."""
    changed_prices: Callable[[], Mapping[str, Mapping[str, Decimal]] | None] = lambda: None
    """Asked now and then: what the configuration says now, where it has changed since it was asked last."""


class Keeper:
    """Keeps the books of ``config.data_dir`` until told to stop.

    Args:
        config: where and how.
        state: told of everything that others want to know.
        stop: set to end; what was read by then is committed.
        on_records: shown every batch of records; see `collector.ingest.entry.RecordSink`.
    """

    def __init__(
        self,
        config: KeeperConfig,
        state: State,
        stop: threading.Event,
        on_records: RecordSink | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._state = state
        self._stop = stop
        self._on_records = on_records
        self._clock = clock
        self._journal = config.data_dir / "journal"
        self._health = logs.StateLog(_log, "the ledger", good="open")
        self._summed_at = float("-inf")
        self._priced_at = float("-inf")
        self._prices = config.prices
        self._tidied_at = float("-inf")
        self._retained_at = float("-inf")
        self._busy_at = self._committed_at = self._folded_at = clock()
        self._commits = 0
        self._checkpoints = -1
        self._calls_folded = 0  # booked, as `Counts` counts them, when the last checkpoint was made
        self._snapshots: threading.Thread | None = None
        self._publishing = threading.Event()

    def run(self) -> None:
        """The thread's work."""
        self._snapshots = threading.Thread(target=self._publish, name="snapshots", daemon=True)
        self._snapshots.start()
        suspect, retry_s = False, 0.5
        while not self._stop.is_set():
            try:
                if self._state.ledger is None:
                    self._open(suspect)
                    suspect = False
                more = self._work()
                self._set_trouble("")
            except StoreError as error:
                self._set_trouble(str(error))
                if isinstance(error, DatabaseDamaged):
                    suspect = True
                    self._close()
            except OSError as error:
                self._set_trouble(f"{type(error).__name__}: {error.strerror}")
            except Exception as error:  # Whatever nobody thought of: the books are kept on, and it is told.
                self._set_trouble(f"{type(error).__name__}: {str(error)[:200]}")
                _log.error("a round of book-keeping failed", failure=error)
            else:
                retry_s = 0.5
                if not more:
                    self._stop.wait(self._pause_s())
                continue
            self._stop.wait(retry_s)
            retry_s = min(_LONGEST_RETRY_S, retry_s * 2)
        self._end()

    # -- the ledger's life

    def _open(self, suspect: bool) -> None:
        opened = open_ledger(self._config.data_dir, self._config.database, suspect=suspect)
        self._state.rebuilds += len(opened.set_aside)
        try:
            books = Books(opened.database, on_records=self._on_records)
            if opened.set_aside:
                books.write(
                    "INSERT INTO quarantined VALUES (make_timestamp($1), '', 'rebuilt', $2, 0)",
                    [[time.time_ns() // 1000, reason[:500]] for reason in opened.set_aside],
                )
            prices.remember(opened.database, time.time_ns() // 1000, configured=self._prices)
        except DatabaseError as error:
            opened.database.close()
            raise told_apart(error, opened.database.path) from error
        except BaseException:
            opened.database.close()
            raise
        self._checkpoints = -1
        self._state.ledger = Ledger(
            books=books,
            reader=LedgerReader(opened.database),
            follower=Follower(self._journal, books, self._paced()),
            publisher=Publisher(opened.database, self._state.snapshot, self._config.snapshot_interval_s),
        )
        give_back_memory()
        _log.info("the ledger is open", size_bytes=opened.database.size_bytes, count=len(books.marks))

    def _paced(self) -> FollowerConfig:
        interval_s = self._config.commit_interval_s
        return replace(self._config.follower, patience_s=_PATIENCE * interval_s, fresh_s=interval_s)

    def _close(self) -> None:
        ledger, self._state.ledger = self._state.ledger, None
        if ledger is not None:
            with ledger.books.database.turn:
                ledger.books.database.close()

    def _set_trouble(self, reason: str) -> None:
        self._state.trouble = reason
        self._health.enter(reason or "open")

    # -- one round

    def _work(self) -> bool:
        """Book what is new and tidy up a little; whether there is more to do at once."""
        ledger = self._state.ledger
        assert ledger is not None
        now = self._clock()
        known = ledger.books.counts.calls
        taken = ledger.follower.step() if ledger.follower.due() else 0
        if taken:
            self._busy_at = now
        self._checkpoint(ledger, now, ledger.books.counts.calls - known)
        lags = ledger.follower.lag.values()
        # What waits and cannot be read is no reason to hurry.
        more = taken > 0 and any(lag.bytes > self._config.follower.step_bytes for lag in lags)
        if not more and now - self._summed_at >= _SUMS_INTERVAL_S:
            # One step at a time, so that the sums of a long absence do not hold up the journal.
            more = ledger.books.advance_rollups()
            if not more:
                self._summed_at = now
        if not more and now - self._priced_at >= _PRICES_INTERVAL_S:
            self._look_at_prices(ledger, now)
        if not more and now - self._tidied_at >= _TIDY_INTERVAL_S:
            self._tidy(ledger, now)
        if ledger.publisher.due():
            self._publishing.set()
        return more

    def _pause_s(self) -> float:
        """Until the next round: while little comes in nobody looks often."""
        ledger = self._state.ledger
        busy = ledger is None or ledger.follower.busy
        return self._config.commit_interval_s * (1 if busy else _PATIENCE)

    def _checkpoint(self, ledger: Ledger, now: float, booked: int) -> None:
        database = ledger.books.database
        calls, waiting = ledger.books.counts.calls, database.wal_bytes
        if database.checkpoints != self._checkpoints:  # Others make some too.
            self._checkpoints, self._calls_folded = database.checkpoints, calls - booked
        # The calls of another such step would not all fit, and what is left of them would be merged later.
        full = calls - self._calls_folded + booked > ROW_GROUP
        if database.commits != self._commits:
            self._commits, self._committed_at = database.commits, now
        idle = now - self._busy_at > _IDLE_CHECKPOINT_S and (
            now - self._committed_at > _IDLE_CHECKPOINT_S or now - self._folded_at > _LONGEST_UNFOLDED_S
        )
        if full or waiting > CHECKPOINT_BYTES or (idle and waiting > 0):
            self._folded_at = now
            with database.turn:
                try:
                    database.checkpoint()
                except DatabaseError as error:
                    raise told_apart(error, database.path) from error
            # What waited in memory for the checkpoint is in the file: what held it goes back, 30 MiB.
            give_back_memory()

    def _look_at_prices(self, ledger: Ledger, now: float) -> None:
        self._priced_at = now
        changed = self._config.changed_prices()
        if changed is None:
            return
        self._prices = changed
        try:
            prices.remember(ledger.books.database, time.time_ns() // 1000, configured=changed)
        except DatabaseError as error:
            raise told_apart(error, ledger.books.database.path) from error

    def _tidy(self, ledger: Ledger, now: float) -> None:
        self._tidied_at = now
        let_go_of_segments(self._journal, ledger.books.marks, self._config.archive)
        if now - self._retained_at >= _RETENTION_INTERVAL_S:
            self._retained_at = now
            keep_us = int(self._config.retention_s * 1e6)
            deleted = retention.let_go(ledger.books.database, keep_us, time.time_ns() // 1000)
            if deleted:
                _log.info("old rows were deleted", rows=deleted)

    def _publish(self) -> None:
        """The snapshot thread: a copy takes long, and ingest does not wait for it."""
        while True:
            self._publishing.wait()
            self._publishing.clear()
            if self._stop.is_set():
                return
            ledger = self._state.ledger
            if ledger is None:
                continue
            try:
                ledger.publisher.publish()
            except (OSError, StoreError) as error:
                _log.warning("no snapshot was published", reason=str(error)[:200])

    def _end(self) -> None:
        self._publishing.set()
        ledger = self._state.ledger
        if ledger is not None:
            try:
                ledger.follower.step()
                with ledger.books.database.turn:
                    ledger.books.database.checkpoint()
            except Exception as error:
                _log.warning("the last records will be booked at the next start", reason=str(error)[:200])
        if self._snapshots is not None:
            self._snapshots.join(timeout=5)
        self._state.trouble = "stopped"
        self._close()

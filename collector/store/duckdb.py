"""One DuckDB file, opened so that nothing a query says can reach outside it.

The collector alone opens the live file, with one writer; readers are cursors of the same
process, which see a consistent state and never block it. Checkpoints are ours to time
(`Database.checkpoint`): between two of them the main file does not change, so a copy of it
taken meanwhile is a consistent database.
"""

import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

STORAGE_VERSION = "v1.5.0"
"""Files are written so that every DuckDB since 1.5 reads them."""
ROW_GROUP = 20480
"""At most so many rows stand together. What comes after a checkpoint begins a row group of its own, and the
next checkpoint merges what fits into fewer: to write rows a second time takes five times as long as the
first. With more than three quarters of a row group between two checkpoints nothing fits."""
CHECKPOINT_BYTES = 24 << 20
"""A write-ahead log of this size is folded into the main file, however few rows are in it."""
_LAYOUT = f"STORAGE_VERSION '{STORAGE_VERSION}', ROW_GROUP_SIZE {ROW_GROUP}"
_NEW_LAYOUT = ", BLOCK_SIZE 131072"
"""Eighty columns fill blocks of half the usual size better: a quarter less disk."""

Connection = duckdb.DuckDBPyConnection
Interrupted = duckdb.InterruptException
OutOfMemory = duckdb.OutOfMemoryException
DatabaseError = duckdb.Error
UnfittingValue = (duckdb.DataError, duckdb.InvalidInputException)


class StoreError(Exception):
    """The database cannot be used at this moment.

    StoreError
    ├── DatabaseHeld          another process has it open; it will be let go of
    ├── DatabaseUnavailable   the disk, the rights or our age stand against it, not the file's content
    └── DatabaseDamaged       the file cannot be what was written
    """


class DatabaseHeld(StoreError):
    """Another process has the file open."""

    def __init__(self, path: Path, pid: int | None) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(f"{path.name} is held by {holder}")
        self.pid = pid


class DatabaseUnavailable(StoreError):
    """The file cannot be reached, or a newer program wrote it; nothing says that it is damaged."""


class DatabaseDamaged(StoreError):
    """The file or its log is not what was written."""


_HOLDER = re.compile(r"\(PID (\d+)\)")
_UNAVAILABLE = (
    "No space left",
    "Disk quota",
    "Permission denied",
    "Read-only file system",
    "Too many open files",
    "Input/output error",
    "File too large",
    "storage version greater than the latest",  # Written by a newer DuckDB.
)


def told_apart(error: Exception, path: Path) -> StoreError:
    """What an exception of DuckDB means for the file at ``path``."""
    text = str(error)
    if "already attached" in text:
        return DatabaseHeld(path, os.getpid())
    if "Could not set lock" in text or "Conflicting lock" in text:
        holder = _HOLDER.search(text)
        return DatabaseHeld(path, int(holder[1]) if holder else None)
    if isinstance(error, MemoryError | OutOfMemory) or any(phrase in text for phrase in _UNAVAILABLE):
        return DatabaseUnavailable(text)
    return DatabaseDamaged(f"{type(error).__name__}: {text[:300]}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """What DuckDB may use."""

    memory_limit_bytes: int = 160 << 20
    threads: int = 1
    temp_bytes: int = 2 << 30
    """Disk that queries larger than memory may take, in ``tmp/`` beside the file."""


class Database:
    """An open, locked-down database.

    Raises:
        StoreError: it cannot be opened.
    """

    def __init__(self, path: Path, config: DatabaseConfig | None = None, *, read_only: bool = False) -> None:
        self.path = path
        self.turn = threading.RLock()
        """Held by the thread that uses the writer's connection."""
        self.commits = 0
        self.checkpoints = 0
        self._still = threading.Lock()
        config = config or DatabaseConfig()
        options: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": f"{config.memory_limit_bytes // 1024}KiB",
            "threads": str(config.threads),
            # For reads of remote files; there are none, and eight threads would wait for them.
            "async_threads": "1",
            # What a checkpoint or a question needed goes back to the system within seconds: 35 MiB.
            "allocator_background_threads": "true",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "python_enable_replacements": "false",
            # Only we decide when to checkpoint; see `checkpoint`.
            "checkpoint_threshold": "1TiB",
            "temp_directory": "" if read_only else str(path.parent / "tmp"),
            "max_temp_directory_size": f"{config.temp_bytes // 1024}KiB",
        }
        layout = "READ_ONLY" if read_only else _LAYOUT
        if not read_only and not _size(path):
            # A file keeps the block size that it was made with, and is not opened with another.
            layout += _NEW_LAYOUT
        quoted = str(path).replace("'", "''")
        self.connection: Connection = duckdb.connect(":memory:", config=options)
        try:
            self.connection.execute(f"ATTACH '{quoted}' AS ledger ({layout})")
            self._lock_down()
        except (duckdb.Error, MemoryError, UnicodeDecodeError) as error:
            self.close()
            raise told_apart(error, path) from error
        # Read once: to parse even one word takes DuckDB a tenth of a millisecond.
        words = self.connection.extract_statements("BEGIN; COMMIT; ROLLBACK")
        self._begin, self._commit, self._rollback = words

    def _lock_down(self) -> None:
        self.connection.execute("USE ledger")
        # Python turns it on where the main module has no file (``python -c``): it would draw on our output.
        self.connection.execute("SET enable_progress_bar = false")
        # A big commit would otherwise checkpoint by itself, while the file may be being copied.
        with suppress(duckdb.CatalogException):  # new in DuckDB 2
            self.connection.execute("SET auto_checkpoint_skip_wal_threshold = 1000000000000")
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")

    def reader(self) -> Connection:
        """A connection for one thread's queries. Close it."""
        cursor = self.connection.cursor()
        cursor.execute("USE ledger")
        return cursor

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """All or nothing, on the writer's connection."""
        self.connection.execute(self._begin)
        try:
            yield self.connection
            self.connection.execute(self._commit)
            self.commits += 1
        except BaseException:
            with suppress(duckdb.Error):
                self.connection.execute(self._rollback)
            raise

    @property
    def wal_path(self) -> Path:
        """The write-ahead log."""
        return self.path.with_name(self.path.name + ".wal")

    @property
    def wal_bytes(self) -> int:
        """Size of the write-ahead log."""
        return _size(self.wal_path)

    @property
    def size_bytes(self) -> int:
        """Disk that the database takes."""
        return _size(self.path) + self.wal_bytes

    def checkpoint(self) -> bool:
        """Fold the log into the main file; False where a transaction or a copy stands against it."""
        if not self._still.acquire(blocking=False):
            return False
        try:
            self.connection.execute("CHECKPOINT")
            self.checkpoints += 1
        except duckdb.TransactionException:
            return False
        finally:
            self._still.release()
        return True

    @contextmanager
    def held_still(self) -> Iterator[None]:
        """The main file does not change meanwhile: commits go to the log, checkpoints wait."""
        with self._still:
            yield

    def verify(self) -> None:
        """Read every block of every table.

        Raises:
            DatabaseDamaged: one of them is not what was written.
        """
        try:
            # One without rows has no blocks; planning to read it would take as long as a small one does.
            names = self.connection.execute(
                "SELECT table_name FROM duckdb_tables() WHERE database_name = 'ledger' AND estimated_size > 0"
            ).fetchall()
            for (name,) in names:
                self.connection.execute(f'SELECT bit_xor(hash(t)) FROM "{name}" t').fetchall()  # noqa: S608
        except duckdb.Error as error:
            raise told_apart(error, self.path) from error

    def close(self) -> None:
        """Let go of the file. What was committed stays, in the file or its log."""
        with suppress(duckdb.Error):
            self.connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


class Interrupt:
    """Interrupts a connection's query when the time is up; use as a context.

    An interrupt between two statements has no effect, so it is repeated until the context ends.
    """

    def __init__(self, connection: Connection, seconds: float) -> None:
        self.fired = False
        self._connection = connection
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="interrupt", daemon=True)

    def _watch(self) -> None:
        pause = self._seconds
        while not self._over.wait(pause):
            self.fired = True
            self._connection.interrupt()
            pause = 0.02

    def __enter__(self) -> "Interrupt":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


# DuckDB advises `sql`, which spares a copy of the rows. That plans a statement twice: once for the relation
# that it returns, once to run it; and answers are so short that planning is what they take.
warnings.filterwarnings("ignore", "Arrow output on a DB-API result", UserWarning)


def arrow_table(connection: Connection, sql: str, arguments: dict[str, Any] | list[Any]) -> Any:
    """The result of one SELECT as a pyarrow table."""
    return connection.execute(sql, arguments).to_arrow_table()

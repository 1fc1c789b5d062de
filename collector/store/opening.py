"""Starting without a human: whatever state the files are in, the collector ends up with books.

1. The lock file: one collector a data folder.
2. Open. Held by another process, no disk, or written by a newer program: the caller tries again later.
3. Damaged with a write-ahead log: set the log aside and open without it. What it held comes
   back from the journal, because the marks went back with it.
4. Still damaged: set the database aside, begin from the published snapshot, else from nothing;
   the journal's segments, kept for a day, bring back the rest.
"""

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from collector import logs
from collector.store.duckdb import (
    Database,
    DatabaseConfig,
    DatabaseDamaged,
    DatabaseError,
    DatabaseUnavailable,
    told_apart,
)
from collector.store.migrate import SchemaTooNew, migrate

LIVE = "bursar.duckdb"
SNAPSHOT = "snapshot.duckdb"
QUARANTINE = "quarantine"
_QUARANTINED_KEPT = 6
_VERIFIED_WHOLE_BYTES = 128 << 20
"""Files up to this size are read whole at start (about a second)."""

_log = logs.get("collector.store")


class AlreadyRunning(Exception):
    """Another collector owns this data folder."""


class FolderLock:
    """Held while a collector runs; the kernel lets go of it when the process ends, however it ends.

    Raises:
        AlreadyRunning: another process holds it.
    """

    def __init__(self, data_dir: Path) -> None:
        data_dir.mkdir(parents=True, exist_ok=True)
        path = data_dir / "collector.lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise AlreadyRunning(
                f"another collector (process {holder}) keeps the books in {data_dir}; this one ends"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another collector start."""
        os.close(self._fd)


@dataclass(slots=True)
class Opened:
    """A database that works, and what it took."""

    database: Database
    set_aside: list[str] = field(default_factory=list)
    """Files that were moved to the quarantine, each with its reason."""
    from_snapshot: bool = False


def open_ledger(
    data_dir: Path,
    config: DatabaseConfig,
    *,
    suspect: bool = False,
    now: Callable[[], float] = time.time,
) -> Opened:
    """The live database at the present schema, rebuilt as far as it must be.

    Args:
        data_dir: the folder; made where it is missing.
        config: memory and threads.
        suspect: damage was met while it was in use: read all of it, however large.
        now: for the names of files set aside.

    Raises:
        DatabaseHeld, DatabaseUnavailable: try again later.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    live = data_dir / LIVE
    wal = live.with_name(live.name + ".wal")
    opened: list[str] = []
    try:
        return Opened(_checked(live, config, suspect))
    except DatabaseDamaged as error:
        reason = str(error)
    if wal.exists():
        opened.append(_set_aside(data_dir, wal, reason, now))
        try:
            return Opened(_checked(live, config, suspect), opened)
        except DatabaseDamaged as error:
            reason = str(error)
    opened.append(_set_aside(data_dir, live, reason, now))
    _remove(wal)
    if (data_dir / SNAPSHOT).exists():
        shutil.copyfile(data_dir / SNAPSHOT, live)
        try:
            return Opened(_checked(live, config, True), opened, from_snapshot=True)
        except DatabaseDamaged as error:
            _log.warning("the snapshot is of no use for the rebuild", reason=str(error))
            _remove(live)
            _remove(wal)
    return Opened(_checked(live, config, False), opened)


def _checked(path: Path, config: DatabaseConfig, whole: bool) -> Database:
    database = Database(path, config)
    try:
        if whole or database.size_bytes <= _VERIFIED_WHOLE_BYTES:
            database.verify()
        migrate(database.connection)
    except DatabaseError as error:
        database.close()
        raise told_apart(error, path) from error
    except SchemaTooNew as error:
        database.close()
        raise DatabaseUnavailable(
            f"{path.name} was written by a newer Bursar, is left as it is, and waits for one: {error}"
        ) from error
    except BaseException:
        database.close()
        raise
    return database


def _set_aside(data_dir: Path, path: Path, reason: str, now: Callable[[], float]) -> str:
    folder = data_dir / QUARANTINE
    folder.mkdir(exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now()))
    target = folder / f"{stamp}-{path.name}"
    serial = 1
    while target.exists():
        serial += 1
        target = folder / f"{stamp}-{serial}-{path.name}"
    path.rename(target)
    kept = sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime)
    for old in kept[:-_QUARANTINED_KEPT]:
        _remove(old)
    _log.error(
        "a damaged database file was set aside; the books are rebuilt", file=target.name, reason=reason
    )
    return f"{path.name}: {reason}"


def _remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        path.unlink()

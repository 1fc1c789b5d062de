"""A published copy of the ledger, for everyone but the collector.

Notebooks and ad-hoc SQL open ``snapshot.duckdb`` read-only; nobody opens the live file, for
a reader would keep the collector from starting. The copy is taken between two checkpoints,
when the main file does not change, so ingest goes on meanwhile; it takes the old one's place
by a rename, so a reader sees one state or the other.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from collector.store.duckdb import Database, DatabaseError, told_apart

_FICLONE = 0x40049409
"""ioctl: share the blocks of another file (Btrfs, XFS), which copies nothing."""
_LARGEST_SHARE = 20
"""A copy is taken at most so often that it takes a twentieth of the time."""


class Publisher:
    """Publishes copies of the ledger.

    Args:
        database: the live one.
        target: where to.
        interval_s: how often, while something changes.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        database: Database,
        target: Path,
        interval_s: float,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.published_at = 0.0
        """Unix time of the last copy; 0 before the first."""
        self.took_s = 0.0
        self._database = database
        self._target = target
        self._interval_s = interval_s
        self._clock = clock
        self._next = float("-inf")
        self._commits = -1

    def due(self) -> bool:
        """Whether it is time for another copy, and there is something new to copy."""
        return self._clock() >= self._next and self._commits != self._database.commits

    def publish(self) -> None:
        """Copy the ledger as it is now.

        Raises:
            StoreError, OSError: the old copy stays.
        """
        started = self._clock()
        database = self._database
        commits = database.commits
        partial = self._target.with_name(self._target.name + ".tmp")
        with database.turn:
            try:
                if not database.checkpoint():
                    self._next = self._clock() + 1
                    return
            except DatabaseError as error:
                raise told_apart(error, database.path) from error
            still = database.held_still()
            still.__enter__()
        try:
            _copy(database.path, partial)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        finally:
            still.__exit__(None, None, None)
        partial.replace(self._target)
        self._commits = commits
        self.took_s = self._clock() - started
        self.published_at = time.time()
        self._next = self._clock() + max(self._interval_s, _LARGEST_SHARE * self.took_s)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as original, target.open("wb") as copy, suppress(OSError):
        fcntl.ioctl(copy.fileno(), _FICLONE, original.fileno())
        return
    shutil.copyfile(source, target)
    with target.open("rb") as copy:
        os.fdatasync(copy.fileno())

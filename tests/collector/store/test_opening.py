"""F07 to F10, F13: the collector starts without a human, whatever state the files are in."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collector.domain.money import usd
from collector.ingest.books import Books
from collector.ingest.follower import Follower, FollowerConfig
from collector.store.duckdb import Database, DatabaseConfig, DatabaseHeld, DatabaseUnavailable
from collector.store.opening import LIVE, QUARANTINE, AlreadyRunning, FolderLock, open_ledger
from collector.store.snapshot import Publisher

ROOT = Path(__file__).resolve().parents[3]
CONFIG = DatabaseConfig(memory_limit_bytes=128 << 20)
CALLS = 400
TOTAL = usd(sum(range(CALLS)))


class Site:
    """A data folder with a journal of `CALLS` calls, the books of which were kept until a kill."""

    def __init__(self, folder: Path, journal_at, call, *, snapshot_after: int | None = None) -> None:
        self.folder = folder
        journal = journal_at(folder / "journal")
        journal.write(*(call(cost=n) for n in range(CALLS)), segment_bytes=40_000)
        opened = open_ledger(folder, CONFIG)
        books = Books(opened.database)
        follower = Follower(folder / "journal", books, FollowerConfig(step_bytes=1))
        steps = 0
        while follower.step():
            steps += 1
            if steps == 1:
                opened.database.checkpoint()
            if steps == snapshot_after:
                Publisher(opened.database, folder / "snapshot.duckdb", 60).publish()
        self.live = folder / LIVE
        self.wal = folder / f"{LIVE}.wal"
        # As a kill leaves them: closing would fold the log into the file.
        killed = {path: path.read_bytes() for path in (self.live, self.wal) if path.exists()}
        opened.database.close()
        self.wal.unlink(missing_ok=True)
        for path, content in killed.items():
            path.write_bytes(content)
        assert steps > 3

    def restart(self) -> tuple[tuple, list[str]]:
        """Open, follow the journal to its end; what the books then say, and what was set aside."""
        opened = open_ledger(self.folder, CONFIG)
        Follower(self.folder / "journal", Books(opened.database)).catch_up()
        found = opened.database.connection.execute(
            "SELECT count(*), count(DISTINCT call_id), sum(effective_cost_usd) FROM calls"
        ).fetchone()
        opened.database.close()
        return found, opened.set_aside


@pytest.fixture
def site(tmp_path, journal_at, call):
    return Site(tmp_path, journal_at, call)


def flip(path: Path, where: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * where)] ^= 0x10
    path.write_bytes(content)


EXACT = (CALLS, CALLS, TOTAL)


def test_after_a_kill_the_log_is_replayed_and_nothing_is_set_aside(site):
    assert site.wal.stat().st_size > 0

    assert site.restart() == (EXACT, [])


@pytest.mark.parametrize("where", [0.02, 0.3, 0.5, 0.9])
def test_a_flipped_bit_in_the_log_costs_the_log_and_the_journal_brings_it_back(site, where):
    flip(site.wal, where)

    found, set_aside = site.restart()

    assert found == EXACT
    assert len(set_aside) <= 1
    assert [path.suffix for path in (site.folder / "quarantine").glob("*")] in ([".wal"], [])


def test_a_log_that_ends_in_zeros_loses_nothing(site):
    with site.wal.open("ab") as log:
        log.write(bytes(5000))

    assert site.restart()[0] == EXACT


@pytest.mark.parametrize("kept", [0.0, 0.4, 0.99])
def test_a_log_that_was_cut_off_loses_nothing(site, kept):
    os.truncate(site.wal, int(site.wal.stat().st_size * kept))

    assert site.restart()[0] == EXACT


def test_a_lost_log_loses_nothing(site):
    site.wal.unlink()

    assert site.restart() == (EXACT, [])


@pytest.mark.parametrize("where", [0.001, 0.2, 0.5, 0.95])
def test_a_flipped_bit_in_the_database_is_found_and_the_books_are_rebuilt_from_the_journal(site, where):
    site.wal.unlink()
    flip(site.live, where)

    found, set_aside = site.restart()

    assert found == EXACT
    # A bit in a free block harms nobody; any other costs the whole file.
    assert [path.name[17:] for path in (site.folder / "quarantine").glob("*")] in ([LIVE], [])
    assert len(set_aside) <= 1


def test_a_database_that_was_cut_off_is_rebuilt(site):
    os.truncate(site.live, site.live.stat().st_size // 2)

    found, set_aside = site.restart()

    assert found == EXACT
    assert set_aside[-1].startswith(f"{LIVE}:")


def test_a_database_that_is_no_database_is_rebuilt(site):
    site.live.write_bytes(b"not a database" * 1000)

    assert site.restart()[0] == EXACT


def test_the_snapshot_is_the_base_of_a_rebuild_when_the_journal_is_gone_that_far(tmp_path, journal_at, call):
    site = Site(tmp_path, journal_at, call, snapshot_after=3)
    database = Database(tmp_path / "snapshot.duckdb", read_only=True)
    ((segment,),) = database.connection.execute("SELECT segment FROM sources").fetchall()
    database.close()
    for path in (tmp_path / "journal").glob("*.seg"):
        if int(path.stem.rpartition("-")[2]) < segment:
            path.unlink()
    os.truncate(site.live, 10_000)

    found, set_aside = site.restart()

    assert segment > 1
    assert found == EXACT
    assert set_aside


def test_a_damaged_snapshot_is_not_used(tmp_path, journal_at, call):
    site = Site(tmp_path, journal_at, call, snapshot_after=3)
    os.truncate(site.live, 10_000)
    (tmp_path / "snapshot.duckdb").write_bytes(b"gone")

    assert site.restart()[0] == EXACT


def test_a_database_with_blocks_of_another_size_is_not_taken_for_damaged(tmp_path, monkeypatch):
    monkeypatch.setattr("collector.store.duckdb._NEW_LAYOUT", ", BLOCK_SIZE 16384")
    open_ledger(tmp_path, CONFIG).database.close()
    monkeypatch.undo()

    opened = open_ledger(tmp_path, CONFIG)

    opened.database.close()
    assert opened.set_aside == []


def test_the_quarantine_does_not_grow_for_ever(site):
    for _ in range(8):
        site.live.write_bytes(b"no database")
        site.wal.unlink(missing_ok=True)
        site.restart()

    assert len(list((site.folder / "quarantine").iterdir())) <= 6


def test_the_second_collector_of_a_folder_is_told_who_has_it(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(AlreadyRunning, match=str(os.getpid())):
        FolderLock(tmp_path)

    lock.release()
    FolderLock(tmp_path).release()


STRAY = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == "ro")
connection.execute("SELECT count(*) FROM calls").fetchall()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("mode", ["ro", "rw"])
def test_a_database_that_a_stray_process_holds_is_not_touched_and_the_holder_is_named(site, mode):
    site.wal.unlink()
    stray = subprocess.Popen(
        [sys.executable, "-c", STRAY, str(site.live), mode], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert stray.stdout.readline() == b"held\n"
        with pytest.raises(DatabaseHeld) as held:
            open_ledger(site.folder, CONFIG)
        assert held.value.pid == stray.pid
        assert not (site.folder / "quarantine").exists()
    finally:
        stray.send_signal(signal.SIGKILL)
        stray.communicate()
    assert site.restart() == (EXACT, [])


WITHOUT_A_FILE = """
import sys
from pathlib import Path
from collector.store.duckdb import Database
database = Database(Path(sys.argv[1]))
print(database.connection.execute("SELECT current_setting('enable_progress_bar')").fetchall())
"""


def test_a_program_without_a_file_of_its_own_draws_no_progress_on_its_output_either(tmp_path):
    words = [sys.executable, "-c", WITHOUT_A_FILE, str(tmp_path / LIVE)]

    said = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    assert said == "[(False,)]\n"


def test_a_ledger_of_a_newer_program_is_left_as_it_is_and_waited_for(site):
    opened = open_ledger(site.folder, CONFIG)
    Follower(site.folder / "journal", Books(opened.database)).catch_up()
    opened.database.connection.execute("INSERT INTO schema_version VALUES (1000, 'from the future')")
    opened.database.close()

    for _ in range(2):
        with pytest.raises(DatabaseUnavailable, match=r"a newer Bursar.*1000"):
            open_ledger(site.folder, CONFIG)

    assert not (site.folder / QUARANTINE).exists()
    database = Database(site.live)
    assert database.connection.execute("SELECT count(*) FROM calls").fetchone() == (CALLS,)
    database.close()

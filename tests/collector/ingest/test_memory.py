"""Memory that is needed no longer goes back, and everything works as before."""

from pathlib import Path

import duckdb
import pytest

from collector.memory import give_back_memory

STATUS = Path("/proc/self/status")


def resident_files_kib() -> int:
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("RssFile"))
    return int(line.split()[1])


@pytest.mark.skipif(not STATUS.exists(), reason="memory is looked at as Linux shows it")
def test_code_and_constants_that_are_not_in_use_are_given_back_and_come_again() -> None:
    def answer() -> object:
        with duckdb.connect() as connection:
            return connection.execute("SELECT sum(n) FROM range(1000) t(n)").fetchall()

    before = answer()
    resident = resident_files_kib()
    give_back_memory()
    assert resident_files_kib() < resident / 2  # code alone is less than half of it
    assert answer() == before

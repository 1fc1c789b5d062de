"""What a call costs the collector: read from the journal, decoded, in columns, committed. No collector runs.

CPU time of this thread by call, best of several ledgers; what stands between two of them are checkpoints,
which are shown beside. ``make bench`` measures the whole.
"""

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

from micro import a_record, filled

from collector.domain.record import CallRecord, Intent
from collector.ingest.books import Books
from collector.ingest.follower import Follower
from collector.journal import JournalWriter
from collector.judging.noticing import Notices
from collector.run import be_modest
from collector.store.duckdb import DatabaseConfig
from collector.store.opening import open_ledger

IN_FLIGHT = 64
"""Calls that are open at a time, as under load: their intents and records mix."""


def write_journal(folder: Path, calls: int) -> None:
    """A journal of ``calls`` calls, each with its intent, in the order of a busy sidecar."""
    now_us = time.time_ns() // 1000
    writer = JournalWriter(folder / "journal", "bench")
    waiting: list[CallRecord] = []
    for number in range(calls):
        call_id, at_us = str(uuid.uuid4()), now_us + number * 100
        names = {"trace_id": uuid.uuid4().hex, "conversation_id": call_id, "started_at_us": at_us}
        record = a_record(call_id=call_id, message_hashes=[1, number], response_id=call_id, **names)
        known = {name: value for name, value in record._asdict().items() if name in Intent._fields}
        writer.intent(filled(Intent, **known))
        waiting.append(record)
        if len(waiting) > IN_FLIGHT:
            writer.record(waiting.pop(0))
    for record in waiting:
        writer.record(record)
    writer.close()


def booked(calls: int) -> tuple[float, float]:
    """Microseconds a call: booked in steps as large as a busy collector's, and in one checkpoint after."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_journal(folder, calls)
        database = open_ledger(folder, DatabaseConfig()).database
        books = Books(database, on_records=Notices().offer)
        follower = Follower(folder / "journal", books)
        began = time.thread_time_ns()
        follower.catch_up()
        done = time.thread_time_ns()
        database.checkpoint()
        ended = time.thread_time_ns()
        assert books.counts.calls == calls
        database.close()
    return (done - began) / 1000 / calls, (ended - done) / 1000 / calls


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="ingest", description="CPU time of the collector by call.")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(words)
    be_modest()
    found = [booked(arguments.calls) for _ in range(arguments.repeats)]
    print(f"booked      {min(booking for booking, _ in found):6.2f} µs a call")
    print(f"checkpoint  {min(checkpoint for _, checkpoint in found):6.2f} µs a call")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a conversation costs the collector's judge, by what it is like. No collector runs.

CPU time of the process by conversation (the rules, DuckDB, the commit), in steps as large as a busy
collector's, best of several ledgers; beside it, what the last checkpoint of what was found takes. A
conversation that is judged again has what was said of it replaced.
"""

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from micro import NOW_US, a_record

from collector.domain.record import CallRecord
from collector.ingest.books import Books
from collector.ingest.pairing import Mark
from collector.journal import encoded, parse_frames
from collector.judging.judge import MOST_AT_ONCE, Judge, prices_of
from collector.judging.noticing import LATEST_US, Key, Notices
from collector.run import be_modest
from collector.store.duckdb import Database, DatabaseConfig
from collector.store.opening import open_ledger

Talks = list[list[CallRecord]]
SECOND_US = 1_000_000
A_QUESTION = {"input_role": "user", "input_hash": 99}
AT_ONCE = 2_000
"""Calls booked in one transaction."""


class Cost(NamedTuple):
    """Microseconds of CPU time a conversation."""

    judged: float
    again: float
    """Judged once more after another call."""
    checkpoint: float
    longest_ms: float
    """That the writer's turn was held in one step."""


def duplicates(talks: int, conversation: Callable[[], str] = lambda: uuid.uuid4().hex) -> Talks:
    """One call each, with a request that was answered before."""
    # The others begin after the first was answered.
    starts = [0, *(2 * SECOND_US + number for number in range(1, talks))]
    return [[a_call(conversation(), start, hashes=[7, 8], **A_QUESTION)] for start in starts]


def nameless(talks: int) -> Talks:
    """The same, without an id of their conversation."""
    return duplicates(talks, lambda: "")


def failed(talks: int) -> Talks:
    """One call each, of which nothing came."""
    found = []
    for number in range(talks):
        call = a_call(uuid.uuid4().hex, number, hashes=[7, number])
        found.append([call._replace(outcome="failed", error_type="timeout")])
    return found


def agents(talks: int, steps: int = 8) -> Talks:
    """Steps of an agent with tools, each with a longer history than the one before."""
    found = []
    for number in range(talks):
        random = Random(number)
        name = uuid.uuid4().hex
        history = [random.getrandbits(62), random.getrandbits(62)]
        talk = []
        for step in range(steps):
            call = a_call(name, number + step * 3 * SECOND_US, hashes=list(history))
            last = step == steps - 1
            talk.append(
                call._replace(
                    tool_call_hashes=[] if last else [random.getrandbits(62)],
                    tool_names=[] if last else ["search"],
                    finish_reasons=["stop" if last else "tool_calls"],
                    input_role="tool" if step else "user",
                    input_hash=random.getrandbits(62),
                    last_message_hash=random.getrandbits(62),
                    tools_hash=11,
                    system_hash=12,
                )
            )
            history += [random.getrandbits(62), random.getrandbits(62)]
        found.append(talk)
    return found


def a_call(conversation: str, after_us: int, *, hashes: list[int], **given: object) -> CallRecord:
    """One that started so long after the beginning."""
    return a_record(
        call_id=str(uuid.uuid4()),
        conversation_id=conversation,
        started_at_us=NOW_US + after_us,
        message_hashes=hashes,
        last_message_hash=hashes[-1] + 1,
        **given,
    )


SHAPES = {"duplicate": duplicates, "without an id": nameless, "failed": failed, "eight steps": agents}


def judged(talks: Talks) -> Cost:
    """What ``talks`` cost."""
    with tempfile.TemporaryDirectory() as name:
        database = open_ledger(Path(name), DatabaseConfig()).database
        try:
            return _judged(database, talks)
        finally:
            database.close()


def _judged(database: Database, talks: Talks) -> Cost:
    clock = [NOW_US]
    notices = Notices()
    books = Books(database, on_records=notices.offer, now_us=lambda: clock[0])
    price_of = prices_of({})
    price_of("openai", "a model", NOW_US, "")  # What a start costs is no conversation's.
    judge = Judge(lambda: books, notices, price_of, now_us=lambda: clock[0])
    judge.step()
    longest_ms = 0.0

    def settle() -> float:
        nonlocal longest_ms
        clock[0] += LATEST_US
        before, done = judge.judged, False
        began = time.process_time_ns()
        while not done:
            at = time.thread_time_ns()
            done = not judge.step()
            longest_ms = max(longest_ms, (time.thread_time_ns() - at) / 1e6)
        spent = time.process_time_ns() - began
        assert judge.judged - before >= len(talks) - 1, judge.judged - before
        return spent / 1000 / len(talks)

    enter(books, [call for talk in talks for call in talk])
    clock[0] = max(talk[-1].started_at_us for talk in talks) + SECOND_US
    database.checkpoint()
    first = settle()
    began = time.process_time_ns()
    database.checkpoint()
    checkpoint = (time.process_time_ns() - began) / 1000 / len(talks)
    for talk in talks:
        notices.again(key_of(talk), clock[0])
    again = settle()
    return Cost(first, again, checkpoint, longest_ms)


def key_of(talk: list[CallRecord]) -> Key:
    """Under which ``talk`` is judged."""
    call = talk[0]
    return (call.tenant, call.conversation_id, "" if call.conversation_id else call.call_id)


def enter(books: Books, calls: Sequence[CallRecord]) -> None:
    """Book ``calls`` as a journal brings them."""
    for start in range(0, len(calls), AT_ONCE):
        entry = books.begin()
        mark = books.marks.get("bench", Mark())
        frames, _, _ = parse_frames(encoded(calls[start : start + AT_ONCE], mark.sequence + 1))
        books.take(entry, "bench", frames, mark)
        books.enter(entry)


def main(words: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="judging", description="CPU time of the judge by conversation.")
    parser.add_argument("--talks", type=int, default=3 * MOST_AT_ONCE)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    arguments = parser.parse_args(words)
    be_modest()
    print(f"{'':16}{'judged':>10}{'again':>10}{'checkpoint':>12}   µs a conversation; longest step")
    for shape in arguments.shape or SHAPES:
        found = [judged(SHAPES[shape](arguments.talks)) for _ in range(arguments.repeats)]
        first, again, checkpoint, longest = (min(column) for column in zip(*found, strict=True))
        print(f"{shape:16}{first:10.1f}{again:10.1f}{checkpoint:12.1f}{longest:10.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())

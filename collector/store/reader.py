"""Answers to questions, from the live ledger; and what another database would have to offer.

A question sees one state of the books: the marks of the sums and the rows they stand for are
read in the same transaction. Two heavy questions at once are enough for ingest to notice, so
no more than that run, the others wait their turn, and none runs longer than its time.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import pyarrow as pa

from collector.store import rollups
from collector.store.asking import Asked, BadParameter, Dearest
from collector.store.duckdb import Connection, Database, DatabaseError, Interrupt, OutOfMemory, arrow_table
from collector.store.levels import HOUR_US
from collector.store.questions import BUCKETS, CHARGES, ENDED_OVER_TIME, MOST_STEPS, SPEND_OVER_TIME
from collector.store.search_statements import (
    absent_statement,
    hours_statement,
    narrowing_statement,
    whole_id_statement,
)
from collector.store.statements import (
    cursor_statement,
    dearest_statement,
    floor_statement,
    narrowed,
    statement,
    turns_statement,
)


class QuestionFailed(Exception):
    """A question has no answer now.

    QuestionFailed
    ├── Busy          others are being answered; ask again
    └── TooExpensive  it ran out of its time or memory; ask for less
    """


class Busy(QuestionFailed):
    """As many questions as may run are running."""


class TooExpensive(QuestionFailed):
    """The question took longer, or more memory, than it may."""


class Store(Protocol):
    """A database that answers the questions of the catalogue."""

    def answer(self, asked: Asked) -> pa.Table:
        """The rows, as the catalogue describes them.

        Raises:
            QuestionFailed: not now.
        """


class LedgerReader:
    """The DuckDB ledger as a `Store`; may be used from any number of threads.

    Args:
        database: the live one.
        seconds: longest time of one question.
        at_once: questions that run at the same time.
        wait_s: how long one waits for its turn.
    """

    def __init__(
        self, database: Database, *, seconds: float = 10.0, at_once: int = 2, wait_s: float = 10.0
    ) -> None:
        self._database = database
        self._seconds = seconds
        self._wait_s = wait_s
        self._places = threading.BoundedSemaphore(at_once)

    def answer(self, asked: Asked) -> pa.Table:
        """See `Store.answer`."""
        (found,) = self.answers([asked])
        if isinstance(found, Exception):
            raise found
        return found

    def answers(self, asked: Sequence[Asked]) -> list[pa.Table | QuestionFailed | BadParameter]:
        """Answers to several questions, in their order, about one and the same state of the books.

        Where one has no answer there is the reason; what comes after it is of a later state.

        Raises:
            Busy: as many questions as may run are running.
        """
        if not self._places.acquire(timeout=self._wait_s):
            raise Busy("too many questions at once; ask again in a moment")
        try:
            return self._answers(asked)
        finally:
            self._places.release()

    def _answers(self, asked: Sequence[Asked]) -> list[pa.Table | QuestionFailed | BadParameter]:
        connection = self._database.reader()
        found: list[pa.Table | QuestionFailed | BadParameter] = []
        marks: dict[str, rollups.Mark] | None = None
        try:
            for one in asked:
                try:
                    if marks is None:
                        connection.execute("BEGIN TRANSACTION READ ONLY")
                        marks = rollups.load_marks(connection)
                    found.append(self._answer(connection, one, marks))
                except BadParameter as error:
                    found.append(error)
                except QuestionFailed as error:
                    found.append(error)
                    marks = None
                    with suppress(DatabaseError):
                        connection.execute("ROLLBACK")
            return found
        finally:
            with suppress(DatabaseError):
                connection.execute("ROLLBACK")
            connection.close()

    def _answer(self, connection: Connection, asked: Asked, marks: dict[str, rollups.Mark]) -> pa.Table:
        try:
            with Interrupt(connection, self._seconds) as timer:
                asked = _of_its_time(connection, asked, marks)
                self._find_cursor(connection, asked)
                self._find_dearest(connection, asked, marks)
                made = statement(asked, marks)
                table = arrow_table(connection, made.sql, made.values)
        except (OutOfMemory, MemoryError) as error:
            raise TooExpensive("the question needs more memory than it may take; ask for less") from error
        except DatabaseError as error:
            if timer.fired:
                raise TooExpensive(
                    f"the question ran longer than {self._seconds:g} s; ask for a shorter period"
                ) from error
            raise
        if asked.question in (SPEND_OVER_TIME, CHARGES) and table.num_rows > MOST_STEPS:
            wider = BUCKETS[BUCKETS.index(asked.bucket) + 1 :]
            raise BadParameter("bucket", f"the answer has more than {MOST_STEPS} rows", wider)
        if asked.question is ENDED_OVER_TIME and table.num_rows > MOST_STEPS:
            raise BadParameter(
                "since", f"the answer has more than {MOST_STEPS} rows; ask for a shorter period"
            )
        return table

    @staticmethod
    def _find_cursor(connection: Connection, asked: Asked) -> None:
        """Where the page before ended, and how far down this one can reach."""
        sought = cursor_statement(asked)
        if sought is not None:
            rows = connection.execute(sought.sql, sought.values).fetchall()
            if not rows:
                raise BadParameter("before", "there is no such call")
            asked.values["before_at"] = rows[0][0]
        sought = floor_statement(asked)
        if sought is not None:
            ((floor,),) = connection.execute(sought.sql, sought.values).fetchall()
            if floor is not None:
                asked.values["floor"] = floor

    @staticmethod
    def _find_dearest(connection: Connection, asked: Asked, marks: dict[str, rollups.Mark]) -> None:
        sought = dearest_statement(asked, marks)
        if sought is not None:
            rows = connection.execute(sought.sql, sought.values).fetchall()
            places = [place for place, _ in rows]
            named = any(isinstance(place, str) for place in places)
            asked.dearest = Dearest(places, sum(n for _, n in rows), named) if rows else None


def _of_its_time(connection: Connection, asked: Asked, marks: dict[str, rollups.Mark]) -> Asked:
    """``asked`` of the time only in which its conversations or tasks were, or what its whole id names.

    A text is then looked for only in columns that have it, as far as the sums can tell.
    """
    sought = narrowing_statement(asked, marks)
    if sought is not None:
        ((first, last),) = connection.execute(sought.sql, sought.values).fetchall()
        asked = narrowed(asked, first, last)
    sought = turns_statement(asked, marks)
    if sought is not None:
        ((last,),) = connection.execute(sought.sql, sought.values).fetchall()
        asked = replace(asked, until_us=asked.since_us if last is None else min(asked.until_us, last + 1))
    sought = whole_id_statement(asked, marks)
    if sought is not None:
        ((first, last),) = connection.execute(sought.sql, sought.values).fetchall()
        if first is not None:
            asked = narrowed(asked, first, last)
    sought = absent_statement(asked, marks)
    if sought is not None:
        table = arrow_table(connection, sought.sql, sought.values)
        asked = replace(asked, absent=frozenset(k for k, had in table.to_pylist()[0].items() if not had))
    sought = hours_statement(asked, marks)
    if sought is not None:
        hours = [hour for (hour,) in connection.execute(sought.sql, sought.values).fetchall()]
        asked = replace(asked, hours=_stretches(hours))
    return asked


_MOST_STRETCHES = 60
"""More are not told apart: to compare each call with all of them takes longer than to look at its ids."""


def _stretches(hours: Sequence[int]) -> list[tuple[int, int]] | None:
    """Hours, in order, as times from one to another."""
    found: list[tuple[int, int]] = []
    for hour in hours:
        if found and found[-1][1] == hour:
            found[-1] = (found[-1][0], hour + HOUR_US)
        else:
            found.append((hour, hour + HOUR_US))
    return found if len(found) <= _MOST_STRETCHES else None


def one_row(table: pa.Table) -> dict[str, Any]:
    """The only row of an answer."""
    rows = table.to_pylist()
    return dict(rows[0]) if rows else {}

"""Ids of others are found where they are, whatever came late, was corrected or is not noted yet."""

import random
from dataclasses import replace

import pytest

from collector.ingest.books import Books
from collector.ingest.pairing import Mark
from collector.journal import encoded, parse_frames
from collector.store.asking import parse
from collector.store.duckdb import DatabaseConfig
from collector.store.levels import DAY_US, HOUR_US, REASONS_HOUR, TRACES_HOUR
from collector.store.opening import open_ledger
from collector.store.questions import CATALOGUE
from collector.store.reader import LedgerReader
from collector.store.rollups import load_marks
from collector.store.search_statements import absent_statement, hours_statement, whole_id_statement
from collector.store.searching import NAMES

FIRST_US = 1_790_035_200_000_000 // DAY_US * DAY_US
NOW_US = FIRST_US + 3 * DAY_US + HOUR_US // 2
ZEROS = "0" * 16
IDS = ("trace_id", "response_id")
SOME = (0, 1, 53, 199)
"""One that came late, an ordinary one, one that was corrected, one that is not noted yet."""


class Site:
    """Three days of calls, the last half hour of which is not noted yet."""

    def __init__(self, folder, make_call) -> None:
        self.database = open_ledger(folder, DatabaseConfig()).database
        self.books = Books(self.database, now_us=lambda: NOW_US)
        self.reader = LedgerReader(self.database)
        noise = random.Random(3)
        self.calls = [
            make_call(
                started_at_us=FIRST_US + n * (NOW_US - FIRST_US) // 200,
                # Of every fifth agent the ids are those of a library that fills them up with zeros.
                trace_id=(ZEROS if n % 5 == 0 else f"{noise.getrandbits(64):016x}")
                + f"{noise.getrandbits(64):016x}",
                response_id=f"chatcmpl-{noise.getrandbits(64):016x}",
                outcome_reason="queue is full" if n == 77 else "",
            )
            for n in range(200)
        ]
        self._sequence = 0

    def enter(self, calls, corrected=()) -> None:
        entry = self.books.begin()
        frames = parse_frames(encoded([*calls, *corrected], self._sequence + 1))[0]
        self.books.take(entry, "s", frames, Mark(sequence=self._sequence))
        entry.corrected += [call.call_id for call in corrected]
        self.books.enter(entry)
        self._sequence += len(frames)

    def asked(self, text: str, **given: str):
        given = {"since": "7d", "search": text} | given
        return parse(CATALOGUE["calls"], {name: [value] for name, value in given.items()}, NOW_US)

    def found(self, text: str, **given: str) -> list[str]:
        return [row["call_id"] for row in self.reader.answer(self.asked(text, **given)).to_pylist()]

    def said(self, made) -> tuple[object, ...]:
        return self.database.connection.execute(made.sql, made.values).fetchall()[0]

    @property
    def marks(self):
        return load_marks(self.database.connection)


@pytest.fixture(scope="module")
def site(tmp_path_factory, make_call):
    site = Site(tmp_path_factory.mktemp("noted"), make_call)
    site.enter([call for n, call in enumerate(site.calls) if n % 10])
    while site.books.advance_rollups():
        pass
    late = site.calls[::10]
    site.calls[51:60] = [
        call._replace(trace_id=call.trace_id[::-1], response_id=f"msg_01{call.call_id[::-1]}")
        for call in site.calls[51:60]
    ]
    site.enter(late, corrected=site.calls[51:60])
    yield site
    site.database.close()


def test_every_call_is_found_by_its_ids_and_by_how_they_begin(site):
    for call in (site.calls[n] for n in SOME):
        for name in IDS:
            text = getattr(call, name)
            assert site.found(text) == site.found(text[:20]) == [call.call_id], text
        assert call.call_id in site.found(call.trace_id[:10], limit="1000")


def test_an_id_tells_the_hour_in_which_to_look(site):
    marks = site.marks
    assert marks[TRACES_HOUR.name].upto_us == NOW_US // HOUR_US * HOUR_US
    for call in (site.calls[n] for n in SOME):
        first, last = site.said(whole_id_statement(site.asked(call.trace_id), marks))

        assert first <= call.started_at_us <= last <= first + HOUR_US


@pytest.mark.parametrize("length", [1, 2, 3, 5, 7, 8, 9, 12, 15])
def test_the_beginning_of_an_id_finds_all_that_begin_so_and_looks_only_where_they_may_be(site, length):
    for call in [*(site.calls[n] for n in SOME), *site.calls[51:60:3]]:
        for text in (call.trace_id[:length], call.trace_id.lstrip("0")[:length], call.call_id[:length]):
            columns = ("trace_id", "call_id", "conversation_id", "task_id")
            found = site.found(text, limit="1000")

            expected = {
                c.call_id for c in site.calls if any(getattr(c, name).startswith(text) for name in columns)
            }
            assert expected <= set(found), text
            if length > 4:
                assert expected == set(found), text


def test_digits_of_a_trace_tell_the_hours_in_which_to_look(site):
    call = site.calls[53]
    for length in (4, 7, 15):
        asked = replace(site.asked(call.trace_id[:length]), absent=frozenset(NAMES))
        made = hours_statement(asked, site.marks)
        hours = [hour for (hour,) in site.database.connection.execute(made.sql, made.values).fetchall()]

        assert call.started_at_us // HOUR_US * HOUR_US in hours
        assert len(hours) <= 2
        assert hours_statement(replace(asked, absent=frozenset()), site.marks) is None


def test_an_id_that_is_nowhere_is_not_looked_for_in_calls(site):
    for text in ("f" * 32, "chatcmpl-ffffffffffffffff", "no such words at all"):
        asked = site.asked(text)
        made = absent_statement(asked, site.marks)
        columns = [row[0] for row in site.database.connection.execute(made.sql, made.values).description]
        had = dict(zip(columns, site.said(made), strict=True))

        assert not any(had.values()), text
        assert set(had) >= set(REASONS_HOUR.dimensions)
        assert "response_id" in had
        assert ("trace_id" in had) == (text == "f" * 32)
        assert site.found(text) == []


def test_a_reason_is_found_and_a_filter_is_kept_to(site):
    call = site.calls[77]

    assert site.found("QUEUE IS") == [call.call_id]
    for given in ({"team": "another"}, {"conversation_id": "another"}):
        assert site.found("QUEUE IS", **given) == site.found(call.trace_id, **given) == []


def test_a_run_is_found_by_its_trace_alone_and_one_that_is_not_there_is_empty(site):
    call = site.calls[90]  # It came late.
    asked = parse(CATALOGUE["run"], {"since": ["7d"], "trace_id": [call.trace_id]}, NOW_US)

    assert [row["call_id"] for row in site.reader.answer(asked).to_pylist()] == [call.call_id]
    for name in ("trace_id", "conversation_id"):
        nowhere = replace(asked, filters={name: ("f" * 32,)})
        assert site.reader.answer(nowhere).num_rows == 0, name


def test_a_trace_that_is_not_written_in_digits_is_found_as_well(site, make_call):
    odd = [
        make_call(started_at_us=FIRST_US + n * HOUR_US, trace_id=name)
        for n, name in enumerate(("12_34-odd", "beef of another kind", "abc"))
    ]
    site.enter(odd)

    for call, text in zip(odd, ("12", "beef", "abc"), strict=True):
        assert call.call_id in site.found(text, limit="1000")
    site.calls += odd

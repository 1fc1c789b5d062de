"""Conversations that are counted by days are as many as those that are told apart."""

import hashlib
import random
import shutil
from collections import defaultdict

import pytest

from collector.domain.record import CallRecord
from collector.ingest.books import Books
from collector.ingest.pairing import Mark
from collector.journal import encoded, parse_frames
from collector.store import retention, rollups, talks
from collector.store.asking import parse
from collector.store.duckdb import DatabaseConfig
from collector.store.levels import DAY_US, HOUR_US
from collector.store.opening import open_ledger
from collector.store.questions import CATALOGUE
from collector.store.reader import LedgerReader

FIRST_US = 1_790_035_200_000_000 // DAY_US * DAY_US
DAYS = 9


class Site:
    """A ledger over some days, and the calls that should be in it."""

    def __init__(self, folder, make_call) -> None:
        self.database = open_ledger(folder, DatabaseConfig()).database
        self.now_us = FIRST_US
        self.books = Books(self.database, now_us=lambda: self.now_us)
        self.reader = LedgerReader(self.database)
        self.noise = random.Random(7)
        self.calls: dict[str, CallRecord] = {}
        self._make_call = make_call
        self._sequence = 0

    def a_call(self, from_us: int, to_us: int, **given) -> CallRecord:
        names = {
            "conversation_id": f"conversation-{self.noise.randrange(9)}" if self.noise.random() < 0.9 else "",
            "agent": f"agent{self.noise.randrange(3)}",
            "tenant": f"tenant{self.noise.randrange(2)}",
        }
        return self._make_call(started_at_us=self.noise.randrange(from_us, to_us), **(names | given))

    def enter(self, *calls: CallRecord, corrected: bool = False) -> None:
        entry = self.books.begin()
        frames = parse_frames(encoded(calls, self._sequence + 1))[0]
        self.books.take(entry, "s", frames, Mark(sequence=self._sequence))
        if corrected:
            entry.corrected += [call.call_id for call in calls]
        self.books.enter(entry)
        self._sequence += len(calls)
        self.calls.update({call.call_id: call for call in calls})

    def sum_up(self) -> None:
        while self.books.advance_rollups():
            pass

    def counted(self, since_us: int, until_us: int, **given: str) -> dict[str, int]:
        period = {"since": [str(since_us / 1e6)], "until": [str(until_us / 1e6)]}
        asked = {**period, "by": ["agent"], "with": ["conversations"], **{k: [v] for k, v in given.items()}}
        rows = self.reader.answer(parse(CATALOGUE["spend_by"], asked, self.now_us)).to_pylist()
        return {row["agent"]: row["conversations"] for row in rows}

    def told_apart(self, since_us: int, until_us: int, **given: str) -> dict[str, int]:
        found: dict[str, set[tuple[str, str]]] = defaultdict(set)
        for call in self.calls.values():
            if since_us <= call.started_at_us < until_us and all(
                getattr(call, name) == value for name, value in given.items()
            ):
                found[call.agent] |= {(call.tenant, call.conversation_id)} if call.conversation_id else set()
        return {agent: len(talks) for agent, talks in found.items()}

    def check(self) -> None:
        """Whatever the period, and whatever is kept of it."""
        days = [FIRST_US + n * DAY_US for n in range(-1, DAYS + 2)]
        periods = [(days[0], days[-1]), (days[3], days[6]), (days[2] + HOUR_US, days[7] - HOUR_US)]
        for _ in range(2):
            first, last = sorted(self.noise.randrange(days[0], days[-1]) for _ in range(2))
            periods.append((first, last + 1))
        for since_us, until_us in periods:
            for given in ({}, {"tenant": "tenant1"}):
                assert self.counted(since_us, until_us, **given) == self.told_apart(
                    since_us, until_us, **given
                ), (since_us, until_us, given)

    def check_sums(self) -> None:
        """What each conversation cost on each day, as far as that is summed."""
        mark = rollups.load_marks(self.database.connection)["talk_sums"]
        inside = f"epoch_us(started_at) >= {mark.since_us} AND epoch_us(started_at) < {mark.upto_us}"
        summed, expected = (
            self.database.connection.execute(
                f"SELECT {day} AS day, conversation_id, sum({calls}) AS n, sum(effective_cost_usd)"
                f" FROM {table} WHERE {kept} GROUP BY ALL HAVING n > 0 ORDER BY ALL"
            ).fetchall()
            for day, calls, table, kept in (
                ("bucket", "calls", "talk_sums_by_day", "true"),
                ("date_trunc('day', started_at)", "1", "calls", inside),
            )
        )
        assert summed == expected != []

    def days(self) -> list[tuple[object, ...]]:
        return self.database.connection.execute(
            "SELECT epoch_us(bucket), tenant, agent, talk, epoch_us(before) FROM talks_by_day ORDER BY ALL"
        ).fetchall()


@pytest.fixture(scope="module")
def summed(tmp_path_factory, make_call):
    """Nine days, summed in two goes."""
    site = Site(tmp_path_factory.mktemp("summed"), make_call)
    for first, last in ((0, 5), (5, DAYS)):
        days = [FIRST_US + day * DAY_US for day in range(first, last)]
        site.now_us = days[-1] + DAY_US
        site.enter(*(site.a_call(start, start + DAY_US) for start in days for _ in range(9)))
        site.sum_up()
    site.now_us += 2 * HOUR_US
    site.sum_up()
    site.database.close()
    return site


@pytest.fixture
def site(summed, tmp_path, make_call):
    shutil.copy(summed.database.path, tmp_path)
    site = Site(tmp_path, make_call)
    site.now_us, site.calls, site._sequence = summed.now_us, dict(summed.calls), summed._sequence
    yield site
    site.database.close()


def test_conversations_of_any_period_are_counted_as_they_are_told_apart(site):
    assert len({row[0] for row in site.days()}) == DAYS
    site.check()
    site.check_sums()


def test_late_calls_and_corrected_ones_leave_the_days_as_if_they_had_been_there_from_the_start(site):
    site.enter(*(site.a_call(FIRST_US - DAY_US, FIRST_US + DAYS * DAY_US) for _ in range(12)))
    site.check()

    wrong = site.noise.sample(list(site.calls.values()), 15)
    other = [call._replace(conversation_id="another" if n % 2 else "") for n, call in enumerate(wrong)]
    site.enter(*other, corrected=True)
    site.check()
    site.check_sums()

    kept = site.days()
    site.database.connection.execute("DELETE FROM talks_by_day")
    site.database.connection.execute("DELETE FROM rollup_marks WHERE level = 'talk_days'")
    site.sum_up()
    assert {row for row in site.days() if row[0] >= FIRST_US} == {row for row in kept if row[0] >= FIRST_US}


def test_a_conversation_whose_first_days_were_let_go_of_is_still_counted(site):
    retention.let_go(site.database, 4 * DAY_US // retention.SUMMED_FACTOR, FIRST_US + DAYS * DAY_US)

    gone_us = FIRST_US + (DAYS - 4) * DAY_US
    assert min(row[0] for row in site.days()) == gone_us
    site.calls = {name: call for name, call in site.calls.items() if call.started_at_us >= gone_us}
    (since_us, until_us) = FIRST_US, FIRST_US + DAYS * DAY_US
    assert site.counted(since_us, until_us) == site.told_apart(since_us, until_us)


def test_the_whole_id_of_a_conversation_or_a_call_finds_its_calls_and_nothing_else(site):
    late = site.a_call(FIRST_US, FIRST_US + DAY_US, conversation_id="conversation-of-1")
    site.enter(late)
    period = {"since": [str(FIRST_US / 1e6)], "until": [str(site.now_us / 1e6)], "limit": ["1000"]}

    def found(text: str) -> set[str]:
        asked = parse(CATALOGUE["calls"], {**period, "search": [text]}, site.now_us)
        return set(site.reader.answer(asked).column("call_id").to_pylist())

    for text in ("conversation-3", "conversation-of-1"):
        assert found(text) == {c.call_id for c in site.calls.values() if c.conversation_id == text} != set()
    assert found(late.call_id) == {late.call_id}
    assert found("conversation-") == {c.call_id for c in site.calls.values() if c.conversation_id}
    assert found("conversation-99") == set()


def test_what_calls_turn_out_to_cost_is_a_conversation_s_too(site):
    late = site.a_call(FIRST_US, FIRST_US + DAY_US)
    site.enter(late)
    site.check_sums()
    query = site.database.connection.execute
    query("CREATE TEMP TABLE moved AS SELECT call_id, 0.5::DECIMAL(18,12) AS more_usd FROM calls LIMIT 40")

    with site.database.transaction() as connection:
        rollups.adjust(connection, "moved", rollups.load_marks(connection))
        query(
            "UPDATE calls SET effective_cost_usd = effective_cost_usd + 0.5 FROM moved"
            " WHERE calls.call_id = moved.call_id"
        )

    site.check_sums()


def test_conversations_stand_under_the_numbers_that_ledgers_have_had_from_the_start(site):
    names = "'tenant' AS tenant, 'agent' AS agent, 'conversation' AS conversation_id"
    ((number,),) = site.database.connection.execute(f"SELECT {talks.TALK} FROM (SELECT {names})").fetchall()

    digest = hashlib.md5(b"tenant\x1fagent\x1fconversation", usedforsecurity=False).digest()
    assert number == int.from_bytes(digest[8:], "little")

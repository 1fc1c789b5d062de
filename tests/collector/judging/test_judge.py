"""Conversations are judged in the ledger, and what is found adds up to it."""

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from collector.domain.price import TokenPrice
from collector.domain.record import AttemptRecord, CallRecord
from collector.domain.turns import Turn
from collector.ingest.books import Books
from collector.ingest.events import OutcomeRow
from collector.judging.judge import Judge
from collector.judging.noticing import Notices
from collector.store import asking
from collector.store.duckdb import Database
from collector.store.questions import CATALOGUE
from collector.store.reader import LedgerReader
from tests.collector.domain.planted import Talk
from tests.collector.domain.test_waste import cache_broken, duplicate, failed, looped, reasoning

MakeCall = Callable[..., CallRecord]
DAY_US = 86_400_000_000


class Ledger:
    """Books, the judge, and questions, at an instant of the test's choice."""

    def __init__(self, database: Database, make_call: MakeCall, make_attempt: Any) -> None:
        self.notices = Notices()
        self.books = Books(database, on_records=self.notices.offer)
        self.now_us = 1_790_000_000_000_000
        self.judge = Judge(
            lambda: self.books,
            self.notices,
            self.price_of,
            {"search": 5_000_000_000},
            now_us=lambda: self.now_us,
        )
        self._reader = LedgerReader(database)
        self._make_call = make_call
        self._make_attempt = make_attempt

    def price_of(self, provider: str, model: str, at_us: int, region: str) -> TokenPrice:
        return TokenPrice(input=2_500_000, output=10_000_000, cache_read=250_000, cache_write=2_500_000)

    def record(self, turn: Turn, conversation: str, **changes: Any) -> CallRecord:
        attempt: AttemptRecord = self._make_attempt(turn.cost_pico, turn.started_us)
        return self._make_call(
            call_id=turn.call_id,
            started_at_us=turn.started_us,
            duration_us=turn.ended_us - turn.started_us,
            conversation_id=conversation,
            conversation_source="stitched",
            request_model=turn.model,
            response_model=turn.model,
            upstream=turn.upstream,
            outcome=turn.outcome,
            outcome_reason=turn.reason,
            error_type=turn.error_type,
            cost=turn.cost_pico,
            attempts=(attempt,),
            input_tokens=turn.input_tokens,
            output_tokens=turn.output_tokens,
            cache_read_input_tokens=turn.cache_read_tokens,
            cache_write_input_tokens=turn.cache_write_tokens,
            reasoning_output_tokens=turn.reasoning_tokens,
            message_hashes=list(turn.hashes),
            last_message_hash=turn.reply_hash,
            tool_call_hashes=list(turn.calls),
            tool_names=["search"] * len(turn.calls),
            input_role=turn.role,
            input_hash=turn.said,
            tools_hash=turn.tools,
            system_hash=turn.system,
            **changes,
        )

    def enter(self, *records: CallRecord) -> None:
        batch = self.books.begin()
        batch.records.extend(records)
        self.books.enter(batch)
        self.now_us = max(self.now_us, *(one.started_at_us + one.duration_us for one in records))

    def enter_talk(self, talk: Talk, conversation: str, **changes: Any) -> None:
        self.enter(*(self.record(turn, conversation, **changes) for turn in talk.turns))

    def settle(self, after_us: int = 3 * 3_600_000_000) -> None:
        self.now_us += after_us
        while self.judge.step():
            pass

    def ask(self, name: str, **given: str) -> list[dict[str, Any]]:
        words = {key: [value] for key, value in ({"since": "1970-01-02"} | given).items()}
        asked = asking.parse(CATALOGUE[name], words, self.now_us + DAY_US)
        return list(self._reader.answer(asked).to_pylist())


@pytest.fixture
def ledger(database: Database, call: MakeCall, attempt: Any) -> Ledger:
    return Ledger(database, call, attempt)


def talk_with(seed: int, *plants: Callable[[Talk], list[str]]) -> Talk:
    talk = Talk(seed)
    talk.grow(4)
    for plant in plants:
        plant(talk)
        if talk.messages[-1][0] == "assistant":
            talk.say(talk.words(50))
        talk.call()
        talk.grow(1)
    talk.turns[-1] = talk.turns[-1]._replace(calls=())
    return talk


def test_the_bill_has_every_dollar_once_and_sums_to_the_ledger(ledger: Ledger) -> None:
    for seed in range(6):
        ledger.enter_talk(talk_with(seed, failed, duplicate, looped, cache_broken, reasoning), f"c{seed}")
    ledger.settle()

    bill = {row["waste"]: row for row in ledger.ask("waste")}
    (total,) = ledger.ask("totals")

    assert set(bill) == {"useful", "failed", "duplicate", "looped", "cache-broken", "unneeded reasoning"}
    assert sum(row["effective_cost_usd"] for row in bill.values()) == total["effective_cost_usd"]
    assert all(row["effective_cost_usd"] > 0 for row in bill.values())
    by_agent = ledger.ask("waste", by="agent,conversation_id")
    assert sum(row["effective_cost_usd"] for row in by_agent) == total["effective_cost_usd"]
    assert {row["agent"] for row in by_agent} == {"indexer"}


def test_each_dollar_of_waste_comes_with_the_rows_behind_it(ledger: Ledger) -> None:
    talk = Talk(1)
    talk.grow(4)
    (wasted,) = duplicate(talk)
    original = talk.turns[-2].call_id
    ledger.enter_talk(talk, "c1")
    ledger.settle(after_us=30_000_000)

    (row,) = ledger.ask("waste_calls", waste="duplicate")

    assert (row["call_id"], row["because"], row["whole"]) == (wasted, [original], True)
    assert row["conversation_id"] == "c1"
    assert row["effective_cost_usd"] == Decimal(talk.turns[-1].cost_pico).scaleb(-12)


def test_a_conversation_that_goes_on_is_judged_again_and_nothing_is_said_twice(ledger: Ledger) -> None:
    talk = talk_with(2, looped)
    ledger.enter(*(ledger.record(turn, "c") for turn in talk.turns[:-1]))
    ledger.settle(after_us=90_000_000)
    first = ledger.ask("waste_calls")
    ledger.enter(ledger.record(talk.turns[-1], "c"))
    ledger.settle()

    assert [row["call_id"] for row in ledger.ask("waste_calls", waste="looped")] == [
        row["call_id"] for row in first if row["waste"] == "looped"
    ]
    assert len(ledger.ask("runs")) == 1


def test_a_conversation_that_was_left_open_and_goes_on_does_not_wait_for_half_an_hour(ledger: Ledger) -> None:
    talk = Talk(8)
    talk.say("Please look it up.")
    talk.call(tool="search")
    talk.say("found", "tool")
    talk.call(wait_s=40)
    ledger.enter(ledger.record(talk.turns[0], "c"))
    ledger.settle(after_us=15_000_000)
    assert [run["steps"] for run in ledger.ask("runs")] == [1]

    ledger.enter(ledger.record(talk.turns[1], "c"))
    ledger.settle(after_us=15_000_000)
    soon = [run["steps"] for run in ledger.ask("runs")]
    ledger.settle(after_us=60_000_000)

    # Each time a slow tool comes back would be too often: within a minute of quiet is soon enough.
    assert soon == [1]
    assert [run["steps"] for run in ledger.ask("runs")] == [2]


def test_the_same_question_in_another_conversation_is_a_duplicate_that_names_the_answer(
    ledger: Ledger,
) -> None:
    talk = Talk(3)
    talk.say(talk.words(300))
    turn = talk.call()
    again = turn._replace(
        call_id="again", started_us=turn.started_us + 60_000_000, ended_us=turn.ended_us + 60_000_000
    )
    ledger.enter(ledger.record(turn, "c1"))
    ledger.enter(ledger.record(again, "c2"))
    ledger.settle()

    (row,) = ledger.ask("waste_calls")

    assert (row["call_id"], row["waste"], row["because"]) == ("again", "duplicate", [turn.call_id])
    (guess,) = ledger.ask("inferred_outcomes")
    assert (guess["signal"], guess["inferred"]) == ("repeated question", True)


def test_an_outcome_that_comes_later_moves_the_money_of_its_task(ledger: Ledger) -> None:
    ledger.enter_talk(talk_with(4), "c", task_id="t1")
    ledger.settle()
    assert [row["waste"] for row in ledger.ask("waste")] == ["useful"]

    said = OutcomeRow(ledger.now_us, "acme", "t1", "", "", False, None, None, "")
    ledger.books.tell(outcomes=[said])
    ledger.settle(after_us=10_000_000)
    ledger.settle(after_us=10_000_000)

    rows = {row["waste"]: row["effective_cost_usd"] for row in ledger.ask("waste")}
    (total,) = ledger.ask("totals")
    assert rows["failed"] == total["effective_cost_usd"]


def test_the_doctor_says_what_broke_the_cache_since_when_and_what_to_do(ledger: Ledger) -> None:
    talk = Talk(5)
    talk.grow(3)
    (broken,) = cache_broken(talk)
    talk.grow(2)
    ledger.enter_talk(talk, "c")
    ledger.settle()

    (row,) = ledger.ask("cache_breaks")

    assert (row["cause"], row["block"], row["breaks"]) == ("tools in another order", "tools", 1)
    assert row["call_id"] == broken
    assert "fixed order" in row["advice"]
    assert row["lost_tokens"] > 1024
    (single,) = ledger.ask("cache_break_calls", cause="tools in another order")
    assert single["effective_cost_usd"] == row["effective_cost_usd"] > 0


def test_runs_turns_and_tools_have_their_figures(ledger: Ledger) -> None:
    talk = Talk(6)
    talk.say("Please look it up.")
    talk.call(tool="search")
    talk.say("found", "tool")
    talk.call()
    talk.say("And the other one?")
    talk.call()
    ledger.enter_talk(talk, "c", tags={"prompt_version": "v2"})
    ledger.books.tell(outcomes=[OutcomeRow(ledger.now_us, "acme", "", "c", "", True, 0.9, Decimal(2), "")])
    ledger.settle()
    ledger.settle(after_us=10_000_000)

    (run,) = ledger.ask("runs")
    cost = Decimal(sum(turn.cost_pico for turn in talk.turns)).scaleb(-12)
    assert (run["steps"], run["turns"], run["tool_calls"], run["success"]) == (3, 2, 1, True)
    assert run["effective_cost_usd"] == cost
    (work,) = ledger.ask("runs_by", by="agent")
    assert [work[name] for name in ("agent", "runs", "turns", "steps", "tool_calls", "tasks")] == [
        run["agent"], 1, 2, 3, 1, 1 if run["task_id"] else 0,
    ]  # fmt: skip
    assert (work["effective_cost_usd"], work["wasted_usd"]) == (cost, run["wasted_usd"])
    turns = ledger.ask("turns", conversation_id="c")
    assert [(row["turn"], row["steps"]) for row in turns] == [(1, 2), (2, 1)]
    assert sum(row["effective_cost_usd"] for row in turns) == cost
    (tool,) = ledger.ask("tools")
    assert (tool["tool"], tool["uses"], tool["declared_cost_usd"]) == ("search", 1, Decimal("0.005"))
    assert tool["effective_cost_usd"] == Decimal(talk.turns[0].cost_pico).scaleb(-12)
    (quality,) = ledger.ask("quality", by="agent,tag:prompt_version")
    assert (quality["tag"], quality["tasks"], quality["successes"]) == ("v2", 1, 1)
    # Wilson, n = 1, p = 1: (1 + 1.9208 - 1.96 * sqrt(0.9604)) / (1 + 3.8415) = 0.2065
    assert quality["success_rate_low"] == pytest.approx(0.2065, abs=1e-4)
    assert quality["success_rate_high"] == pytest.approx(1.0)
    assert quality["usd_per_success"] == pytest.approx(float(cost))
    assert quality["value_per_usd"] == pytest.approx(2 / float(cost))


def test_an_outcome_is_that_of_the_runs_it_names_by_task_or_conversation_or_trace_and_the_last_word_counts(
    ledger: Ledger, database: Database
) -> None:
    database.connection.execute(
        "INSERT INTO runs BY NAME SELECT make_timestamp($1) AS started_at, * FROM (VALUES"
        " ('one', 'first', 'a', 1), ('one', 'second', 'b', 2), ('', 'third', 'c', 4), ('', 'fourth', 'd', 8)"
        ") AS told(task_id, conversation_id, trace_id, effective_cost_usd)",
        [ledger.now_us],
    )
    database.connection.execute(
        "INSERT INTO outcomes BY NAME SELECT make_timestamp($1 + place) AS reported_at, * EXCLUDE (place)"
        " FROM (VALUES (1, 'one', '', '', false), (2, 'one', '', '', true), (3, '', 'third', '', true),"
        " (4, '', '', 'b', false), (5, '', 'nobody', '', true), (6, '', NULL, NULL, true)"
        ") AS told(place, task_id, conversation_id, trace_id, success)",
        [ledger.now_us],
    )

    (quality,) = ledger.ask("quality")

    # The task cost 1 + 2 and succeeded at last, the third conversation 4, the trace 2 and did not succeed.
    assert (quality["tasks"], quality["successes"]) == (3, 2)
    assert quality["effective_cost_usd"] == Decimal(9)
    by = {row["conversation_id"]: row for row in ledger.ask("quality", by="conversation_id")}
    assert {name: (row["tasks"], row["effective_cost_usd"]) for name, row in by.items()} == {
        "second": (2, Decimal(5)),  # The dearer run of the task; the trace's own.
        "third": (1, Decimal(4)),
    }


def test_a_run_is_a_waterfall_in_which_every_bar_has_the_money_inside_it(
    ledger: Ledger, database: Database
) -> None:
    talk = talk_with(7)
    trace = "a" * 32
    ledger.enter_talk(talk, "c", trace_id=trace, parent_span_id="b" * 16)
    start = talk.turns[0].started_us
    for name, span, parent, role in (
        ("planner", "c" * 16, "", "agent"),
        ("search", "b" * 16, "c" * 16, "tool"),
    ):
        database.connection.execute(
            "INSERT INTO spans_received BY NAME SELECT $1 AS trace_id, $2 AS span_id, $3 AS parent_span_id,"
            " $4 AS name, $5 AS role, make_timestamp($6) AS started_at, 1000 AS duration_ms,"
            " '' AS error_type, 'UNSET' AS status, '' AS tool, '' AS agent",
            [trace, span, parent, name, role, start - 1000],
        )

    bars = ledger.ask("run", conversation_id="c")

    cost = Decimal(sum(turn.cost_pico for turn in talk.turns)).scaleb(-12)
    agent, tool = bars[0], bars[1]
    assert (agent["kind"], agent["name"], agent["depth"]) == ("agent", "planner", 0)
    assert agent["effective_cost_usd"] == tool["effective_cost_usd"] == cost
    assert (tool["kind"], tool["depth"], tool["calls"]) == ("tool", 1, len(talk.turns))
    assert {(bar["kind"], bar["depth"], bar["calls"]) for bar in bars[2:]} == {("model", 2, 1)}


def test_what_nobody_has_to_look_at_is_not_looked_at(ledger: Ledger, call: MakeCall) -> None:
    ledger.enter(*(call(conversation_id=f"one-{number}") for number in range(50)))
    ledger.settle()
    ledger.settle()

    assert ledger.ask("runs") == []
    assert [row["waste"] for row in ledger.ask("waste")] == ["useful"]


def test_memory_for_what_is_due_is_bounded(call: MakeCall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.judging.noticing.MOST_DUE", 20)
    monkeypatch.setattr("collector.judging.noticing.MOST_ANSWERED", 20)
    monkeypatch.setattr("collector.judging.noticing.MOST_BEGUN", 20)
    notices, chance = Notices(), random.Random(1)
    notices.offer(
        [call(conversation_id=str(chance.getrandbits(60)), outcome="failed") for _ in range(100)]
        + [call(conversation_id=str(chance.getrandbits(60))) for _ in range(100)]
    )

    assert len(notices._due) == len(notices._answered) == len(notices._begun) == 20
    assert notices.forgotten == 80
    assert len(notices._queue) <= 40


def test_of_more_repeats_than_may_wait_the_latest_are_judged_and_named(
    call: MakeCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("collector.judging.noticing.MOST_DUE", 30)
    monkeypatch.setattr("collector.judging.noticing.MOST_BEGUN", 10)
    notices = Notices()
    start_us = 1_790_000_000_000_000
    notices.offer(
        [call(conversation_id="first", call_id="first", message_hashes=[1], started_at_us=start_us)]
    )
    again = [
        call(
            conversation_id=f"c{n}",
            call_id=f"{n}",
            message_hashes=[1],
            started_at_us=start_us + 2_000_000 + n,
        )
        for n in range(40)
    ]
    notices.offer(again)

    due = notices.take(start_us + 60_000_000, 100)

    assert [one.key for one in due] == [("acme", f"c{n}", "") for n in range(10, 40)]
    assert [one.answered for one in due] == [{f"{n}": "first"} for n in range(10, 40)]
    assert [one.since_us for one in due] == [one.started_at_us for one in again[10:]]
    assert notices.take(start_us + 120_000_000, 100) == []
    assert notices.forgotten == 10


def test_what_goes_on_while_it_waits_is_taken_once_when_it_is_quiet(call: MakeCall) -> None:
    notices = Notices()
    start_us = 1_790_000_000_000_000
    for step in range(4):
        at_us = start_us + step * 5_000_000
        made = call(conversation_id="c", started_at_us=at_us, duration_us=0, outcome="failed")
        notices.offer([made])
        assert notices.take(at_us + 1, 10) == []

    last_us = start_us + 15_000_000
    assert notices.take(last_us + 9_999_999, 10) == []
    (one,) = notices.take(last_us + 10_000_000, 10)
    assert (one.key, one.since_us, one.call_id) == (("acme", "c", ""), start_us, "")
    assert notices.take(last_us + 100_000_000, 10) == []


def test_of_a_call_that_is_heard_of_late_something_may_have_been_said_before(call: MakeCall) -> None:
    notices = Notices()
    now_us = 1_790_000_000_000_000

    def heard(name: str, ended_us: int) -> None:
        notices.offer(
            [call(call_id=name, conversation_id="", started_at_us=ended_us, duration_us=0, outcome="failed")]
        )

    heard("before anybody looked", now_us)
    first = notices.take(now_us + 30_000_000, 10)
    heard("in time", now_us + 25_000_000)
    heard("late: presumed lost, and judged as that", now_us)
    rest = notices.take(now_us + 60_000_000, 10)

    assert [(one.call_id[:7], one.fresh) for one in [*first, *rest]] == [
        ("before ", False),
        ("late: p", False),
        ("in time", True),
    ]

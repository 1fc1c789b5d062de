"""Talking to the collector: answers shared, failures named, the last good answer kept."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from dashboards import data, transport
from dashboards.kept import Answers, LastGood
from dashboards.scope import Scope, filters_from, recent

NOW = datetime.now(UTC)


def scope(**chosen: list[str]) -> Scope:
    return Scope(window=recent("24h", datetime.now(UTC)), filters=filters_from(chosen))


def test_money_arrives_as_the_decimal_that_the_ledger_holds(collector: Any) -> None:
    collector.book(cost="0.000000000001")
    collector.book(cost="98765.432109876543")
    answer = data.ask(data.about("totals", scope()))
    assert answer.row["effective_cost_usd"] == Decimal("98765.432109876544")
    assert answer.trouble is None


def test_fifty_who_look_at_once_make_the_collector_answer_once(collector: Any) -> None:
    collector.book()
    question = data.about("totals", scope())
    data.ask(question)
    with ThreadPoolExecutor(8) as readers:
        answers = list(readers.map(data.ask, [question] * 50))
    assert collector.asked["totals"] == 1
    assert {answer.row["calls"] for answer in answers} == {1}


def test_filters_travel_as_repeated_parameters_and_the_empty_value_is_one(collector: Any) -> None:
    collector.book(team="search")
    collector.book(team="")
    collector.book(team="support")
    chosen = data.about("totals", scope(team=["search", "(none)"]))
    assert data.ask(chosen).row["calls"] == 2


def test_questions_side_by_side_are_answered_in_the_order_asked(collector: Any) -> None:
    collector.book(agent="a")
    by_agent, totals = data.ask_all(
        [data.about("spend_by", scope(), by="agent", limit=5), data.about("totals", scope())]
    )
    assert by_agent.rows[0]["agent"] == "a"
    assert totals.row["calls"] == 1


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        ("busy", data.CollectorBusy, "answered 'totals' with 429: 2 questions are being answered already."),
        ("old", data.NotUnderstood, "with 404: no question is called totals."),
        ("broken", data.BadAnswer, "not an Arrow stream"),
    ],
)
def test_a_collector_that_does_not_answer_is_told_apart(
    collector: Any, trouble: str, error: type[data.CollectorError], says: str
) -> None:
    collector.trouble = trouble
    with pytest.raises(error, match=says):
        data.ask(data.about("totals", scope()))
    assert error.advice


def test_a_key_is_sent_where_one_is_asked_for(collector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    collector.key = "operator's"
    with pytest.raises(data.NotAllowed, match="401"):
        data.ask(data.about("totals", scope()))
    monkeypatch.setenv("BURSAR_CONTROL_KEY", "operator's")
    assert data.ask(data.about("totals", scope())).row["calls"] == 0


def test_an_answer_that_never_comes_is_given_up(collector: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "ANSWER_TIMEOUT_S", 0.05)
    collector.trouble = "slow"
    with pytest.raises(data.CollectorUnreachable, match="did not answer in time"):
        data.ask(data.about("totals", scope()))


def test_nobody_at_the_address_is_said_plainly(monkeypatch: pytest.MonkeyPatch, collector: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("BURSAR_COLLECTOR_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(data.CollectorUnreachable, match="cannot be reached"):
            data.ask(data.about("totals", scope()))


@pytest.mark.parametrize("address", ["file:///etc/passwd", "127.0.0.1:4010", "gopher://x", "http://"])
def test_only_http_addresses_are_opened(
    address: str, collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURSAR_COLLECTOR_URL", address)
    with pytest.raises(data.BadAnswer, match="not an http address"):
        data.ask(data.about("totals", scope()))


def test_an_answer_larger_than_memory_allows_is_refused(
    collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER_BYTES", 100)
    with pytest.raises(data.BadAnswer, match="larger than"):
        data.ask(data.about("totals", scope()))


@pytest.fixture
def remembered(collector: Any) -> Callable[[], data.Answer]:
    """An answer was given once; from now on the cache has forgotten it."""
    collector.book()
    first = data.ask(data.about("totals", scope()))
    data.forget()

    def ask_later() -> data.Answer:
        later = Scope(window=recent("24h", first.answered_at + timedelta(hours=1)))
        return data.ask(data.about("totals", later))

    return ask_later


def test_the_last_good_answer_is_kept_for_a_collector_that_went_away(
    collector: Any, remembered: Callable[[], data.Answer]
) -> None:
    collector.trouble = "busy"
    answer = remembered()
    assert answer.row["calls"] == 1
    assert isinstance(answer.trouble, data.CollectorBusy)
    assert answer.answered_at < datetime.now(UTC)


def test_a_current_answer_replaces_the_remembered_one(
    collector: Any, remembered: Callable[[], data.Answer]
) -> None:
    collector.trouble = "busy"
    assert remembered().trouble
    collector.trouble = ""
    assert remembered().trouble is None


def test_what_is_remembered_is_bounded_in_number_and_in_bytes() -> None:
    memory = LastGood(64, 16 << 20)
    for number in range(3 * 64):
        memory.put(number, b"x" * 10, NOW)
    assert len(memory._answers) == 64
    large = b"x" * ((16 << 20) // 5)
    for number in range(20):
        memory.put(f"calls {number}", large, NOW)
    assert sum(len(body) for body, _ in memory._answers.values()) <= 16 << 20
    assert memory.get("calls 19") == (large, NOW)
    memory.put("huge", large * 2, NOW)
    assert memory.get("huge") is None


def test_of_those_who_ask_the_same_at_once_one_asks_and_what_failed_is_asked_again() -> None:
    clock = [0.0]
    answers = Answers(2, clock=lambda: clock[0])
    (first,), mine = answers.claim([("a", 10.0)])
    (second,), nothing = answers.claim([("a", 10.0)])
    assert (mine, nothing, second is first) == ([0], [], True)
    answers.drop("a", first)
    (third,), again = answers.claim([("a", 10.0)])
    assert again == [0] and third is not first
    clock[0] = 10.0
    assert answers.claim([("a", 10.0), ("b", 10.0), ("c", 10.0)])[1] == [0, 1, 2]
    assert answers.claim([("c", 10.0)])[1] == []
    assert answers.claim([("a", 10.0)])[1] == [0]  # The oldest had to go.


def test_a_question_that_has_no_answer_leaves_the_others_theirs(collector: Any) -> None:
    collector.book()
    right, wrong = data.about("totals", scope()), data.about("spend_by", scope(), by="nobody")
    collector.tables["spend_by"] = None
    assert data.ask_all([right], [wrong])[0].row["calls"] == 1
    with pytest.raises(data.BadAnswer, match="'spend_by' with 500"):
        data.ask_all([right, wrong])


def test_where_others_are_before_us_it_is_asked_again_in_a_moment(
    collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "FULL_WAITS_S", (0.01, 0.01))
    collector.book()
    collector.trouble = "full"
    assert data.ask(data.about("totals", scope())).row["calls"] == 1
    assert collector.asked["totals"] == 2

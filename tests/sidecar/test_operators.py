"""What operators say is read exactly or refused in words, and a simulated call holds nothing."""

import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.domain.credit import Claim, Unit
from collector.domain.policy import (
    Ask,
    Budget,
    Directive,
    DirectiveKind,
    Ladder,
    Match,
    Policy,
    State,
    Window,
)
from collector.domain.policy.budget import Action, Threshold
from collector.export.prometheus import CallMetrics
from collector.journal import JournalWriter
from collector.pricing.book import PriceBook
from sidecar.books import Books
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.memory import MemoryStore
from sidecar.operators import MOST_SECONDS, SimulatedCall, read_directive, read_raise, simulate

NOW = 1_764_072_000 * 1_000_000
USD = 10**9

Maker = Callable[..., CreditControl]


@pytest.fixture
def control_of(tmp_path: Path) -> Iterator[Maker]:
    journal = JournalWriter(tmp_path, "s-1")
    books = Books(journal, CallMetrics(), PriceBook.load({"known": {"input": 1, "output": 10}}))

    def make(*budgets: Budget, **rules: Any) -> CreditControl:
        policy = Policy(budgets=budgets, **rules)
        return CreditControl(State(policy), MemoryStore("s-1"), books, longest_call_s=60)

    yield make
    journal.close()


def budget(name: str = "all", limit: int = USD, unit: Unit = Unit.USD, **more: Any) -> Budget:
    return Budget(name=name, limit=limit, unit=unit, window=Window.parse("total"), **more)


def said(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def directive(body: bytes) -> Directive:
    return read_directive(body, NOW, Policy())[0]


# ---- directives ---------------------------------------------------------------------------------


def test_a_directive_means_what_it_says() -> None:
    found = directive(
        said(
            action="downgrade",
            match={"agent": ["a", "b"], "tag:env": "prod"},
            expires_in_s=90,
            reason="it loops",
            source="alert LoopingAgent",
            to=["small"],
            share=0.25,
            id="d1",
        )
    )
    assert found == Directive(
        id="d1",
        kind=DirectiveKind.DOWNGRADE,
        match=Match.of({"agent": ("a", "b"), "tag:env": "prod"}),
        expires_us=NOW + 90_000_000,
        reason="it loops",
        source="alert LoopingAgent",
        created_us=NOW,
        to=("small",),
        share=2500,
    )


def test_what_is_not_said_is_an_hour_for_all_calls_and_a_name_of_its_own() -> None:
    one, two = (directive(said(action="pause")) for _ in range(2))
    assert (one.match, one.expires_us, one.source) == (Match(), NOW + 3_600_000_000, "operator")
    assert one.id != two.id


def test_a_throttle_is_so_much_money_a_minute() -> None:
    found = directive(said(action="throttle", per_minute="0.50 USD"))
    assert found.per_minute == USD // 2


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"action": "explode"}, "explode"),
        ({}, "action"),
        ({"action": "pause", "macth": {}}, "macth"),
        ({"action": "pause", "match": {"planet": "x"}}, "planet"),
        ({"action": "pause", "match": {"agent": []}}, "agent"),
        ({"action": "pause", "expires_in_s": 0}, "expires_in_s"),
        ({"action": "pause", "expires_in_s": -1}, "expires_in_s"),
        ({"action": "pause", "expires_in_s": MOST_SECONDS + 1}, "expires_in_s"),
        ({"action": "pause", "expires_in_s": 1e300}, "expires_in_s"),
        ({"action": "throttle"}, "per_minute"),
        ({"action": "throttle", "per_minute": "much"}, "much"),
        ({"action": "throttle", "per_minute": "100 calls"}, "not money"),
        ({"action": "throttle", "per_minute": "2M tokens"}, "not money"),
        ({"action": "downgrade", "share": 0}, "share"),
        ({"action": "downgrade", "share": 1.5}, "share"),
        ({"action": "downgrade", "to": "small"}, "to"),
    ],
)
def test_what_is_no_directive_is_told(fields: dict[str, Any], told: str) -> None:
    with pytest.raises((ValueError, msgspec.MsgspecError), match=told):
        directive(said(**fields))


def test_a_directive_about_a_budget_is_for_the_calls_that_it_counts() -> None:
    team = budget("team", match=Match.of({"team": "search", "agent": "p*"}), each="agent")
    rules = Policy(budgets=[team, budget("all")])
    found, about = read_directive(said(action="pause", budget="team"), NOW, rules)
    assert (about, found.match) == ("team", Match.of({"team": "search", "agent": "p*"}))
    found, _ = read_directive(said(action="pause", budget="team", subject="planner"), NOW, rules)
    assert found.match == Match.of({"team": "search", "agent": "planner"})
    found, _ = read_directive(said(action="pause", budget="all"), NOW, rules)
    assert found.match == Match()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"budget": "none"}, "'none' is not one of those configured: team, all"),
        ({"budget": "all", "subject": "planner"}, "one counter in all"),
        ({"budget": "team", "subject": "p*"}, "asterisk"),
    ],
)
def test_a_directive_about_no_such_counter_is_told(fields: dict[str, Any], told: str) -> None:
    rules = Policy(budgets=[budget("team", each="agent"), budget("all")])
    with pytest.raises(ValueError, match=told):
        read_directive(said(action="pause", **fields), NOW, rules)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b'{"action":"pause","expires_in_s":NaN}'])
def test_what_is_not_even_json_is_told(body: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        directive(body)


def test_long_words_are_cut() -> None:
    found = directive(said(action="pause", reason="x" * 9999, source="y" * 9999))
    assert (len(found.reason), len(found.source)) == (500, 200)


# ---- raises -------------------------------------------------------------------------------------


def test_a_raise_means_what_it_says(control_of: Maker) -> None:
    control = control_of(budget("team"), budget("tokens", 1000, Unit.TOKENS))
    money = read_raise(
        said(budget="team", amount="5 USD", for_s=60, subject="planner", reason="launch"), NOW, control
    )
    assert (money.budget, money.amount, money.subject, money.from_us, money.until_us, money.reason) == (
        "team",
        5 * USD,
        "planner",
        NOW,
        NOW + 60_000_000,
        "launch",
    )
    assert read_raise(said(budget="tokens", amount="100k tokens", for_s=1), NOW, control).amount == 100_000


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"budget": "none"}, "'none' is not one of those configured: team, tokens"),
        ({"amount": "100 tokens"}, "counts usd, not tokens"),
        ({"budget": "tokens"}, "counts tokens, not usd"),
        ({"amount": "5"}, "not an amount"),
        ({"amount": "-5 USD"}, "not an amount"),
        ({"amount": "0 USD"}, "needs an amount"),
        ({"amount": "NaN USD"}, "not an amount"),
        ({"amount": "1e30 USD"}, "not an amount"),
        ({"amount": "9000001 USD"}, "the most that can be counted"),
        ({"for_s": 0}, "for_s"),
        ({"for_s": MOST_SECONDS * 2}, "for_s"),
    ],
)
def test_what_is_no_raise_is_told(control_of: Maker, fields: dict[str, Any], told: str) -> None:
    control = control_of(budget("team"), budget("tokens", 1000, Unit.TOKENS))
    with pytest.raises(ValueError, match=told):
        read_raise(said(**{"budget": "team", "amount": "5 USD", "for_s": 60, **fields}), NOW, control)


# ---- simulation ---------------------------------------------------------------------------------


def test_a_simulated_call_is_told_its_price_and_what_it_would_hold(control_of: Maker) -> None:
    control = control_of(budget("all"), budget("calls", 5, Unit.CALLS))
    found = simulate(control, SimulatedCall(model="known", input_tokens=1000, max_tokens=100), NOW)
    assert found["decision"] == "allow"
    assert Decimal(found["most_usd"]) == Decimal("0.002")  # 1,000 x 1 USD/Mtok + 100 x 10 USD/Mtok
    assert found["price"]["grade"] == "configured"
    assert [(one["budget"], one["amount"]) for one in found["holds"]] == [
        ("all", "0.002 USD"),
        ("calls", "1 call"),
    ]
    assert found["max_tokens"] is None


def test_nothing_is_held_by_asking(control_of: Maker) -> None:
    control = control_of(budget("all", 2 * USD // 1000))
    asked = SimulatedCall(model="known", input_tokens=1000, max_tokens=100)
    for _ in range(5):
        assert simulate(control, asked, NOW)["decision"] == "allow"
    assert [(slot.spent, slot.held) for slot in control.state.slots()] == [(0, 0)]


def test_a_call_without_room_is_told_the_budget_and_why(control_of: Maker) -> None:
    control = control_of(budget("wide"), budget("tight", 1000))
    found = simulate(control, SimulatedCall(model="known"), NOW)
    assert (found["decision"], found["rule"], found["reason"]) == ("refuse", "tight", "budget_exceeded")
    assert "'tight'" in found["message"]


def test_what_was_spent_before_counts_also_right_after_a_start(control_of: Maker) -> None:
    """What a store remembers of the time before the process began is known to the first question."""
    ladder = Ladder(source=Match.of({"model": "known"}), to=("small",))
    at = (Threshold(8000, Action.DOWNGRADE),)
    control = control_of(budget("all", USD, at=at), ladders=[ladder])
    [slot] = control.state.slots_of(Ask(call_id="", model="known"), NOW)
    control.store.settle("before", [Claim(slot.counter, USD * 8 // 10)], 1)
    asked = SimulatedCall(model="known")
    assert simulate(control, asked, NOW)["decision"] == "downgrade"
    control.store.settle("before", [Claim(slot.counter, USD)], 2)
    control = control_of(budget("all", USD))
    control.store.settle("before", [Claim(slot.counter, USD)], 1)
    assert simulate(control, asked, NOW)["decision"] == "refuse"


def test_a_downgrade_is_simulated_with_its_rule(control_of: Maker) -> None:
    ladder = Ladder(source=Match.of({"model": "known"}), to=("small",))
    control = control_of(budget(), ladders=[ladder])
    control.state.direct(directive(said(action="downgrade", match={"agent": "a"}, id="d1")))
    found = simulate(control, SimulatedCall(model="known", agent="a"), NOW)
    assert (found["decision"], found["to"], found["rule"]) == ("downgrade", ["small"], "d1")
    assert simulate(control, SimulatedCall(model="known", agent="b"), NOW)["decision"] == "allow"


def test_an_unpriced_model_is_told_so_where_the_budget_refuses_it(control_of: Maker) -> None:
    control = control_of(budget(refuse_unpriced=True))
    found = simulate(control, SimulatedCall(model="nobody-knows-1"), NOW)
    assert (found["decision"], found["reason"]) == ("refuse", "unpriced_model")
    assert found["price"]["grade"] == "prior"


@pytest.mark.parametrize("fields", [{"input_tokens": -1}, {"max_tokens": -1}, {"max_token": 5}, {"model": 7}])
def test_what_is_no_call_is_told(fields: dict[str, Any]) -> None:
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(said(**{"model": "known", **fields}), type=SimulatedCall)

"""Budgets rebuilt from the journal are what the live path has counted, to the nano-USD."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.domain.credit import Unit
from collector.domain.policy import Allow, Ask, Budget, Lease, Match, Policy, State, Window, decide
from collector.domain.record import AttemptRecord, CallRecord, Intent
from sidecar.budgets.charges import amounts_of, ask_of, charges_by

NOON = 1_764_072_000 * 1_000_000  # 2025-11-25 12:00 UTC
DAY_US = 86_400_000_000


def attempt(**said: object) -> AttemptRecord:
    blank = {
        name: 0 if kind is int else None if "None" in str(kind) else ""
        for name, kind in AttemptRecord.__annotations__.items()
    }
    return AttemptRecord(**{**blank, "http_status": 200, "usage_grade": "reported", **said})  # type: ignore[arg-type]


def record(*attempts: AttemptRecord, **said: object) -> CallRecord:
    blank: dict[str, object] = {}
    for name, kind in CallRecord.__annotations__.items():
        text = str(kind)
        blank[name] = (
            {} if text.startswith("dict") else [] if text.startswith("list") else 0 if kind is int else ""
        )
    paid = sum(one.effective_cost_pico for one in attempts)
    return CallRecord(
        **{  # type: ignore[arg-type]
            **blank,
            "call_id": "c",
            "started_at_us": NOON,
            "effective_cost_pico": paid,
            "attempts": attempts,
            **said,
        }
    )


def intent(**said: object) -> Intent:
    blank: dict[str, object] = {}
    for name, kind in Intent.__annotations__.items():
        blank[name] = {} if str(kind).startswith("dict") else 0 if kind is int else ""
    return Intent(**{**blank, "call_id": "c", "started_at_us": NOON, **said})  # type: ignore[arg-type]


def budget(name: str, unit: Unit = Unit.USD, **more: object) -> Budget:
    return Budget(**{"name": name, "limit": 10**12, "unit": unit, "window": Window.parse("day"), **more})  # type: ignore[arg-type]


ALL = Policy(
    budgets=[
        budget("money"),
        budget("tokens", Unit.TOKENS),
        budget("calls", Unit.CALLS),
        budget("team", match=Match.of({"team": "search"})),
        budget("agents", each="agent"),
    ]
)


def spent(told: CallRecord | Intent, policy: Policy = ALL) -> dict[str, int]:
    return {claim.counter.budget: claim.amount for claim in charges_by(lambda: policy)(told)}


def test_a_record_charges_every_budget_that_its_call_touched() -> None:
    told = record(
        attempt(input_tokens=1000, output_tokens=100, effective_cost_pico=2_000_000_001),
        agent="planner",
        team="other",
    )
    # 2,000,000.001 nano-USD, rounded up
    assert spent(told) == {"money": 2_000_001, "tokens": 1100, "calls": 1, "agents": 2_000_001}


def test_every_attempt_is_paid_for_and_the_call_counts_once() -> None:
    told = record(
        attempt(input_tokens=10, output_tokens=1, effective_cost_pico=1500),
        attempt(input_tokens=20, output_tokens=2, effective_cost_pico=1500),
    )
    # rounded up once for the call, as its settlement was
    assert spent(told) == {"money": 3, "tokens": 33, "calls": 1, "agents": 3}


@pytest.mark.parametrize("attempts", [(), (attempt(http_status=None, usage_grade=""),)])
def test_a_call_that_never_reached_a_provider_charges_nothing(attempts: tuple[AttemptRecord, ...]) -> None:
    assert spent(record(*attempts)) == {}


def test_a_providers_error_costs_nothing_and_is_a_call_all_the_same() -> None:
    assert spent(record(attempt(http_status=500, usage_grade=""))) == {"calls": 1}


def test_an_intent_without_a_record_charges_its_hold() -> None:
    told = intent(hold_input_tokens=100, hold_output_tokens=900, hold_cost_pico=9_000_000_999, team="search")
    assert spent(told) == {
        "money": 9_000_001,
        "tokens": 1000,
        "calls": 1,
        "team": 9_000_001,
        "agents": 9_000_001,
    }


def test_a_call_is_charged_to_the_window_of_its_admission_whatever_the_clock_says_now() -> None:
    before_midnight = NOON + DAY_US // 2 - 1
    [claim] = charges_by(lambda: Policy(budgets=[budget("money")]))(
        record(attempt(effective_cost_pico=1000), started_at_us=before_midnight, duration_us=3_600_000_000)
    )
    assert claim.counter.window == "day:2025-11-25"


def test_the_policy_in_force_when_it_is_asked_counts() -> None:
    policy = Policy()
    charges = charges_by(lambda: policy)
    told = record(attempt(effective_cost_pico=1000))
    assert charges(told) == []
    policy = ALL
    assert charges(told) != []


def test_a_record_says_of_its_call_what_the_call_said_of_itself() -> None:
    told = record(
        request_model="m",
        api="openai.chat",
        upstream="u",
        tenant="t",
        team="e",
        user_id="us",
        agent="a",
        conversation_id="v",
        task_id="k",
        key_id="y",
        tags={"env": "prod"},
    )
    said = ask_of(told)
    wanted = Ask(
        call_id="c", model="m", api="openai.chat", upstream="u", tenant="t", team="e", user="us", agent="a",
        conversation="v", task="k", key="y", tags={"env": "prod"},
    )  # fmt: skip
    names = [name for name in dir(wanted) if not name.startswith("_")]
    assert {name: getattr(said, name) for name in names} == {name: getattr(wanted, name) for name in names}


@given(st.lists(st.integers(0, 10**13), min_size=1, max_size=6), st.integers(0, 2**31))
def test_what_a_live_call_settles_is_what_its_record_charges(costs: list[int], seed: int) -> None:
    """The law behind a rebuild: one call, settled by its lease and read back from the books."""
    chance = random.Random(seed)
    tries = [
        attempt(
            effective_cost_pico=cost,
            input_tokens=chance.randrange(10**6),
            output_tokens=chance.randrange(10**5),
        )
        for cost in costs
    ]
    told = record(*tries, agent="a", team="search")
    asked = ask_of(told)
    allow = decide(ALL, State(ALL), asked, told.started_at_us)
    assert isinstance(allow, Allow)
    lease = Lease(asked, allow.claims, allow.growing, allow.output_tokens, allow.output_cap)
    tokens = sum(one.input_tokens + one.output_tokens for one in tries)
    settled = dict(
        zip(
            [claim.counter.budget for claim in lease.claims],
            lease.settlement(sum(costs), tokens, 1),
            strict=True,
        )
    )
    assert spent(told) == {name: amount for name, amount in settled.items() if amount}
    assert amounts_of(told)[Unit.CALLS] == 1

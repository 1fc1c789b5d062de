"""Planted waste is found, what was useful is left alone, and the bill adds up to the last digit."""

from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.turns import Turn
from collector.domain.waste import LEFT_ALONE_US, Bill, Waste, judge
from sidecar.wire.hashing import call_digest
from tests.collector.domain.planted import SECOND, Talk

HELD_OUT = range(900, 940)
LATER_US = LEFT_ALONE_US + 3600 * SECOND


def judged(talk: Talk, **known: object) -> Bill:
    return judge(talk.turns, talk.turns[-1].ended_us + LATER_US, **known)  # type: ignore[arg-type]


# ---- what can be planted: each returns the calls that are waste ---------------------------


def failed(talk: Talk) -> list[str]:
    talk.say(talk.words(200))
    turn = talk.call(outcome="failed", error_type="server_error", reply_hash=0, calls=())
    talk.messages.pop()
    talk.say(talk.words(100))
    return [turn.call_id]


def retried_by_the_agent(talk: Talk) -> list[str]:
    talk.say(talk.words(200))
    turn = talk.call(outcome="failed", error_type="upstream_timeout_first_byte", reply_hash=0, calls=())
    talk.messages.pop()
    talk.call()
    return [turn.call_id]


def abandoned(talk: Talk) -> list[str]:
    talk.say(talk.words(200))
    turn = talk.call(outcome="abandoned", calls=())
    talk.messages.pop()
    talk.say(talk.words(300))
    return [turn.call_id]


def duplicate(talk: Talk) -> list[str]:
    talk.say(talk.words(200))
    talk.call()
    kept = talk.messages.pop()
    turn = talk.call()
    talk.messages[-1] = kept
    return [turn.call_id]


def looped(talk: Talk) -> list[str]:
    wasted = []
    arguments = talk.words(40).encode()
    for number in range(talk.random.randint(6, 15)):
        talk.say("Error: no such table 'orders'", "tool")
        turn = talk.call(calls=(call_digest("query", arguments),), answer="")
        if number:
            wasted.append(turn.call_id)
    return wasted


def cache_broken(talk: Talk) -> list[str]:
    if talk.turns[-1].input_tokens < 1400:
        talk.say(talk.words(6000), "tool")
        talk.call()
        talk.grow(1)
    talk.tools.reverse()
    talk.say(talk.words(100))
    return [talk.call().call_id]


def oversized(talk: Talk) -> list[str]:
    talk.say(talk.words(talk.random.randint(50_000, 90_000)), "tool")
    wasted = []
    for number in range(talk.random.randint(8, 16)):
        turn = talk.call(wait_s=1)
        talk.say(talk.words(150))
        if number > 3:
            wasted.append(turn.call_id)
    return wasted


def reasoning(talk: Talk) -> list[str]:
    talk.say("Yes or no?")
    turn = talk.call(answer="Yes.")
    thought = talk.random.randint(3_000, 30_000)
    cost = turn.cost_pico + thought * turn.rates.output
    talk.turns[-1] = turn._replace(
        output_tokens=turn.output_tokens + thought, reasoning_tokens=thought, cost_pico=cost, list_pico=cost
    )
    return [turn.call_id]


PLANTS: dict[Waste, list[Callable[[Talk], list[str]]]] = {
    Waste.FAILED: [failed],
    Waste.RETRIED: [retried_by_the_agent],
    Waste.ABANDONED: [abandoned],
    Waste.DUPLICATE: [duplicate],
    Waste.LOOPED: [looped],
    Waste.CACHE_BROKEN: [cache_broken],
    Waste.OVERSIZED_CONTEXT: [oversized],
    Waste.UNNEEDED_REASONING: [reasoning],
}


class Score(NamedTuple):
    found: int = 0
    missed: int = 0
    false: int = 0

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.false)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.found + self.missed)


@pytest.mark.parametrize("waste", PLANTS)
@pytest.mark.parametrize("kind", ["automatic", "marked"])
def test_planted_waste_is_found_and_nothing_else_is_taken_for_it(waste: Waste, kind: str) -> None:
    score = Score()
    for plant in PLANTS[waste]:
        for seed in HELD_OUT[:8] if waste is Waste.OVERSIZED_CONTEXT else HELD_OUT:
            talk = Talk(seed, kind)
            talk.grow(talk.random.randint(2, 10))
            planted = {(call_id, waste) for call_id in plant(talk)}
            before = len(talk.turns)
            if talk.messages[-1][0] == "assistant":
                talk.say(talk.words(50))
            talk.call()
            talk.grow(talk.random.randint(1, 6))
            talk.turns[-1] = talk.turns[-1]._replace(calls=())
            if waste is Waste.OVERSIZED_CONTEXT:  # It is still carried along.
                planted |= {(turn.call_id, waste) for turn in talk.turns[before:]}

            found = {(one.call_id, one.waste) for one in judged(talk).verdicts}

            score = Score(
                score.found + len(found & planted),
                score.missed + len(planted - found),
                score.false + len(found - planted),
            )

    assert score.precision > 0.9, score
    assert score.recall > 0.9, score


def test_a_conversation_without_waste_has_none() -> None:
    for seed in HELD_OUT:
        talk = Talk(seed)
        talk.grow(12)
        talk.turns[-1] = talk.turns[-1]._replace(calls=())

        assert judged(talk).verdicts == []


def test_tools_that_nobody_answered_are_an_abandoned_run_after_half_an_hour() -> None:
    talk = Talk(1)
    talk.grow(3)
    talk.say("And now?")
    last = talk.call(tool="search")

    (verdict,) = judged(talk).verdicts
    early = judge(talk.turns, last.ended_us + SECOND)

    assert (verdict.call_id, verdict.waste, verdict.whole) == (last.call_id, Waste.ABANDONED, True)
    assert early.verdicts == []


def test_a_failed_task_makes_its_calls_failed_unless_they_were_wasted_otherwise() -> None:
    talk = Talk(2)
    talk.grow(3)
    duplicate(talk)
    talk.turns[-1] = talk.turns[-1]._replace(calls=())
    tasks = {turn.call_id for turn in talk.turns}

    verdicts = judged(talk, failed_tasks=tasks).verdicts

    assert sum(one.cost_pico for one in verdicts) == sum(turn.cost_pico for turn in talk.turns)
    assert [one.waste for one in verdicts].count(Waste.DUPLICATE) == 1


def test_attempts_that_failed_before_one_was_answered_are_retries() -> None:
    talk = Talk(3)
    talk.grow(1)
    turn = talk.turns[0]
    talk.turns[0] = turn._replace(cost_pico=turn.cost_pico + 777, failed_pico=777, calls=())

    (verdict,) = judged(talk).verdicts

    assert (verdict.waste, verdict.cost_pico, verdict.whole) == (Waste.RETRIED, 777, False)


def test_a_repeated_call_of_another_conversation_names_the_one_that_was_answered() -> None:
    talk = Talk(4)
    talk.grow(1)
    talk.turns[0] = talk.turns[0]._replace(calls=())

    (verdict,) = judged(talk, answered={talk.turns[0].call_id: "earlier"}).verdicts

    assert (verdict.waste, verdict.because) == (Waste.DUPLICATE, ("earlier",))


def test_at_half_the_list_price_half_is_wasted() -> None:
    talk = Talk(5)
    reasoning(talk)
    turn = talk.turns[0]
    (full,) = judged(talk).verdicts
    talk.turns[0] = turn._replace(cost_pico=turn.cost_pico // 2)

    (half,) = judged(talk).verdicts

    assert full.cost_pico // 2 - 1 <= half.cost_pico <= full.cost_pico // 2 + 1


amounts = st.integers(0, 10**9)
tokens = st.integers(0, 200_000)


@st.composite
def any_turns(draw: st.DrawFn) -> list[Turn]:
    """Whatever a ledger may hold, likely or not."""
    turns = []
    hashes = draw(st.lists(st.integers(1, (1 << 63) - 1), max_size=6))
    for number in range(draw(st.integers(0, 6))):
        read = draw(tokens)
        turns.append(
            Turn(
                call_id=str(number),
                started_us=number * SECOND,
                ended_us=number * SECOND + draw(st.integers(0, 2 * SECOND)),
                model=draw(st.sampled_from(("a", "b"))),
                outcome=draw(st.sampled_from(("served", "failed", "cut", "abandoned", "refused", "reused"))),
                cost_pico=draw(amounts),
                list_pico=draw(amounts),
                failed_pico=draw(amounts),
                input_tokens=read + draw(tokens),
                output_tokens=draw(tokens),
                reasoning_tokens=draw(tokens),
                cache_read_tokens=read,
                cache_write_tokens=draw(st.integers(0, 100)),
                hashes=hashes[: draw(st.integers(0, 6))],
                calls=draw(st.lists(st.sampled_from((5, 6)), max_size=1)),
                said=draw(st.sampled_from((0, 7))),
                tools=draw(st.sampled_from((0, 3))),
            )
        )
    return turns


@given(turns=any_turns(), failed_tasks=st.sets(st.sampled_from("0123"), max_size=2))
@settings(max_examples=200, deadline=None)
def test_no_call_is_ever_billed_for_more_than_it_cost(turns: list[Turn], failed_tasks: set[str]) -> None:
    bill = judge(turns, 10**15, failed_tasks=failed_tasks)

    billed: dict[str, int] = {}
    for one in bill.verdicts:
        assert one.cost_pico > 0
        billed[one.call_id] = billed.get(one.call_id, 0) + one.cost_pico
    cost = {turn.call_id: turn.cost_pico for turn in turns}
    assert all(amount <= cost[call_id] for call_id, amount in billed.items())
    assert all(one.cost_pico == cost[one.call_id] for one in bill.verdicts if one.whole)

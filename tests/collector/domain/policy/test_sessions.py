"""Five dollars for each conversation, on recorded coding sessions that cost up to hundreds."""

from pathlib import Path

import pytest

from collector.domain.policy import Budget, Crossing, HoldSize, Window
from tests.collector.domain.policy.sessions import (
    Desk,
    SessionCall,
    crossings,
    one_after_another,
    overlapping,
    sessions,
)

LIMIT_PICO = 5 * 10**12
SOME_OR_ALL = [
    pytest.param(12, id="some"),
    pytest.param(1, id="all", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
]


def five_dollars(hold: HoldSize | None = None, crossing: Crossing | None = None) -> Budget:
    return Budget(
        name="five dollars",
        limit=5 * 10**9,
        window=Window.parse("total"),
        each="conversation",
        hold=hold,
        crossing=crossing,
    )


def recorded(shared_data: Path, every: int) -> list[list[SessionCall]]:
    folder = shared_data / "llm_traces"
    return list(sessions(folder, sorted(crossings(folder, 5))[::every]))


@pytest.mark.parametrize("every", SOME_OR_ALL)
def test_a_conversation_ends_after_the_call_that_crosses_its_budget_and_never_before(
    shared_data: Path, every: int
) -> None:
    crossing = crossings(shared_data / "llm_traces", 5)
    desk = Desk(five_dollars())

    for calls in recorded(shared_data, every):
        outcome = one_after_another(desk, calls, LIMIT_PICO)

        crosses = crossing[calls[0].session]
        is_last = crosses is None or crosses == len(calls) - 1
        assert outcome.first_refused == (None if is_last or crosses is None else crosses + 1)
        assert outcome.spent_pico < LIMIT_PICO + outcome.dearest_pico
        assert outcome.falsely == 0


@pytest.mark.parametrize("every", SOME_OR_ALL)
def test_learned_holds_refuse_falsely_at_most_a_tenth_of_what_worst_case_holds_do(
    shared_data: Path, every: int
) -> None:
    """Sub-agents overlap as they did; a refused call is not tried again."""
    recordings = recorded(shared_data, every)
    learned = Desk(five_dollars())
    worst = Desk(five_dollars(HoldSize.WHOLE, Crossing.REFUSE))

    falsely_learned = sum(overlapping(learned, calls, LIMIT_PICO).falsely for calls in recordings)
    falsely_worst = sum(overlapping(worst, calls, LIMIT_PICO).falsely for calls in recordings)

    assert falsely_worst > 500
    assert falsely_learned * 10 <= falsely_worst


@pytest.mark.parametrize("every", SOME_OR_ALL)
def test_a_conversation_that_must_not_cross_its_budget_does_not(shared_data: Path, every: int) -> None:
    desk = Desk(five_dollars(crossing=Crossing.REFUSE))

    spent = [overlapping(desk, calls, LIMIT_PICO).spent_pico for calls in recorded(shared_data, every)]

    assert max(spent) <= LIMIT_PICO
    assert max(spent) > LIMIT_PICO // 2


@pytest.mark.parametrize("every", SOME_OR_ALL)
def test_of_a_hundred_calls_about_one_outgrows_its_learned_hold(shared_data: Path, every: int) -> None:
    """Each call is foretold from those before it, over all sessions, models and agents."""
    desk = Desk(five_dollars())
    experience = desk.state.experience
    told = outgrown = 0
    for calls in recorded(shared_data, every):
        for call in calls:
            agent = "main" if call.agent == "main" else "sub"
            high = experience.expected(call.model, agent, "anthropic.messages", call.continues).output_high
            if high is not None:
                told += 1
                outgrown += call.output_tokens > high
            experience.learn(call.model, agent, "anthropic.messages", call.continues, call.output_tokens)

    assert told > 1_000
    assert 0.003 < outgrown / told < 0.015

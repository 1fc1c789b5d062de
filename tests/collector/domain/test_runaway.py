"""Loops of many shapes are found early; conversations that get somewhere are left alone."""

import random
from collections.abc import Callable, Iterator
from itertools import chain, islice
from pathlib import Path

import pytest

from collector.domain.runaway import FLAG_AT, HUNDRED, KEPT, STOP_AT, Habits, Step, Track, observe, reason
from tests.collector.domain.loops import SHAPES, Agent, ordinary

LOOP_STEPS = 400


def stops_at(steps: Iterator[Step], habits: Habits | None = None) -> int | None:
    """After how many steps a conversation is stopped; None where it is not."""
    track = Track()
    habits = habits or Habits()
    stopped = None
    for number, step in enumerate(steps, 1):
        observe(track, step)
        habits.reached(track)
        if stopped is None and track.score >= STOP_AT + habits.allowance():
            return number
    habits.ended(track)
    return None


@pytest.mark.parametrize("shape", SHAPES)
def test_a_loop_is_stopped_before_a_twentieth_of_its_money_is_gone(
    shape: Callable[[Agent], Iterator[Step]],
) -> None:
    for seed in range(40):
        agent = Agent(seed)
        began = list(agent.work(agent.random.randint(0, 30)))
        loop = list(islice(shape(agent), LOOP_STEPS))

        stopped = stops_at(iter(began + loop))

        assert stopped is not None
        burned = sum(step.cost_pico for step in (began + loop)[len(began) : stopped])
        assert burned * 20 < sum(step.cost_pico for step in loop), (seed, stopped - len(began))


def test_of_a_thousand_ordinary_conversations_fewer_than_one_is_stopped() -> None:
    habits = Habits()

    stopped = [seed for seed in range(1000) if stops_at(ordinary(Agent(seed)), habits) is not None]

    assert stopped == []


def test_a_loop_is_stopped_among_ordinary_conversations_of_the_same_agent() -> None:
    habits = Habits()
    for seed in range(200):
        stops_at(ordinary(Agent(seed)), habits)

    for shape in SHAPES:
        stopped = stops_at(islice(shape(Agent(1)), LOOP_STEPS), habits)
        assert stopped is not None
        assert stopped <= LOOP_STEPS // 20


def test_an_agent_that_waits_as_a_habit_is_stopped_later() -> None:
    habits = Habits()

    def waits(seed: int, times: int) -> Iterator[Step]:
        agent = Agent(seed)
        waiting = (agent.step("status", "{}", "still running", grows=False) for _ in range(times))
        return chain(agent.work(5), waiting, agent.work(2))

    assert stops_at(waits(0, 7), Habits()) is not None
    for seed in range(60):
        stops_at(waits(seed, 6), habits)

    assert stops_at(waits(99, 7), habits) is None
    assert stops_at(waits(99, 40), habits) is not None


def test_a_conversation_that_was_let_go_on_begins_anew_and_its_agent_is_stopped_later() -> None:
    habits, track, agent = Habits(), Track(), Agent(3)
    for step in islice(SHAPES[0](agent), 10):
        observe(track, step)
    assert track.score >= STOP_AT

    track.forgive()
    habits.tolerate()

    assert track.score == 0
    assert habits.allowance() == 2 * HUNDRED


def test_spending_far_above_the_usual_path_is_flagged_and_does_not_stop_by_itself() -> None:
    habits = Habits()
    for seed in range(60):
        stops_at(Agent(seed).work(70), habits)
    track, agent = Track(), Agent(7)
    for step in agent.work(64):
        observe(track, step._replace(cost_pico=step.cost_pico * 200))
        habits.reached(track)

    assert FLAG_AT <= track.score < STOP_AT
    assert "cost far more than this agent's usually do" in reason(track)


def test_steps_that_suddenly_cost_a_multiple_raise_the_score() -> None:
    track, agent = Track(), Agent(7)
    for step in agent.work(40):
        observe(track, step)
    before = track.score
    for step in agent.work(10):
        observe(track, step._replace(cost_pico=step.cost_pico * 40))

    assert before < HUNDRED
    assert track.change > 0
    assert track.score < STOP_AT


def test_what_is_remembered_of_a_conversation_is_bounded() -> None:
    track = Track()
    for step in Agent(1).work(5_000):
        observe(track, step)

    assert len(track._seen) == 4 * KEPT
    assert track.steps == 5_000


def test_real_coding_sessions_are_left_alone(shared_data: Path) -> None:
    """Their texts are not given: a step's result is told by the blocks it added, its call by itself."""
    pq = pytest.importorskip("pyarrow.parquet")
    names = ["trace_id", "agent_id", "seq", "t_s", "subagent_t0_s", "input_tokens", "output_tokens"]
    names += ["block_ranges", "stop"]
    rows = pq.read_table(
        shared_data / "llm_traces" / "agentic_coding_sessions.parquet", columns=names
    ).to_pylist()
    rows.sort(key=lambda row: (row["trace_id"], row["t_s"] + (row["subagent_t0_s"] or 0.0)))
    habits, tracks = Habits(), {}
    stopped = set()
    chance = random.Random(5)
    for row in rows:
        track = tracks.setdefault(row["trace_id"], Track())
        last = row["block_ranges"].rsplit(",", 1)[-1]
        asks = row["stop"] == "tool_use"
        step = Step(
            calls=(chance.getrandbits(63),) if asks else (),
            reply=0 if asks else chance.getrandbits(63),
            role="tool" if row["seq"] else "user",
            said=hash((row["trace_id"], last)) & ((1 << 62) - 1) | 1,
            state=hash((row["trace_id"], row["block_ranges"])) & ((1 << 62) - 1) | 1,
            input_tokens=row["input_tokens"],
            cost_pico=row["input_tokens"] * 300_000 + row["output_tokens"] * 15_000_000,
        )
        observe(track, step)
        habits.reached(track)
        if track.score >= STOP_AT:
            stopped.add(row["trace_id"])

    assert len(tracks) == 348
    assert not stopped

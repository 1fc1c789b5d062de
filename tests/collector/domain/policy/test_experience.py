"""What is learned of replies: a promise that holds, in little memory, the same in every process."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.domain.policy.experience import MEMORY, Experience, Histogram

GROUP = ("m", "a", "api", False)


@settings(max_examples=100, deadline=None)
@given(sizes=st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_a_histogram_knows_sizes_to_within_a_sixteenth_and_never_too_low(sizes: list[int]) -> None:
    histogram = Histogram()
    for size in sizes:
        histogram.learn(size)
    histogram.estimate()

    if len(sizes) >= 10:
        median = sorted(sizes)[(len(sizes) + 1) // 2 - 1]
        assert median <= histogram.typical <= max(median + median / 16, median)
    assert histogram.high is None  # 99 in 100 of less than 99 calls are unknown


def test_99_calls_are_enough_to_promise_and_98_are_not() -> None:
    experience = Experience()
    for size in range(98):
        experience.learn(*GROUP, size)
    assert experience.expected(*GROUP).output_high is None

    experience.learn(*GROUP, 98)

    assert experience.expected(*GROUP).output_high in range(98, 105)


@pytest.mark.parametrize("growing", [False, True], ids=["steady", "growing"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_one_call_in_a_hundred_outgrows_the_promise_also_while_calls_grow(seed: int, growing: bool) -> None:
    dice = random.Random(seed)
    experience = Experience()
    promised = outgrown = 0
    for number in range(20_000):
        size = round(dice.lognormvariate(5, 1) * (1 + number / 5_000 * growing))
        high = experience.expected(*GROUP).output_high
        if high is not None:
            promised += 1
            outgrown += size > high
        experience.learn(*GROUP, size)

    assert promised > 19_000
    assert outgrown / promised == pytest.approx(0.01, abs=0.003)


def test_nothing_is_promised_after_a_row_of_misses_and_again_when_they_are_over() -> None:
    experience = Experience()
    for _ in range(1_000):
        experience.learn(*GROUP, 100)
    size = 200
    for _ in range(12):
        experience.learn(*GROUP, size)
        size *= 2
    assert experience.expected(*GROUP).output_high is None

    for _ in range(2_000):
        experience.learn(*GROUP, 100)

    assert experience.expected(*GROUP).output_high is not None


def test_what_one_agent_has_not_shown_is_taken_from_all_of_its_model() -> None:
    experience = Experience()
    for _ in range(150):
        experience.learn("m", "talker", "api", False, 1000, 500)
    assert experience.expected("m", "newcomer", "api", False).output_high == pytest.approx(1000, rel=1 / 16)

    for _ in range(150):
        experience.learn("m", "newcomer", "api", False, 10, 100)

    assert experience.expected("m", "newcomer", "api", False).output_high == 10
    assert experience.expected("m", "talker", "api", False).output_high == pytest.approx(1000, rel=1 / 16)
    assert experience.expected("other", "talker", "api", False) == (0, None, None)


def test_the_same_calls_make_the_same_promise_and_what_is_kept_is_read_again() -> None:
    def learned() -> Experience:
        dice = random.Random(7)
        experience = Experience()
        for _ in range(6_000):
            experience.learn(
                dice.choice("mn"), dice.choice("ab"), "api", dice.random() < 0.5, dice.randrange(9_000), 7
            )
        return experience

    kept = json.dumps(learned().plain())
    again = Experience()
    again.merge(json.loads(kept))

    assert json.dumps(learned().plain()) == kept
    assert json.dumps(again.plain()) == kept


def test_two_processes_together_know_what_one_would() -> None:
    dice = random.Random(3)
    sizes = [round(dice.lognormvariate(5, 1)) for _ in range(3_000)]
    one, left, right = Experience(), Experience(), Experience()
    for number, size in enumerate(sizes):
        one.learn(*GROUP, size)
        (left if number % 2 else right).learn(*GROUP, size)

    left.merge(right.plain())

    together, alone = left.expected(*GROUP).output_high, one.expected(*GROUP).output_high
    assert together is not None
    assert together == pytest.approx(alone, rel=0.2)


@pytest.mark.parametrize(
    "wrong", [["m"], ["m", "a", "api", False, 0, [[9999, 1]], 0, []], [1, 2, 3, 4, "x", 5, 6, 7], 3]
)
def test_what_is_no_experience_is_told(wrong: object) -> None:
    with pytest.raises(ValueError, match="not a row of experience"):
        Experience().merge([wrong])


def test_memory_is_bounded_in_calls_and_in_groups() -> None:
    experience = Experience(capacity=10)
    for number in range(3 * MEMORY):
        experience.learn("m", "", "api", False, number % 50_000, number % 1000)
        experience.learn(f"m{number % 100}", "", "api", False, 1)

    assert len(experience) == 10
    [row] = [row for row in experience.plain() if row[0] == "m"]
    assert sum(count for _, count in row[5]) <= MEMORY
    assert len(row[5]) < 400


def test_halving_forgets_calls_and_not_the_longest() -> None:
    histogram = Histogram()
    for number in range(10 * MEMORY):
        histogram.learn(5_000 if number % 50 == 0 else 10)

    assert histogram.total <= MEMORY
    assert histogram.high == pytest.approx(5_000, rel=1 / 16)

"""Nothing that calls, streams, clocks and raises do together makes the policy and plain books disagree."""

from collections import Counter

import pytest

from tests.collector.domain.policy.histories import run


def test_no_random_history_breaks_a_promise() -> None:
    seen: Counter[str] = Counter()
    for seed in range(100):
        seen.update(run(seed).decisions)
    # The histories go where it matters: calls are let in and turned away in plenty.
    assert seen["Allow"] > 1000
    assert seen["Refuse"] > 300


@pytest.mark.slow
def test_no_random_history_of_a_thousand_breaks_a_promise() -> None:
    for seed in range(1_000):
        run(10_000 + seed)

"""The forest ranks the strange point first and names the signal that makes it so."""

from random import Random

import pytest

from alerts.detectors.forest import Ranked, rank

NAMES = ("calls", "cost", "errors")


@pytest.mark.slow
def test_a_point_off_in_all_signals_is_ranked_first_and_one_off_in_one_is_given_that_signal() -> None:
    pytest.importorskip("sklearn", reason="the extra 'alerts' is not installed")
    random = Random(1)
    usual = [[random.gauss(0, 1) for _ in NAMES] for _ in range(300)]
    ranked = rank(usual[:290], [*usual[290:], [5.0, 9.0, 5.0], [0.1, 9.0, -0.1]], NAMES)

    assert max(ranked) == ranked[-2]
    assert ranked[-1].signal == "cost"
    assert rank(usual[:290], [[0.1, 9.0, -0.1]], NAMES) == [ranked[-1]]


def test_too_short_a_history_ranks_nothing() -> None:
    assert rank([[0.0, 0.0, 0.0]] * 10, [[9.0, 9.0, 9.0]], NAMES) == [Ranked(0.0, "")]

"""Similar answers are served only where enough of them have shown to be right."""

import pytest

from sidecar.cache.bound import MEMORY, MOST_BINS, Bound, place_of, wilson

SCOPE = b"scope"
NEAR = place_of(SCOPE, "same", 0.01)


def learned(right: int, wrong: int = 0, max_error: float = 0.01) -> Bound:
    bound = Bound(seed=1)
    for _ in range(right):
        bound.learn(NEAR, max_error, right=True)
    for _ in range(wrong):
        bound.learn(NEAR, max_error, right=False)
    return bound


def serves(bound: Bound, place: object = NEAR, max_error: float = 0.01) -> bool:
    return bound.serves(place, max_error, 0.0)  # type: ignore[arg-type]


def test_the_interval_is_wilsons() -> None:
    # 8 of 10 at z = 1.645: (0.8 + 0.1353 -+ 1.645 sqrt(0.016 + 0.00676)) / 1.2706, by hand.
    assert wilson(8, 10) == pytest.approx((0.5408, 0.9314), abs=5e-4)
    assert wilson(0, 0) == (0.0, 1.0)
    # All right: n / (n + z^2).
    assert wilson(268, 268)[0] == pytest.approx(268 / (268 + 2.7055), abs=1e-6)


def test_one_wrong_in_a_hundred_takes_268_right_ones_to_promise() -> None:
    assert not serves(learned(267))
    assert serves(learned(268))


def test_a_wrong_answer_closes_a_bin_until_enough_right_ones_have_come() -> None:
    assert not serves(learned(268, wrong=1))
    assert serves(learned(480, wrong=1))


def test_a_bin_speaks_for_its_own_scope_distance_and_wording_alone() -> None:
    bound = learned(300)
    assert not serves(bound, place_of(b"other", "same", 0.01))
    assert not serves(bound, place_of(SCOPE, "same", 0.03))
    assert not serves(bound, place_of(SCOPE, "rephrased", 0.01))


def test_a_share_of_what_could_be_served_is_compared_all_the_same() -> None:
    bound = learned(300)
    served = sum(bound.serves(NEAR, 0.01, 0.2) for _ in range(2000))
    assert 1500 < served < 1700  # 80 % of 2,000, four deviations of 18 to either side
    assert not any(bound.serves(NEAR, 0.01, 1.0) for _ in range(20))


def test_old_comparisons_fade_and_a_wrong_one_is_not_rounded_away() -> None:
    bound = learned(MEMORY - 1, wrong=1)
    bound.learn(NEAR, 0.01, right=True)
    assert (bound.bins[NEAR].right, bound.bins[NEAR].wrong) == (MEMORY // 2, 1)


def test_bins_are_bounded_and_those_that_learned_nothing_for_longest_leave() -> None:
    bound = learned(1)
    for number in range(MOST_BINS):
        bound.learn(place_of(str(number).encode(), "same", 0.0), 0.01, right=True)
    assert len(bound.bins) == MOST_BINS and NEAR not in bound.bins


def test_what_was_learned_is_recalled_and_heard_of_others() -> None:
    mine, other = learned(150), learned(150)
    again = Bound()
    again.recall(mine.told())
    assert not serves(again)
    again.hear("other", other.told())
    assert serves(again)
    again.hear("other", other.told())  # Told again, it counts once.
    assert again.measured() is not None and again.measured().compared == 300  # type: ignore[union-attr]


def test_the_error_that_is_told_is_that_of_bins_that_serve() -> None:
    bound = learned(998, wrong=2)
    for _ in range(50):
        bound.learn(place_of(b"bad", "same", 0.0), 0.01, right=False)
    measured = bound.measured()
    assert measured is not None
    assert measured.error == pytest.approx(0.002)
    assert measured.low < 0.002 < measured.high < 0.01
    assert bound.counts() == (1, 1)
    assert learned(3).measured() is None

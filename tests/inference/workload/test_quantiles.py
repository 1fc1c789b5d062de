from math import exp
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.workload.fitted import PATH, shipped_fit
from inference.workload.quantiles import PROBABILITIES, Quantiles, ks_distance


def test_a_fit_draws_what_it_was_fitted_on() -> None:
    random = Random(1)
    sample = [exp(random.gauss(6, 1)) for _ in range(5000)]
    fitted = Quantiles.fit(sample)
    drawn = [fitted.draw(random) for _ in range(20_000)]
    assert ks_distance(sample, drawn) < 0.02


def test_knots_are_hit_exactly() -> None:
    fitted = Quantiles(tuple(float(place) for place in range(len(PROBABILITIES))))
    for place, probability in enumerate(PROBABILITIES):
        assert fitted.at(probability) == pytest.approx(place)


@given(sample=st.lists(st.floats(0, 1e9), min_size=1, max_size=50), seed=st.integers(0, 1000))
def test_draws_stay_within_the_sample(sample: list[float], seed: int) -> None:
    fitted = Quantiles.fit(sample)
    value = fitted.draw(Random(seed))
    assert min(sample) * (1 - 1e-9) - 1e-9 <= value <= max(sample) * (1 + 1e-9) + 1e-9


@pytest.mark.parametrize(
    "knots", [(1.0,), tuple(range(len(PROBABILITIES), 0, -1)), (-1.0,) * len(PROBABILITIES)]
)
def test_knots_that_are_no_distribution_are_refused(knots: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="knots"):
        Quantiles(knots)


def test_the_distance_of_two_samples_is_the_largest_gap_of_their_shares() -> None:
    assert ks_distance([1, 2, 3, 4], [1, 2, 3, 4]) == 0
    assert ks_distance([1, 2], [3, 4]) == 1
    assert ks_distance([1, 2, 3, 4], [1, 2, 30, 40]) == 0.5


def test_the_shipped_fit_names_source_and_licence_of_each_trace_and_holds_no_rows() -> None:
    fit = shipped_fit()
    assert {source["licence"] for source in fit.sources.values()} == {"Apache-2.0", "CC-BY-4.0"}
    assert all(source["address"].startswith("https://") for source in fit.sources.values())
    assert len(fit.hour_of_day) == 24
    assert PATH.stat().st_size < 20_000

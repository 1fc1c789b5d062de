"""The curve of saving against error, from what was compared and given."""

from decimal import Decimal
from typing import Any

import pytest

from sidecar.cache.bound import wilson
from sidecar.cache.tuning import curve, steps_of, widest


def row(distance: float, compared: int, wrong: int, given: int = 0, likeness: str = "same") -> dict[str, Any]:
    money = {"asked_usd": f"{compared * 0.002:.3f}", "saved_usd": f"{given * 0.001:.3f}"}
    counts = {"compared": compared, "wrong": wrong, "given": given}
    return {"likeness": likeness, "distance": distance, **counts, **money}


def test_saving_and_error_add_up_with_the_distance() -> None:
    near, far = curve(steps_of([row(0.02, 100, 10), row(0.01, 300, 0)], ["same"]))
    assert (near.distance, near.near, near.error) == (0.01, 300, 0)
    assert (near.error_low, near.error_high) == wilson(0, 300)
    assert (far.distance, far.near, far.compared) == (0.02, 400, 400)
    assert far.error == pytest.approx(0.025)  # 10 of 400.
    assert far.saving_usd == Decimal("0.800")  # 400 calls at 0.002 USD.
    assert far.error_low < 0.025 < far.error_high


def test_what_was_compared_stands_for_what_was_given() -> None:
    (point,) = curve(steps_of([row(0.01, 10, 1, given=190)], ["same"]))
    assert (point.near, point.compared, point.error) == (200, 10, 0.1)
    assert point.saving_usd == Decimal(
        "0.210"
    )  # 10 at 0.002 USD that were asked, 190 at 0.001 that were not.
    # A step of many that were given weighs more than one of few: (200 * 0.1 + 100 * 0) / 300.
    assert curve(steps_of([row(0.01, 10, 1, given=190), row(0.02, 100, 0)], ["same"]))[1].error == (
        pytest.approx(1 / 15)
    )


def test_each_way_of_wording_has_its_curve() -> None:
    rows = [row(0.01, 300, 0), row(0.01, 100, 50, likeness="rephrased")]
    assert curve(steps_of(rows, ["same"]))[0].error == 0
    assert curve(steps_of(rows, ["same", "rephrased"]))[0].error == pytest.approx(0.125)


def test_the_widest_distance_is_one_that_keeps_to_the_error_for_sure() -> None:
    points = curve(steps_of([row(0.01, 300, 0), row(0.02, 300, 1), row(0.03, 300, 60)], ["same"]))
    assert wilson(0, 300)[1] < 0.01 < wilson(0, 200)[1]
    best = widest(points, 0.01)
    assert best is not None and best.distance == 0.01
    assert widest(points, 0.02) == points[1]
    assert widest(points, 0.001) is None and widest([], 0.5) is None


def test_a_step_that_was_never_compared_is_not_held_for_right() -> None:
    (point,) = curve(steps_of([row(0.01, 0, 0, given=50)], ["same"]))
    assert point.error is None and widest([point], 0.5) is None
    assert curve(steps_of([row(0.01, 300, 0), row(0.02, 0, 0, given=300)], ["same"]))[1].error_high > 0.5

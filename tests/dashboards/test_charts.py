"""What is drawn, and in which colours."""

import itertools
import math
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from dashboards import charts
from dashboards.charts import Bar, Series

CONFIG = Path(charts.__file__).parent / ".streamlit" / "config.toml"

# Machado, Oliveira and Fernandes 2009, severity 1.0: linear RGB as seen without one kind of cone.
VISION = {
    "all cones": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "no long ones": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "no middle ones": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "no short ones": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def linear(color: str) -> tuple[float, ...]:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return tuple(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)


def dot(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def seen(color: str, vision: str) -> tuple[float, float, float]:
    """CIE Lab of ``color`` as seen by ``vision``."""
    r, g, b = (min(1.0, max(0.0, dot(row, linear(color)))) for row in VISION[vision])
    x, y, z = (
        t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116
        for t in (
            (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
            0.2126 * r + 0.7152 * g + 0.0722 * b,
            (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
        )
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def contrast(one: str, other: str) -> float:
    lights = sorted(
        (
            sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear(color), strict=True))
            for color in (one, other)
        ),
        reverse=True,
    )
    return (lights[0] + 0.05) / (lights[1] + 0.05)


@pytest.mark.parametrize("appearance", ["light", "dark"])
@pytest.mark.parametrize("vision", list(VISION))
def test_no_two_colours_are_mixed_up_whatever_cones_an_eye_has(appearance: str, vision: str) -> None:
    theme = tomllib.loads(CONFIG.read_text())["theme"][appearance]
    colors = [*theme["chartCategoricalColors"], charts.REMAINDER_COLOR]
    assert len(theme["chartCategoricalColors"]) >= charts.MAX_SERIES
    nearest = min(
        math.dist(seen(one, vision), seen(other, vision)) for one, other in itertools.combinations(colors, 2)
    )
    assert nearest >= 20  # a difference of 2 is just noticeable, 10 is plain at a glance


@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_every_colour_stands_out_against_the_page(appearance: str) -> None:
    theme = tomllib.loads(CONFIG.read_text())["theme"][appearance]
    page = theme["backgroundColor"]
    for color in [*theme["chartCategoricalColors"], charts.REMAINDER_COLOR]:
        assert contrast(color, page) >= 3  # WCAG 1.4.11, graphical objects
    assert contrast(theme["textColor"], page) >= 7
    assert contrast(theme["primaryColor"], page) >= 3


def test_stacked_bars_hold_every_figure_and_only_the_remainder_has_a_colour_of_its_own() -> None:
    option = charts.stacked(
        ["10:00", "11:00"],
        [
            Series("gpt-5", [Decimal(1), Decimal(2)]),
            Series("All others", [Decimal(0), Decimal(3)], is_remainder=True),
        ],
    )
    source = option["dataset"]["source"]
    assert source.to_pydict() == {"time": ["10:00", "11:00"], "gpt-5": [1.0, 2.0], "All others": [0.0, 3.0]}
    assert [("itemStyle" in series) for series in option["series"]] == [False, True]
    assert {series["stack"] for series in option["series"]} == {"spend"}


def test_names_that_look_alike_stay_apart() -> None:
    option = charts.stacked(["t"], [Series("", [Decimal(1)]), Series("(none)", [Decimal(2)])])
    assert option["dataset"]["source"].column_names == ["time", "(none)", "(none) (2)"]
    assert charts.ranking([Bar("", Decimal(1)), Bar("(none)", Decimal(1))])["yAxis"]["data"] == [
        "(none)",
        "(none) (2)",
    ]


def test_an_agent_called_like_the_remainder_is_not_the_remainder() -> None:
    option = charts.ranking([Bar("All others", Decimal(2)), Bar("All others", Decimal(1), is_remainder=True)])
    first, second = option["series"][0]["data"]
    assert "itemStyle" not in first
    assert second["itemStyle"]["color"] == charts.REMAINDER_COLOR


def test_the_largest_come_first_and_ties_go_by_name() -> None:
    amounts = {"b": Decimal(1), "a": Decimal(1), "c": Decimal(5), "d": Decimal(0)}
    assert charts.top(amounts, 3) == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("largest", "form"), [("250", "$%,.2f"), ("2", "$%,.4f"), ("0.002", "$%.8f"), ("0", "$%.8f")]
)
def test_small_amounts_are_told_apart_in_tooltips(largest: str, form: str) -> None:
    assert charts.dollar_format(Decimal(largest)) == form

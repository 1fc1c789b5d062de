"""What is drawn, and in which colours."""

import itertools
import math
import tomllib
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from dashboards import charts, ink, model_charts, spend_charts
from dashboards.charts import Bar, Series
from dashboards.model_charts import Spot
from dashboards.spend_charts import Leaf

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


def test_every_area_of_the_map_is_known_by_its_number() -> None:
    """ECharts numbers a tree from its root down, each branch before the next."""
    leaves = [
        Leaf(("support", "bot", "small"), Decimal(1)),
        Leaf(("search", "planner", "large"), Decimal(3)),
        Leaf(("search", "planner", ""), Decimal(2)),
        Leaf(("search", "triage", "small"), Decimal(1)),
        Leaf(("All others",), Decimal("0.5")),
    ]
    assert spend_charts.branches(leaves) == [
        (),
        ("search",), ("search", "planner"), ("search", "planner", "large"), ("search", "planner", ""),
        ("search", "triage"), ("search", "triage", "small"),
        ("support",), ("support", "bot"), ("support", "bot", "small"),
        ("All others",),
    ]  # fmt: skip
    drawn = spend_charts.treemap(leaves)["series"][0]["data"]
    assert [(node["name"], node["value"]) for node in drawn] == [
        ("search", 6.0), ("support", 1.0), ("All others", 0.5)
    ]  # fmt: skip
    assert [node["name"] for node in drawn[0]["children"][0]["children"]] == ["large", "(none)"]


def spot(name: str, usd: float, got: float) -> Spot:
    return Spot(name=name, usd=usd, got=got)


def test_the_models_told_apart_are_those_that_no_other_beats_at_its_price() -> None:
    spots = [spot("good", 10, 95), spot("cheap", 1, 80), spot("worse", 12, 94), spot("dear", 11, 95),
             spot("twin", 1, 80)]  # fmt: skip
    assert [one.name for one in model_charts.best(spots, more_is_better=True)] == ["good", "cheap", "twin"]
    # Of milliseconds few are wanted: the cheapest, and what is faster for more money.
    slow = [spot("good", 10, 2000), spot("cheap", 1, 900), spot("fast", 5, 100)]
    assert [one.name for one in model_charts.best(slow, more_is_better=False)] == ["cheap", "fast"]


def test_the_names_of_models_that_are_alike_keep_clear_of_each_other() -> None:
    alone = model_charts.sides_of([spot("alone", 1, 100)], in_percent=False)
    assert alone == {"alone": "right"}
    # One right of the other: its name would run into the other's spot, and stands on the left.
    pair = [spot("gpt-5-nano", 0.05, 240), spot("qwen3-8b", 0.06, 250)]
    assert model_charts.sides_of(pair, in_percent=False) == {"gpt-5-nano": "left", "qwen3-8b": "right"}
    # At the axis there is no room but on the right: the other gives way.
    edge = [spot("at-the-axis", 1, 50), spot("beside-it", 1.3, 50)]
    assert model_charts.sides_of(edge, in_percent=True) == {"at-the-axis": "right", "beside-it": "top"}


def test_a_figure_without_neighbours_is_drawn_as_a_spot() -> None:
    option = charts.lines(list("abcd"), [charts.Line("gaps", [1.0, None, 2.0, 3.0]),
                                         charts.Line("whole", [1.5, 2.0, None, None])], "")  # fmt: skip
    assert [one["showSymbol"] for one in option["series"]] == [True, False]
    assert option["yAxis"]["minInterval"] == 0  # 1.5 is no count


@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_words_in_charts_can_be_read_on_the_page_they_are_drawn_on(appearance: str) -> None:
    page = tomllib.loads(CONFIG.read_text())["theme"][appearance]["backgroundColor"]
    assert contrast(ink.INKS[appearance], page) >= 6


def test_charts_are_written_in_the_ink_but_for_what_has_a_colour() -> None:
    option = ink.inked(charts.ranking([Bar("a", Decimal(1))]), "#123456")
    assert option["yAxis"]["axisLabel"]["color"] == "#123456"
    assert option["yAxis"]["axisLabel"]["width"] == 120  # what was said before is still there
    assert option["series"][0]["data"][0]["label"]["color"] == "#123456"
    limited = ink.inked(
        charts.stacked(["a"], [Series("s", [Decimal(1)])], [charts.Level("b", Decimal(2))]), "#1"
    )
    assert limited["legend"]["textStyle"]["color"] == "#1"
    assert limited["series"][0]["markLine"]["label"]["color"] == "inherit"
    areas = spend_charts.treemap([Leaf(("a",), Decimal(1))])
    assert ink.inked(areas, "#123456")["series"] == areas["series"]
    assert ink.inked(areas, "") is areas


def test_price_stands_across_and_what_is_got_for_it_upward_with_its_interval() -> None:
    judged = Spot(name="<b>", usd=2.0, got=75.0, share=0.25, between=(60.0, 86.0))
    option = model_charts.against(
        [judged, spot("worse", 3, 70)], "Tasks that succeed, %", more_is_better=True, in_percent=True
    )
    unbeaten, others = option["series"]
    (drawn,) = unbeaten["data"]
    assert (drawn["name"], drawn["value"], drawn["symbolSize"]) == ("<b>", [2.0, 75.0], 22.0)  # 10 + 24 / 2
    assert unbeaten["markLine"]["data"] == [[{"coord": [2.0, 60.0]}, {"coord": [2.0, 86.0]}]]
    assert [one["name"] for one in others["data"]] == ["worse"]
    assert "markLine" not in others
    assert option["yAxis"]["max"] == 100

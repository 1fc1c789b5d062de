"""ECharts options, made from figures: pure functions, no Streamlit.

A chart takes floats: it is drawn, not added up. Whatever is added up stays ``Decimal``
and is written beside the chart. Colours come from the theme (``.streamlit/config.toml``,
colour-blind safe in light and dark); only the remainder has one of its own.

Text in an option is plain text to ECharts: names are never markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa

from dashboards.display import plain, usd

Option = dict[str, Any]

REMAINDER = "All others"
REMAINDER_COLOR = "#8b929c"
"""A grey that stands out against neither page and is no one's."""

MORE, LESS = "#c8651b", "#2f7fc1"
"""Of what rose and what fell: orange and blue, which every kind of colour vision tells apart; the sign is
written, too."""

MAX_SERIES = 6
"""As many as the theme has colours that nobody mixes up."""

MAX_BARS = 8


@dataclass(frozen=True, slots=True)
class Series:
    """One coloured part of a stacked chart; one figure per step."""

    name: str
    figures: list[Decimal]
    is_remainder: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """One amount in USD and whose it is."""

    name: str
    amount: Decimal
    is_remainder: bool = False
    """It is nobody's in particular: what the other bars leave of the total."""


@dataclass(frozen=True, slots=True)
class Level:
    """A level that something is held against, such as a budget's limit; USD."""

    name: str
    amount: Decimal


def stacked(steps: Sequence[str], series: Sequence[Series], levels: Sequence[Level] = ()) -> Option:
    """Bars over time, one colour per series; a part of a bar can be clicked.

    Args:
        steps: the name of every step of time, in order.
        series: parts, the largest first; each as long as ``steps``.
        levels: limits of a step.
    """
    names = distinct([part.name for part in series])
    columns: dict[str, pa.Array] = {"time": pa.array(list(steps), pa.string())}
    columns |= {
        name: pa.array([float(figure) for figure in part.figures])
        for name, part in zip(names, series, strict=True)
    }
    heights = [sum((part.figures[i] for part in series), Decimal(0)) for i in range(len(steps))]
    return {
        "animationDuration": 300,
        "grid": {"left": 8, "right": 12, "top": 12, "bottom": 36, "containLabel": True},
        "legend": {"type": "scroll", "bottom": 0, "icon": "roundRect", "itemWidth": 12, "itemHeight": 12},
        "tooltip": {
            "trigger": "axis",
            "axisPointer": {"type": "shadow"},
            "valueFormatter": dollar_format(max(heights, default=0)),
            "confine": True,
        },
        "dataset": {"source": pa.table(columns)},
        "xAxis": {"type": "category", "axisTick": {"show": False}, "axisLabel": {"hideOverlap": True}},
        "yAxis": dollar_axis(heights, levels),
        "series": [
            {
                "type": "bar",
                "name": name,
                "stack": "spend",
                "selectedMode": "single",
                "cursor": "pointer",
                "encode": {"x": 0, "y": position},
                "barMaxWidth": 36,
                "barCategoryGap": "25%",
                "emphasis": {"focus": "series"},
                **({"itemStyle": {"color": REMAINDER_COLOR}} if part.is_remainder else {}),
                **(marked(levels) if position == 1 and levels else {}),
            }
            for position, (name, part) in enumerate(zip(names, series, strict=True), start=1)
        ],
    }


@dataclass(frozen=True, slots=True)
class Line:
    """One figure over time; ``None`` where nothing was measured, which is drawn as a gap."""

    name: str
    figures: list[float | None]


def lines(
    steps: Sequence[str],
    drawn: Sequence[Line],
    unit: str,
    *,
    most: float | None = None,
    in_steps: bool = False,
) -> Option:
    """Lines over time.

    Args:
        steps: the name of every step of time, in order.
        drawn: each as long as ``steps``.
        unit: written behind every figure, such as ``" W"``.
        most: where the axis ends; by the figures when not given.
        in_steps: for counts, which do not slope from one to the next.
    """
    names = distinct([line.name for line in drawn])
    figures = [figure for line in drawn for figure in line.figures]
    return {
        "animation": False,
        "grid": {"left": 8, "right": 12, "top": 12, "bottom": 36, "containLabel": True},
        "legend": {"type": "scroll", "bottom": 0, "icon": "roundRect", "itemWidth": 12, "itemHeight": 12},
        "tooltip": {"trigger": "axis", "valueFormatter": f"%,.1f{unit.replace('%', '%%')}", "confine": True},
        "xAxis": {
            "type": "category",
            "data": list(steps),
            "boundaryGap": False,
            "axisTick": {"show": False},
            "axisLabel": {"hideOverlap": True, "alignMinLabel": "left", "alignMaxLabel": "right"},
        },
        "yAxis": {
            "type": "value",
            "min": 0,
            "splitNumber": 4,
            "minInterval": int(all(figure is None or figure.is_integer() for figure in figures)),
            "axisLabel": {"formatter": f"{{value}}{unit}"},
            **({"max": most, "interval": most / 4} if most is not None else {}),
        },
        "series": [
            {
                "type": "line",
                "name": name,
                "showSymbol": stands_alone(line.figures),
                "connectNulls": False,
                "step": "middle" if in_steps else False,
                "lineStyle": {"width": 2},
                "data": list(line.figures),
            }
            for name, line in zip(names, drawn, strict=True)
        ],
    }


def stands_alone(figures: Sequence[float | None]) -> bool:
    """Whether some figure has no neighbour to draw a line to."""
    around = [None, *figures, None]
    return any(
        here is not None and before is None and after is None
        for before, here, after in zip(around, around[1:], around[2:], strict=False)
    )


def ranking(bars: Sequence[Bar]) -> Option:
    """Horizontal bars, the first on top; a bar can be clicked."""
    names = distinct([bar.name for bar in bars])
    largest = max((bar.amount for bar in bars), default=Decimal(0))
    return {
        "animationDuration": 300,
        "grid": {"left": 4, "right": 64, "top": 4, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "item", "valueFormatter": dollar_format(largest), "confine": True},
        "xAxis": {"type": "value", "show": False, "max": "dataMax"},
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": names,
            "axisTick": {"show": False},
            "axisLine": {"show": False},
            "axisLabel": {"width": 120, "overflow": "truncate"},
        },
        "series": [
            {
                "type": "bar",
                "name": "Spend",
                "selectedMode": "single",
                "cursor": "pointer",
                "barMaxWidth": 18,
                "itemStyle": {"borderRadius": [0, 3, 3, 0]},
                "data": [
                    {
                        "value": float(bar.amount),
                        "name": name,
                        "label": {"show": True, "position": "right", "formatter": usd(bar.amount)},
                        **({"itemStyle": {"color": REMAINDER_COLOR}} if bar.is_remainder else {}),
                    }
                    for name, bar in zip(names, bars, strict=True)
                ],
            }
        ],
    }


def top(amounts: Mapping[str, Decimal], keep: int) -> list[str]:
    """The names of the ``keep`` largest amounts, the largest first; ties in the order of their names."""
    return sorted(amounts, key=lambda name: (-amounts[name], name))[:keep]


def dollar_format(largest: Decimal | int) -> str:
    """A printf form of USD with digits enough to tell amounts of this size apart."""
    size = abs(Decimal(largest))
    if size >= 100:
        return "$%,.2f"
    return "$%,.4f" if size >= Decimal("0.1") else "$%.8f"


def dollar_axis(heights: Sequence[Decimal], levels: Sequence[Level]) -> Option:
    """An axis of USD that reaches above the highest; a line alone would not make it do so."""
    axis: Option = {"type": "value", "splitNumber": 4, "axisLabel": {"formatter": "${value}"}}
    reach = max([*heights, *(level.amount for level in levels)], default=Decimal(0))
    return axis | {"max": float(_round(reach))} if levels and reach else axis


def _round(reach: Decimal) -> Decimal:
    """The next of 1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8 or 10 times a power of ten."""
    size = Decimal(10) ** reach.adjusted()
    steps = ("1", "1.2", "1.5", "2", "2.5", "3", "4", "5", "6", "8")
    return next((size * Decimal(step) for step in steps if size * Decimal(step) >= reach), size * 10)


def marked(levels: Sequence[Level]) -> Option:
    """Lines across a chart, each with its name and amount."""
    return {
        "markLine": {
            "silent": True,
            "symbol": "none",
            "lineStyle": {"type": "solid", "width": 2, "color": LESS},
            "label": {"position": "insideStartTop", "formatter": "{b}", "color": "inherit"},
            "data": [
                {"yAxis": float(level.amount), "name": f"{plain(level.name, 40)}: {usd(level.amount)}"}
                for level in levels
            ],
        }
    }


def distinct(names: Sequence[str]) -> list[str]:
    """Names as shown, made distinct where two of them look alike: ECharts keys by name."""
    met: dict[str, int] = {}
    shown = []
    for name in names:
        text = plain(name, 60)
        met[text] = met.get(text, 0) + 1
        shown.append(text if met[text] == 1 else f"{text} ({met[text]})")
    return shown

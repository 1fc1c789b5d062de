"""ECharts options of the spend page: the course of a month, the steps of a change, areas. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from dashboards.charts import (
    LESS,
    MORE,
    REMAINDER,
    REMAINDER_COLOR,
    Bar,
    Level,
    Option,
    distinct,
    dollar_axis,
    dollar_format,
    marked,
)
from dashboards.display import plain, usd


@dataclass(frozen=True, slots=True)
class Leaf:
    """One amount in USD, and the names on the way to it, the widest first."""

    path: tuple[str, ...]
    amount: Decimal


def course(
    steps: Sequence[str],
    spent: Sequence[Decimal],
    expected: Sequence[Decimal],
    margins: Sequence[Decimal],
    levels: Sequence[Level] = (),
) -> Option:
    """A running sum, how it is expected to go on, and within which bounds.

    Args:
        steps: every day of the month.
        spent: the sum at the end of each day so far, today included.
        expected: the sum at the end of today and each day after it; may be empty.
        margins: by how much each of these may be more or less.
        levels: limits of the whole month.
    """
    gap: list[float | None] = [None] * (len(spent) - 1)
    low = [max(spent[-1], sum_ - margin) for sum_, margin in zip(expected, margins, strict=True)]
    high = [sum_ + margin for sum_, margin in zip(expected, margins, strict=True)]
    plain_line = {"type": "line", "symbol": "none"}
    drawn: list[dict[str, Any]] = [
        {
            **plain_line,
            "name": "Spent",
            "data": [float(sum_) for sum_ in spent],
            "lineStyle": {"width": 3},
            "areaStyle": {"opacity": 0.15},
            **(marked(levels) if levels else {}),
        }
    ]
    if expected:
        unseen = {**plain_line, "stack": "interval", "silent": True, "lineStyle": {"opacity": 0}}
        widths = [float(top_ - bottom) for top_, bottom in zip(high, low, strict=True)]
        drawn += [
            {
                **plain_line,
                "name": "Expected",
                "data": [*gap, *(float(sum_) for sum_ in expected)],
                "lineStyle": {"type": "dashed", "width": 2, "color": MORE},
                "itemStyle": {"color": MORE},
            },
            {**unseen, "name": "At least", "data": [*gap, *(float(sum_) for sum_ in low)],
             "itemStyle": {"color": MORE}},
            {**unseen, "name": "80 % within", "data": [*gap, *widths],
             "itemStyle": {"color": MORE}, "areaStyle": {"opacity": 0.18, "color": MORE}},
        ]  # fmt: skip
    heights = [*spent, *high]
    return {
        "animationDuration": 300,
        "grid": {"left": 8, "right": 12, "top": 16, "bottom": 36, "containLabel": True},
        "legend": {
            "bottom": 0,
            "icon": "roundRect",
            "itemWidth": 12,
            "itemHeight": 12,
            "data": ["Spent", *(["Expected", "80 % within"] if expected else [])],
        },
        "tooltip": {
            "trigger": "axis",
            "valueFormatter": dollar_format(max(heights, default=0)),
            "confine": True,
        },
        "xAxis": {"type": "category", "data": list(steps), "axisLabel": {"hideOverlap": True}},
        "yAxis": dollar_axis(heights, levels),
        "series": drawn,
    }


def bridge(parts: Sequence[Bar], total: Bar) -> Option:
    """How parts add up to a change, a step for each; what rose and what fell differ in colour and sign."""
    bars = [*(bar for bar in parts if bar.amount), total]
    level, nothing = Decimal(0), Decimal(0)
    # A bar that spans zero is drawn as its two halves; what floats stands on an unseen one.
    halves: dict[str, list[Any]] = {"under": [], "above": [], "beneath": [], "below": []}
    for bar in bars:
        start = nothing if bar is total else level
        level = start + bar.amount
        low, high = min(start, level), max(start, level)
        style = {
            "color": REMAINDER_COLOR if bar is total else MORE if bar.amount > 0 else LESS,
            "borderRadius": 2,
        }
        label = {"show": True, "formatter": f"{'+' if bar.amount > 0 else ''}{usd(bar.amount)}"}
        top, bottom = (
            (label | {"position": "top"}, None) if high > 0 else (None, label | {"position": "bottom"})
        )
        halves["under"].append(float(max(low, nothing)))
        halves["above"].append(_half(max(high, nothing) - max(low, nothing), style, top))
        halves["beneath"].append(float(min(high, nothing)))
        halves["below"].append(_half(min(low, nothing) - min(high, nothing), style, bottom))
    return {
        "animationDuration": 300,
        "grid": {"left": 8, "right": 12, "top": 28, "bottom": 20, "containLabel": True},
        "tooltip": {"show": False},
        "xAxis": {
            "type": "category",
            "data": distinct([bar.name for bar in bars]),
            "axisTick": {"show": False},
            "axisLine": {"onZero": False},
            "axisLabel": {"interval": 0, "width": 90, "overflow": "truncate"},
        },
        # Room below the lowest step for its figure, which would stand in the names of the axis.
        "yAxis": {
            "type": "value",
            "splitNumber": 4,
            "axisLabel": {"formatter": "${value}"},
            "boundaryGap": ["12%", 0],
        },
        "series": [
            {
                "type": "bar",
                "stack": "bridge",
                "name": name,
                "barMaxWidth": 56,
                "data": data,
                **({"silent": True, "itemStyle": {"color": "transparent"}} if name in _UNSEEN else {}),
            }
            for name, data in halves.items()
        ],
    }


_UNSEEN = ("under", "beneath")


def _half(amount: Decimal, style: Option, label: Option | None) -> Option:
    return {"value": float(amount), "itemStyle": style, **({"label": label} if label else {})}


def changes(bars: Sequence[Bar]) -> Option:
    """Horizontal bars to both sides of zero, the first on top."""
    largest = max((abs(bar.amount) for bar in bars), default=Decimal(0))
    reach = float(largest) * 1.35 or 1.0
    return {
        "animationDuration": 300,
        "grid": {"left": 4, "right": 8, "top": 4, "bottom": 4, "containLabel": True},
        "tooltip": {"trigger": "item", "valueFormatter": dollar_format(largest), "confine": True},
        "xAxis": {"type": "value", "show": False, "min": -reach, "max": reach},
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": distinct([bar.name for bar in bars]),
            "axisTick": {"show": False},
            "axisLine": {"show": False},
            "axisLabel": {"width": 120, "overflow": "truncate"},
        },
        "series": [
            {
                "type": "bar",
                "name": "Change",
                "selectedMode": "single",
                "cursor": "pointer",
                "barMaxWidth": 18,
                "data": [
                    {
                        "value": float(bar.amount),
                        "itemStyle": {"color": MORE if bar.amount > 0 else LESS, "borderRadius": 2},
                        "label": {
                            "show": True,
                            "position": "right" if bar.amount > 0 else "left",
                            "formatter": f"{'+' if bar.amount > 0 else ''}{usd(bar.amount)}",
                        },
                    }
                    for bar in bars
                ],
            }
        ],
    }


def treemap(leaves: Sequence[Leaf]) -> Option:
    """Areas within areas, as large as what they cost; each can be clicked (`branches`)."""
    largest = max((leaf.amount for leaf in leaves), default=Decimal(0))
    return {
        "animationDuration": 300,
        "tooltip": {"trigger": "item", "valueFormatter": dollar_format(largest), "confine": True},
        "series": [
            {
                "type": "treemap",
                "name": "All",
                "left": 0,
                "right": 0,
                "top": 0,
                "bottom": 0,
                "roam": False,
                "nodeClick": False,
                "selectedMode": "single",
                "cursor": "pointer",
                "leafDepth": 3,
                "visibleMin": 200,
                "label": {
                    "overflow": "truncate",
                    "color": "#ffffff",
                    "lineHeight": 16,
                    "backgroundColor": "rgba(0,0,0,0.5)",
                    "padding": [3, 6],
                    "borderRadius": 3,
                },
                "upperLabel": {"show": True, "height": 22, "overflow": "truncate", "formatter": "{b}"},
                "breadcrumb": {"show": False},
                "levels": [
                    {"itemStyle": {"gapWidth": 4}, "upperLabel": {"show": False}},
                    {"itemStyle": {"gapWidth": 2}, "colorSaturation": [0.35, 0.7]},
                    {"itemStyle": {"gapWidth": 1}, "colorSaturation": [0.35, 0.7]},
                ],
                "data": _drawn(_tree(leaves)),
            }
        ],
    }


def branches(leaves: Sequence[Leaf]) -> list[tuple[str, ...]]:
    """The path to every area of :func:`treemap`, in the order of their numbers; 0 is all of them."""
    found: list[tuple[str, ...]] = []

    def walk(nodes: Sequence[_Node], path: tuple[str, ...]) -> None:
        found.append(path)
        for node in nodes:
            walk(node.children, (*path, node.name))

    walk(_tree(leaves), ())
    return found


@dataclass(frozen=True, slots=True)
class _Node:
    """An area: as much as those inside of it."""

    name: str
    amount: Decimal
    children: list["_Node"]


def _tree(leaves: Sequence[Leaf]) -> list[_Node]:
    """The leaves as a tree; the largest of each branch first."""
    groups: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        groups.setdefault(leaf.path[0], []).append(Leaf(leaf.path[1:], leaf.amount))
    nodes = [
        _Node(
            name,
            sum((leaf.amount for leaf in below), Decimal(0)),
            _tree([leaf for leaf in below if leaf.path]),
        )
        for name, below in groups.items()
    ]
    return sorted(nodes, key=lambda node: (-node.amount, node.name))


def _drawn(nodes: Sequence[_Node]) -> list[Option]:
    return [
        {
            "name": plain(node.name, 60),
            "value": float(node.amount),
            "label": {"formatter": f"{{b}}\n{usd(node.amount)}"},
            **({"itemStyle": {"color": REMAINDER_COLOR}} if node.name == REMAINDER else {}),
            **({"children": _drawn(node.children)} if node.children else {}),
        }
        for node in nodes
    ]

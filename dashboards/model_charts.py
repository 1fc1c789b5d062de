"""ECharts options of the models page: what is paid against what is got. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.charts import REMAINDER_COLOR, Option
from dashboards.display import plain

SMALLEST, LARGEST = 10, 34
"""Diameters in pixels, of what nothing and all is spent on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """One model: what a million of its tokens cost, and how fast or how good it is."""

    name: str
    usd: float
    """Above 0."""
    got: float
    share: float = 0.0
    """Of all spend, between 0 and 1: how large it is drawn."""
    between: tuple[float, float] | None = None
    """Bounds of ``got``."""


def best(spots: Sequence[Spot], *, more_is_better: bool) -> list[Spot]:
    """Those that no other beats: none is as cheap and as good, and one of the two more so."""
    sign = 1 if more_is_better else -1

    def beaten(spot: Spot) -> bool:
        mine = (-spot.usd, sign * spot.got)
        others = ((-other.usd, sign * other.got) for other in spots)
        return any(it != mine and it[0] >= mine[0] and it[1] >= mine[1] for it in others)

    return [spot for spot in spots if not beaten(spot)]


def groups(spots: Sequence[Spot], *, more_is_better: bool) -> tuple[list[Spot], list[Spot]]:
    """The two series of :func:`against`: those that no other beats, and the others."""
    unbeaten = best(spots, more_is_better=more_is_better)
    return unbeaten, [spot for spot in spots if spot not in unbeaten]


def against(spots: Sequence[Spot], got: str, *, more_is_better: bool, in_percent: bool = False) -> Option:
    """Price across, what is got for it upward, one spot for each model; a spot can be clicked.

    Args:
        spots: models, each at its place.
        got: what is got, with its unit.
        more_is_better: whether one would rather be on top.
        in_percent: the upward axis ends at 0 and 100; else it is logarithmic.
    """
    unbeaten, others = groups(spots, more_is_better=more_is_better)
    praise = "None cheaper and better" if more_is_better else "None cheaper and faster"
    upward: Option = {"type": "value", "min": 0, "max": 100} if in_percent else {"type": "log"}
    named = {"nameLocation": "middle", "splitLine": {"show": True}}
    return {
        "animationDuration": 300,
        "grid": {"left": 36, "right": 28, "top": 16, "bottom": 64, "containLabel": True},
        "legend": {"bottom": 0, "icon": "circle", "itemWidth": 12, "itemHeight": 12},
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": named | {"type": "log", "name": "USD a million tokens", "nameGap": 28}
        | {"axisLabel": {"formatter": "${value}", "hideOverlap": True}},
        "yAxis": named | upward | {"name": got, "nameGap": 44},
        "series": [
            _series(praise, unbeaten, got),
            _series("Others", others, got) | {"itemStyle": {"color": REMAINDER_COLOR, "opacity": 0.85}},
        ],
    }  # fmt: skip


def _series(name: str, spots: Sequence[Spot], got: str) -> dict[str, Any]:
    bounds = [
        [{"coord": [spot.usd, spot.between[0]]}, {"coord": [spot.usd, spot.between[1]]}]
        for spot in spots
        if spot.between is not None
    ]
    return {
        "type": "scatter",
        "name": name,
        "selectedMode": "single",
        "cursor": "pointer",
        "itemStyle": {"opacity": 0.9},
        "dimensions": ["USD a million tokens", got],
        "encode": {"x": 0, "y": 1, "tooltip": [0, 1]},
        "label": {"show": True, "position": "right", "formatter": "{b}"},
        "labelLayout": {"hideOverlap": True, "moveOverlap": "shiftY"},
        "data": [
            {
                "name": plain(spot.name, 40),
                "value": [spot.usd, spot.got],
                "symbolSize": SMALLEST + (LARGEST - SMALLEST) * math.sqrt(min(1.0, max(0.0, spot.share))),
            }
            for spot in spots
        ],
        **(
            {
                "markLine": {
                    "silent": True,
                    "symbol": "none",
                    "lineStyle": {"type": "solid", "width": 1, "color": REMAINDER_COLOR},
                    "label": {"show": False},
                    "data": bounds,
                }
            }
            if bounds
            else {}
        ),
    }

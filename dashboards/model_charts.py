"""ECharts options of the models page: what is paid against what is got. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dashboards.charts import REMAINDER_COLOR, Option
from dashboards.display import plain

SMALLEST, LARGEST = 10, 34
"""Diameters in pixels, of what nothing and all is spent on."""

WIDTH, HEIGHT = 520.0, 220.0
"""Of the area between the axes, in pixels, on a screen of the usual width."""
LETTER, LINE = 6.5, 16.0
"""How wide a letter and how high a line is."""


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
    sides = sides_of(spots, in_percent=in_percent)
    return {
        "animationDuration": 300,
        "grid": {"left": 36, "right": 28, "top": 16, "bottom": 64, "containLabel": True},
        "legend": {"bottom": 0, "icon": "circle", "itemWidth": 12, "itemHeight": 12},
        "tooltip": {"trigger": "item", "confine": True},
        "xAxis": named | {"type": "log", "name": "USD a million tokens", "nameGap": 28}
        | {"axisLabel": {"formatter": "${value}", "hideOverlap": True}},
        "yAxis": named | upward | {"name": got, "nameGap": 44},
        "series": [
            _series(praise, unbeaten, got, sides),
            _series("Others", others, got, sides)
            | {"itemStyle": {"color": REMAINDER_COLOR, "opacity": 0.85}},
        ],
    }  # fmt: skip


def sides_of(spots: Sequence[Spot], *, in_percent: bool) -> dict[str, str]:
    """On which side of its spot each name stands, so that names keep clear of each other and of the spots.

    Judged for a chart of the usual size; on a smaller one, ECharts leaves out what would overlap.
    """
    across = _scale([spot.usd for spot in spots], WIDTH)
    up = [HEIGHT * spot.got / 100 for spot in spots]
    if not in_percent:
        up = _scale([spot.got for spot in spots], HEIGHT)
    taken = [_Box(x - _radius(spot), y - _radius(spot), x + _radius(spot), y + _radius(spot))
             for spot, x, y in zip(spots, across, up, strict=True)]  # fmt: skip
    sides: dict[str, str] = {}
    for spot, x, y in zip(spots, across, up, strict=True):
        width, gap = LETTER * len(plain(spot.name, 40)), _radius(spot) + 3
        places = {
            "right": _Box(x + gap, y - LINE / 2, x + gap + width, y + LINE / 2),
            "left": _Box(x - gap - width, y - LINE / 2, x - gap, y + LINE / 2),
            "top": _Box(x - width / 2, y + gap, x + width / 2, y + gap + LINE),
            "bottom": _Box(x - width / 2, y - gap - LINE, x + width / 2, y - gap),
        }
        free = (
            side
            for side, box in places.items()
            if box.left >= 0 and box.right <= WIDTH and not any(box.meets(other) for other in taken)
        )
        sides[spot.name] = next(free, "right")
        taken.append(places[sides[spot.name]])
    return sides


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "_Box") -> bool:
        """Whether the two have a point in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )


def _radius(spot: Spot) -> float:
    return (SMALLEST + (LARGEST - SMALLEST) * math.sqrt(min(1.0, max(0.0, spot.share)))) / 2


def _scale(values: Sequence[float], length: float) -> list[float]:
    """Where values stand on an axis of that length, which begins and ends at powers of ten."""
    logs = [math.log10(value) for value in values]
    low, high = math.floor(min(logs, default=0)), math.ceil(max(logs, default=1))
    return [length * (one - low) / max(1, high - low) for one in logs]


def _series(name: str, spots: Sequence[Spot], got: str, sides: Mapping[str, str]) -> dict[str, Any]:
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
        "labelLayout": {"hideOverlap": True},
        "data": [
            {
                "name": plain(spot.name, 40),
                "value": [spot.usd, spot.got],
                "symbolSize": 2 * _radius(spot),
                "label": {"show": True, "position": sides[spot.name], "formatter": "{b}"},
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

"""Charts whose words can be read on the page they are drawn on.

Streamlit writes them in a grey of its own that stands out against white by 3.6:1, and leaves those beside
bars to ECharts, which guesses. Ours stand out by 6:1 or more on the page they are for, and can still be made
out on the other: for a moment after a reader turned the light on or off, it is the other.
"""

import copy
from collections.abc import Callable
from typing import Any, Literal

import streamlit as st

from dashboards.charts import Option

INKS = {"light": "#55606c", "dark": "#b6c0ca"}
"""By the appearance of the page."""
HALOS = {INKS["light"]: "#ffffff", INKS["dark"]: "#10171e"}
"""Around words that may come to stand on a figure: the colour of the page, by that of the ink."""


def chart(
    option: Option,
    *,
    height: int,
    key: str,
    alt: str,
    on_select: Callable[[], None] | Literal["ignore"] = "ignore",
) -> None:
    """Draw a chart; see ``st.echarts_chart``."""
    st.echarts_chart(
        inked(option, INKS.get(st.context.theme.type or "", "")),
        height=height,
        key=key,
        alt=alt,
        on_select=on_select,
    )


def inked(option: Option, ink: str) -> Option:
    """The option with everything that is written in ``ink``, but for what has a colour of its own."""
    if not ink:
        return option
    drawn = copy.copy(option)
    for name in ("xAxis", "yAxis"):
        if name in drawn:
            axis = drawn[name]
            drawn[name] = axis | {
                "axisLabel": {"color": ink} | axis.get("axisLabel", {}),
                "nameTextStyle": {"color": ink},
            }
    if "legend" in drawn:
        drawn["legend"] = drawn["legend"] | {"textStyle": {"color": ink}}
    drawn["series"] = [_labelled(one, ink) for one in option["series"]]
    return drawn


def _labelled(part: dict[str, Any], ink: str) -> dict[str, Any]:
    """A series, or one of its figures, whose label is written in ``ink``."""
    if part.get("type") == "treemap":
        return part  # Its words stand on the colours of areas.
    found = dict(part)
    if "label" in found:
        halo = {"textBorderColor": HALOS[ink], "textBorderWidth": 2} if ink in HALOS else {}
        found["label"] = {"color": ink} | halo | found["label"]
    if isinstance(found.get("data"), list):
        found["data"] = [_labelled(one, ink) if isinstance(one, dict) else one for one in found["data"]]
    return found

"""One conversation as a waterfall: agents, tools and model calls, when each began and how long it took.

Pure: rows of the question ``run`` in, an ECharts option out. A bar stands on an unseen one that moves it
to its place in time. What is inside another is written further in.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from dashboards import display
from dashboards.charts import Option

MAX_BARS = 80
"""As many as can be told apart; the table below has the others."""

BAR_PX = 22

KINDS: Mapping[str, str] = {"model": "Model call", "tool": "Tool", "agent": "Agent"}
OTHER = "Other"

ABSENT = "-"
"""No bar: one of length 0 would still be drawn as a stroke."""

INDENT = "\u2003"
"""An em space: ordinary ones are swallowed at the start of a label."""


def option(rows: Sequence[Mapping[str, Any]]) -> Option:
    """The chart of ``rows``, the first on top; time is in seconds since the first began."""
    shown = list(rows[:MAX_BARS])
    starts = [_instant(row["started_at"]) for row in shown]
    first = min(starts, default=0.0)
    names = [f"{INDENT * min(int(row['depth'] or 0), 8)}{display.plain(row['name'], 40)}" for row in shown]
    labels = [f"{number}\u2003{name}" for number, name in enumerate(names, start=1)]
    series: list[dict[str, Any]] = [
        {
            "type": "bar",
            "name": "",
            "stack": "time",
            "silent": True,
            "itemStyle": {"color": "transparent"},
            "tooltip": {"show": False},
            "data": [round(start - first, 6) for start in starts],
        }
    ]
    for title in (*KINDS.values(), OTHER):
        mine = [KINDS.get(str(row["kind"]), OTHER) == title for row in shown]
        if not any(mine):
            continue
        series.append(
            {
                "type": "bar",
                "name": title,
                "stack": "time",
                "barMaxWidth": 12,
                "barMinHeight": 2,
                "cursor": "pointer",
                "itemStyle": {"borderRadius": 2},
                "data": [
                    _bar(row) if its else {"value": ABSENT, "label": {"show": False}}
                    for row, its in zip(shown, mine, strict=True)
                ],
            }
        )
    return {
        "animation": False,
        "grid": {"left": 4, "right": 92, "top": 28, "bottom": 4, "containLabel": True},
        "legend": {"top": 0, "left": 0, "icon": "roundRect", "itemWidth": 12, "itemHeight": 12,
                   "data": [one["name"] for one in series[1:]]},
        "tooltip": {"trigger": "item", "formatter": "{b}", "confine": True},
        "xAxis": {"type": "value", "position": "top", "axisLabel": {"formatter": "{value} s"},
                  "splitNumber": 4},
        "yAxis": {"type": "category", "inverse": True, "data": labels, "axisTick": {"show": False},
                  "axisLine": {"show": False},
                  "axisLabel": {"width": 220, "overflow": "truncate", "interval": 0}},
        "series": series,
    }  # fmt: skip


def height(rows: Sequence[Mapping[str, Any]]) -> int:
    """Of the chart, in pixels."""
    return BAR_PX * max(2, min(len(rows), MAX_BARS)) + 64


def told(row: Mapping[str, Any]) -> str:
    """Everything about one bar on one line: money, tokens, cache, time, how it ended."""
    parts = [display.plain(row["name"], 60), display.usd(_usd(row)), display.duration(row["duration_ms"])]
    if row["input_tokens"] or row["output_tokens"]:
        cached = int(row["cache_read_input_tokens"] or 0)
        parts.append(f"{int(row['input_tokens']):,} tokens in" + (f" ({cached:,} cached)" if cached else ""))
        parts.append(f"{int(row['output_tokens']):,} out")
    if int(row["calls"] or 0) > 1:
        parts.append(display.counted(int(row["calls"]), "call"))
    if row["status"] not in ("", "served", "OK", "UNSET", None):
        parts.append(display.plain(row["status"], 60))
    return " · ".join(parts)


def _bar(row: Mapping[str, Any]) -> dict[str, Any]:
    cost = _usd(row)
    text = display.usd(cost) if cost else display.duration(row["duration_ms"])
    return {
        "value": round(float(row["duration_ms"] or 0) / 1000, 6),
        "name": told(row),
        "label": {"show": True, "position": "right", "formatter": text},
    }


def _usd(row: Mapping[str, Any]) -> Decimal:
    value = row["effective_cost_usd"]
    return value if isinstance(value, Decimal) else Decimal(value or 0)


def _instant(value: datetime) -> float:
    return value.timestamp()

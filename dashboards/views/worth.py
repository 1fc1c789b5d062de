"""What is had for the price of each model: how good and how fast it is, and what a call of it comes to."""

from collections.abc import Sequence
from decimal import Decimal
from functools import partial

import streamlit as st

from dashboards import charts, data, drill, ink, model_charts


def writers(rows: Sequence[data.Row]) -> list[data.Row]:
    """The models that write: those that only embed stand in for none of them. All, where none writes."""
    return [row for row in rows if row["output_tokens"]] or list(rows)


def worth(rows: Sequence[data.Row], spent: Decimal) -> None:
    """What a million tokens cost against how good and how fast models are; a click narrows to a model."""
    rows = writers(rows)
    graphs = [
        ("Price and quality", "Tasks that succeed, %", judged_spots(rows, spent), True),
        ("Price and speed", "Median time of a call, ms", timed_spots(rows, spent), False),
    ]
    shown = [graph for graph in graphs if graph[2]]
    with st.grid(max(1, len(shown)), min_column_width=300):
        for title, got, spots, is_quality in shown:
            series = model_charts.groups(spots, more_is_better=is_quality)
            key = drill.key("quality_chart" if is_quality else "speed_chart")
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{title}**" + (", with the 95 % interval" if is_quality else ""))
                ink.chart(
                    model_charts.against(spots, got, more_is_better=is_quality, in_percent=is_quality),
                    height=340,
                    key=key,
                    on_select=partial(_narrow, key, series),
                    alt=f"{got} against USD a million tokens, by model; the figures are in the table below",
                )


def timed_spots(rows: Sequence[data.Row], spent: Decimal) -> list[model_charts.Spot]:
    """Models by price and median time of a call."""
    return [
        model_charts.Spot(
            name=str(row["request_model"] or ""),
            usd=float(price),
            got=float(row["p50_ms"]),
            share=_share(row, spent),
        )
        for row in rows
        if (price := usd_per_mtok(row)) and row["p50_ms"]
    ]


def judged_spots(rows: Sequence[data.Row], spent: Decimal) -> list[model_charts.Spot]:
    """Models by price and how many tasks in a hundred succeed."""
    return [
        model_charts.Spot(
            name=str(row["request_model"] or ""),
            usd=float(price),
            got=100 * float(row["success_rate"]),
            share=_share(row, spent),
            between=(100 * float(row["success_rate_low"]), 100 * float(row["success_rate_high"])),
        )
        for row in rows
        if row.get("tasks") and (price := usd_per_mtok(row))
    ]


def _share(row: data.Row, spent: Decimal) -> float:
    return float(data.money(row["effective_cost_usd"]) / spent) if spent else 0.0


def _narrow(key: str, series: Sequence[Sequence[model_charts.Spot]]) -> None:
    group, place = drill.point(key) or (0, -1)
    if group < len(series) and 0 <= place < len(series[group]):
        drill.narrow({"request_model": series[group][place].name})


def _narrow_bar(key: str, bars: Sequence[charts.Bar]) -> None:
    clicked = drill.point(key)
    if clicked and clicked[1] < len(bars):
        drill.narrow({"request_model": bars[clicked[1]].name})


def prices(rows: Sequence[data.Row]) -> None:
    """The dearest models by what a million of their tokens and one of their calls came to."""
    dearest = list(rows[: charts.MAX_BARS])
    with st.grid(2, min_column_width=300):
        for title, price in (("A million tokens", usd_per_mtok), ("A call", usd_per_call)):
            priced = [(str(row["request_model"]), price(row)) for row in dearest]
            bars = [charts.Bar(name, amount) for name, amount in priced if amount is not None]
            bars.sort(key=lambda bar: (-bar.amount, bar.name))
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{title}**, USD")
                key = drill.key(f"price_of_{price.__name__}")
                if not bars:
                    st.caption("No tokens were counted.")
                    continue
                ink.chart(
                    charts.ranking(bars),
                    height=26 * max(3, len(bars)) + 16,
                    key=key,
                    on_select=partial(_narrow_bar, key, bars),
                    alt=f"{title} by model, the dearest on top",
                )


def tokens(row: data.Row) -> int:
    """Input and output tokens; the cached ones are part of the input."""
    return int(row["input_tokens"] or 0) + int(row["output_tokens"] or 0)


def usd_per_call(row: data.Row) -> Decimal | None:
    """What a call came to, USD; ``None`` where there was none."""
    calls = int(row["calls"])
    return data.money(row["effective_cost_usd"]) / calls if calls else None


def usd_per_mtok(row: data.Row) -> Decimal | None:
    """What a million tokens came to, USD; ``None`` where none were counted."""
    counted = tokens(row)
    return 1_000_000 * data.money(row["effective_cost_usd"]) / counted if counted else None

"""Further ways to look at the same spend: who spent it, why it changed, as a map, and over the month."""

from collections.abc import Sequence
from decimal import Decimal

import streamlit as st

from dashboards import charts, data, display, drill, exports, ink, notices, spend_charts
from dashboards.causes import WORDS, causes, in_words
from dashboards.scope import COMPARISONS, DIMENSIONS
from dashboards.spending import BREAKDOWNS, Spending, title_of
from dashboards.views import outlook

LOOKS = ("Where", "Why it changed", "Map", "This month")
"""What is shown below the course. Only the chosen one is asked for."""

MAP = ("team", "agent", "request_model")
MAP_LEAVES = 300


def look(found: Spending) -> None:
    """One further way to look at the same spend, as the reader chooses."""
    st.segmented_control(
        "Look at",
        LOOKS,
        default=LOOKS[0],
        required=True,
        key="look",
        label_visibility="collapsed",
        bind="query-params",
    )
    chosen = st.session_state["look"]
    if chosen == "Where":
        with st.grid(2, min_column_width=300):
            for dimension in BREAKDOWNS:
                breakdown(found, dimension)
        return
    with st.container(border=True):
        if chosen == "Why it changed":
            why(found)
        elif chosen == "Map":
            treemap(found)
        else:
            outlook.month()


def why(found: Spending) -> None:
    """What moved spend away from the window it is compared with, and whose it was."""
    try:
        told = causes(found.scope, found.split)
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    against = COMPARISONS[found.scope.comparison]
    st.markdown(f"**{display.escaped(in_words(told))}**")
    st.caption(
        display.escaped(
            f"Against {against}: {display.usd_exact(told.before)} USD then, {display.usd_exact(told.now)} "
            f"now, a change of {display.usd_exact(told.change)}. Each step is the part that moved by itself, "
            "averaged over all orders in which they could have moved (Shapley). The steps sum to the change.",
            900,
        )
    )
    ink.chart(
        spend_charts.bridge(
            [charts.Bar(WORDS[factor], amount) for factor, amount in told.parts],
            charts.Bar("Change", told.change),
        ),
        height=280,
        key="bridge",
        alt="The change of spend, step by step",
    )
    title = title_of(found.split)
    st.markdown(f"**Largest changes by {display.escaped(title.lower())}**, USD")
    if told.changes:
        key = drill.key("changes")
        ink.chart(
            spend_charts.changes(told.changes),
            height=26 * max(3, len(told.changes)) + 16,
            key=key,
            on_select=lambda: _narrow(key, found.split, told.changes),
            alt=f"Change of spend by {title.lower()}, the largest on top",
        )
    figures = [{"factor": WORDS[factor], "change_usd": amount} for factor, amount in told.parts]
    figures += [{"factor": f"{title}: {bar.name}", "change_usd": bar.amount} for bar in told.changes]
    exports.menu("spend-causes", ("factor", "change_usd"), lambda: exports.of_rows(figures))


def treemap(found: Spending) -> None:
    """Teams, their agents, and the models these used, as areas; a click on one narrows the page to it."""
    asked = data.about("spend_by", found.scope, by=",".join(MAP), limit=MAP_LEAVES)
    try:
        rows = data.ask(asked).rows
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    leaves = [
        spend_charts.Leaf(tuple(str(row[name] or "") for name in MAP), data.money(row["effective_cost_usd"]))
        for row in rows
        if row["effective_cost_usd"]
    ]
    rest = found.spend - sum((leaf.amount for leaf in leaves), Decimal(0))
    if rest > 0:
        leaves.append(spend_charts.Leaf((charts.REMAINDER,), rest))
    st.markdown("**Teams, their agents, and the models these used**, USD")
    if not leaves:
        st.caption("These calls cost nothing.")
        return
    key, areas = drill.key("treemap"), spend_charts.branches(leaves)

    def narrow() -> None:
        if (clicked := drill.point(key)) and clicked[1] < len(areas):
            path = areas[clicked[1]]
            drill.narrow({} if path[:1] == (charts.REMAINDER,) else dict(zip(MAP, path, strict=False)))

    ink.chart(
        spend_charts.treemap(leaves),
        height=420,
        key=key,
        on_select=narrow,
        alt="Spend by team, agent and model as areas",
    )


def breakdown(found: Spending, dimension: str) -> None:
    """Who spent most; a click on a bar narrows the page to it."""
    bars = found.amounts(dimension)
    with st.container(border=True, height="stretch"):
        st.markdown(f"**By {DIMENSIONS[dimension].lower()}**, USD")
        key = drill.key(f"bars_{dimension}")
        ink.chart(
            charts.ranking(bars),
            height=26 * max(3, len(bars)) + 16,
            key=key,
            on_select=lambda: _narrow(key, dimension, bars),
            alt=f"Spend by {DIMENSIONS[dimension].lower()}, the largest on top",
        )


def _narrow(key: str, split: str, bars: Sequence[charts.Bar]) -> None:
    """Narrow to the bar that was clicked; the remainder is nobody in particular."""
    clicked = drill.point(key)
    bar = bars[clicked[1]] if clicked and clicked[1] < len(bars) else None
    if bar is not None and not bar.is_remainder:
        drill.narrow(drill.wanted(split, bar.name))

"""Where did the money go, and why? How it goes now, totals, their course, who spent them, what changed."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import streamlit as st

from dashboards import charts, data, display, exports, filters, notices, spend_charts, tables
from dashboards.causes import WORDS, causes, in_words
from dashboards.scope import COMPARISONS, DIMENSIONS, Scope
from dashboards.spending import (
    BREAKDOWNS,
    MAX_ROWS,
    TAG,
    Spending,
    column_of,
    spending,
    title_of,
)
from dashboards.views import outlook

SPLITS = {
    "model": "request_model",
    "agent": "agent",
    "team": "team",
    "upstream": "upstream",
    "provider": "provider_name",
    "tenant": "tenant",
    "API": "api",
    "outcome": "outcome",
}
"""What the course of spend can be split by: the word in the address, and the dimension. Tags come beside."""

MOST_TAGS = 30

LOOKS = ("Where", "Why it changed", "Map", "This month")
"""What is shown below the course. Only the chosen one is asked for."""

MAP = ("team", "agent", "request_model")
MAP_LEAVES = 300

TABLE = {
    "calls": "Calls",
    "failed_calls": "Failed",
    "input_tokens": "Input tokens",
    "cache_read_input_tokens": "of which cached",
    "output_tokens": "Output tokens",
    "effective_cost_usd": "Spend, USD",
    "list_cost_usd": "At list price, USD",
    "avoided_cost_usd": "Avoided, USD",
    "p50_ms": "p50, ms",
    "p95_ms": "p95, ms",
}


def page() -> None:
    """Everything below the bar of filters."""
    scope = filters.scope()
    try:
        tags = tag_names(scope)
        found = spending(scope, chosen_split(tags), notices.questions(scope))
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    above = st.container()
    notices.stale(found.answers)
    if not found.total or not found.total["calls"]:
        notices.empty(scope)
        return
    tiles(found)
    ledger_line(found)
    over_time(found, tags)
    look(found)
    details(found)
    with above:  # Drawn last: what it asks may take longer than all the figures.
        notices.simulated(scope)
        notices.ledger_age()


def tag_names(scope: Scope) -> list[str]:
    """The tags that calls of this time range have, as splits; the commonest first."""
    whole = Scope(window=scope.window.roughly, zone_name=scope.zone_name)
    found = data.ask(replace(data.about("values", whole, dimension="tag"), lasting=True))
    names = dict.fromkeys(str(row["value"]).partition("=")[0] for row in found.rows if row["value"])
    return [f"{TAG}{name}" for name in list(names)[:MOST_TAGS]]


def chosen_split(tags: list[str]) -> str:
    """What the course is split by. The widget comes later, so a first visit reads the address itself."""
    split = st.session_state.get("split") or st.query_params.get("split") or ""
    return split if split in tags else SPLITS.get(split, "request_model")


def tiles(found: Spending) -> None:
    """The figures of the period, each against the period of the same length before."""
    now, before = found.total, found.earlier.row
    against = COMPARISONS[found.scope.comparison]
    period = display.span(found.scope.window.span)

    def tile(title: str, value: str, delta: str | None, meaning: str, **more: Any) -> None:
        st.metric(
            title,
            display.escaped(value),
            0 if delta and delta.startswith(("+0.0 ", "-0.0 ")) else delta,
            help=f"{meaning}. {period.capitalize()}, compared with {against}.",
            delta_description="vs prior" if delta else "no prior",
            border=True,
            height="stretch",
            **more,
        )

    def figure(row: data.Row, *columns: str) -> int:
        return sum(int(row.get(column) or 0) for column in columns)

    spent, spent_before = found.spend, data.money(before.get("effective_cost_usd"))
    calls, tokens = figure(now, "calls"), figure(now, "input_tokens", "output_tokens")
    failed = figure(now, "failed_calls")
    with st.grid(6, min_column_width=165):
        tile(
            "Spend",
            display.usd(spent),
            display.change(spent, spent_before),
            f"What is really owed, exactly {display.escaped(display.usd_exact(spent))} USD",
            delta_color="inverse",
        )
        tile(
            "Calls",
            display.count(calls),
            display.change(calls, figure(before, "calls")),
            f"{calls:,} calls, of which {failed:,} failed ({display.escaped(display.share(failed, calls))})",
            delta_color="off",
        )
        tile(
            "Tokens",
            display.count(tokens),
            display.change(tokens, figure(before, "input_tokens", "output_tokens")),
            f"{figure(now, 'input_tokens'):,} in, {figure(now, 'output_tokens'):,} out "
            f"(of which {figure(now, 'reasoning_output_tokens'):,} for reasoning)",
            delta_color="off",
        )
        for title, part, whole, color, what in (
            ("Cached input", "cache_read_input_tokens", "input_tokens", "normal",
             "Input tokens that came from a provider's prompt cache"),
            ("Estimated", "estimated_calls", "calls", "inverse",
             "Calls whose tokens the provider did not report; ours is an estimate, never 0"),
            ("Unpriced", "unpriced_calls", "calls", "inverse",
             "Calls to models without a known price; charged at a conservative stand-in, never 0"),
        ):  # fmt: skip
            tile(
                title,
                display.share(figure(now, part), figure(now, whole)),
                display.points(
                    _ratio(figure(now, part), figure(now, whole)),
                    _ratio(figure(before, part), figure(before, whole)),
                ),
                f"{what}: {figure(now, part):,} of {figure(now, whole):,}",
                delta_color=color,
            )


def ledger_line(found: Spending) -> None:
    """The total to the last digit, and what it is the total of."""
    window, zone = found.scope.window, filters.zone()
    amounts = (
        ("effective_cost_usd", "spent"),
        ("list_cost_usd", "at list price"),
        ("avoided_cost_usd", "avoided"),
    )
    exact = " · ".join(
        f"{display.usd_exact(data.money(found.total[column]))} USD {what}" for column, what in amounts
    )
    calls = int(found.total["calls"])
    when = f"{display.moment(window.since, zone)} to {display.moment(window.until, zone)}"
    drawn = notices.drawn_at(found.answers)
    st.caption(
        display.escaped(f"Ledger: {exact} · {display.counted(calls, 'call')} · {when} · as of {drawn}")
    )
    if found.disagreement:
        notices.moving(found.disagreement)


def over_time(found: Spending, tags: list[str]) -> None:
    """Spend per step of time, coloured by what the reader chooses, under the budgets of a step."""
    bucket = found.scope.window.bucket
    limits, _ = outlook.known_limits(found.scope)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Spend per {bucket}**, USD, by")
            st.selectbox(
                "Split by",
                [*SPLITS, *tags],
                format_func=display.plain,
                key="split",
                label_visibility="collapsed",
                width=180,
                bind="query-params",
            )
        steps, series = found.series()
        st.echarts_chart(
            charts.stacked(
                steps,
                series,
                [charts.Level(one.name, one.usd) for one in limits if one.window == bucket],
            ),
            height=300,
            key="over_time",
            alt=f"Spend per {bucket} by {title_of(found.split).lower()}",
        )


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
    st.echarts_chart(
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
        st.echarts_chart(
            spend_charts.changes(told.changes),
            height=26 * max(3, len(told.changes)) + 16,
            key="changes",
            alt=f"Change of spend by {title.lower()}, the largest on top",
        )
    figures = [{"factor": WORDS[factor], "change_usd": amount} for factor, amount in told.parts]
    figures += [{"factor": f"{title}: {bar.name}", "change_usd": bar.amount} for bar in told.changes]
    exports.menu("spend-causes", ("factor", "change_usd"), lambda: exports.of_rows(figures))


def treemap(found: Spending) -> None:
    """Teams, their agents, and the models these used, as areas."""
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
    st.echarts_chart(
        spend_charts.treemap(leaves), height=420, key="treemap", alt="Spend by team, agent and model as areas"
    )


def breakdown(found: Spending, dimension: str) -> None:
    """Who spent most; a click on a bar narrows the page to it."""
    bars = found.amounts(dimension)
    with st.container(border=True, height="stretch"):
        st.markdown(f"**By {DIMENSIONS[dimension].lower()}**, USD")
        # The key moves on with every click: a chart that kept its selection would fire it again.
        key = f"bars_{dimension}_{st.session_state.get('clicks', 0)}"
        st.echarts_chart(
            charts.ranking(bars),
            height=26 * max(3, len(bars)) + 16,
            key=key,
            on_select=lambda: _narrow(key, dimension, bars),
            alt=f"Spend by {DIMENSIONS[dimension].lower()}, the largest on top",
        )
        if st.session_state.pop(f"narrowed_{dimension}", False):
            st.rerun()  # The bar of filters is outside of this fragment and must show it too.


def details(found: Spending) -> None:
    """The chosen split as a table and as areas, and as a file."""
    dimension = column_of(found.split)
    title = title_of(found.split)
    answer = found.breakdowns[found.split]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**Every {display.escaped(title.lower())}**"
                + (f", first {MAX_ROWS}" if _cut(answer) else "")
            )
            exports.menu(f"spend-by-{dimension}", [dimension, *TABLE], lambda: answer.table, found.scope)
        st.dataframe(
            tables.shown(answer.table, {dimension: title} | TABLE),
            hide_index=True,
            placeholder="–",
            column_config=tables.column_config({dimension: title} | TABLE),
            key="spend_table",
            alt=f"Calls, tokens and spend by {title.lower()}",
        )


def _narrow(key: str, dimension: str, bars: list[charts.Bar]) -> None:
    """Filter by the bar that was clicked; the remainder is nobody in particular."""
    selected = st.session_state[key].selection.selected
    chosen = [bars[index] for group in selected for index in group["data_indices"] if index < len(bars)]
    st.session_state["clicks"] = st.session_state.get("clicks", 0) + 1
    if chosen and not chosen[0].is_remainder:
        filters.only(dimension, chosen[0].name)
        st.session_state[f"narrowed_{dimension}"] = True


def _ratio(part: int, whole: int) -> Decimal | None:
    return Decimal(part) / whole if whole else None


def _cut(answer: data.Answer) -> bool:
    return bool(answer.table.num_rows >= MAX_ROWS)


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(outlook.tiles, run_every=filters.beat())()
    st.fragment(page, run_every=filters.pulse())()

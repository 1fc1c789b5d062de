"""Where did the money go, and why? How it goes now, totals, their course, who spent them, what changed."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import streamlit as st

from dashboards import charts, data, display, drill, exports, filters, ink, notices, tables
from dashboards.scope import COMPARISONS, Scope
from dashboards.spending import (
    MAX_ROWS,
    TAG,
    Spending,
    column_of,
    spending,
    title_of,
)
from dashboards.views import looks, outlook

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

TABLE = {
    "effective_cost_usd": "Spend, USD",
    "calls": "Calls",
    "failed_calls": "Failed",
    "input_tokens": "Input tokens",
    "cache_read_input_tokens": "of which cached",
    "output_tokens": "Output tokens",
    "list_cost_usd": "At list price, USD",
    "avoided_cost_usd": "Avoided, USD",
    "p50_ms": "p50, ms",
    "p95_ms": "p95, ms",
}


def page() -> None:
    """Everything below the bar of filters."""
    drill.settle()
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
    looks.look(found)
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
        key = drill.key("over_time")
        ink.chart(
            charts.stacked(
                steps,
                series,
                [charts.Level(one.name, one.usd) for one in limits if one.window == bucket],
            ),
            height=300,
            key=key,
            on_select=lambda: _narrow(key, found.split, series),
            alt=f"Spend per {bucket} by {title_of(found.split).lower()}",
        )


def details(found: Spending) -> None:
    """The chosen split as a table, each row of which the page can be narrowed to, and as a file."""
    dimension = column_of(found.split)
    title = title_of(found.split)
    answer = found.breakdowns[found.split]
    values = [str(value or "") for value in answer.table.column(dimension).to_pylist()]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**Every {display.escaped(title.lower())}**"
                + (f", first {MAX_ROWS}" if _cut(answer) else "")
            )
            exports.menu(f"spend-by-{dimension}", [dimension, *TABLE], lambda: answer.table, found.scope)
        columns = {dimension: title} | TABLE
        tables.openable(
            tables.shown(answer.table, columns),
            columns,
            lambda place: drill.narrow(drill.wanted(found.split, values[place])),
            word="Only",
            key="spend_table",
            alt=f"Calls, tokens and spend by {title.lower()}",
        )


def _narrow(key: str, split: str, series: Sequence[charts.Series]) -> None:
    """Narrow to the part that was clicked; the remainder is nobody in particular."""
    clicked = drill.point(key)
    part = series[clicked[0]] if clicked and clicked[0] < len(series) else None
    if part is not None and not part.is_remainder:
        drill.narrow(drill.wanted(split, part.name))


def _ratio(part: int, whole: int) -> Decimal | None:
    return Decimal(part) / whole if whole else None


def _cut(answer: data.Answer) -> bool:
    return bool(answer.table.num_rows >= MAX_ROWS)


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(outlook.tiles, run_every=filters.beat())()
    st.fragment(page, run_every=filters.pulse())()

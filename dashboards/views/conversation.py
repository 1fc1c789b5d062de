"""The course of one conversation: agents, tools and model calls with money, tokens, cache and time."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import streamlit as st

from dashboards import data, display, filters, ink, notices, tables, waterfall
from dashboards.scope import Scope
from dashboards.views import call

PARAMETER = "run"
"""The query parameter that names the conversation shown; ``conversation_id`` filters all pages."""

AROUND = timedelta(days=1)
"""A conversation may have begun before the time range, or gone on after it."""

TURNS = {
    "turn": "Turn",
    "started_at": "Started",
    "took": "Took",
    "steps": "Steps",
    "tool_calls": "Tools",
    "tool_errors": "failed",
    "input_tokens": "Input tokens",
    "cache_read_input_tokens": "of which cached",
    "output_tokens": "Output tokens",
    "spend": "Spend",
}

BARS = {
    "number": "#",
    "what": "What",
    "kind": "Kind",
    "started_at": "Started",
    "duration_ms": "Took, ms",
    "calls": "Calls",
    "input_tokens": "Input tokens",
    "cache_read_input_tokens": "of which cached",
    "output_tokens": "Output tokens",
    "spend": "Spend",
    "status": "Ended",
}


def show_chosen() -> None:
    """The conversation that the address names, if it names one."""
    identity = st.query_params.get(PARAMETER)
    if not identity:
        return
    window = filters.scope().window
    wide = replace(window, since=window.since - AROUND, until=window.until + AROUND)
    scope = Scope(window=wide, filters=(("conversation_id", (identity,)),), zone_name=filters.zone().key)
    try:
        bars, turns, totals = data.ask_all(
            [data.about("run", scope), data.about("turns", scope, limit=500), data.about("totals", scope)]
        )
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**The course of one conversation**")
            st.button("All its calls", on_click=_calls, args=(identity,), type="tertiary", key="run_calls")
            st.button("Close", on_click=_close, type="tertiary", key="close_run")
        if st.session_state.pop("run_follow", ""):
            filters.follow("calls", Scope(window=window, filters=(("conversation_id", (identity,)),)))
        st.code(display.plain(identity), language=None)
        if not bars.rows:
            st.info(
                "The ledger has no call of this conversation around this time range: choose a longer one."
            )
            return
        notices.stale([bars, turns, totals])
        told(totals.row, turns.rows)
        course(bars.rows)
        by_turn(turns.rows)


def told(total: data.Row, turns: Sequence[data.Row]) -> None:
    """What it came to."""
    spent = data.money(total["effective_cost_usd"])
    cached, read = int(total["cache_read_input_tokens"]), int(total["input_tokens"])
    st.caption(
        display.escaped(
            f"Ledger: {display.usd_exact(spent)} USD · {display.counted(int(total['calls']), 'call')} · "
            f"{display.counted(len(turns), 'turn')} · "
            f"{read:,} tokens in, {display.share(cached, read)} of them cached · "
            f"{int(total['output_tokens']):,} out. Click a bar of a model call to see that call."
        )
    )


def course(rows: Sequence[data.Row]) -> None:
    """The waterfall and, for those who read or listen, the same as a table."""
    shown = list(rows[: waterfall.MAX_BARS])
    key = f"waterfall_{st.session_state.get('clicks', 0)}"
    if len(rows) > len(shown):
        st.caption(f"The first {len(shown)} of {len(rows):,}; all of them are in the table below.")
    ink.chart(
        waterfall.option(rows),
        height=waterfall.height(rows),
        key=key,
        on_select=lambda: _open(key, shown),
        alt="Agents, tools and model calls of one conversation over time",
    )
    with st.expander("As a table"):
        st.dataframe(
            [
                {name: row[name] for name in ("started_at", "duration_ms", "calls", "input_tokens",
                                              "cache_read_input_tokens", "output_tokens")}
                | {
                    "number": number,
                    "what": waterfall.INDENT * min(int(row["depth"] or 0), 8) + display.plain(row["name"]),
                    "kind": waterfall.KINDS.get(str(row["kind"]), waterfall.OTHER),
                    "spend": display.usd(data.money(row["effective_cost_usd"])),
                    "status": display.plain(row["status"]),
                }
                for number, row in enumerate(rows, start=1)
            ],
            hide_index=True,
            placeholder="–",
            column_order=list(BARS),
            column_config=tables.column_config(BARS, filters.zone().key),
            key="run_table",
            alt="Agents, tools and model calls of one conversation, in order",
        )  # fmt: skip


def by_turn(rows: Sequence[data.Row]) -> None:
    """What each turn came to."""
    if not rows:
        return
    st.markdown("**Turns**")
    st.dataframe(
        [
            {name: row[name] for name in TURNS if name in row}
            | {
                "took": display.duration((row["ended_at"] - row["started_at"]) / timedelta(milliseconds=1)),
                "spend": display.usd(data.money(row["effective_cost_usd"])),
            }
            for row in rows
        ],
        hide_index=True,
        placeholder="–",
        column_order=list(TURNS),
        column_config=tables.column_config(TURNS, filters.zone().key),
        key="turns_table",
        alt="The turns of one conversation",
    )


def total_of(rows: Sequence[data.Row]) -> Decimal:
    """What the model calls of a waterfall cost together, USD."""
    return sum((data.money(row["effective_cost_usd"]) for row in rows if row["call_id"]), Decimal(0))


def _open(key: str, rows: Sequence[data.Row]) -> None:
    selected = st.session_state[key].selection.selected
    st.session_state["clicks"] = st.session_state.get("clicks", 0) + 1
    for group in selected:
        for place in group["data_indices"]:
            if place < len(rows) and rows[place]["call_id"]:
                st.query_params[call.PARAMETER] = str(rows[place]["call_id"])


def _calls(identity: str) -> None:
    st.session_state["run_follow"] = identity


def _close() -> None:
    st.query_params.pop(PARAMETER, None)

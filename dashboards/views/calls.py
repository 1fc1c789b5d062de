"""Which calls were they? A table of calls, newest first, and everything about one of them."""

import streamlit as st

from dashboards import data, display, exports, filters, notices, tables
from dashboards.scope import Scope
from dashboards.views import call

PAGE_SIZE = 50
MAX_EXPORT = 5_000

TABLE = {
    "started_at": "Started",
    "effective_cost_usd": "Cost",
    "agent": "Agent",
    "team": "Team",
    "request_model": "Model",
    "outcome": "Outcome",
    "http_status": "Status",
    "input_tokens": "Input",
    "cache_read_input_tokens": "cached",
    "output_tokens": "Output",
    "duration_ms": "Took, ms",
    "time_to_first_chunk_ms": "First chunk, ms",
    "cache": "Cache",
    "usage_grade": "Usage",
    "price_grade": "Price",
    "provider_name": "Provider",
    "upstream": "Upstream",
    "error_type": "Error",
    "conversation_id": "Conversation",
    "call_id": "Call",
}


def page() -> None:
    """Everything below the bar of filters."""
    scope = filters.scope()
    above = st.container()
    sought = search()
    cursors = _cursors(scope, sought)
    try:
        found, totals = data.ask_all(
            [_calls(scope, sought, limit=PAGE_SIZE, before=cursors[-1] if cursors else ""),
             data.about("totals", scope)],
            notices.questions(scope),
        )  # fmt: skip
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    notices.stale([found, totals])
    if not found.table.num_rows and not cursors:
        if sought and totals.row.get("calls"):
            st.info(
                f"**No call has “{display.escaped(sought)}”** among its names, or an id that begins so. "
                "Choose a longer time range, take a filter away, or seek something else."
            )
        else:
            notices.empty(scope)
        return
    told(found, totals.row, len(cursors) + 1, sought)
    table(found, scope)
    pager(found, cursors, scope, sought)
    with above:  # Drawn last: what it asks may take longer than the table.
        notices.simulated(scope)
        notices.ledger_age()
    if st.session_state.pop("call_chosen", False):
        st.rerun()  # The call is shown outside of this fragment, so that a live page leaves it alone.


def search() -> str:
    """The text that calls are sought by; it stands in the address."""
    sought = st.text_input(
        "Search",
        key="search",
        placeholder="Search: agent, team, user, model, upstream, outcome, error, or how an id begins",
        label_visibility="collapsed",
        max_chars=200,
        bind="query-params",
    )
    return (sought or "").strip()


def told(found: data.Answer, total: data.Row, page: int, sought: str) -> None:
    """What is listed, and what it is a part of."""
    calls = int(total["calls"])
    spent = display.usd_exact(data.money(total["effective_cost_usd"]))
    pages = f"page {page}" if sought else f"page {page} of {max(1, -(-calls // PAGE_SIZE)):,}"
    listed = f"shown are those with “{sought}”, newest first" if sought else "newest first"
    st.caption(
        display.escaped(
            f"Ledger: {spent} USD · {display.counted(calls, 'call')}, {listed} · {pages} · "
            f"as of {notices.drawn_at([found])}. Open one to see everything about it."
        )
    )


def table(found: data.Answer, scope: Scope) -> None:
    """One page of calls, each of which can be opened."""
    identities = [row["call_id"] for row in found.rows]
    tables.openable(
        tables.shown(found.table, TABLE),
        TABLE,
        lambda place: _choose(identities[place]),
        height=520,
        zone_name=scope.zone_name,
        key="calls_table",
        alt="Calls, newest first",
    )


def pager(found: data.Answer, cursors: list[str], scope: Scope, sought: str) -> None:
    """To newer and older calls, to one call by its id, and into a file."""
    older = found.table.num_rows == PAGE_SIZE
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("← Newer", disabled=not cursors, on_click=lambda: cursors.__delitem__(-1), key="newer")
        last = found.rows[-1]["call_id"] if older else ""
        st.button("Older →", disabled=not older, on_click=cursors.append, args=(last,), key="older")
        st.text_input(
            "Call id",
            key="call_sought",
            placeholder="Call id",
            label_visibility="collapsed",
            width=320,
            on_change=_seek,
        )
        exports.menu(
            "calls",
            found.table.column_names,
            lambda: data.ask(_calls(scope, sought, limit=MAX_EXPORT)).table,
            None if sought else scope,
            about=f"The newest {MAX_EXPORT:,} calls of this selection, every column."
            + ("" if sought else " FOCUS: all calls."),
        )


def _calls(scope: Scope, sought: str, *, limit: int, before: str = "") -> data.Question:
    more: dict[str, str | int] = {"search": sought} if sought else {}
    if before:
        more["before"] = before
    return data.about("calls", scope, None, limit=limit, **more)


def _cursors(scope: Scope, sought: str) -> list[str]:
    """The calls at which the pages before this one ended; starts anew with another selection."""
    selection = (scope.window.name, scope.filters, sought)
    if st.session_state.get("calls_selection") != selection:
        st.session_state["calls_selection"] = selection
        st.session_state["calls_cursors"] = []
    cursors: list[str] = st.session_state["calls_cursors"]
    return cursors


def _choose(identity: str) -> None:
    st.query_params[call.PARAMETER] = identity
    st.session_state["call_chosen"] = True


def _seek() -> None:
    sought = st.session_state["call_sought"].strip()
    if sought:
        st.session_state["call_sought"] = ""
        _choose(sought)


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()
    call.show_chosen()

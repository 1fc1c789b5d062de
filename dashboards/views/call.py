"""What was this one call? Who it was for, what it consumed, what it cost and how long it took."""

import json
import os
from collections.abc import Sequence
from urllib.parse import quote

import streamlit as st

from dashboards import bill, data, display, filters, notices, tables

TRACE_VARIABLE = "BURSAR_TRACE_URL"
"""Where traces are looked at: an address with ``{trace_id}`` in it, as ``dashboard.trace_url`` says it."""

PARAMETER = "call"
"""The query parameter that names the call shown, so that it can be linked to."""

TOKEN_CLASSES = {
    "input_tokens": "Input",
    "cache_read_input_tokens": "of which cache read",
    "cache_write_input_tokens": "of which cache write",
    "cache_write_1h_input_tokens": "of which for an hour",
    "audio_input_tokens": "of which audio in",
    "output_tokens": "Output",
    "reasoning_output_tokens": "of which reasoning",
    "audio_output_tokens": "of which audio out",
}

MONEY = {
    "effective_cost_usd": "Really owed",
    "list_cost_usd": "At list price",
    "avoided_cost_usd": "Avoided",
    "provider_cost_usd": "Provider says",
}

ATTEMPTS = {
    "attempt": "Attempt",
    "upstream": "Upstream",
    "replica": "Replica",
    "provider_name": "Provider",
    "request_model": "Model",
    "http_status": "Status",
    "error_type": "Error",
    "input_tokens": "Input",
    "cache_read_input_tokens": "cached",
    "output_tokens": "Output",
    "effective_cost_usd": "Cost",
    "duration_ms": "Took, ms",
    "time_to_first_chunk_ms": "First chunk, ms",
    "usage_grade": "Usage",
    "price_grade": "Price",
    "gpu_ms": "GPU, ms",
    "energy_j": "Energy, J",
}

BILL = {"part": "Part", "quantity": "Quantity", "rate": "Rate", "cost": "USD"}


def show_chosen() -> None:
    """Open the call that the address names, if it names one."""
    if identity := st.query_params.get(PARAMETER):
        _dialog(identity)


def _close() -> None:
    st.query_params.pop(PARAMETER, None)


@st.dialog("One call", width="large", on_dismiss=_close)
def _dialog(identity: str) -> None:
    try:
        found, attempts = data.ask_all(
            [data.Question(name, (("call_id", identity),), family=identity) for name in ("call", "attempts")]
        )
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    if not found.row:
        st.info("The ledger has no call of this id. It may be too old, or not booked yet.")
        st.code(display.plain(identity), language=None)
        return
    row = found.row
    st.code(display.plain(identity), language=None)
    summary(row)
    consumed(row)
    st.markdown("**Attempts**")
    if attempts.table.num_rows:
        st.dataframe(
            tables.shown(attempts.table, ATTEMPTS),
            hide_index=True,
            placeholder="–",
            column_config=tables.column_config(ATTEMPTS),
            key="attempts",
            alt="Every try at an upstream",
        )
    else:
        st.caption("None: no model was asked.")
    priced(row, attempts.rows)
    particulars(row)


def summary(row: data.Row) -> None:
    """How it ended, at a glance."""
    with st.grid(4, min_column_width=140):
        st.metric("Cost", display.escaped(display.usd(data.money(row["effective_cost_usd"]))), border=True)
        st.metric("Outcome", display.escaped(row["outcome"]), border=True)
        st.metric("Took", display.escaped(display.duration(row["duration_ms"])), border=True)
        st.metric(
            "First chunk", display.escaped(display.duration(row["time_to_first_chunk_ms"])), border=True
        )


def consumed(row: data.Row) -> None:
    """Tokens by class, and money to the pico-dollar."""
    tokens = {title: f"{int(row[name]):,}" for name, title in TOKEN_CLASSES.items() if row.get(name)}
    amounts = {
        title: f"{display.usd_exact(data.money(row[name]))} USD"
        for name, title in MONEY.items()
        if row.get(name) is not None
    }
    with st.grid(2, min_column_width=300):
        tables.facts("Tokens", tokens | {"Usage is": row.get("usage_grade") or "nothing was consumed"})
        tables.facts(
            "Money",
            amounts | {"Price is": row.get("price_grade"), "Price version": row.get("price_version")},
        )


def priced(row: data.Row, attempts: Sequence[data.Row]) -> None:
    """By which rows of the price book each attempt was charged, line by line."""
    question = bill.rows_question(attempts)
    if question is None:
        return
    try:
        rows = data.ask(question).rows
    except data.CollectorError as error:
        st.caption(display.escaped(f"The prices that were used could not be found out. {error}"))
        return
    tier = str(_attributes(row).get("service_tier") or "")
    for attempt in attempts:
        if not attempt.get("price_version"):
            continue
        found = bill.bill_of(attempt, rows, tier, heard(row, attempt))
        version = display.escaped(attempt["price_version"])
        if found is None:
            st.caption(
                f"**Price of attempt {attempt['attempt']}:** no row of version {version} has its model."
            )
            continue
        whose = found.row["provider_name"] or "your configuration"
        st.markdown(f"**Bill of attempt {found.attempt}**")
        if found.parts:
            st.dataframe(
                found.lines(),
                hide_index=True,
                column_order=list(BILL),
                column_config={
                    name: st.column_config.Column(title, alignment="left" if name == "part" else "right")
                    for name, title in BILL.items()
                }
                | {"quantity": st.column_config.NumberColumn(BILL["quantity"], format="%,d")},
                key=f"bill_{found.attempt}",
                alt="What each class of tokens cost",
            )
        about = f"{found.row['model']} of {whose}, by {found.row['source']}, "
        about += (
            f"price book {attempt['price_version']}. Rates are USD a million tokens, "
            f"those of fees USD each. {sums(found)}"
        )
        st.caption(display.escaped(about, 900))


def sums(found: bill.Bill) -> str:
    """What the lines of a bill add up to, and what of it is not certain."""
    owed, listed = (f"{display.usd_exact(amount)} USD" for amount in (found.owed, found.listed))
    worked_out = " How many image tokens there were is worked out from the amount." * found.is_worked_out
    if found.is_owed:
        return f"The lines sum to the ledger's {owed}, really owed.{worked_out}"
    if found.tallies:
        return f"The lines sum to the ledger's {listed} at list price; {owed} are really owed.{worked_out}"
    return f"The ledger says {listed} at list price, {owed} really owed: another row stood in."


def heard(row: data.Row, attempt: data.Row) -> tuple[int, int]:
    """The audio tokens, in and out, of the attempt that answered: of the others they are not known."""
    counts = ("input_tokens", "output_tokens")
    if any(int(row.get(name) or 0) != int(attempt.get(name) or 0) for name in counts):
        return 0, 0
    return int(row.get("audio_input_tokens") or 0), int(row.get("audio_output_tokens") or 0)


def _attributes(row: data.Row) -> dict[str, object]:
    """What the reply said of itself."""
    try:
        said = json.loads(row.get("response_attributes") or "{}")
    except (TypeError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def trace_link(trace_id: str, template: str) -> str:
    """The address at which a trace is looked at; empty without a template that names one."""
    if not trace_id or "{trace_id}" not in template or not template.startswith(("http://", "https://")):
        return ""
    return template.replace("{trace_id}", quote(trace_id, safe=""))


def particulars(row: data.Row) -> None:
    """Everything else that the ledger knows of it, in groups."""
    groups: dict[str, dict[str, object]] = {
        "For whom": {
            "Tenant": row.get("tenant"),
            "Team": row.get("team"),
            "User": row.get("user_id"),
            "Agent": row.get("agent"),
            "Conversation": row.get("conversation_id"),
            "known from": row.get("conversation_source"),
            "Task": row.get("task_id"),
            "Tags": row.get("tags"),
            "Key": row.get("key_id"),
        },
        "What": {
            "API": row.get("api"),
            "Streamed": "yes" if row.get("stream") else "no",
            "Model asked for": row.get("request_model"),
            "Model that answered": row.get("response_model"),
            "Downgraded from": row.get("downgraded_from"),
            "Provider": row.get("provider_name"),
            "Upstream": row.get("upstream"),
            "Our cache": row.get("cache"),
            "Finish reasons": row.get("finish_reasons"),
            "Tools called": row.get("tool_names"),
        },
        "How it went": {
            "Started": display.moment(row["started_at"], filters.zone()),
            "Took": display.duration(row["duration_ms"]),
            "First chunk after": display.duration(row.get("time_to_first_chunk_ms")),
            "Added by Bursar": f"{int(row.get('overhead_us') or 0):,} µs",
            "Outcome": row["outcome"],
            "because": row.get("outcome_reason"),
            "HTTP status": row.get("http_status"),
            "Error": row.get("error_type"),
        },
        "Trace": {
            "Trace": row.get("trace_id"),
            "Span": row.get("span_id"),
            "Parent span": row.get("parent_span_id"),
            "Model's span": row.get("gen_ai_span_id"),
            "Response": row.get("response_id"),
        },
    }
    with st.grid(2, min_column_width=300):
        for title, pairs in groups.items():
            known = {name: value for name, value in pairs.items() if value not in (None, "", [], {})}
            tables.facts(title, known)
    if link := trace_link(str(row.get("trace_id") or ""), os.environ.get(TRACE_VARIABLE, "")):
        st.link_button("Look at its trace", link)
    if row.get("conversation_id"):
        st.button(
            "All calls of this conversation",
            on_click=_follow,
            args=(row["conversation_id"],),
            key="whole_conversation",
        )


def _follow(conversation_id: str) -> None:
    filters.only("conversation_id", conversation_id)
    _close()

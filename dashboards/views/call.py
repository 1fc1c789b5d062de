"""What was this one call? Who it was for, what it consumed, what it cost and how long it took."""

import pyarrow as pa
import streamlit as st

from dashboards import data, display, filters, notices, tables

PARAMETER = "call"
"""The query parameter that names the call shown, so that it can be linked to."""

TOKEN_CLASSES = {
    "input_tokens": "Input",
    "cache_read_input_tokens": "  of which read from the provider's cache",
    "cache_write_input_tokens": "  of which written to the provider's cache",
    "cache_write_1h_input_tokens": "    of which kept for an hour",
    "audio_input_tokens": "  of which audio",
    "output_tokens": "Output",
    "reasoning_output_tokens": "  of which reasoning",
    "audio_output_tokens": "  of which audio",
}

MONEY = {
    "effective_cost_usd": "Really owed",
    "list_cost_usd": "At list price",
    "avoided_cost_usd": "Avoided by a cache hit or a downgrade",
    "provider_cost_usd": "By the provider's own account",
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


def show_chosen() -> None:
    """Open the call that the address names, if it names one."""
    if identity := st.query_params.get(PARAMETER):
        _dialog(identity)


def _close() -> None:
    st.query_params.pop(PARAMETER, None)
    st.session_state["calls_shown"] = st.session_state.get("calls_shown", 0) + 1


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
        st.info("The ledger has no call of this id. It may be too old, or not booked yet.", icon="🔍")
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
            column_config=tables.column_config(ATTEMPTS),
            key="attempts",
            alt="Every try at an upstream",
        )
    else:
        st.caption("None: no model was asked.")
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
    tokens, amounts = st.columns(2)
    with tokens:
        st.markdown("**Tokens**")
        st.dataframe(
            pa.table(
                {
                    "class": [title for name, title in TOKEN_CLASSES.items() if row.get(name)],
                    "tokens": [int(row[name]) for name in TOKEN_CLASSES if row.get(name)],
                }
            ),
            hide_index=True,
            column_config={"tokens": st.column_config.NumberColumn(format="%,d")},
            key="call_tokens",
            alt="Tokens by class",
        )
        st.caption(f"Usage: {display.escaped(row.get('usage_grade'))}")
    with amounts:
        st.markdown("**Money**, USD")
        paid = {
            title: display.usd_exact(data.money(row[name]))
            for name, title in MONEY.items()
            if row.get(name) is not None
        }
        st.dataframe(
            tables.facts(paid), hide_index=True, column_config=tables.FACTS_CONFIG, key="call_money",
            alt="What it cost, to the pico-dollar",
        )  # fmt: skip
        st.caption(
            f"Price: {display.escaped(row.get('price_grade'))}, "
            f"version {display.escaped(row.get('price_version'))}"
        )


def particulars(row: data.Row) -> None:
    """Everything else that the ledger knows of it, in groups."""
    zone = filters.zone()
    groups = {
        "Whose": ("tenant", "team", "user_id", "agent", "conversation_id", "conversation_source", "task_id",
                  "tags", "key_id"),
        "What": ("api", "stream", "request_model", "response_model", "provider_name", "upstream",
                 "downgraded_from", "cache", "finish_reasons", "tool_names"),
        "How it ended": ("outcome", "outcome_reason", "http_status", "error_type"),
        "Time": ("started_at", "duration_ms", "time_to_first_chunk_ms", "overhead_us", "chunks",
                 "request_bytes", "response_bytes"),
        "Trace": ("trace_id", "span_id", "parent_span_id", "gen_ai_span_id", "response_id"),
    }  # fmt: skip
    for title, names in groups.items():
        st.markdown(f"**{title}**")
        known = {
            name: display.moment(row[name], zone) if name.endswith("_at") else row[name]
            for name in names
            if row.get(name) not in (None, "", [], {})
        }
        st.dataframe(
            tables.facts(known),
            hide_index=True,
            column_config=tables.FACTS_CONFIG,
            key=f"call_{title}",
            alt=title,
        )
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

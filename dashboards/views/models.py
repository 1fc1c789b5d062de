"""Which model for what price and speed? Every model that was asked, side by side."""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import streamlit as st

from dashboards import charts, data, display, exports, filters, notices, tables

MOST = 100

TABLE = {
    "request_model": "Model",
    "calls": "Calls",
    "failed_calls": "Failed",
    "tokens": "Tokens",
    "spend": "Spend",
    "spend_share": "Share",
    "per_call": "A call",
    "per_mtok": "A million tokens",
    "p50_ms": "p50, ms",
    "p95_ms": "p95, ms",
}

CSV = (
    *("request_model", "calls", "failed_calls", "input_tokens", "cache_read_input_tokens", "output_tokens"),
    *("effective_cost_usd", "list_cost_usd", "usd_per_call", "usd_per_mtok", "p50_ms", "p95_ms"),
)


def page() -> None:
    """Everything below the bar of filters."""
    scope = filters.scope()
    questions = [
        data.about("spend_by", scope, by="request_model", limit=MOST),
        data.about("totals", scope),
    ]
    try:
        answers = data.ask_all(questions, notices.questions(scope))
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    above = st.container()
    notices.stale(answers)
    by_model, totals = answers
    rows, total = by_model.rows, totals.row
    if not rows:
        notices.empty(scope)
        return
    told(rows, total, notices.drawn_at(answers))
    prices(rows)
    details(rows, data.money(total.get("effective_cost_usd")))
    with above:  # Drawn last: what it asks may take longer than all the figures.
        notices.simulated(scope)
        notices.ledger_age()


def told(rows: Sequence[data.Row], total: data.Row, drawn_at: str) -> None:
    """What is compared here, and what of the total it is."""
    spent = data.money(total.get("effective_cost_usd"))
    cut = f"Only the {MOST} dearest are shown. " if len(rows) == MOST else ""
    st.caption(
        display.escaped(
            f"{display.counted(len(rows), 'model')} · {display.usd_exact(spent)} USD spent in all · "
            f"as of {drawn_at}. {cut}"
            "Prices are what was really paid, caches included: not the list price of another mix of calls."
        )
    )


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
                if not bars:
                    st.caption("No tokens were counted.")
                    continue
                st.echarts_chart(
                    charts.ranking(bars),
                    height=26 * max(3, len(bars)) + 16,
                    key=f"price_of_{price.__name__}",
                    alt=f"{title} by model, the dearest on top",
                )


def details(rows: Sequence[data.Row], spent: Decimal) -> None:
    """Every model with price and speed, and as a file."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**Price against speed**")
            exports.menu("models", CSV, lambda: exports.of_rows([in_full(row) for row in rows]))
        st.dataframe(
            [line(row, spent) for row in rows],
            hide_index=True,
            column_order=list(TABLE),
            column_config=tables.column_config(TABLE),
            key="models_table",
            alt="Calls, tokens, spend, price and latency by model",
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


def in_full(row: data.Row) -> dict[str, object]:
    """A row for a file: the ledger's figures, and the two prices."""
    return {**row, "usd_per_call": usd_per_call(row), "usd_per_mtok": usd_per_mtok(row)}


def line(row: data.Row, spent: Decimal) -> Mapping[str, object]:
    """A row as it is read; ``spent`` is the total in USD that shares are shares of."""
    amount = data.money(row["effective_cost_usd"])
    per_call, per_mtok = usd_per_call(row), usd_per_mtok(row)
    return {
        "request_model": display.plain(row["request_model"]),
        **{name: row[name] for name in ("calls", "failed_calls", "p50_ms", "p95_ms")},
        "tokens": display.count(tokens(row)),
        "spend": display.usd(amount),
        "spend_share": display.share(amount, spent),
        "per_call": "–" if per_call is None else display.usd(per_call),
        "per_mtok": "–" if per_mtok is None else display.usd(per_mtok),
    }


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()

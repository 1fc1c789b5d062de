"""Which model for what price, speed and quality? What would another have cost? Which prices changed?"""

from collections.abc import Mapping, Sequence
from decimal import Decimal

import streamlit as st

from collector.store.agent_questions import JUDGED
from dashboards import data, display, drill, exports, filters, notices, tables, whatif
from dashboards.bill import names_of
from dashboards.scope import Scope
from dashboards.views.worth import prices, tokens, usd_per_call, usd_per_mtok, worth, writers

MOST = 100

TABLE = {
    "request_model": "Model",
    "spend": "Spend",
    "spend_share": "Share",
    "calls": "Calls",
    "failed_calls": "Failed",
    "tokens": "Tokens",
    "per_call": "A call",
    "per_mtok": "A million tokens",
    "p50_ms": "p50, ms",
    "p95_ms": "p95, ms",
    "tasks": "Tasks",
    "success": "Succeed",
    "per_success": "A success",
}

SAVINGS = {
    "model": "Model",
    "calls": "Calls",
    "spent": "Spent",
    "instead": "Instead",
    "saved": "Saved",
    "success": "Succeed",
}

CHANGES = {
    "changed_at": "Since",
    "model": "Model",
    "provider": "Provider",
    "input": "Input, before → now",
    "cached": "Cached input",
    "output": "Output",
    "kind": "Why",
}
RATES = {"input": "input_usd", "cached": "cache_read_usd", "output": "output_usd"}
KINDS = {"dated": "the provider's date", "revised": "the price book or configuration says otherwise"}

CSV = (
    *("request_model", "calls", "failed_calls", "input_tokens", "cache_read_input_tokens", "output_tokens"),
    *("effective_cost_usd", "list_cost_usd", "usd_per_call", "usd_per_mtok", "p50_ms", "p95_ms"),
    *("tasks", "successes", "success_rate", "success_rate_low", "success_rate_high", "usd_per_success"),
)


def page() -> None:
    """Everything below the bar of filters."""
    drill.settle()
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
    said, trouble = quality(scope)
    rows = [{**row, **said.get(str(row["request_model"] or ""), {})} for row in by_model.rows]
    total = totals.row
    if not rows:
        notices.empty(scope)
        return
    told(rows, total, notices.drawn_at(answers))
    spent = data.money(total.get("effective_cost_usd"))
    worth(rows, spent)
    prices(rows)
    details(rows, spent)
    if trouble is not None:
        st.caption(display.escaped(f"How well models do is not known: {trouble}"))
    elif not said:
        st.caption(
            "How well models do is not known: no outcome of a task in this time range. Agents tell them with "
            "`POST /bursar/v1/outcomes`, people with `bursar outcomes`."
        )
    savings(writers(rows))
    price_changes(scope, rows)
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


def quality(scope: Scope) -> tuple[dict[str, data.Row], data.CollectorError | None]:
    """How tasks ended on each model, as agents and people said; and why that is not known."""
    judged = [(name, values) for name, values in scope.filters if name in JUDGED]
    if len(judged) != len(scope.filters):
        return {}, data.NotUnderstood("outcomes are not told apart by these filters.")
    try:
        found = data.ask(data.about("quality", scope, by="request_model", limit=MOST))
    except data.CollectorError as error:
        return {}, error
    return {
        str(row["request_model"] or ""): row_without(row, "effective_cost_usd") for row in found.rows
    }, None


def row_without(row: data.Row, name: str) -> data.Row:
    """The row but for one column."""
    return {key: value for key, value in row.items() if key != name}


def savings(rows: Sequence[data.Row]) -> None:
    """What the others' calls would have cost on a model of the reader's choice."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**What would another model have cost?** All calls of the others on")
            target = st.selectbox(
                "Model instead",
                list(
                    dict.fromkeys(str(row["request_model"]) for row in reversed(rows) if row["request_model"])
                ),
                format_func=display.plain,
                key="instead",
                accept_new_options=True,
                label_visibility="collapsed",
                width=240,
                bind="query-params",
            )
        if not target:
            return
        try:
            found = data.ask(whatif.prices_question(target)).rows
        except data.CollectorError as error:
            notices.collector_trouble(error)
            return
        price = whatif.price_now(target, found)
        if price is None:
            st.info(f"**The price book has no {display.escaped(target)}.** Choose another model.")
            return
        success = {str(row["request_model"] or ""): succeed(row) for row in rows}
        others = whatif.alternatives(rows, target, price)
        total = sum((one.saved for one in others if one.saved > 0), Decimal(0))
        st.dataframe(
            [
                {
                    "model": display.plain(one.model),
                    "calls": one.calls,
                    "spent": display.usd(one.spent),
                    "instead": display.usd(one.instead),
                    "saved": display.usd(one.saved),
                    "success": success.get(one.model, "–"),
                }
                for one in others
            ],
            hide_index=True,
            column_order=list(SAVINGS),
            column_config=tables.column_config(SAVINGS),
            key="savings",
            alt=f"What calls of other models would have cost on {display.plain(target)}",
        )
        st.caption(
            display.escaped(
                f"At most {display.usd(total)} less: the same tokens at list price, cached share and lengths "
                f"as they were. Tasks succeed on {target}: {success.get(target, '–')}. To have it done when "
                "a budget runs low, write downgrades: [{from: …, to: […]}] into bursar.yaml.",
                900,
            )
        )


def price_changes(scope: Scope, rows: Sequence[data.Row]) -> None:
    """Prices of the models in use that changed in the time range."""
    names = [name for row in rows for name in names_of(str(row["request_model"] or ""))][:90]
    window = scope.window
    params = (
        ("since", window.since.isoformat()),
        ("until", window.until.isoformat()),
        *(("model", name) for name in dict.fromkeys(names)),
    )
    try:
        found = data.ask(data.Question("price_changes", params, family=window.name)).rows
    except data.CollectorError as error:
        st.caption(display.escaped(f"Whether prices changed could not be found out. {error}"))
        return
    with st.container(border=True):
        st.markdown("**Prices that changed**, USD per million tokens")
        if not found:
            st.caption("No price of these models changed in this time range.")
            return
        st.dataframe(
            [
                {
                    "changed_at": row["changed_at"],
                    "model": display.plain(row["model"]),
                    "provider": display.plain(row["provider_name"] or "your configuration"),
                    **{
                        name: moved(row[f"{column}_before"], row[column])
                        for name, column in RATES.items()
                    },
                    "kind": KINDS.get(str(row["kind"]), str(row["kind"])),
                }
                for row in found
            ],
            hide_index=True,
            column_order=list(CHANGES),
            column_config=tables.column_config(CHANGES, scope.zone_name),
            key="price_changes",
            alt="Prices that changed, the newest on top",
        )  # fmt: skip


def moved(before: Decimal | None, now: Decimal | None) -> str:
    """A rate before and after, USD per million tokens."""
    shown = ["–" if rate is None else display.usd(Decimal(rate) * 1_000_000) for rate in (before, now)]
    return shown[1] if shown[0] == shown[1] else " → ".join(shown)


def succeed(row: data.Row) -> str:
    """How many tasks in a hundred succeed, with the 95 % interval."""
    if not row.get("tasks"):
        return "–"
    rate, low, high = (
        100 * float(row[name]) for name in ("success_rate", "success_rate_low", "success_rate_high")
    )
    return f"{rate:.0f} % ({low:.0f}–{high:.0f})"


def details(rows: Sequence[data.Row], spent: Decimal) -> None:
    """Every model with price and speed, and as a file."""
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**Price, speed and quality**")
            exports.menu("models", CSV, lambda: exports.of_rows([in_full(row) for row in rows]))
        st.dataframe(
            [line(row, spent) for row in rows],
            hide_index=True,
            placeholder="–",
            column_order=list(TABLE),
            column_config=tables.column_config(TABLE),
            key="models_table",
            alt="Calls, tokens, spend, price and latency by model",
        )


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
        "tasks": row.get("tasks") or 0,
        "success": succeed(row),
        "per_success": "–"
        if row.get("usd_per_success") is None
        else display.usd(Decimal(str(row["usd_per_success"]))),
    }


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()

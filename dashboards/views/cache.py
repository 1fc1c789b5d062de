"""What does reuse save, ours and the providers', and what broke prompt caches?"""

from bisect import bisect_right
from collections.abc import Sequence
from decimal import Decimal

import streamlit as st

from dashboards import charts, data, display, drill, filters, ink, notices, tables, whatif
from dashboards.display import step
from dashboards.scope import Window, steps

MOST = 100

RESULTS = {
    "cache": "What the cache said",
    "calls": "Calls",
    "share": "Share",
    "spend": "Spend",
    "avoided": "Saved",
}
SHARES = {
    "request_model": "Model",
    "calls": "Calls",
    "input_tokens": "Input tokens",
    "cache_read_input_tokens": "of which cached",
    "share": "Share",
    "saved": "Saved",
}
COMPARED = {
    "serving": "Given",
    "likeness": "Asked",
    "compared": "Compared",
    "wrong": "Wrong",
    "error": "Share wrong",
    "between": "At 95 % between",
}
LIKENESS = {"same": "in almost the same words", "rephrased": "in other words"}
BREAKS = {
    "cause": "Cause",
    "agent": "Agent",
    "request_model": "Model",
    "breaks": "Breaks",
    "lost_tokens": "Lost tokens",
    "cost": "Cost",
    "last_at": "Last",
    "advice": "What to change",
}
HITS = ("hit", "semantic")
ASKED = (*HITS, "miss")
"""What the cache says of calls whose answer may be reused; of others it says ``bypass`` or nothing."""


def page() -> None:
    """Everything below the bar of filters."""
    drill.settle()
    scope = filters.scope()
    window = scope.window
    times = (("since", window.since.isoformat()), ("until", window.until.isoformat()), ("limit", str(MOST)))
    questions = [
        data.about("totals", scope),
        data.about("spend_by", scope, by="cache", limit=MOST),
        data.about("spend_by", scope, by="request_model", limit=MOST),
        data.Question("cache_breaks", times, family=window.name),
        data.Question("similar_error", times[:2], family=window.name),
        data.about("spend_over_time", scope, by="cache", bucket=window.bucket),
    ]
    try:
        answers = data.ask_all(questions, notices.questions(scope))
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    above = st.container()
    notices.stale(answers)
    totals, results, models, breaks, compared, course = answers
    if not totals.row.get("calls"):
        notices.empty(scope)
    else:
        tiles(totals.row, results.rows, compared.rows)
        st.caption(display.escaped(f"As of {notices.drawn_at(answers)}."))
        over_time(course.rows, window)
        shares(totals.row, results.rows, models.rows)
        similar(compared.rows)
        broken(breaks.rows, scope.is_filtered)
    with above:  # Drawn last: what it asks may take longer than all the figures.
        notices.simulated(scope)
        notices.ledger_age()


def tiles(total: data.Row, results: Sequence[data.Row], compared: Sequence[data.Row]) -> None:
    """Hit rate, saved money, how wrong similar answers were, and the providers' share."""
    hits, asked = hits_of(results)
    saved = data.money(total.get("avoided_cost_usd"))
    cached, read = int(total.get("cache_read_input_tokens") or 0), int(total.get("input_tokens") or 0)
    wrong, seen = (sum(int(row[name]) for row in compared) for name in ("wrong", "compared"))
    measured = (
        f"{wrong:,} of {seen:,} similar answers were not what the model said: see the table below"
        if seen
        else "No similar answer was compared with what the model says: a route has to ask for them"
    )
    with st.grid(4, min_column_width=165):
        for title, value, meaning in (
            ("Hit rate", display.share(hits, asked),
             f"{hits:,} of the {asked:,} calls whose answer may be reused were answered from ours"),
            ("Saved", display.usd(saved),
             f"By reused answers and downgrades, exactly {display.escaped(display.usd_exact(saved))} USD"),
            ("Cached input", display.share(cached, read),
             f"{cached:,} of {read:,} input tokens came from a provider's prompt cache"),
            ("Measured error", display.share(wrong, seen), measured),
        ):  # fmt: skip
            st.metric(title, display.escaped(value), help=f"{meaning}.", border=True, height="stretch")


def over_time(rows: Sequence[data.Row], window: Window) -> None:
    """The share of reused answers, and that of cached input, step by step; a gap where there was none."""
    reader = filters.zone()
    starts = list(steps(window, reader))
    of_step: list[list[data.Row]] = [[] for _ in starts]
    for row in rows:
        of_step[max(0, bisect_right(starts, row["bucket"]) - 1)].append(row)
    hits, cached = [], []
    for met in of_step:
        hits.append(_percent(*hits_of(met)))
        cached.append(_percent(_sum(met, "cache_read_input_tokens"), _sum(met, "input_tokens")))
    with st.container(border=True):
        st.markdown(f"**What was reused**, each {window.bucket}")
        ink.chart(
            charts.lines(
                [step(start, window.bucket, reader) for start in starts],
                [charts.Line("Hit rate of ours", hits), charts.Line("Cached input of providers", cached)],
                " %",
                most=100.0,
            ),
            height=230,
            key="cache_over_time",
            alt="Hit rate of our cache and share of cached input over time",
        )


def _sum(rows: Sequence[data.Row], name: str) -> int:
    return sum(int(row[name] or 0) for row in rows)


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None


def hits_of(results: Sequence[data.Row]) -> tuple[int, int]:
    """Calls that were answered from our cache, and calls that it was asked for."""
    by_result = {str(row["cache"]): int(row["calls"]) for row in results}
    hits, asked = (sum(by_result.get(name, 0) for name in names) for names in (HITS, ASKED))
    return hits, asked


def shares(total: data.Row, results: Sequence[data.Row], models: Sequence[data.Row]) -> None:
    """Calls by what our cache said, and each model's share of input from prompt caches."""
    calls = int(total["calls"])
    with st.grid(2, min_column_width=300):
        with st.container(border=True, height="stretch"):
            st.markdown("**Our cache**")
            _table(
                [
                    {"cache": display.plain(row["cache"]), "share": display.share(int(row["calls"]), calls),
                     "calls": row["calls"], "spend": _usd(row["effective_cost_usd"]),
                     "avoided": _usd(row["avoided_cost_usd"])}
                    for row in results
                ],
                RESULTS,
                "cache_results",
                only=("cache", [str(row["cache"] or "") for row in results]),
            )  # fmt: skip
        with st.container(border=True, height="stretch"):
            st.markdown("**Providers' prompt caches**")
            saved = saved_by_prompt_caches(models)
            _table(
                [
                    {name: row[name] for name in ("calls", "input_tokens", "cache_read_input_tokens")}
                    | {"request_model": display.plain(row["request_model"]),
                       "share": display.share(
                           int(row["cache_read_input_tokens"]), int(row["input_tokens"])),
                       "saved": "–" if (less := saved.get(str(row["request_model"]))) is None
                       else display.usd(less)}
                    for row in models
                ],
                SHARES,
                "cache_models",
                only=("request_model", [str(row["request_model"] or "") for row in models]),
            )  # fmt: skip
            if saved:
                st.caption(
                    display.escaped(
                        f"About {display.usd(sum(saved.values(), Decimal(0)))} less in all, at the list "
                        "prices of now: what cached tokens would have cost as ordinary input, less what "
                        "it cost to write them."
                    )
                )


def saved_by_prompt_caches(models: Sequence[data.Row]) -> dict[str, Decimal]:
    """What providers' prompt caches saved, net, USD by model; of those whose price is known."""
    cached = [row for row in models if row["request_model"] and row["cache_read_input_tokens"]]
    if not cached:
        return {}
    names = [str(row["request_model"]) for row in cached]
    try:
        known = data.ask(whatif.prices_question(*names)).rows
    except data.CollectorError:
        return {}  # The page's other figures stand without it.
    prices = {name: whatif.price_now(name, known) for name in names}
    return {
        name: whatif.saved_by_prompt_cache(row, price)
        for name, row in zip(names, cached, strict=True)
        if (price := prices[name]) is not None
    }


def similar(rows: Sequence[data.Row]) -> None:
    """How wrong similar answers were, where somebody lets them be given."""
    if not rows:
        return
    with st.container(border=True):
        st.markdown("**Similar answers, compared with what the model said**")
        _table(
            [
                {
                    "serving": "yes" if row["serving"] else "not yet",
                    "likeness": LIKENESS.get(str(row["likeness"]), display.plain(row["likeness"])),
                    "compared": row["compared"],
                    "wrong": row["wrong"],
                    "error": f"{float(row['error']):.2%}",
                    "between": f"{float(row['error_low']):.2%} and {float(row['error_high']):.2%}",
                }
                for row in rows
            ],
            COMPARED,
            "cache_similar",
        )


def broken(rows: Sequence[data.Row], is_filtered: bool) -> None:
    """What broke providers' prompt caches, the dearest first."""
    with st.container(border=True):
        st.markdown("**What broke prompt caches**")
        if is_filtered:
            st.caption("Of all calls in this time range: the filters do not narrow it.")
        if not rows:
            st.caption("Nothing was seen to break one in this time range.")
            return
        lost = sum((data.money(row["effective_cost_usd"]) for row in rows), Decimal(0))
        st.caption(
            display.escaped(f"{display.usd(lost)} for tokens that had been cached before.")
            + (f" Only the {MOST} dearest are shown." if len(rows) == MOST else "")
        )
        texts = ("agent", "request_model", "advice")
        others = ("breaks", "lost_tokens", "last_at")
        _table(
            [
                {name: display.plain(row[name], 300) for name in texts}
                | {name: row[name] for name in others}
                | {"cause": _cause(row), "cost": _usd(row["effective_cost_usd"])}
                for row in rows
            ],
            BREAKS,
            "cache_breaks",
        )


def _cause(row: data.Row) -> str:
    """What happened, and to which block of the prompt where that does not go without saying."""
    cause, block = str(row["cause"]), str(row["block"] or "")
    return display.plain(f"{cause} ({block})" if block and block not in cause else cause)


def _usd(amount: object) -> str:
    return display.usd(data.money(amount))


def _table(
    rows: Sequence[data.Row],
    columns: dict[str, str],
    key: str,
    only: tuple[str, Sequence[str]] | None = None,
) -> None:
    """A table; of ``only`` a dimension and its values, one for each row, the page can be narrowed to one."""
    alt, zone_name = ", ".join(columns.values()), filters.zone().key
    if only is not None:
        dimension, values = only
        tables.openable(
            list(rows),
            columns,
            lambda place: drill.narrow({dimension: values[place]}),
            word="Only",
            zone_name=zone_name,
            key=key,
            alt=alt,
        )
        return
    st.dataframe(
        list(rows),
        hide_index=True,
        placeholder="–",
        column_order=list(columns),
        column_config=tables.column_config(columns, zone_name),
        key=key,
        alt=alt,
    )


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()

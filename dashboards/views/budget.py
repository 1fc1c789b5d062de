"""Who is eating this one budget, what is in force for it, what can be done, and what was done before."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import streamlit as st

from dashboards import budgeting, charts, control, data, display, drill, filters, ink, notices, tables
from dashboards.budgeting import Counter, Order
from dashboards.control import Standings
from dashboards.scope import DIMENSIONS, Scope, Window

BUDGET, SUBJECT = "budget", "subject"
"""The query parameters that name the counter shown, so that it can be linked to."""

MOST_EVENTS = 200

SPENDERS = ("agent", "request_model", "user_id")

DURATIONS = {"1 hour": 1, "4 hours": 4, "1 day": 24, "7 days": 168}

HISTORY = {
    "happened_at": "When",
    "budget": "Budget",
    "counter": "Whose",
    "action": "What",
    "detail": "Why",
    "amounts": "Spent",
}

WINDOWS = ("minute", "hour", "day", "week", "month")
_ZEROS = re.compile(r"(\d\.\d\d\d*?)0+(?= USD\b)")


def choose(counter: Counter) -> None:
    """Show this one; for callbacks."""
    st.query_params[BUDGET] = counter.budget
    st.query_params[SUBJECT] = counter.subject


def show_chosen() -> None:
    """Everything about the counter that the address names, if it names one."""
    name = st.query_params.get(BUDGET)
    if not name:
        return
    try:
        found = control.standings()
    except data.CollectorError:
        return  # The page above says so.
    key = (name, st.query_params.get(SUBJECT, ""))
    counters = [one for one in found.counters if one.key == key]
    if not counters:
        st.info(f"No budget called **{display.escaped(name)}** counts that, or nothing has touched it yet.")
        return
    counter = max(counters, key=lambda one: one.starts_at or datetime.min.replace(tzinfo=UTC))
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**{display.escaped(title(counter))}**")
            st.button("Close", on_click=_close, type="tertiary", key="close_budget")
        facts(counter, found)
        spenders(counter, found)
        actions(counter, found)


def title(counter: Counter) -> str:
    """Which counter it is."""
    return f"{counter.budget}: {counter.subject}" if counter.subject else counter.budget


def whose(counter: Counter, found: Standings) -> str:
    """What tells a counter from the others of its budget."""
    if counter.subject:
        return display.plain(counter.subject)
    configured = found.of(counter.budget)
    return f"(no {configured.each})" if configured is not None and configured.each else "all of it"


def facts(counter: Counter, found: Standings) -> None:
    """How it stands, to the last digit, and what is configured."""
    zone, unit = filters.zone(), counter.unit

    def exact(amount: Decimal) -> str:
        return f"{display.usd_exact(amount)} USD" if unit == "usd" else f"{int(amount):,} {unit}"

    stands = {
        "Limit": exact(counter.limit),
        "Spent": exact(counter.spent),
        "Held by running calls": exact(counter.held),
        "Left": exact(counter.remaining),
        "Since": display.moment(counter.starts_at, zone),
        "Resets": display.moment(counter.resets_at, zone) if counter.resets_at else "never",
    }
    if not counter.exact:
        stands["Beware"] = "the store of budgets is lost; this is what one sidecar knows"
    configured = found.of(counter.budget)
    with st.grid(2, min_column_width=300):
        tables.facts("Now", stands)
        if configured is None:
            st.caption("The configuration no longer has this budget.")
            return
        ladder = [f"{action} at {display.percent(share)}" for share, action in configured.at]
        tables.facts(
            "Configured",
            {
                "Window": configured.window,
                "Calls": _wanted(configured) or "all",
                "One counter for each": configured.each or "–",
                "Thresholds": ladder or ["refuse at 100 %"],
                "When its store is lost": "closed" if configured.mode == "hard" else "open",
            },
        )


def calls_of(wanted: budgeting.Wanted, window: Window) -> Scope | None:
    """The ledger's calls that have one of the wanted values; ``None`` when there are none.

    Raises:
        CollectorError: a pattern could not be looked up.
    """
    zone_name = filters.zone().key
    names = budgeting.patterns(wanted)
    whole = Scope(window=window.roughly, zone_name=zone_name)
    answers = data.ask_all([data.about("values", whole, dimension=name, limit=1000) for name in names])
    known = {
        name: [str(row["value"]) for row in answer.rows] for name, answer in zip(names, answers, strict=True)
    }
    return budgeting.scope_of(wanted, window, known, zone_name)


def spenders(counter: Counter, found: Standings) -> None:
    """Who used it up since the window began, as the ledger has it; a click shows that one's spend."""
    configured = found.of(counter.budget)
    if configured is None:
        return
    window = budgeting.spent_window(counter, datetime.now(UTC))
    try:
        scope = calls_of(budgeting.counted_by(configured, counter.subject), window)
        if scope is None:
            st.caption("The ledger has no call that this budget is for.")
            return
        dimensions = [name for name in SPENDERS if name not in dict(scope.filters)]
        totals, *answers = data.ask_all(
            [data.about("totals", scope)]
            + [data.about("spend_by", scope, by=name, limit=charts.MAX_BARS) for name in dimensions]
        )
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    spent = data.money(totals.row.get("effective_cost_usd"))
    st.markdown("**Who is eating it**")
    st.caption(
        display.escaped(
            f"Ledger: {display.usd_exact(spent)} USD · "
            f"{display.counted(int(totals.row.get('calls') or 0), 'call')} since "
            f"{display.moment(window.since, filters.zone())}. Budgets round each call up to a "
            "nano-dollar, and a call is booked a moment after it is counted."
        )
    )
    if not spent:
        return
    with st.grid(min(3, len(dimensions)), min_column_width=280):
        for name, answer in zip(dimensions, answers, strict=True):
            ranked(name, answer.rows, spent, scope)


def ranked(dimension: str, rows: Sequence[data.Row], total: Decimal, scope: Scope) -> None:
    """The largest spenders by one dimension, completed to ``total``."""
    bars = [charts.Bar(str(row[dimension] or ""), data.money(row["effective_cost_usd"])) for row in rows]
    rest = total - sum((bar.amount for bar in bars), Decimal(0))
    if rest > 0:
        bars.append(charts.Bar(charts.REMAINDER, rest, is_remainder=True))
    key = drill.key(f"eaters_{dimension}")

    def narrow() -> None:
        clicked = drill.point(key)
        bar = bars[clicked[1]] if clicked and clicked[1] < len(bars) else None
        if bar is not None and not bar.is_remainder:
            st.session_state["eater"] = scope.only(dimension, [bar.name])

    with st.container(border=True, height="stretch"):
        st.markdown(f"**By {DIMENSIONS[dimension].lower()}**, USD")
        ink.chart(
            charts.ranking(bars),
            height=26 * max(3, len(bars)) + 16,
            key=key,
            on_select=narrow,
            alt=f"Spend of this budget by {DIMENSIONS[dimension].lower()}, the largest on top",
        )
    if eater := st.session_state.pop("eater", None):
        filters.follow("calls", eater)


def actions(counter: Counter, found: Standings) -> None:
    """What is in force for now, and forms for more room or a pause."""
    for_it = found.orders_of(counter)
    st.markdown("**For now**")
    if not for_it:
        st.caption("Neither raised nor paused.")
    for order in for_it:
        in_force(order, counter, may_operate=found.may_operate)
    if not found.may_operate:
        st.caption("Your role lets you look at budgets, and change nothing.")
        return
    said = st.session_state.pop("budget_said", "")
    if said:
        (st.error if st.session_state.pop("budget_failed", False) else st.success)(display.escaped(said))
    configured = found.of(counter.budget)
    unnamed = configured is not None and configured.each and not counter.subject
    if unnamed:
        st.caption(
            "A raise here is for every counter of this budget; calls that name nobody cannot be paused."
        )
    with st.container(horizontal=True):
        with st.popover("Raise"):
            raise_form(counter)
        if not unnamed:
            with st.popover("Pause"):
                pause_form(counter)


def in_force(order: Order, counter: Counter, *, may_operate: bool) -> None:
    """One raise or directive, and how to end it."""
    what = order.kind
    if order.kind == "raise":
        nano = Decimal(order.amount)
        more = nano.scaleb(-9) if counter.unit == "usd" else nano
        what = f"raise by {budgeting.amount_text(more, counter.unit)}"
    with st.container(horizontal=True, vertical_alignment="center"):
        why = f": {order.reason}" if order.reason else ""
        st.text(
            display.plain(
                f"{what} until {display.moment(order.until_at, filters.zone())}, by {order.by}{why}", 400
            )
        )
        if may_operate:
            st.button(
                "Take back",
                key=f"back_{order.id}",
                on_click=_done,
                args=(lambda: control.take_back(order), f"{what} is taken back"),
            )


def raise_form(counter: Counter) -> None:
    """More room for a while."""
    with st.form("raise", border=False):
        unit = "USD" if counter.unit == "usd" else counter.unit
        st.number_input(f"How much more, {unit}", min_value=0.0, value=None, key="raise_amount")
        st.selectbox("For", list(DURATIONS), key="raise_for")
        st.text_input("Why", key="raise_why", max_chars=300, placeholder="for the record")
        st.form_submit_button("Raise the limit", on_click=_raise, args=(counter, unit))


def pause_form(counter: Counter) -> None:
    """No new calls for a while."""
    with st.form("pause", border=False):
        st.caption("New calls that this budget counts are refused; those that run may finish.")
        st.selectbox("For", list(DURATIONS), key="pause_for")
        st.text_input("Why", key="pause_why", max_chars=300, placeholder="callers are told")
        st.form_submit_button("Pause", on_click=_pause, args=(counter,))


def history() -> None:
    """What befell budgets in the time range, and what people and alerts did; newest first."""
    window, name = filters.scope().window, st.query_params.get(BUDGET)
    params = [("since", window.since.isoformat()), ("until", window.until.isoformat())]
    params += [("limit", str(MOST_EVENTS)), *([("budget", name)] if name else [])]
    question = data.Question("budget_events", tuple(params), family=f"{window.name}?{name}")
    try:
        answer = data.ask(question)
    except data.CollectorError as error:
        st.warning(f"**No history.** {display.escaped(error)}  \n{error.advice}")
        return
    with st.container(border=True):
        st.markdown("**What was done**" + (f" about {display.escaped(name)}" if name else ""))
        notices.stale([answer])
        if not answer.table.num_rows:
            st.caption("Nothing in this time range.")
            return
        if answer.table.num_rows == MOST_EVENTS:
            st.caption(f"Only the newest {MOST_EVENTS} are shown.")
        st.dataframe(
            [event(row) for row in answer.rows],
            hide_index=True,
            placeholder="–",
            column_order=list(HISTORY),
            column_config=tables.column_config(HISTORY, filters.zone().key),
            key="budget_history",
            alt="What befell budgets, newest first",
        )


def event(row: data.Row) -> dict[str, object]:
    """One line of the history."""
    texts = {name: row[name] or None for name in ("budget", "counter", "action", "detail")}
    texts["counter"], texts["detail"] = counted_for(texts["counter"]), shortened(texts["detail"])
    spent, limit = (
        None if value is None else display.usd(data.money(value))
        for value in (row["spent_usd"], row["limit_usd"])
    )
    return {
        "happened_at": row["happened_at"],
        **{name: None if text is None else display.plain(text, 300) for name, text in texts.items()},
        "amounts": f"{spent} of {limit}" if spent and limit else spent,
    }


def counted_for(counter: str | None) -> str | None:
    """A counter in words: ``coding-agent (day 2026-11-29)``; the ledger puts a colon into the window."""
    if counter is None:
        return None
    subject, _, window = counter.rpartition(" ")
    kind, colon, start = window.partition(":")
    if not colon or kind not in WINDOWS:
        return counter
    return f"{subject} ({kind} {start})" if subject else f"{kind} {start}"


def shortened(detail: str | None) -> str | None:
    """What was said, amounts in it without the zeros that say nothing."""
    return None if detail is None else _ZEROS.sub(r"\1", detail)


@dataclass(frozen=True, slots=True)
class _Form:
    hours: float
    reason: str


def _filled(name: str) -> _Form:
    state = st.session_state
    return _Form(DURATIONS[state[f"{name}_for"]], str(state[f"{name}_why"] or "").strip())


def _raise(counter: Counter, unit: str) -> None:
    amount, form = st.session_state["raise_amount"], _filled("raise")
    if not amount:
        st.session_state["budget_said"], st.session_state["budget_failed"] = "Say how much more.", True
        return
    # As people typed it: a float's shortest form is what they wrote, to 15 digits.
    text = f"{Decimal(repr(amount)):f} {unit}" if unit == "USD" else f"{int(amount)} {unit}"
    _done(
        lambda: control.give_more(
            counter.budget, counter.subject, text, hours=form.hours, reason=form.reason
        ),
        f"{title(counter)} has {text} more",
    )


def _pause(counter: Counter) -> None:
    form = _filled("pause")
    _done(
        lambda: control.pause(counter.budget, counter.subject, hours=form.hours, reason=form.reason),
        f"{title(counter)} is paused",
    )


def _done(act: Callable[[], None], said: str) -> None:
    """Do it, and keep what came of it for the page that is drawn next."""
    try:
        act()
    except data.CollectorError as error:
        st.session_state["budget_said"], st.session_state["budget_failed"] = str(error), True
        return
    data.forget()
    st.session_state["budget_said"] = said


def _close() -> None:
    st.query_params.pop(BUDGET, None)
    st.query_params.pop(SUBJECT, None)


def _wanted(configured: budgeting.Budget) -> str:
    return " and ".join(f"{name} {' or '.join(values)}" for name, values in configured.match.items())

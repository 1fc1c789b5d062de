"""What may still be spent? How budgets stand, who eats them, when they run out, and what can be done."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal

import streamlit as st

from dashboards import budgeting, control, data, display, filters, notices, tables
from dashboards.budgeting import Counter
from dashboards.control import Standings
from dashboards.views import budget

MOST = 200
"""Counters in the table; a budget with one for each conversation can have very many."""
MOST_RATES = 40
"""Budgets whose rate is asked for."""
MOST_SUBJECTS = 1000
USED_WIDTH = 96
"""In pixels: how much is used up is to be seen on a phone, too, and whose it is beside it."""

TABLE = {
    "share": "Used",
    "budget": "Budget",
    "subject": "Whose",
    "limit": "Limit",
    "spent": "Spent",
    "held": "Held",
    "remaining": "Left",
    "per_hour": "An hour",
    "lasts": "At this rate",
    "resets_at": "Resets",
    "state": "In force",
}

Rates = Mapping[tuple[str, str], Decimal]


def page() -> None:
    """Everything below the bar of filters, of which none concerns budgets but the one for tenants."""
    try:
        found = control.standings()
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    if not found.budgets and not found.counters:
        st.info(
            "**No budget is configured.** Write one into `bursar.yaml`, such as  \n"
            "`budgets: [{name: everyone, each: user, limit: 5 USD, window: day}]`."
        )
        return
    counters = sorted(found.counters, key=lambda one: (-one.share, one.key))
    now = datetime.now(UTC)
    speed, trouble = rates(counters[:MOST], found, now)
    tiles(counters, found, speed, now)
    if trouble is not None:
        st.warning(
            f"**How fast they are used up is not known.** {display.escaped(trouble)}  \n{trouble.advice}"
        )
    st.caption(
        display.escaped(
            f"As of {found.at.astimezone(filters.zone()):%H:%M:%S}, counted by the sidecar. "
            "Open one to see who spends it and what can be done."
            + (f" Only the {MOST} that are used up most are shown." if len(counters) > MOST else "")
        )
    )
    table(counters[:MOST], found, speed, now)
    if st.session_state.pop("budget_chosen", False):
        st.rerun()  # One budget is shown outside of this fragment, so that a live page leaves it alone.


def rates(
    counters: Sequence[Counter], found: Standings, now: datetime
) -> tuple[Rates, data.CollectorError | None]:
    """How much of each counter is used up an hour, of late, in its unit; and why it is not known.

    One question a budget, however many counters it has.
    """
    groups: dict[str, list[Counter]] = {}
    for counter in counters:
        groups.setdefault(counter.budget, []).append(counter)
    speed: dict[tuple[str, str], Decimal] = {}
    asked: list[tuple[list[Counter], str, Decimal, data.Question]] = []
    try:
        for name, group in list(groups.items())[:MOST_RATES]:
            configured = found.of(name)
            if configured is None:
                continue
            window = budgeting.rate_window(group[0], now)
            by, column = budgeting.split_by(configured.each)
            scope = budget.calls_of(dict(configured.match), window)
            if scope is None:
                speed |= {counter.key: Decimal(0) for counter in group}
                continue
            question = (
                data.about("spend_by", scope, by=by, limit=MOST_SUBJECTS)
                if by
                else data.about("totals", scope)
            )
            hours = Decimal(window.span.total_seconds()) / 3600
            asked.append((group, column, hours, question))
        answers = data.ask_all([question for *_, question in asked])
    except data.CollectorError as error:
        return speed, error
    for (group, column, hours, _), answer in zip(asked, answers, strict=True):
        rows = {str(row.get(column) or ""): row for row in answer.rows} if column else {"": answer.row}
        for counter in group:
            row = rows.get(counter.subject if column else "", {})
            speed[counter.key] = budgeting.used(row, counter.unit) / hours
    return speed, None


def tiles(counters: Sequence[Counter], found: Standings, speed: Rates, now: datetime) -> None:
    """What needs somebody's attention."""
    used_up = [counter for counter in counters if counter.is_used_up]
    passed = [
        counter
        for counter in counters
        if not counter.is_used_up and budgeting.reached(counter, found.of(counter.budget))
    ]
    ends = [(at, counter) for counter in counters if (at := _end(counter, speed, now)) and at > now]
    first = min(ends, key=lambda end: end[0], default=None)
    soonest, whose = ("–", "No budget runs out before it resets, if it goes on as of late")
    if first is not None:
        soonest, whose = f"in {display.wait(first[0] - now)}", named(first[1])
    for_now = [order for order in found.orders if order.kind in ("raise", "pause")]
    with st.grid(4, min_column_width=165):
        for title, value, meaning in (
            ("Used up", str(len(used_up)), _names(used_up) or "Every budget has something left"),
            ("Past a threshold", str(len(passed)), _names(passed) or "None has reached one"),
            ("Runs out first", soonest, whose),
            ("In force for now", str(len(for_now)), "Raises and pauses that people or alerts asked for"),
        ):
            st.metric(
                title, display.escaped(value), help=display.escaped(meaning), border=True, height="stretch"
            )


def table(counters: Sequence[Counter], found: Standings, speed: Rates, now: datetime) -> None:
    """Every counter, the one that is used up most on top; each can be opened."""
    if counters:
        standing(counters, found, speed, now)
    untouched = sorted({one.name for one in found.budgets} - {counter.budget for counter in counters})
    if untouched:
        st.caption(display.escaped(f"Not touched yet: {', '.join(untouched[:20])}."))


def standing(counters: Sequence[Counter], found: Standings, speed: Rates, now: datetime) -> None:
    """The table itself."""
    tables.openable(
        [line(counter, found, speed, now) for counter in counters],
        TABLE,
        lambda place: _choose(counters[place]),
        zone_name=filters.zone().key,
        more={
            "share": st.column_config.ProgressColumn(
                "Used", format="%.0f %%", min_value=0, max_value=100, width=USED_WIDTH
            )
        },
        key="budgets_table",
        alt="Budgets, the one that is used up most on top",
    )


def line(counter: Counter, found: Standings, speed: Rates, now: datetime) -> dict[str, object]:
    """One row of the table."""
    per_hour = speed.get(counter.key)
    kinds = [order.kind for order in found.orders_of(counter)]
    state = [budgeting.reached(counter, found.of(counter.budget)), *dict.fromkeys(kinds)]
    amounts = {
        name: budgeting.amount_text(getattr(counter, name), counter.unit)
        for name in ("limit", "spent", "held", "remaining")
    }
    return amounts | {
        "budget": display.plain(counter.budget),
        "subject": budget.whose(counter, found),
        "share": float(100 * min(counter.share, Decimal(1))),
        "per_hour": "–" if per_hour is None else budgeting.amount_text(per_hour, counter.unit),
        "lasts": lasts(counter, per_hour, now),
        "resets_at": counter.resets_at,
        "state": ", ".join(word for word in state if word) or "–",
    }


def lasts(counter: Counter, per_hour: Decimal | None, now: datetime) -> str:
    """How long what is left lasts, in words."""
    if counter.is_used_up:
        return "used up"
    if per_hour is None:
        return "–"
    if not per_hour:
        return "nothing spent of late"
    end = budgeting.runs_out(counter, per_hour, now)
    if end is None:
        return "lasts until it resets" if counter.resets_at else "lasts over a year"
    return f"runs out in {display.wait(end - now)}"


def named(counter: Counter) -> str:
    """A counter in words: ``agents (planner)``."""
    return f"{counter.budget} ({counter.subject})" if counter.subject else counter.budget


def _end(counter: Counter, speed: Rates, now: datetime) -> datetime | None:
    per_hour = speed.get(counter.key)
    return None if per_hour is None else budgeting.runs_out(counter, per_hour, now)


def _names(counters: Sequence[Counter]) -> str:
    shown = ", ".join(named(counter) for counter in counters[:8])
    return f"{shown} and {len(counters) - 8} more" if len(counters) > 8 else shown


def _choose(counter: Counter) -> None:
    budget.choose(counter)
    st.session_state["budget_chosen"] = True


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()
    budget.show_chosen()
    budget.history()

"""How is it going right now? Now, today, this month and where it is heading; drawn anew on its own."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import streamlit as st

from dashboards import charts, control, data, display, filters, ink, notices, spend_charts
from dashboards.forecast import LEAST_DAYS, METHOD, month_end
from dashboards.outlook import Limit, Outlook, cumulated, limits, outlook
from dashboards.scope import Scope


def tiles() -> None:
    """The four live figures; silent where there are none, for the page below says why."""
    scope = filters.scope()
    try:
        found = outlook(scope, filters.zone(), datetime.now(UTC))
    except data.CollectorError:
        return
    if not any(found.days.values()):
        return
    last_month = found.today.replace(day=1) - timedelta(days=1)
    tightest = next((limit for limit in known_limits(scope)[0] if limit.window == "month"), None)
    with st.grid(4, min_column_width=165):
        tile("Now", f"{display.usd(found.now_per_hour)}/h", found.now_per_hour, found.before_per_hour,
             "What the last 15 minutes come to an hour, against the 15 before", "vs 15 min")  # fmt: skip
        tile("Today", display.usd(found.spent_today), found.spent_today, found.yesterday,
             "Since midnight, against yesterday until this time", "vs yesterday")  # fmt: skip
        tile("This month", display.usd(found.spent_this_month), found.spent_this_month, found.last_month,
             "Since the first, against the same part of last month", f"vs {last_month:%b}")  # fmt: skip
        ahead(found, tightest)
    if any(answer.trouble for answer in found.answers):
        as_of = notices.drawn_at(found.answers)
        st.caption(display.escaped(f"These four are of {as_of}: the collector does not answer now."))


def tile(title: str, value: str, now: Decimal, before: Decimal, meaning: str, against: str) -> None:
    """One figure and how it compares."""
    delta = display.change(now, before)
    st.metric(
        title,
        display.escaped(value),
        0 if delta and delta.startswith(("+0.0 ", "-0.0 ")) else delta,
        help=f"{meaning}: {display.escaped(display.usd_exact(now))} USD. The time range has no say here.",
        delta_color="inverse",
        delta_description=against if delta else "nothing before",
        border=True,
        height="stretch",
    )


def ahead(found: Outlook, budget: Limit | None) -> None:
    """What the month will have cost, and within which bounds."""
    heading = found.heading
    if heading is None:
        value, within = "–", f"after {LEAST_DAYS} whole days"
        meaning = f"A forecast needs {LEAST_DAYS} whole days of calls."
    else:
        value = display.usd(heading.expected)
        within = f"{display.usd(heading.low)} – {display.usd(heading.high)}"
        meaning = f"{METHOD} It stands on {display.counted(heading.known_days, 'day')}."
        if budget is not None:
            of_it = display.share(heading.expected, budget.usd)
            meaning += f" That is {of_it} of the budget {budget.name}, {display.usd(budget.usd)}."
    st.metric(
        "Month's end, forecast",
        display.escaped(value),
        None,
        help=display.escaped(meaning, 900),
        delta_description=display.escaped(within),
        border=True,
        height="stretch",
    )


def month() -> None:
    """The month so far, how it is expected to go on, and the budgets that limit it."""
    scope, reader = filters.scope(), filters.zone()
    try:
        found = outlook(scope, reader, datetime.now(UTC))
    except data.CollectorError as error:
        st.error(f"**No figures.** {display.escaped(error)}  \n{error.advice}")
        return
    first, last = found.today.replace(day=1), month_end(found.today)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    spent = cumulated([found.days.get(day, Decimal(0)) for day in days if day <= found.today])
    heading = found.heading
    lines, trouble = known_limits(scope)
    monthly = [limit for limit in lines if limit.window == "month"]
    st.markdown(f"**{found.today:%B}**, USD since the first, and where it is heading")
    ink.chart(
        spend_charts.course(
            [f"{day.day} {day:%b}" for day in days],
            spent,
            cumulated(heading.days, spent[-1]) if heading else [],
            heading.margins if heading else [],
            [charts.Level(limit.name, limit.usd) for limit in monthly],
        ),
        height=320,
        key="month",
        alt="Spend of this month so far, with a forecast and budgets",
    )
    st.caption(display.escaped(" ".join((*told(found), *of_budgets(monthly, trouble))), 1500))


def told(found: Outlook) -> list[str]:
    """The forecast in words."""
    if found.heading is None:
        return [f"A forecast needs {LEAST_DAYS} whole days of calls."]
    heading = found.heading
    return [
        f"By the month's end {display.usd(heading.expected)} are expected, between "
        f"{display.usd(heading.low)} and {display.usd(heading.high)} four times in five.",
        METHOD,
    ]


def of_budgets(monthly: list[Limit], trouble: data.CollectorError | None) -> list[str]:
    """Why there is no line of a budget, if there is none."""
    if monthly:
        return []
    if trouble is not None:
        return [f"Budgets are not shown: {trouble}"]
    return ["No monthly budget in USD is over exactly these calls."]


def known_limits(scope: Scope) -> tuple[list[Limit], data.CollectorError | None]:
    """The budgets over exactly these calls; and why they are not known, where they are not."""
    try:
        return limits(scope, control.standings()), None
    except data.CollectorError as error:
        return [], error

"""What a reader must know before trusting the figures: trouble, age, simulation, emptiness."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import streamlit as st

from dashboards import data
from dashboards.display import counted, escaped, moment, span, wait
from dashboards.filters import zone
from dashboards.scope import CUSTOM, Scope

SIMULATOR = "simulator"
SIMULATED_TAG = "simulated=true"
LAG_WORTH_SAYING = timedelta(seconds=60)

_HEALTH = data.Question("health")


def collector_trouble(error: data.CollectorError) -> None:
    """There is nothing to show: say what happened and what to do."""
    st.error(f"**No figures.** {escaped(error)}  \n{error.advice}")
    st.button("Try again", on_click=data.forget, key="try_again")


def stale(answers: Sequence[data.Answer]) -> None:
    """Some of the figures are from earlier, because the collector does not answer now."""
    old = [answer for answer in answers if answer.trouble is not None]
    if old:
        oldest = min(answer.answered_at for answer in old)
        st.warning(
            f"**These figures are of {escaped(moment(oldest, zone()))}.** {escaped(old[0].trouble)} "
            "They are the last ones it gave.",
        )


def questions(scope: Scope) -> list[data.Question]:
    """What the notices need to know; to be asked along with a page's own questions."""
    return [*_signs_of_simulation(scope), _HEALTH]


def simulated(scope: Scope) -> None:
    """Some of the calls in the time range went to simulated models."""
    try:
        found = is_simulated(scope)
    except data.CollectorError:
        st.caption("Whether any of these calls were simulated could not be found out.")
        return
    if found:
        st.info(
            "**Simulated models.** Calls in this time range were answered by Bursar's simulator, "
            "not by real models. Tokens are simulated; prices are real list prices; nobody was billed."
        )


def is_simulated(scope: Scope) -> bool:
    """Whether calls in the scope's time range were answered by the simulator.

    Judged by an upstream or provider called ``simulator``, or the tag ``simulated=true`` that a
    demonstration puts on its calls.

    Raises:
        data.CollectorError: there is no answer.
    """
    upstreams, providers, tagged = data.ask_all(_signs_of_simulation(scope))
    named = any(row["value"] == SIMULATOR for row in (*upstreams.rows, *providers.rows))
    return named or bool(tagged.row.get("calls"))


def _signs_of_simulation(scope: Scope) -> list[data.Question]:
    # No sums are kept by tag: the collector looks at every call (500 ms for 10 million), hence seldom.
    whole = Scope(window=scope.window.roughly)
    tagged = replace(whole, filters=(("tag", (SIMULATED_TAG,)),))
    return [
        replace(question, lasting=True)
        for question in (
            data.about("values", whole, dimension="upstream"),
            data.about("values", whole, dimension="provider_name"),
            data.about("totals", tagged),
        )
    ]


def empty(scope: Scope) -> None:
    """No call matches."""
    what = "No call matches these filters" if scope.is_filtered else "No calls"
    when = "on these days" if scope.window.name == CUSTOM else f"in the last {span(scope.window.span)}"
    st.info(
        f"**{what} {when}.**  \n"
        + (
            "Take a filter away, or choose a longer time range."
            if scope.is_filtered
            else "Choose a longer time range, or point an agent at the sidecar: "
            "`export OPENAI_BASE_URL=http://127.0.0.1:4000/v1`. `bursar demo` makes some, with no key needed."
        ),
    )


def moving(difference: int) -> None:
    """Calls were booked while the page was asking, so its parts are not about quite the same calls."""
    st.caption(
        f"{counted(difference, 'call')} arrived while this page was asking: "
        "its parts differ by that until it is drawn again."
    )


def ledger_age() -> None:
    """A line on the collector: reachable, and how far the ledger is behind the journal."""
    try:
        health = data.ask(_HEALTH).row
    except data.CollectorError:
        st.caption("Collector: not reachable")
        return
    lag = float(health.get("journal_lag_s") or 0)
    if timedelta(seconds=lag) > LAG_WORTH_SAYING:
        st.warning(
            f"**The ledger is {escaped(wait(timedelta(seconds=lag)))} behind the journal.** "
            "Calls since then are not shown yet.",
        )


def drawn_at(answers: Sequence[data.Answer]) -> str:
    """When the oldest of these answers was given."""
    given = min((answer.answered_at for answer in answers), default=datetime.now(UTC))
    return given.astimezone(zone()).strftime("%H:%M:%S")

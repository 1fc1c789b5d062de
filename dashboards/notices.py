"""What a reader must know before trusting the figures: trouble, age, simulation, emptiness."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import streamlit as st

from dashboards import data
from dashboards.display import counted, escaped, moment, span
from dashboards.filters import zone
from dashboards.scope import CUSTOM, Scope

SIMULATOR = "simulator"
SIMULATED_TAG = "simulated"
LAG_WORTH_SAYING = timedelta(seconds=60)


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


def simulated(scope: Scope) -> None:
    """Some of the calls in the time range went to simulated models."""
    if is_simulated(scope):
        st.info(
            "**Simulated models.** Calls in this time range were answered by Bursar's simulator, "
            "not by real models. Tokens are simulated; prices are real list prices; nobody was billed.",
        )


def is_simulated(scope: Scope) -> bool:
    """Whether any call in the scope's time range was answered by the simulator.

    Judged by the upstream or provider called ``simulator``, or a tag ``simulated``.

    Raises:
        data.CollectorError: there is no answer.
    """
    whole = Scope(window=scope.window)
    upstreams, providers, tags = data.ask_all(
        [data.about("values", whole, dimension=name) for name in ("upstream", "provider_name", "tag")]
    )
    if any(row["value"] == SIMULATOR for row in (*upstreams.rows, *providers.rows)):
        return True
    named = {str(row["value"]).partition("=")[::2] for row in tags.rows}
    return any(name == SIMULATED_TAG and value.lower() not in ("false", "0") for name, value in named)


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
        health = data.ask(data.Question("health")).row
    except data.CollectorError:
        st.caption("Collector: not reachable")
        return
    lag = float(health.get("journal_lag_s") or 0)
    if timedelta(seconds=lag) > LAG_WORTH_SAYING:
        st.warning(
            f"**The ledger is {escaped(span(timedelta(seconds=lag)))} behind the journal.** "
            "Calls since then are not shown yet.",
        )


def drawn_at(answers: Sequence[data.Answer]) -> str:
    """When the oldest of these answers was given."""
    given = min((answer.answered_at for answer in answers), default=datetime.now(UTC))
    return given.astimezone(zone()).strftime("%H:%M:%S")

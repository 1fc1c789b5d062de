"""What went wrong, and why? Incidents that are open, those that ended, and the course of one of them."""

import json
from collections.abc import Mapping

import streamlit as st

from dashboards import data, display, filters, notices, tables

PARAMETER = "incident"
"""The query parameter that names the incident shown, so that it can be linked to."""

MOST = 200

TABLE = {
    "state": "State",
    "severity": "Severity",
    "alertname": "Alert",
    "whose": "Whose",
    "why": "Why",
    "usd_per_hour": "USD an hour",
    "since_at": "Since",
    "until_at": "Until",
    "anomaly_id": "Incident",
}


def page() -> None:
    """Everything below the bar of filters, of which only the time range concerns incidents."""
    window = filters.scope().window
    times = (("since", window.since.isoformat()), ("until", window.until.isoformat()), ("limit", str(MOST)))
    try:
        found = data.ask(data.Question("incidents", times, family=window.name))
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    notices.stale([found])
    rows = found.rows
    still_open = sum(row["state"] == "open" for row in rows)
    if not rows:
        st.success("**No incident is open**, and none ended in this time range. `bursar alerts` watches.")
        return
    st.caption(
        display.escaped(
            f"{still_open} open, {len(rows) - still_open} ended in this time range · "
            f"as of {notices.drawn_at([found])}. Click one to see its course."
            + (f" Only the first {MOST} are shown." if len(rows) == MOST else "")
        )
    )
    key = f"incidents_{st.session_state.get('incidents_shown', 0)}"
    identities = [str(row["anomaly_id"]) for row in rows]
    st.dataframe(
        [_line(row) for row in rows],
        hide_index=True,
        column_order=list(TABLE),
        column_config=tables.column_config(TABLE, filters.zone().key)
        | {"usd_per_hour": st.column_config.TextColumn("USD an hour")},
        on_select=lambda: _choose(key, identities),
        selection_mode="single-cell",
        key=key,
        alt="Incidents, those that are open first",
    )
    if st.session_state.pop("incident_chosen", False):
        st.rerun()  # One incident is shown outside of this fragment, so that a live page leaves it alone.


def course() -> None:
    """Everything that was told of the incident that the address names, if it names one."""
    identity = st.query_params.get(PARAMETER)
    if not identity:
        return
    try:
        told = data.ask(data.Question("incident", (("anomaly_id", identity),), family=identity))
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    rows = told.rows
    if not rows:
        st.info("The ledger has no incident of this id. It may be too old.")
        return
    st.markdown("**The course of one incident**")
    for place, row in enumerate(rows, start=1):
        facts = {"Whose": whose(row), "Severity": row["severity"], "USD an hour": row["usd_per_hour"]}
        tables.facts(
            f"{place}. {display.moment(row['detected_at'], filters.zone())}: {row['state']}",
            facts | explained(row),
        )


def whose(row: data.Row) -> str:
    """The labels of an incident: ``agent=planner, team=search``."""
    return ", ".join(f"{name}={value}" for name, value in sorted(dict(row["scope"] or {}).items()))


def explained(row: data.Row) -> dict[str, object]:
    """What alerting said of it; a detail that is no object is told as it stands."""
    try:
        said = json.loads(row["detail"] or "{}")
    except ValueError:
        said = row["detail"]
    return {str(name): value for name, value in said.items()} if isinstance(said, Mapping) else {"why": said}


def _line(row: data.Row) -> dict[str, object]:
    said = explained(row)
    why = next((said[name] for name in ("summary", "why", "description") if said.get(name)), row["signal"])
    money = row["usd_per_hour"]
    texts = {"whose": whose(row), "why": why, "usd_per_hour": None if money is None else display.usd(money)}
    texts |= {name: row[name] for name in ("state", "severity", "alertname", "anomaly_id")}
    shown: dict[str, object] = {name: display.plain(text, 300) for name, text in texts.items()}
    return shown | {name: row[name] for name in ("since_at", "until_at")}


def _choose(key: str, identities: list[str]) -> None:
    for row, _ in st.session_state[key].selection.cells:
        st.query_params[PARAMETER] = identities[row]
        st.session_state["incident_chosen"] = True
        st.session_state["incidents_shown"] = st.session_state.get("incidents_shown", 0) + 1


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()
    course()

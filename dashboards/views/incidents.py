"""What went wrong, and why? Incidents that are open, those that ended, and the course of one of them."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import streamlit as st

from dashboards import charts, data, display, filters, ink, notices, tables
from dashboards.display import step
from dashboards.scope import Window, steps

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
    "done": "Done",
    "verdict": "Verdict",
    "until_at": "Until",
}

ACTIONS = {"happened_at": "When", "what": "What", "whose": "Which calls", "why": "Why", "outcome": "Outcome"}
DIRECTIVE = "directive_"
"""How the lines of what alerts did to calls begin."""

VERDICTS = {"false_alarm": "false alarm", "real_alarm": "real"}
"""What people say of an incident; the last word counts."""

SEVERITIES = {"page": 0, "warn": 1, "info": 2}
"""How they are listed."""

WORDS = {
    "summary": "What",
    "why": "Why",
    "whose": "Whose",
    "severity": "Severity",
    "usd_per_hour": "USD an hour",
    "value": "Measured",
    "threshold": "Against",
    "about": "What it means",
    "advice": "What to do",
    "alert": "Id of the alert",
}
"""What is told of an incident, in the order in which it is read; what is not listed comes after."""

CHOICES = {"state": "State", "severity": "Severity", "alertname": "Alert"}
MOST_EVENTS = 2000


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
    if not found.rows:
        st.success("**No incident is open**, and none ended in this time range. `bursar alerts` watches.")
        return
    rows = ranked(chosen(found.rows))
    if not rows:
        st.info("**No incident matches.** Take a filter away, or choose a longer time range.")
        return
    still_open = sum(row["state"] == "open" for row in rows)
    events, trouble = told_of(window)
    tiles(rows, events)
    over_time(rows, window)
    st.caption(
        display.escaped(
            f"{still_open} open, {len(rows) - still_open} ended in this time range · "
            f"as of {notices.drawn_at([found])}. Open one to see its course."
            + (f" Only the first {MOST} are shown." if len(rows) == MOST else "")
        )
    )
    identities = [str(row["anomaly_id"]) for row in rows]
    tables.openable(
        [_line(row, events) for row in rows],
        TABLE,
        lambda place: _choose(identities[place]),
        zone_name=filters.zone().key,
        more={"usd_per_hour": st.column_config.TextColumn("USD an hour", alignment="right")},
        key="incidents_table",
        alt="Incidents, those that are open first",
    )
    of_verdicts(rows, events, trouble)
    if st.session_state.pop("incident_chosen", False):
        st.rerun()  # One incident is shown outside of this fragment, so that a live page leaves it alone.


def ranked(rows: Sequence[data.Row]) -> list[data.Row]:
    """Those that are open first, of these the severest, of these the dearest, of these the newest."""

    def rank(row: data.Row) -> tuple[bool, int, Decimal, float]:
        begun = display.utc(row["since_at"] or row["detected_at"])
        severity = SEVERITIES.get(str(row["severity"]), len(SEVERITIES))
        return row["state"] != "open", severity, -data.money(row["usd_per_hour"]), -begun.timestamp()

    return sorted(rows, key=rank)


def tiles(rows: Sequence[data.Row], events: Sequence[data.Row]) -> None:
    """What needs somebody now, what it costs, and how often an alarm was false."""
    still_open = [row for row in rows if row["state"] == "open"]
    paging = sum(row["severity"] == "page" for row in still_open)
    dearest = max((data.money(row["usd_per_hour"]) for row in still_open), default=None)
    said = [verdict for row in rows if (verdict := verdict_of(row["anomaly_id"], events))]
    wrong = said.count(VERDICTS["false_alarm"])
    with st.grid(4, min_column_width=165):
        for title, value, meaning in (
            ("Open", f"{len(still_open):,}", "Incidents that have not ended"),
            ("of which page", f"{paging:,}", "Those that call somebody at once"),
            ("The dearest, an hour", "–" if dearest is None else display.usd(dearest),
             "What the dearest of those that are open costs. They do not add up: "
             "the same calls may be an agent's and a model's"),
            ("False alarms", f"{wrong} of {len(said)}" if said else "–",
             "Of the incidents that people judged, those they found to be none. Open one to say so"),
        ):  # fmt: skip
            st.metric(
                title, display.escaped(value), help=display.escaped(meaning), border=True, height="stretch"
            )


def over_time(rows: Sequence[data.Row], window: Window) -> None:
    """How many incidents were open at a time, by how severe they are."""
    reader = filters.zone()
    starts = list(steps(window, reader))
    ends = [*starts[1:], window.until]
    known = sorted({str(row["severity"]) for row in rows}, key=lambda name: (SEVERITIES.get(name, 9), name))
    drawn = [
        charts.Line(
            name or "(none)",
            [
                float(sum(str(row["severity"]) == name and _was_open(row, start, end) for row in rows))
                for start, end in zip(starts, ends, strict=True)
            ],
        )
        for name in known[: charts.MAX_SERIES]
    ]
    with st.container(border=True):
        st.markdown(f"**Open incidents**, each {window.bucket}")
        ink.chart(
            charts.lines([step(start, window.bucket, reader) for start in starts], drawn, "", in_steps=True),
            height=180,
            key="incidents_over_time",
            alt="How many incidents were open over time, by severity",
        )


def _was_open(row: data.Row, start: datetime, end: datetime) -> bool:
    since = display.utc(row["since_at"] or row["detected_at"])
    until = row["until_at"]
    return since < end and (until is None or display.utc(until) >= start)


def chosen(rows: Sequence[data.Row]) -> list[data.Row]:
    """The incidents that the filters of this page let through; the filters stand in the address."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        picked = {
            name: st.multiselect(
                title,
                sorted({str(row[name]) for row in rows if row[name]}),
                format_func=display.plain,
                key=f"alert_{name}",
                placeholder=f"Any {title.lower()}",
                label_visibility="collapsed",
                width=240,
                accept_new_options=True,
                bind="query-params",
            )
            for name, title in CHOICES.items()
        }
    return [row for row in rows if all(not want or str(row[name]) in want for name, want in picked.items())]


def told_of(window: Window) -> tuple[list[data.Row], data.CollectorError | None]:
    """What alerts did to calls, and people said of incidents; and why that is not known."""
    times = (("since", window.since.isoformat()), ("until", window.until.isoformat()))
    try:
        asked = data.Question("budget_events", (*times, ("limit", str(MOST_EVENTS))), family=window.name)
        return [row for row in data.ask(asked).rows if _concerns_alerts(row)], None
    except data.CollectorError as error:
        return [], error


def _concerns_alerts(event: data.Row) -> bool:
    return str(event["action"]).startswith(DIRECTIVE) or event["action"] in VERDICTS


def actions_of(row: data.Row, events: Sequence[data.Row]) -> list[data.Row]:
    """What was done to calls because of an incident, newest first."""
    alert = explained(row).get("alert")
    return [
        event
        for event in events
        if str(event["action"]).startswith(DIRECTIVE) and alert and explained(event).get("alert") == alert
    ]


def verdict_of(identity: object, events: Sequence[data.Row]) -> str:
    """What was said last of an incident; empty when nobody said anything."""
    said = [event for event in events if event["action"] in VERDICTS and event["counter"] == identity]
    last = max(said, key=lambda event: event["happened_at"], default=None)
    return VERDICTS[str(last["action"])] if last else ""


def of_verdicts(
    rows: Sequence[data.Row], events: Sequence[data.Row], trouble: data.CollectorError | None
) -> None:
    """How often people found that an alert was right."""
    if trouble is not None:
        st.caption(display.escaped(f"What was done and said is not known: {trouble}"))
        return
    said = [verdict for row in rows if (verdict := verdict_of(row["anomaly_id"], events))]
    if said:
        wrong = said.count(VERDICTS["false_alarm"])
        st.caption(
            f"Of {display.counted(len(said), 'incident')} that people judged, {wrong} "
            f"{'was' if wrong == 1 else 'were'} a false alarm. `bursar alerts tune` sets when they page."
        )


def judge(identity: str) -> None:
    """Buttons by which a person says whether an incident was one."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        note = st.text_input("Note", key="verdict_note", placeholder="Note (optional)", width=320)
        for action, title in (("false_alarm", "False alarm"), ("real_alarm", "It was real")):
            st.button(title, key=f"say_{action}", on_click=_say, args=(action, identity, note))
    if problem := st.session_state.pop("verdict_problem", ""):
        st.error(problem)


def _say(action: str, identity: str, note: str) -> None:
    try:
        data.tell(action, identity, {"note": note[:500]})
    except data.CollectorError as error:
        st.session_state["verdict_problem"] = f"**Not taken.** {display.escaped(error)}  \n{error.advice}"


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
    first, last = rows[0], rows[-1]
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**The course of one incident**")
        st.button("Close", on_click=_close, type="tertiary", key="close_incident")
    st.text(display.plain(f"{last['alertname']}: {whose(last)}", 300))
    begun = display.utc(first["since_at"] or first["detected_at"])
    events, _ = told_of(
        Window(
            since=begun - timedelta(minutes=1), until=datetime.now(UTC) + timedelta(minutes=1), name=identity
        )
    )
    if verdict := verdict_of(identity, events):
        st.caption(f"Judged by people: **{verdict}**.")
    judge(identity)
    done = actions_of(last, events)
    if done:
        st.markdown("**What was done to calls**")
        st.dataframe(
            [_action(event) for event in done],
            hide_index=True,
            column_order=list(ACTIONS),
            column_config=tables.column_config(ACTIONS, filters.zone().key),
            key="incident_actions",
            alt="What was done to calls because of it, newest first",
        )
    else:
        st.caption("Nothing was done to calls because of it. `alerts.actions` says what may be.")
    for place, row in enumerate(rows, start=1):
        tables.facts(
            f"{place}. {display.moment(row['detected_at'], filters.zone())}: {row['state']}", facts(row)
        )


def facts(row: data.Row) -> dict[str, object]:
    """What was told at one moment of an incident, in words and in the order in which it is read."""
    money = row["usd_per_hour"]
    known = explained(row) | {
        "whose": whose(row),
        "severity": row["severity"],
        "usd_per_hour": f"{display.usd_exact(money)} USD" if money else None,
    }
    named = {title: known.pop(name) for name, title in WORDS.items() if known.get(name) not in (None, "")}
    return named | {name: value for name, value in known.items() if value is not None}


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


def _action(event: data.Row) -> dict[str, object]:
    said = explained(event)
    what, _, rest = str(event["action"]).removeprefix(DIRECTIVE).partition(":")
    on_paper = " (on paper only)" if rest.endswith(":dry_run") else ""
    texts = {
        "what": f"{rest.partition(':')[0]} {what}{on_paper}",
        "whose": event["counter"],
        "why": said.get("reason"),
        "outcome": said.get("outcome"),
    }
    shown: dict[str, object] = {name: display.plain(text, 300) for name, text in texts.items()}
    return shown | {"happened_at": event["happened_at"]}


def _line(row: data.Row, events: Sequence[data.Row]) -> dict[str, object]:
    said = explained(row)
    why = next((said[name] for name in ("summary", "why", "description") if said.get(name)), row["signal"])
    why = str(why).removesuffix(f" ({whose(row).replace('=', ' ')})")  # The column beside it says so.
    money = row["usd_per_hour"]
    texts = {"whose": whose(row), "why": why, "usd_per_hour": display.usd(money) if money else "–"}
    texts |= {name: row[name] for name in ("state", "severity", "alertname")}
    shown: dict[str, object] = {name: display.plain(text, 300) for name, text in texts.items()}
    done = [str(_action(event)["what"]) for event in actions_of(row, events)]
    shown |= {
        "done": ", ".join(dict.fromkeys(done)) or "–",
        "verdict": verdict_of(row["anomaly_id"], events) or "–",
    }
    return shown | {name: row[name] for name in ("since_at", "until_at")}


def _choose(identity: str) -> None:
    st.query_params[PARAMETER] = identity
    st.session_state["incident_chosen"] = True


def _close() -> None:
    st.query_params.pop(PARAMETER, None)


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()
    course()

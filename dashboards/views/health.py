"""Is Bursar itself well? What it adds to a call, how far the ledger is behind, what was lost, what runs."""

import sys
from collections.abc import Sequence
from datetime import timedelta

import streamlit as st

import collector
from dashboards import control, data, display, filters, notices, tables
from dashboards.exposition import Sample
from dashboards.scope import Scope

MOST = 200
FOLLOWED = "health_followed"
LAG_WORTH_SAYING_S = 60.0
LOOP_LAG_WORTH_SAYING_S = 0.1

LOSSES = {
    "reason": "Why",
    "notes": "Times",
    "frames": "Frames",
    "first_at": "First",
    "last_at": "Last",
    "source": "Whose journal",
    "detail": "Last said",
}

DROPS = {"stage": "Stage", "reason": "Why", "dropped": "Dropped"}

REPLICAS = {
    "upstream": "Upstream",
    "replica": "Replica",
    "state": "State",
    "inflight": "Under way",
    "waiting": "Waiting",
    "latency": "Head after",
}

_REPLICA_METRICS = {
    "bursar_upstream_up": "up",
    "bursar_upstream_healthy": "healthy",
    "bursar_upstream_draining": "draining",
    "bursar_upstream_breaker_open": "breaker",
    "bursar_upstream_inflight": "inflight",
    "bursar_upstream_waiting": "waiting",
    "bursar_upstream_latency_seconds": "latency",
}
_OWN_METRICS = (
    "bursar_event_loop_lag_seconds",
    "bursar_process_memory_ratio",
    "bursar_config_valid",
    "bursar_journal_lag_seconds",
    "bursar_dropped_total",
)
WANTED = frozenset((*_REPLICA_METRICS, *_OWN_METRICS))


def page() -> None:
    """Everything below the bar of filters, of which none concerns this page."""
    try:
        health = data.ask(data.Question("health", family="health"))
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    notices.stale([health])
    row = health.row
    found, trouble = measured()
    tiles(row, found)
    if trouble is not None:
        st.warning(f"**How the sidecar is, is not known.** {display.escaped(trouble)}  \n{trouble.advice}")
    worries(row, found, all_known=trouble is None)
    with st.grid(2, min_column_width=320):
        ledger(row)
        versions(row)
    if trouble is None:
        replicas(found)
        drops(found)
    lost()
    st.caption(display.escaped(f"As of {notices.drawn_at([health])}."))


def measured() -> tuple[list[Sample], data.CollectorError | None]:
    """What the sidecar measures of itself, and why that is not known."""
    try:
        return control.metrics(WANTED), None
    except data.CollectorError as error:
        return [], error


def largest(found: Sequence[Sample], name: str) -> float | None:
    """The largest value of one metric; ``None`` without one."""
    return max((sample.value for sample in found if sample.name == name), default=None)


def tiles(row: data.Row, found: Sequence[Sample]) -> None:
    """What matters first."""
    calls = int(row.get("measured_calls") or 0)
    of = f"of {display.counted(calls, 'served call')} in the last ten minutes that had any"
    lag = float(row["journal_lag_s"])
    lost = row.get("lost_frames")
    loop, memory = (largest(found, name) for name in _OWN_METRICS[:2])
    with st.grid(6, min_column_width=150):
        for title, value, meaning in (
            ("Added, median", _added(row.get("overhead_p50_us")),
             f"What Bursar itself adds to a call: the median {of}"),
            ("Added, p99", _added(row.get("overhead_p99_us")),
             f"99 of 100 calls waited no longer for Bursar itself, {of}; "
             f"95 of 100 no longer than {_added(row.get('overhead_p95_us'))}"),
            ("Ledger behind", display.duration(1000 * lag),
             f"Age of the oldest journal record not booked; {int(row['journal_behind_bytes']):,} bytes"),
            ("Lost", "–" if lost is None else display.counted(int(lost), "frame"),
             "Journal records that damage or a full disk cost; each is listed below"),
            ("Event loop late", "–" if loop is None else display.duration(1000 * loop),
             "How late the sidecar's serving loop ran its last timer"),
            ("Memory", "–" if memory is None else f"{100 * memory:.3g} %", "Of what the sidecar may take"),
        ):  # fmt: skip
            st.metric(
                title, display.escaped(value), help=display.escaped(meaning), border=True, height="stretch"
            )


def worries(row: data.Row, found: Sequence[Sample], *, all_known: bool) -> None:
    """What somebody should look at; all is well without any, as far as all is known."""
    said = []
    if (lag := float(row["journal_lag_s"])) > LAG_WORTH_SAYING_S:
        said.append(f"The ledger is {display.wait(timedelta(seconds=lag))} behind the journal.")
    if row.get("lost_frames"):
        said.append("Records were lost: money may be missing in the ledger.")
    if row.get("rebuilds"):
        said.append(f"The database was set aside and rebuilt {int(row['rebuilds']):,} times since the start.")
    if (loop := largest(found, "bursar_event_loop_lag_seconds")) and loop > LOOP_LAG_WORTH_SAYING_S:
        said.append("The sidecar's loop runs late: it has more to do than its core can.")
    if any(sample.name == "bursar_config_valid" and not sample.value for sample in found):
        said.append("The configuration file was changed and is not valid: the one before it runs on.")
    if said:
        st.warning(display.escaped(" ".join(said)))
    elif all_known:
        st.success("**Nothing needs attention.**")


def ledger(row: data.Row) -> None:
    """What the collector holds; counts of all tenants are not for those who see some."""
    zone = filters.zone()

    def count(name: str) -> str | None:
        return None if row.get(name) is None else f"{int(row[name]):,}"

    held = {
        "Calls": count("calls"),
        "Attempts": count("attempts"),
        "Begun and not ended": count("open_calls"),
        "Booked from their beginning alone": count("presumed_calls"),
        "Last rows came in": display.moment(row.get("last_commit_at"), zone),
        "Copy for SQL": display.moment(row.get("snapshot_at"), zone),
    }
    if size := row.get("database_bytes"):
        held["On disk"] = f"{int(size) / 2**20:,.1f} MiB"
    with st.container(border=True, height="stretch"):
        tables.facts("The ledger", {name: value for name, value in held.items() if value is not None})


def versions(row: data.Row) -> None:
    """What runs."""
    told = str(row.get("version") or "unknown")
    with st.container(border=True, height="stretch"):
        tables.facts(
            "What runs",
            {
                "Bursar's collector": told,
                "Bursar's dashboard": collector.__version__,
                "Schema of the ledger": row.get("schema_version"),
                "DuckDB": row.get("duckdb_version"),
                "Streamlit": st.__version__,
                "Python": sys.version.split()[0],
                "Collector up for": display.wait(timedelta(seconds=float(row.get("uptime_s") or 0))),
            },
        )


def replicas(found: Sequence[Sample]) -> None:
    """Every upstream's replica as the sidecar sees it."""
    seen: dict[tuple[str, str], dict[str, float]] = {}
    for sample in found:
        if sample.name in _REPLICA_METRICS:
            key = (sample.labels.get("upstream", ""), sample.labels.get("replica", ""))
            seen.setdefault(key, {})[_REPLICA_METRICS[sample.name]] = sample.value
    if not seen:
        return
    with st.container(border=True):
        st.markdown("**Upstreams**")
        names = [upstream for upstream, _ in sorted(seen)]
        tables.openable(
            [
                {
                    "upstream": display.plain(upstream),
                    "replica": display.plain(replica) if replica else "–",
                    "state": state_of(values),
                    "inflight": int(values.get("inflight", 0)),
                    "waiting": int(values.get("waiting", 0)),
                    "latency": display.duration(1000 * values["latency"]) if values.get("latency") else "–",
                }
                for (upstream, replica), values in sorted(seen.items())
            ],
            REPLICAS,
            lambda place: tables.remember(FOLLOWED, names[place]),
            word="Calls",
            key="upstreams",
            alt="Replicas of every upstream, as the sidecar sees them",
        )
    if upstream := st.session_state.pop(FOLLOWED, ""):
        chosen = Scope(window=filters.scope().window, filters=(("upstream", (upstream,)),))
        filters.follow("calls", chosen)


def state_of(values: dict[str, float]) -> str:
    """A replica's state in words, the reason first."""
    if values.get("draining"):
        return "drained by an operator"
    if values.get("breaker"):
        return "left alone for its failures"
    if values.get("healthy") == 0:
        return "says it is not well"
    return "not asked" if values.get("up") == 0 else "well"


def drops(found: Sequence[Sample]) -> None:
    """Telemetry that the sidecar gave up; never a cost."""
    rows = [sample for sample in found if sample.name == "bursar_dropped_total" and sample.value]
    with st.container(border=True):
        st.markdown("**Dropped by the sidecar since it started**")
        if not rows:
            st.caption("Nothing.")
            return
        st.dataframe(
            [
                {"dropped": int(sample.value)}
                | {name: display.plain(sample.labels.get(name, "")) for name in ("stage", "reason")}
                for sample in rows
            ],
            hide_index=True,
            placeholder="–",
            column_order=list(DROPS),
            column_config=tables.column_config(DROPS),
            key="drops",
            alt="Telemetry that was given up, by stage and reason",
        )


def lost() -> None:
    """What the collector lost or set aside on the way into the ledger."""
    with st.container(border=True):
        st.markdown("**Lost or set aside on the way into the ledger**")
        try:
            rows = data.ask(data.Question("losses", (("limit", str(MOST)),), family="losses")).rows
        except data.CollectorError as error:
            st.caption(display.escaped(f"Not known. {error}"))
            return
        if not rows:
            st.caption("Nothing, ever.")
            return
        st.dataframe(
            [
                {name: row[name] for name in ("notes", "frames", "first_at", "last_at")}
                | {name: display.plain(row[name], 300) for name in ("reason", "source", "detail")}
                for row in rows
            ],
            hide_index=True,
            placeholder="–",
            column_order=list(LOSSES),
            column_config=tables.column_config(LOSSES, filters.zone().key),
            key="losses",
            alt="What was lost or set aside, by reason",
        )


def _added(micros: float | None) -> str:
    return "–" if micros is None else display.duration(float(micros) / 1000)


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()

"""Are our own GPUs worth it? How busy they are, what a token on them costs, and what an API would ask."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import streamlit as st

from dashboards import charts, data, display, exports, filters, ink, notices, tables
from dashboards.scope import Scope, Window

MOST = 100
GAP = 2.5
"""How many times as long as usual nothing was measured, where it is drawn as a gap."""
MOST_MISSED = 300
FOLLOWED = "gpu_followed"

REPLICAS = {
    "upstream": "Upstream",
    "replica": "Replica",
    "model": "Model",
    "meter": "Meter",
    "charged": "Charged",
    "idle": "Idle",
    "unobserved": "Unseen",
    "busy": "Busy",
    "tokens": "Tokens",
    "busy_per_mtok": "A million, busy",
    "loaded_per_mtok": "A million, in all",
    "alternative_per_mtok": "A million, API",
    "alternative": "Which API",
    "break_even": "Pays from",
    "energy": "Energy",
}


def page() -> None:
    """Everything below the bar of filters, of which only the time range concerns GPUs."""
    chosen = filters.scope()
    window = chosen.window
    times = (("since", window.since.isoformat()), ("until", window.until.isoformat()))
    questions = [
        data.Question("gpu_costs", (*times, ("limit", str(MOST))), family=window.name),
        data.Question("gpus_over_time", times, family=window.name),
        data.Question("engines_over_time", times, family=window.name),
        data.Question("gpu_costs_over_time", times, family=window.name),
    ]
    try:
        answers = data.ask_all(questions, notices.questions(chosen))
    except data.CollectorError as error:
        notices.collector_trouble(error)
        return
    notices.simulated(chosen)
    notices.stale(answers)
    costs, gpus, engines, over_time = answers
    if not any(answer.table.num_rows for answer in answers):
        empty()
        return
    st.caption(display.escaped(f"As of {notices.drawn_at(answers)}. Only the time range narrows this page."))
    if costs.rows:
        tiles(costs.rows)
    if not gpus.rows:
        st.caption("No GPU was read on the collector's machine: only what the model servers say is shown.")
    with st.grid(2, min_column_width=320):
        prices(over_time.rows, window)
        hardware(gpus.rows, window, "utilisation_ratio", "GPU utilisation", " %", 100.0, 100.0)
        hardware(gpus.rows, window, "memory_used_bytes", "GPU memory in use", " GiB", 1 / 2**30)
        hardware(gpus.rows, window, "power_watts", "Power drawn", " W", 1.0)
        queues(engines.rows, window)
        caches(engines.rows, window)
    if costs.rows:
        replicas(costs, chosen)
    trouble(gpus.rows, engines.rows)


def empty() -> None:
    """No GPU of ours, or none that was seen."""
    st.info(
        "**No GPU was seen in this time range.**  \n"
        "On a machine with an NVIDIA driver the collector asks it once a second (`collector.watch_gpus`), "
        "and it reads the metrics of every replica of a `kind: vllm` upstream (`collector.watch_engines`). "
        "Say there what an hour costs, such as  \n"
        "`upstreams: {local: {kind: vllm, replicas: [http://127.0.0.1:8000], gpu_hour_usd: 2.50}}`,  \n"
        "and this page compares a million tokens of yours with what an API asks for them."
    )


def tiles(rows: Sequence[data.Row]) -> None:
    """What the meter showed, how much of it was idle, and what a million tokens came to."""
    meter, idle, charged, unobserved, alternative = (
        sum((data.money(row[f"{name}_usd"]) for row in rows), Decimal(0))
        for name in ("meter", "idle", "charged", "unobserved", "alternative")
    )
    tokens = sum(_tokens(row) for row in rows)
    loaded, api = _per_mtok(meter, tokens), _per_mtok(alternative, tokens)
    busy = _per_mtok(meter - idle, tokens)
    exact = display.usd_exact
    with st.grid(5, min_column_width=165):
        for title, value, delta, meaning in (
            ("Meter", display.usd(meter), None,
             f"{exact(meter)} USD = {exact(charged)} charged to calls + {exact(idle)} idle + "
             f"{exact(unobserved)} while nobody looked"),
            ("Idle share", display.share(idle, meter), None, "Of the meter, what ran for nobody"),
            ("A million tokens", _usd(loaded), None, "All that the meter showed, idle time included"),
            ("while busy", _usd(busy), None, "What it would come to without idle time: the floor"),
            ("at the API", _usd(api), _against(loaded, api),
             "What the alternative would have asked for the same tokens; by how much ours differ from it"),
        ):  # fmt: skip
            st.metric(
                title,
                display.escaped(value),
                delta,
                delta_color="inverse",
                delta_description="ours" if delta else None,
                help=display.escaped(meaning),
                border=True,
                height="stretch",
            )


def prices(rows: Sequence[data.Row], window: Window) -> None:
    """A million tokens over time: ours in all, ours while busy, the API's."""
    names = {
        "loaded_usd_per_mtok": "in all",
        "busy_usd_per_mtok": "while busy",
        "alternative_usd_per_mtok": "API",
    }
    found: dict[str, dict[datetime, float]] = {}
    for row in rows:
        for column, name in names.items():
            if row[column] is not None:
                found.setdefault(f"{row['upstream']} {name}", {})[row["bucket"]] = float(row[column])
    _drawn("A million tokens, USD", found, window, "", None, _moments(rows))


def hardware(
    rows: Sequence[data.Row],
    window: Window,
    column: str,
    title: str,
    unit: str,
    scale: float,
    most: float | None = None,
) -> None:
    """One reading of every GPU over time."""
    found: dict[str, dict[datetime, float]] = {}
    several = len({str(row["host"]) for row in rows}) > 1
    for row in rows:
        if row[column] is not None:
            name = f"{row['host']} {_short(row)}" if several else _short(row)
            found.setdefault(name, {})[row["bucket"]] = float(row[column]) * scale
    _drawn(title, found, window, unit, most, _moments(rows))


def queues(rows: Sequence[data.Row], window: Window) -> None:
    """Requests that run and that wait, at every model server."""
    found: dict[str, dict[datetime, float]] = {}
    for row in rows:
        for column in ("running", "waiting"):
            if row[column] is not None:
                found.setdefault(f"{_engine(row, rows)} {column}", {})[row["bucket"]] = float(row[column])
    _drawn("Requests running and waiting", found, window, "", None, _moments(rows))


def caches(rows: Sequence[data.Row], window: Window) -> None:
    """How full the KV cache is, and how often a prompt's beginning was in it."""
    found: dict[str, dict[datetime, float]] = {}
    for row in rows:
        for column, name in (("kv_cache_usage_ratio", "in use"), ("prefix_hit_ratio", "prefix hits")):
            if row[column] is not None:
                found.setdefault(f"{_engine(row, rows)} {name}", {})[row["bucket"]] = 100 * float(row[column])
    _drawn("KV cache", found, window, " %", 100.0, _moments(rows))


def replicas(costs: data.Answer, chosen: Scope) -> None:
    """Every replica with what it cost, and from how busy on it pays; each leads to its upstream's calls."""
    rows = costs.rows
    upstreams = [str(row["upstream"]) for row in rows]
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown("**Every replica**")
            exports.menu("gpu-costs", costs.table.column_names, lambda: costs.table)
        tables.openable(
            [line(row) for row in rows],
            REPLICAS,
            lambda place: tables.remember(FOLLOWED, upstreams[place]),
            word="Calls",
            key="gpu_replicas",
            alt="What each replica cost, and what its tokens would have cost at an API",
        )
        st.caption(
            display.escaped(
                "Charged, idle and unseen add up to the meter. A million are tokens, in USD. A replica pays "
                "for itself while it is at least as busy as “Pays from” says; never, where the API is "
                "cheaper than the replica at its busiest."
            )
        )
    if upstream := st.session_state.pop(FOLLOWED, ""):
        filters.follow("calls", Scope(window=chosen.window, filters=(("upstream", (upstream,)),)))


def line(row: data.Row) -> dict[str, object]:
    """One replica in the table."""
    usd = {
        name: display.usd(data.money(row[f"{name}_usd"]))
        for name in ("meter", "charged", "idle", "unobserved")
    }
    per_mtok = {
        f"{name}_per_mtok": _usd(
            None if (value := row[f"{name}_usd_per_mtok"]) is None else Decimal(str(value))
        )
        for name in ("busy", "loaded", "alternative")
    }
    alternative = row["alternative"]
    grade = f" ({row['alternative_grade']})" if alternative and row["alternative_grade"] else ""
    return {
        **{name: display.plain(row[name]) for name in ("upstream", "replica", "model")},
        **usd,
        **per_mtok,
        "busy": _ratio(row["busy_ratio"]),
        "tokens": display.count(_tokens(row)),
        "alternative": display.plain(f"{alternative}{grade}") if alternative else "–",
        "break_even": _pays_from(row["break_even_busy_ratio"]),
        "energy": "–" if row["energy_j"] is None else f"{float(row['energy_j']) / 3.6e6:,.3f} kWh",
    }


def trouble(gpus: Sequence[data.Row], engines: Sequence[data.Row]) -> None:
    """What was wrong with GPUs and engines, in words."""
    said = []
    for rows, column, what in (
        (gpus, "lost_samples", "GPU readings were lost"),
        (gpus, "throttled_samples", "readings saw clocks held down"),
        (engines, "unreachable_samples", "times an engine did not answer"),
        (engines, "restarts", "engine restarts"),
        (engines, "preemptions", "requests were preempted for want of KV cache"),
    ):
        number = sum(int(row[column] or 0) for row in rows)
        if number:
            said.append(f"{number:,} {what}")
    if said:
        st.warning(display.escaped(f"{'; '.join(said)}."))


def _drawn(
    title: str,
    found: Mapping[str, Mapping[datetime, float]],
    window: Window,
    unit: str,
    most: float | None,
    moments: Sequence[datetime],
) -> None:
    if not found:
        return  # What nobody measured has no picture.
    with st.container(border=True, height="stretch"):
        st.markdown(f"**{display.escaped(title)}**")
        names = sorted(found)[: charts.MAX_SERIES]
        zone = filters.zone()
        hours = window.span.total_seconds() / 3600
        form = "%H:%M:%S" if hours <= 1 else "%H:%M" if hours <= 24 else "%d %b %H:%M"
        steps = [moment.astimezone(zone).strftime(form) for moment in moments]
        drawn = [charts.Line(name, [found[name].get(moment) for moment in moments]) for name in names]
        ink.chart(
            charts.lines(steps, drawn, unit, most=most),
            height=230,
            key=f"gpu_{title}",
            alt=f"{title} over time",
        )
        if len(found) > len(names):
            st.caption(f"{len(names)} of {len(found)} are drawn.")


def _moments(rows: Sequence[data.Row]) -> list[datetime]:
    """When something was measured, and moments between where nothing was: a gap is as wide as it was long."""
    met = sorted({row["bucket"] for row in rows})
    apart = [later - earlier for earlier, later in pairwise(met)]
    usual = sorted(apart)[len(apart) // 2] if apart else timedelta()
    moments = met[:1]
    for later, gap in zip(met[1:], apart, strict=True):
        if gap > GAP * usual:
            missed = min(int(gap / usual) - 1, MOST_MISSED)
            moments += [moments[-1] + gap * n / (missed + 1) for n in range(1, missed + 1)]
        moments.append(later)
    return moments


def _short(row: data.Row) -> str:
    return f"{row['name'] or 'GPU'} {str(row['gpu'])[-6:]}"


def _engine(row: data.Row, rows: Sequence[data.Row]) -> str:
    several = len({one["replica"] for one in rows}) > 1
    return f"{row['upstream']} {row['replica']}" if several else str(row["upstream"])


def _tokens(row: data.Row) -> int:
    return sum(int(row[f"{name}_tokens"] or 0) for name in ("prompt", "cached", "output"))


def _per_mtok(amount: Decimal, tokens: int) -> Decimal | None:
    return 1_000_000 * amount / tokens if tokens and amount else None


def _usd(amount: Decimal | None) -> str:
    return "–" if amount is None else display.usd(amount)


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{100 * float(value):,.1f} %"


def _pays_from(busy: float | None) -> str:
    """From how busy on it pays; no replica is busier than all the time."""
    return "never" if busy is not None and float(busy) > 1 else _ratio(busy)


def _against(ours: Decimal | None, api: Decimal | None) -> str | None:
    return display.change(ours, api) if ours is not None and api is not None else None


if __name__ == "__main__":  # Streamlit runs a page as the main module; tests import it.
    st.fragment(page, run_every=filters.pulse())()

"""The bar that chooses what is looked at: time range and filters, all of it in the address bar.

A view can so be shared as a link. The time range is bound to the address by Streamlit.
The filters are kept in the address by this module, for two reasons: their panel is closed
most of the time, and a bound widget that is not on the page loses its place in the address
(or, when it merely is out of sight, brings back a value that was cleared meanwhile).
"""

from datetime import UTC, date, datetime, timedelta
from typing import NoReturn
from zoneinfo import ZoneInfo, available_timezones

import streamlit as st

from dashboards import data, viewer
from dashboards.display import plain
from dashboards.scope import (
    COMPARISONS,
    CUSTOM,
    DEFAULT_COMPARISON,
    DEFAULT_RANGE,
    DIMENSIONS,
    NONE,
    SPANS,
    Scope,
    Window,
    days,
    filters_from,
    recent,
)

REFRESH_S = 10
REFRESH_LONG_S = 60
"""For ranges of more than a day, in which ten seconds change little."""

_RANGE, _DAYS, _LIVE, _PANEL, _COMPARE, _ZONE = "range", "days", "live", "filters", "compare", "tz"
_KEPT, _PAGE = "filters_kept", "filters_page"

_TYPED = ("user_id", "key_id", "conversation_id", "task_id")
"""Dimensions with too many values to list: one types or pastes an id."""


def zone() -> ZoneInfo:
    """The reader's time zone: as the address says it, else the browser, else UTC."""
    for name in (st.query_params.get(_ZONE), st.context.timezone):
        try:
            if name:
                return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            continue
    return ZoneInfo("UTC")


def bar(page: str) -> None:
    """Draw the bar; ``page`` is the address of the page that follows it."""
    _carry_over(page)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="scope_bar"):
        st.segmented_control(
            "Time range",
            [*SPANS, CUSTOM],
            default=DEFAULT_RANGE,
            required=True,
            key=_RANGE,
            label_visibility="collapsed",
            bind="query-params",
        )
        if st.session_state[_RANGE] == CUSTOM:
            today = datetime.now(zone()).date()
            st.date_input(
                "Days",
                (today - timedelta(days=6), today),
                key=_DAYS,
                label_visibility="collapsed",
                width=230,
                bind="query-params",
            )
        st.selectbox(
            "Compare with",
            list(COMPARISONS),
            index=list(COMPARISONS).index(DEFAULT_COMPARISON),
            key=_COMPARE,
            label_visibility="collapsed",
            width=190,
            bind="query-params",
        )
        _panel()
        st.toggle(
            "Live",
            value=True,
            key=_LIVE,
            bind="query-params",
            help=f"Ask for new figures every {REFRESH_S} seconds, every minute for more than a day.",
        )
        viewer.badge()
    _what_is_filtered()


def scope() -> Scope:
    """What is chosen at this moment; the window ends now unless days were chosen."""
    return Scope(
        window=_window(),
        filters=filters_from(_chosen()),
        zone_name=zone().key,
        comparison=st.session_state.get(_COMPARE) or DEFAULT_COMPARISON,
    )


def pulse() -> timedelta | None:
    """How often a page draws itself anew; ``None`` when only on request."""
    if not st.session_state.get(_LIVE):
        return None
    return timedelta(seconds=REFRESH_S if _window().span <= timedelta(days=1) else REFRESH_LONG_S)


def beat() -> timedelta | None:
    """How often figures of this very moment are drawn anew, whatever the range; ``None`` on request only."""
    return timedelta(seconds=REFRESH_S) if st.session_state.get(_LIVE) else None


def only(dimension: str, value: str) -> None:
    """Narrow ``dimension`` to ``value``; for callbacks, which run before the bar is drawn."""
    st.query_params[dimension] = [value or NONE]


def follow(page: str, chosen: Scope) -> NoReturn:
    """Open another page, such as ``calls``, about the calls of ``chosen``; the time range stays."""
    st.switch_page(
        f"views/{page}.py",
        query_params=[(name, value or NONE) for name, value in chosen.params()],
    )


def clear() -> None:
    """Take every filter away; the time range stays."""
    for dimension in DIMENSIONS:
        st.query_params.pop(dimension, None)


def _chosen() -> dict[str, list[str]]:
    """The values in the address, by dimension."""
    found = {dimension: st.query_params.get_all(dimension) for dimension in DIMENSIONS}
    return {dimension: values for dimension, values in found.items() if values}


def _carry_over(page: str) -> None:
    """Streamlit empties the address when another page is opened; the filters and the time zone stay."""
    kept = st.session_state.get(_KEPT, {})
    if st.session_state.get(_PAGE, page) != page:
        if _ZONE in kept and _ZONE not in st.query_params:
            st.query_params[_ZONE] = kept[_ZONE]
        if not _chosen():
            for dimension in kept.keys() & DIMENSIONS.keys():
                st.query_params[dimension] = kept[dimension]
    st.session_state[_PAGE] = page
    zones = st.query_params.get_all(_ZONE)
    st.session_state[_KEPT] = _chosen() | ({_ZONE: zones} if zones else {})


def _window() -> Window:
    name = st.session_state.get(_RANGE) or DEFAULT_RANGE
    if name != CUSTOM:
        return recent(name, datetime.now(UTC))
    picked = st.session_state.get(_DAYS)
    chosen = [day for day in picked if isinstance(day, date)] if isinstance(picked, tuple | list) else []
    if not chosen:  # Cleared, or only half picked: the default week.
        today = datetime.now(zone()).date()
        chosen = [today - timedelta(days=6), today]
    return days(chosen[0], chosen[-1], zone())


def _panel() -> None:
    # A label that told the number of filters would make it another panel each time, which is closed.
    panel = st.popover("Filters", key=_PANEL, on_change="rerun", width="content")
    if not panel.open:
        return  # A page must not wait for lists that nobody reads.
    offered, chosen = _offered(), _chosen()
    with panel, st.grid(2, min_column_width=120):
        for dimension, title in DIMENSIONS.items():
            key, values = f"filter_{dimension}", chosen.get(dimension, [])
            if st.session_state.get(key) != values:
                st.session_state[key] = values
            st.multiselect(
                title,
                offered.get(dimension, []),
                format_func=plain,
                key=key,
                accept_new_options=True,
                placeholder="Any; type an id" if dimension in _TYPED else "Any",
                on_change=_choose,
                args=(dimension, key),
            )
        _zone_choice()


def _zone_choice() -> None:
    """Whose midnight a day begins at, and whose clock times are told by."""
    if st.session_state.get("zone_choice") != (here := zone().key):
        st.session_state["zone_choice"] = here
    st.selectbox(
        "Time zone", sorted({here, "UTC", *available_timezones()}), key="zone_choice", on_change=_choose_zone
    )


def _choose_zone() -> None:
    st.query_params[_ZONE] = st.session_state["zone_choice"]


def _choose(dimension: str, key: str) -> None:
    if values := st.session_state[key]:
        st.query_params[dimension] = values
    else:
        st.query_params.pop(dimension, None)


def _offered() -> dict[str, list[str]]:
    """The values met in the chosen time range, by dimension, most used first."""
    whole = Scope(window=_window())
    listed = [dimension for dimension in DIMENSIONS if dimension not in _TYPED]
    try:
        answers = data.ask_all([data.about("values", whole, dimension=dimension) for dimension in listed])
    except data.CollectorError:
        return {}  # The page below says what is wrong; typing a value still works.
    return {
        dimension: [row["value"] or NONE for row in answer.rows]
        for dimension, answer in zip(listed, answers, strict=True)
    }


def _what_is_filtered() -> None:
    chosen = [
        f"{DIMENSIONS[dimension]}: {', '.join(plain(value, 60) for value in values)}"
        for dimension, values in _chosen().items()
    ]
    if chosen:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.text("  ·  ".join(chosen))
            st.button("Clear filters", on_click=clear, type="tertiary", key="clear_filters")

"""The bar that chooses what is looked at: time range and filters, bound to the address bar.

Whatever is chosen here is in the URL, so a view can be shared as a link. The widgets live
in the main script and keep their values from page to page; pages read the scope.
"""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import streamlit as st

from dashboards import data
from dashboards.display import plain
from dashboards.scope import (
    CUSTOM,
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

_RANGE, _DAYS, _LIVE, _PANEL = "range", "days", "live", "filters"

_TYPED = ("user_id", "key_id", "conversation_id", "task_id")
"""Dimensions with too many values to list: one types or pastes an id."""


def zone() -> ZoneInfo:
    """The reader's time zone as the browser says it, else UTC."""
    name = st.context.timezone
    try:
        return ZoneInfo(name) if name else ZoneInfo("UTC")
    except (KeyError, ValueError, OSError):
        return ZoneInfo("UTC")


def bar() -> None:
    """Draw the bar."""
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
        _panel()
        st.toggle(
            "Live",
            value=True,
            key=_LIVE,
            bind="query-params",
            help=f"Ask for new figures every {REFRESH_S} seconds.",
        )
    _what_is_filtered()


def scope() -> Scope:
    """What is chosen at this moment; the window ends now unless days were chosen."""
    chosen = {dimension: st.session_state.get(dimension) or [] for dimension in DIMENSIONS}
    return Scope(window=_window(), filters=filters_from(chosen), zone_name=zone().key)


def pulse() -> timedelta | None:
    """How often a page draws itself anew; ``None`` when only on request."""
    return timedelta(seconds=REFRESH_S) if st.session_state.get(_LIVE) else None


def only(dimension: str, value: str) -> None:
    """Narrow ``dimension`` to ``value``; for callbacks, which run before the bar is drawn."""
    st.session_state[dimension] = [value or NONE]


def clear() -> None:
    """Take every filter away; the time range stays."""
    for dimension in DIMENSIONS:
        st.session_state[dimension] = []


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
    active = sum(bool(st.session_state.get(dimension)) for dimension in DIMENSIONS)
    label = f"Filters ({active})" if active else "Filters"
    panel = st.popover(label, key=_PANEL, on_change="rerun", width="content")
    with panel:
        # Asked only once the panel is open: a page must not wait for lists that nobody reads.
        offered = _offered() if panel.open else {}
        with st.grid(2, min_column_width=200):
            for dimension, title in DIMENSIONS.items():
                st.multiselect(
                    title,
                    offered.get(dimension, []),
                    format_func=plain,
                    key=dimension,
                    accept_new_options=True,
                    placeholder="Any; type an id" if dimension in _TYPED else "Any",
                    bind="query-params",
                )


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
        f"{title}: {', '.join(plain(value, 60) for value in st.session_state[dimension])}"
        for dimension, title in DIMENSIONS.items()
        if st.session_state.get(dimension)
    ]
    if chosen:
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.text("  ·  ".join(chosen))
            st.button("Clear filters", on_click=clear, type="tertiary", key="clear_filters")

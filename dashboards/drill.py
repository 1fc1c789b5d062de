"""A click on a part of a chart narrows what is looked at to that part.

The bar of filters stands outside of the fragment that a page is: after a click all is drawn anew.
"""

from collections.abc import Mapping

import streamlit as st

from dashboards import filters
from dashboards.spending import TAG

_CLICKS, _NARROWED = "clicks", "narrowed"


def key(name: str) -> str:
    """The key of what can be clicked. It moves on with every click: a kept selection would be made again."""
    return f"{name}_{st.session_state.get(_CLICKS, 0)}"


def point(key: str) -> tuple[int, int] | None:
    """The series of a chart and the place in it that were clicked; for callbacks."""
    st.session_state[_CLICKS] = st.session_state.get(_CLICKS, 0) + 1
    return next(
        (
            (int(group["series_index"]), int(place))
            for group in st.session_state[key].selection.selected
            for place in group["data_indices"]
        ),
        None,
    )


def wanted(split: str, value: str) -> dict[str, str]:
    """What calls of ``value`` of a dimension or tag have; those without a tag cannot be asked for."""
    if not split.startswith(TAG):
        return {split: value}
    return {"tag": f"{split.removeprefix(TAG)}={value}"} if value else {}


def narrow(chosen: Mapping[str, str]) -> None:
    """Narrow each dimension to the value given, ``""`` for calls that have none; for callbacks."""
    for dimension, value in chosen.items():
        filters.only(dimension, value)
    if chosen:
        st.session_state[_NARROWED] = True


def settle() -> None:
    """Draw everything anew if something was clicked; to be called first in a page's fragment."""
    if st.session_state.pop(_NARROWED, False):
        st.rerun()

"""Who looks: the person who signed in, in whose name every question is asked.

What that person may see is decided where the answers are made, not here: each request to the collector and
to the sidecar names the viewer. Nothing is asked, and nothing that was kept is shown, without a name where
people have to sign in.

A name comes from a reverse proxy's header, believed of the configured proxies alone, or from an OpenID
Connect provider by way of Streamlit's own sign-in.
"""

import ipaddress
import os
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeVar

import streamlit as st

from dashboards.transport import NotAllowed

SIGN_IN_VARIABLE = "BURSAR_DASHBOARD_SIGN_IN"
"""``proxy HEADER`` or ``oidc CLAIM``; empty where nobody has to sign in."""
PROXIES_VARIABLE = "BURSAR_DASHBOARD_PROXIES"
"""Addresses and networks that the header is believed of, separated by commas."""

LOOPBACK = "127.0.0.1"
MOST_CHARS = 200

T = TypeVar("T")

_bound: ContextVar[str | None] = ContextVar("viewer", default=None)


class NotSignedIn(NotAllowed):
    """Nobody has signed in, where somebody has to."""

    advice = "Open this page through the proxy that signs people in."


def name() -> str:
    """Who looks; empty where nobody has to sign in.

    Raises:
        NotSignedIn: there is no name, where one is needed.
    """
    how, _, what = os.environ.get(SIGN_IN_VARIABLE, "").partition(" ")
    if not how:
        return ""
    if (bound := _bound.get()) is not None:
        return bound
    found = _claimed(what) if how == "oidc" else _forwarded(what) if how == "proxy" else ""
    if not found or len(found) > MOST_CHARS or not found.isprintable():
        raise NotSignedIn("Nobody has signed in.")
    return found


def bound(make: Callable[[], T]) -> Callable[[], T]:
    """``make``, to be called later and elsewhere in the name of who looks now: for files and threads."""
    who = name()

    def call() -> T:
        token = _bound.set(who)
        try:
            return make()
        finally:
            _bound.reset(token)

    return call


def gate() -> None:
    """Draw nothing more until somebody has signed in."""
    try:
        name()
    except NotSignedIn as error:
        if os.environ[SIGN_IN_VARIABLE].startswith("oidc"):
            st.info("**Sign in** to see what your agents cost.")
            st.button("Sign in", on_click=st.login, type="primary", key="sign_in")
        else:
            st.error(f"**Nobody has signed in.** {error.advice}")
        st.stop()


def badge() -> None:
    """Who has signed in, and the way out."""
    if who := name():
        st.text(who)
        if os.environ[SIGN_IN_VARIABLE].startswith("oidc"):
            st.button("Sign out", on_click=st.logout, type="tertiary", key="sign_out")


def trusted(address: str, proxies: str) -> bool:
    """Whether an address is one of the proxies', or in one of their networks; what is no address is not."""
    try:
        found = ipaddress.ip_address(address)
        networks = [
            ipaddress.ip_network(text.strip(), strict=False) for text in proxies.split(",") if text.strip()
        ]
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in networks)


def _forwarded(header: str) -> str:
    headers = st.context.headers
    # Streamlit says nothing of an address on this machine. Whom a proxy speaks for is not looked at: the
    # process is started so that `X-Forwarded-For` changes nothing.
    if not headers or not trusted(st.context.ip_address or LOOPBACK, os.environ.get(PROXIES_VARIABLE, "")):
        return ""
    values = headers.get_all(header)
    # Twice the header, and one of them may be the browser's own.
    return values[0].strip() if len(values) == 1 else ""


def _claimed(claim: str) -> str:
    if not st.user.is_logged_in:
        return ""
    if claim == "email" and st.user.get("email_verified") is False:
        return ""
    value = st.user.get(claim)
    return value.strip() if isinstance(value, str) else ""

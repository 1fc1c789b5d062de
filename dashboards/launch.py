"""How the dashboard process is started; starts nothing itself and imports no Streamlit."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")
FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """How people sign in."""

    how: str
    """``proxy`` or ``oidc``."""
    what: str
    """The proxy's header, or the claim of the provider's token, that names somebody."""
    trusted_proxies: Sequence[str] = ()
    """Addresses and networks that the header is believed of."""
    secrets: Path | None = None
    """For ``oidc``: Streamlit's secrets, as :func:`oidc_secrets` makes them."""


def command(host: str, port: int, collector_url: str, sign_in: SignIn | None = None) -> list[str]:
    """The command line of a dashboard that listens on ``host:port``.

    Args:
        host: address to listen on; off loopback, put authentication in front.
        port: TCP port.
        collector_url: base URL of the collector's read API; see :func:`environment`.
        sign_in: how people sign in, where they have to.

    Theme and everything that never differs is in ``.streamlit/config.toml`` beside ``app.py``.

    Raises:
        ValueError: ``collector_url`` is not an http address.
    """
    if not collector_url.startswith(("http://", "https://")):
        raise ValueError(f"not an http address: {collector_url!r}")
    return [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(FOLDER / "served.py"),
        f"--server.address={host}",
        f"--server.port={port}",
        *(f"--server.allowedHosts={name}" for name in _names(host)),
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
        *([f"--secrets.files={sign_in.secrets}"] if sign_in and sign_in.secrets else []),
    ]


def environment(
    collector_url: str,
    control_key: str | None = None,
    *,
    control_url: str | None = None,
    sign_in: SignIn | None = None,
) -> dict[str, str]:
    """What to add to the process environment.

    Args:
        collector_url: base URL of the collector's read API.
        control_key: lets the dashboard ask both.
        control_url: base URL of the sidecar's control plane, which knows how budgets stand.
        sign_in: how people sign in, where they have to.
    """
    # Else an `X-Forwarded-For` of anybody on this machine would pass for the address of a proxy.
    added = {"BURSAR_COLLECTOR_URL": collector_url, "FORWARDED_ALLOW_IPS": ""}
    if sign_in is not None:
        added["BURSAR_DASHBOARD_SIGN_IN"] = f"{sign_in.how} {sign_in.what}"
        added["BURSAR_DASHBOARD_PROXIES"] = ",".join(sign_in.trusted_proxies)
    if control_url:
        added["BURSAR_CONTROL_URL"] = control_url
    return added | ({"BURSAR_CONTROL_KEY": control_key} if control_key else {})


def oidc_secrets(
    *, metadata_url: str, client_id: str, client_secret: str, cookie_secret: str, redirect_url: str
) -> str:
    """What Streamlit needs to know of a provider, as TOML; for a file that nobody else can read."""
    pairs = {
        "redirect_uri": redirect_url,
        "cookie_secret": cookie_secret,
        "client_id": client_id,
        "client_secret": client_secret,
        "server_metadata_url": metadata_url,
    }
    # A JSON string is a TOML string, but for DEL, which JSON leaves as it is.
    lines = [f"{name} = {json.dumps(value)}".replace("\x7f", "\\u007f") for name, value in pairs.items()]
    return "\n".join(["[auth]", *lines, ""])


def _names(host: str) -> tuple[str, ...]:
    """By which names a browser may call us, where we know them: on loopback.

    A page of another site can have its own name point at 127.0.0.1, and would then be of the
    same origin as we are. Off loopback the names are the operator's business.
    """
    return (host, "localhost") if host in LOOPBACK else ()


def health_url(host: str, port: int) -> str:
    """Answers 200 once the dashboard serves."""
    return f"http://{host}:{port}/_stcore/health"

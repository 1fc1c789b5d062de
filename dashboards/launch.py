"""How the dashboard process is started; starts nothing itself and imports no Streamlit."""

import sys
from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")
FOLDER = Path(__file__).resolve().parent


def command(host: str, port: int, collector_url: str) -> list[str]:
    """The command line of a dashboard that listens on ``host:port``.

    Args:
        host: address to listen on; off loopback, put authentication in front.
        port: TCP port.
        collector_url: base URL of the collector's read API; see :func:`environment`.

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
        str(FOLDER / "app.py"),
        f"--server.address={host}",
        f"--server.port={port}",
        *(f"--server.allowedHosts={name}" for name in _names(host)),
        "--server.headless=true",
        "--browser.gatherUsageStats=false",
    ]


def environment(
    collector_url: str, control_key: str | None = None, *, control_url: str | None = None
) -> dict[str, str]:
    """What to add to the process environment.

    Args:
        collector_url: base URL of the collector's read API.
        control_key: lets the dashboard ask both.
        control_url: base URL of the sidecar's control plane, which knows how budgets stand.
    """
    added = {"BURSAR_COLLECTOR_URL": collector_url}
    if control_url:
        added["BURSAR_CONTROL_URL"] = control_url
    return added | ({"BURSAR_CONTROL_KEY": control_key} if control_key else {})


def _names(host: str) -> tuple[str, ...]:
    """By which names a browser may call us, where we know them: on loopback.

    A page of another site can have its own name point at 127.0.0.1, and would then be of the
    same origin as we are. Off loopback the names are the operator's business.
    """
    return (host, "localhost") if host in LOOPBACK else ()


def health_url(host: str, port: int) -> str:
    """Answers 200 once the dashboard serves."""
    return f"http://{host}:{port}/_stcore/health"

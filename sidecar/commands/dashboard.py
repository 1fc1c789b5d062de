"""``bursar dashboard``: Streamlit, looking at the collector."""

import argparse
import importlib.util
import os
import sys
from typing import TYPE_CHECKING

from sidecar.commands.process import checked_config, started
from sidecar.config import BursarConfig

if TYPE_CHECKING:
    from dashboards.launch import SignIn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own but those between our processes."""
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Become the Streamlit process."""
    config = checked_config(arguments.config)
    started("dashboard", config, supervised=arguments.supervised)
    if importlib.util.find_spec("streamlit") is None:
        sys.stderr.write("The dashboard needs Streamlit: pip install '.[dashboard]' in Bursar's clone\n")
        return 1
    if config.access.sign_in == "oidc" and importlib.util.find_spec("authlib") is None:
        sys.stderr.write("Signing in by OpenID needs Authlib: pip install '.[oidc]' in Bursar's clone\n")
        return 1
    from dashboards.launch import command, environment

    key = config.control.key.reveal() if config.control.key else None
    listen, collector_url = config.dashboard.listen, f"http://{config.collector.listen}"
    sign_in = sign_in_of(config)
    argv = command(listen.host, listen.port, collector_url, sign_in)
    added = environment(collector_url, key, control_url=f"http://{config.control.listen}", sign_in=sign_in)
    if config.dashboard.trace_url:
        added["BURSAR_TRACE_URL"] = config.dashboard.trace_url
    return os.execve(argv[0], argv, {**os.environ, **added})  # noqa: S606


def sign_in_of(config: BursarConfig) -> "SignIn | None":
    """How people sign in; None where nobody has to. A provider's secrets go into a file of ours alone."""
    from dashboards.launch import SignIn, oidc_secrets

    access = config.access
    if access.sign_in == "off":
        return None
    if access.sign_in == "proxy":
        return SignIn(how="proxy", what=access.header, trusted_proxies=access.trusted_proxies)
    oidc = access.oidc
    assert oidc.client_secret is not None
    assert oidc.cookie_secret is not None  # The configuration has been checked.
    config.data_dir.mkdir(parents=True, exist_ok=True)
    path = config.data_dir.resolve() / "dashboard-secrets.toml"
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(
            oidc_secrets(
                metadata_url=oidc.metadata_url,
                client_id=oidc.client_id,
                client_secret=oidc.client_secret.reveal(),
                cookie_secret=oidc.cookie_secret.reveal(),
                redirect_url=oidc.redirect_url,
            )
        )
    return SignIn(how="oidc", what=oidc.claim, secrets=path)

"""``bursar dashboard``: Streamlit, looking at the collector."""

import argparse
import importlib.util
import os
import sys

from sidecar.commands.process import checked_config, started


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own but those between our processes."""
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Become the Streamlit process."""
    config = checked_config(arguments.config)
    started("dashboard", config, supervised=arguments.supervised)
    if importlib.util.find_spec("streamlit") is None:
        sys.stderr.write("The dashboard needs Streamlit: pip install 'bursar[dashboard]'\n")
        return 1
    from dashboards.launch import command, environment

    key = config.control.key.reveal() if config.control.key else None
    listen = config.dashboard.listen
    argv = command(listen.host, listen.port, f"http://{config.collector.listen}")
    added = environment(
        f"http://{config.collector.listen}", key, control_url=f"http://{config.control.listen}"
    )
    return os.execve(argv[0], argv, {**os.environ, **added})  # noqa: S606

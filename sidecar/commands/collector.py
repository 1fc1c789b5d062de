"""``bursar collector``: the process that owns the ledger."""

import argparse

from sidecar.commands.process import checked_config, started


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own but those between our processes."""
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Follow the journal and answer questions until told to stop."""
    config = checked_config(arguments.config)
    started("collector", config, supervised=arguments.supervised)
    from collector.run import run as run_collector

    key = config.control.key.reveal() if config.control.key else None
    return run_collector(config.collector, data_dir=config.data_dir, control_key=key)

"""``bursar mcp``: a server of the Model Context Protocol on standard input and output, for an agent."""

import argparse
import os
import sys

from collector.pricing.book import PriceBook
from sidecar.config import load_config
from sidecar.mcp.asking import Asking
from sidecar.mcp.estimates import Estimator

WHO = ("tenant", "team", "user", "agent", "conversation", "task")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the sidecar is, and who asks. The agent's key comes in BURSAR_AGENT_KEY alone."""
    parser.add_argument(
        "--url", default="", help="the sidecar (default: BURSAR_URL, else `listen` of the configuration)"
    )
    for who in WHO:
        parser.add_argument(f"--{who}", default="", help=f"the {who} that asks, where no key says so")


def run(arguments: argparse.Namespace) -> int:
    """Serve until the agent closes our input."""
    config = load_config(arguments.config)
    try:
        asking = Asking(
            url=arguments.url or os.environ.get("BURSAR_URL", "") or f"http://{config.listen}",
            key=os.environ.get("BURSAR_AGENT_KEY", "").strip(),
            names={who: getattr(arguments, who) for who in WHO},
        )
    except ValueError as error:
        sys.stderr.write(f"--url: {error}\n")
        return 2
    try:
        from sidecar.mcp.tools import build_server
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types"):
            raise
        sys.stderr.write("The MCP server needs the mcp SDK: pip install '.[mcp]' in Bursar's clone\n")
        return 1
    server = build_server(asking, lambda: Estimator(config, PriceBook.load(config.prices)))
    server.run("stdio")
    return 0

"""The ``bursar`` command."""

import argparse
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

COMMANDS = {
    "up": "run sidecar, collector, alerts and dashboard on this machine",
    "demo": "run everything against a built-in simulator, with replayed calls; needs no key and no network",
    "sidecar": "run the proxy that agents point their base URL at",
    "collector": "run the process that keeps the books",
    "dashboard": "run the dashboard",
    "alerts": "watch, warn and act; list, explain and try out alerts",
    "profile": "see where the time goes, for some seconds, in the sidecar or a vLLM server",
    "inference": "start and watch vLLM servers of your own, by named profiles",
    "check": "validate the configuration; show routes and prices",
    "report": "show what was spent, by any dimension",
    "top": "watch spend, budgets, GPUs and alerts live in the terminal",
    "prove": "fire bursts at a simulator and measure whether budgets hold",
    "budgets": "list, show and raise budgets; simulate a call",
    "cache": "what reuse of answers saves; why a call was reused or not; forget answers",
    "keys": "create, list and revoke virtual keys",
    "outcomes": "tell how tasks ended, so that spend can be set against success",
    "mcp": "tell an agent its budgets and what a call may cost, over the Model Context Protocol",
}

OTHERS = 0o007
"""What a mode says of everybody who is neither the user nor of the group."""


class Command(Protocol):
    """What each module of ``sidecar.commands`` that is a command offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Say which arguments it takes."""

    def run(self, arguments: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; with ``only``, the arguments of that one command and no other's.

    Commands import what they need: a sidecar that is starting has no use for the demo's libraries.
    """
    from sidecar import __version__

    about = "The treasurer that runs beside any agent service."
    top = argparse.ArgumentParser(prog="bursar", description=about)
    top.add_argument("--version", action="version", version=f"bursar {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True, prog="bursar")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        command.add_argument(
            "--config", type=Path, metavar="FILE", help="bursar.yaml (default: the one here)"
        )
        if only in (None, name):
            module(name).add_arguments(command)
    return top


def module(name: str) -> Command:
    """The module that does what ``name`` asks."""
    return cast(Command, importlib.import_module(f"sidecar.commands.{name}"))


def _broken_keys() -> type[Exception]:
    """Looked up when there is an exception: a command that uses no keys need not import them."""
    from sidecar.keys import KeyFileBroken

    return KeyFileBroken


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    # What a command and its processes leave behind tells of money and prompts: it is for this user, and for
    # the group as far as the environment says so.
    os.umask(os.umask(OTHERS) | OTHERS)
    # What is imported and read at the start stays; looking through it for garbage takes a tenth of the time.
    gc.disable()
    from collector import ahead

    ahead.use()
    from collector.settings import InvalidSettings

    words = list(sys.argv[1:] if argv is None else argv)
    arguments = parser(next((word for word in words if word in COMMANDS), "")).parse_args(words)
    gc.freeze()
    gc.enable()
    try:
        return module(arguments.command).run(arguments)
    except InvalidSettings as error:
        sys.stderr.write("The configuration cannot be used:\n")
        sys.stderr.writelines(f"  {problem}\n" for problem in error.problems)
        return 2
    except BrokenPipeError:
        return 0
    except KeyboardInterrupt:
        return 130
    except _broken_keys() as error:
        sys.stderr.write(f"The virtual keys cannot be read: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())

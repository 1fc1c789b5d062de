"""What `bursar report` shows of agents at work: waste, broken prompt caches, runs, tools, how tasks end."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from sidecar.commands.questions import ask
from sidecar.commands.tables import Column, print_columns
from sidecar.config import BursarConfig


class View(NamedTuple):
    """One of the reports."""

    question: str
    columns: tuple[str, ...]
    """Shown to people, after the dimensions; all columns stand in JSON and CSV."""
    by: bool
    """Whether it can be told apart by dimensions."""
    help: str


VIEWS: Final = {
    "waste": View(
        "waste",
        ("waste", "calls", "effective_cost_usd"),
        True,
        "every dollar in one class: useful, failed, retried, looped, abandoned, cache-broken, ...",
    ),
    "cache-breaks": View(
        "cache_breaks",
        (
            *("agent", "request_model", "cause", "block", "breaks", "first_at", "lost_tokens"),
            *("effective_cost_usd", "advice"),
        ),
        False,
        "what broke providers' prompt caches, since when, what it cost, what to change",
    ),
    "runs": View(
        "runs",
        (
            *("conversation_id", "agent", "steps", "turns", "retries", "looped", "tool_calls", "tool_errors"),
            *("effective_cost_usd", "wasted_usd", "success", "inferred"),
        ),
        False,
        "the dearest conversations as pieces of work",
    ),
    "tools": View(
        "tools",
        ("tool", "uses", "repeats", "errors", "effective_cost_usd", "declared_cost_usd"),
        True,
        "tools that models asked for",
    ),
    "quality": View(
        "quality",
        (
            *("tasks", "successes", "success_rate", "success_rate_low", "success_rate_high"),
            *("effective_cost_usd", "usd_per_success", "value_per_usd"),
        ),
        True,
        "how often tasks succeed, with intervals, and what one that does costs",
    ),
}

LESS_WANTED: Final = (
    *("inferred", "block", "first_at", "success_rate_low", "success_rate_high", "declared_cost_usd"),
    *("tool_errors", "turns", "looped", "retries", "repeats", "value_per_usd", "lost_tokens", "tool_calls"),
    *("request_model", "success", "successes", "wasted_usd", "agent", "cause"),
)
"""What a narrow terminal does not show, the first one first."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each view, at most one of them at a time."""
    group = parser.add_mutually_exclusive_group()
    for name, view in VIEWS.items():
        group.add_argument(f"--{name}", dest="view", action="store_const", const=name, help=view.help)


def rows_of(
    config: BursarConfig, name: str, by: Sequence[str], given: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The rows of a view, and its columns.

    Raises:
        NoAnswer: the collector does not answer.
    """
    view = VIEWS[name]
    parameters = dict(given)
    if view.by and by:
        parameters["by"] = ",".join(by)
    if view.question == "waste":
        parameters.pop("limit", None)
    rows = ask(config, view.question, **parameters)
    names = tuple(dimension for dimension in by if view.by)
    columns = tuple("tag" if name.startswith("tag:") else name for name in names)
    return rows, (*columns, *view.columns)


def print_findings(rows: list[dict[str, Any]], columns: Sequence[str]) -> None:
    """A table for people."""
    made = [
        Column(
            title=title(name),
            cells=[cell(name, row.get(name)) for row in rows],
            figures="usd" in name or any(isinstance(row.get(name), int | float) for row in rows),
        )
        for name in columns
    ]
    print_columns(made, list(map(title, LESS_WANTED)))


def title(name: str) -> str:
    """A column's name in words, which a narrow table sets one below the other."""
    words = "cost usd" if name == "effective_cost_usd" else name.replace("_", " ")
    return words.replace("usd", "USD")


def cell(name: str, value: Any) -> str:
    """A figure or a word for people."""
    if value is None or value == "":
        return "-"
    if name.endswith("_usd") or name == "usd_per_success":
        return f"{Decimal(str(value)):,.6f}"
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def write_json(rows: list[dict[str, Any]]) -> None:
    """All that is known, as JSON."""
    sys.stdout.write(json.dumps({"rows": rows}, indent=1) + "\n")

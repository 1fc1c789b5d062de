"""``bursar report``: what was spent, by any dimension."""

import argparse
import csv
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TextIO

from collector.export import focus
from collector.export.cells import cell
from sidecar.commands.findings import add_flags, print_findings, rows_of, write_json
from sidecar.commands.questions import NoAnswer, ask, complain
from sidecar.commands.statement import BadWeek, add_statement_flags, week_of, write_statements
from sidecar.commands.tables import Column, print_columns
from sidecar.config import BursarConfig, load_config

COLUMNS = (
    "calls",
    "failed_calls",
    "input_tokens",
    "cache_read_input_tokens",
    "output_tokens",
    "list_cost_usd",
    "effective_cost_usd",
)
TITLES = {
    "calls": "calls",
    "failed_calls": "failed",
    "input_tokens": "input",
    "cache_read_input_tokens": "cached",
    "output_tokens": "output",
    "list_cost_usd": "list USD",
    "effective_cost_usd": "cost USD",
}
LESS_WANTED = ("list_cost_usd", "cache_read_input_tokens", "failed_calls", "output_tokens", "input_tokens")
"""The columns that a narrow terminal goes without, the first one first."""
OTHERS = "all others"
MONEY = ("list_cost_usd", "effective_cost_usd", "avoided_cost_usd")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to show, of when, and how."""
    add_flags(parser)
    parser.add_argument(
        "--by",
        metavar="DIM[,DIM]",
        help="dimensions, such as team or agent,request_model",
    )
    parser.add_argument(
        "--since", metavar="TIME", help="ISO 8601, or 24h or 7d ago (default: 24h)", default="24h"
    )
    parser.add_argument("--until", metavar="TIME", help="ISO 8601 (default: now)")
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="DIM=VALUE",
        help="only calls with this value; repeatable",
    )
    parser.add_argument("--limit", type=int, default=50, help="most rows to show")
    add_statement_flags(parser)
    parser.add_argument("--format", choices=("table", "json", "csv", "focus"), default="table")


def run(arguments: argparse.Namespace) -> int:
    """Ask the collector and print its answer."""
    if arguments.week and not arguments.statement:
        sys.stderr.write("--week is for --statement; other reports take --since and --until\n")
        return 2
    config = load_config(arguments.config)
    by = arguments.by or ("" if arguments.view else "request_model")
    dimensions = tuple(name.strip() for name in by.split(",") if name.strip())
    filters: dict[str, list[str]] = {}
    for text in arguments.where:
        name, equals, value = text.partition("=")
        if not (name and equals):
            sys.stderr.write(f"--where {text!r}: write DIM=VALUE\n")
            return 2
        filters.setdefault(name, []).append(value)
    if arguments.statement:
        return write_pages(config, arguments, filters)
    # Now, for both: what comes in between the questions would else be in the total and in no row.
    span = {"since": moment(arguments.since), "until": arguments.until or datetime.now(UTC).isoformat()}
    try:
        if arguments.view:
            return show_findings(config, arguments, dimensions, {**span, **filters})
        if arguments.format == "focus":
            told = {"bucket": "day", "by": ",".join(focus.DIMENSIONS), **span, **filters}
            charges = ask(config, "charges", **told)
            focus.write(ask(config, "spend_over_time", **told), sys.stdout, charges)
            return 0
        rows = ask(config, "spend_by", by=",".join(dimensions), limit=arguments.limit, **span, **filters)
        total = ask(config, "totals", **span, **filters)[0]
    except NoAnswer as error:
        return complain(error)
    if arguments.format == "json":
        sys.stdout.write(json.dumps({"rows": rows, "total": total}, indent=1) + "\n")
    elif arguments.format == "csv":
        write_csv(rows, (*dimensions, *COLUMNS), sys.stdout)
    else:
        print_table(rows, total, dimensions, is_cut=len(rows) >= arguments.limit)
    return 0


def write_pages(config: BursarConfig, arguments: argparse.Namespace, filters: dict[str, list[str]]) -> int:
    """Write the statements; 1 where no team had a call."""
    try:
        monday = week_of(arguments.week, datetime.now(UTC).date())
        written = write_statements(config, arguments.statement, monday, filters)
    except (BadWeek, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except NoAnswer as error:
        return complain(error)
    if not written:
        sys.stderr.write(f"no call in the week from {monday}\n")
    return 0 if written else 1


def show_findings(
    config: BursarConfig, arguments: argparse.Namespace, by: tuple[str, ...], given: dict[str, Any]
) -> int:
    """Print one of the views of agents at work."""
    if arguments.format == "focus":
        sys.stderr.write("--format focus is for spending alone\n")
        return 2
    rows, columns = rows_of(config, arguments.view, by, {"limit": arguments.limit, **given})
    if arguments.format == "json":
        write_json(rows)
    elif arguments.format == "csv":
        write_csv(rows, list(rows[0]) if rows else columns, sys.stdout)
    else:
        print_findings(rows, columns)
    return 0


def moment(text: str) -> str:
    """``24h`` and the like as a time; anything else as it stands."""
    units = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
    if text[-1:] in units and text[:-1].isdigit():
        return (datetime.now().astimezone() - timedelta(**{units[text[-1]]: int(text[:-1])})).isoformat()
    return text


def print_table(
    rows: list[dict[str, Any]], total: dict[str, Any], dimensions: tuple[str, ...], *, is_cut: bool
) -> None:
    """A table for people, with the total of the ledger below it.

    No figure is ever cut off: a narrow terminal leaves out the columns that matter least, and names are
    shortened. What does not go to a terminal is as wide as it has to be.
    """
    lines = [*rows, *(others(rows, total) if is_cut else [])]
    columns = [
        Column(
            title=name,
            cells=[str(row.get(name) or "(none)") for row in lines],
            footer="" if number else "total",
            one_line=True,
        )
        for number, name in enumerate(dimensions)
    ]
    columns += [
        Column(
            title=TITLES[name],
            cells=[shown(name, row.get(name)) for row in lines],
            footer=shown(name, total.get(name)),
            figures=True,
        )
        for name in COLUMNS
    ]
    print_columns(columns, [TITLES[name] for name in LESS_WANTED])


def others(rows: list[dict[str, Any]], total: dict[str, Any]) -> list[dict[str, Any]]:
    """What the total has beyond the rows, as one row more; none where they sum to it.

    Nor where they sum to more: a call with two tags is in two rows.
    """
    rest = {
        name: Decimal(str(total.get(name) or 0)) - sum(Decimal(str(row.get(name) or 0)) for row in rows)
        for name in COLUMNS
    }
    if rest["calls"] <= 0 or min(rest.values()) < 0 or not rows:
        return []
    return [{**dict.fromkeys(set(rows[0]) - set(COLUMNS), OTHERS), **rest}]


def shown(name: str, value: Any) -> str:
    """A figure for people: six decimals of money, thousands apart."""
    if value is None:
        return "-"
    return f"{Decimal(value):,.6f}" if name in MONEY else f"{int(value):,}"


def write_csv(rows: list[dict[str, Any]], columns: Iterable[str], out: TextIO) -> None:
    """Rows as CSV; text that a spreadsheet would run as a formula is defused."""
    columns = list(columns)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(row.get(name)) for name in columns])

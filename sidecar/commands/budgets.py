"""``bursar budgets``: how budgets stand, who eats them, when they run out; more room, and corrections."""

import argparse
import contextlib
import getpass
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sidecar.commands.arguments import duration, pair
from sidecar.commands.questions import NoAnswer, ask, complain
from sidecar.config import BursarConfig, load_config

COLUMNS = ("name", "subject", "window", "limit", "spent", "held", "remaining", "resets_at")

QUESTION_DIMENSIONS = {
    "user": "user_id",
    "conversation": "conversation_id",
    "task": "task_id",
    "key": "key_id",
    "model": "request_model",
}
"""What the ledger calls a dimension of the policy, where the names differ."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One of list, show, raise, lower, correct, resume, simulate."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = actions.add_parser("list", help="how every budget stands")
    show = actions.add_parser("show", help="one budget: who spends it, and when it runs out")
    show.add_argument("name")
    more = actions.add_parser("raise", help="give a budget more room for a while")
    more.add_argument("name")
    more.add_argument("amount", help="on top of the limit, such as 5USD, 100ktokens or 50calls")
    more.add_argument("--for", dest="duration", type=duration, required=True, metavar="2h")
    more.add_argument("--subject", default="", help="only this counter of a budget with `each`")
    more.add_argument("--reason", default="", help="for the record")
    lower = actions.add_parser("lower", help="take a raise back")
    lower.add_argument("id", help="as `bursar budgets raise` said it")
    right = actions.add_parser("correct", help="give back what was charged wrongly, without editing history")
    right.add_argument("name")
    right.add_argument("amount", help="what to give back, such as 9.99USD, 100ktokens or 50calls")
    right.add_argument("--reason", required=True, help="for the record")
    right.add_argument("--charge", action="store_true", help="add the amount to what is spent instead")
    right.add_argument("--subject", default="", help="which counter of a budget with `each`")
    right.add_argument("--of", dest="lifetime", default="", metavar="ID", help="which conversation or task")
    right.add_argument(
        "--at", type=datetime.fromisoformat, metavar="TIME", help="when it was spent (ISO 8601); default: now"
    )
    resume = actions.add_parser("resume", help="let a conversation go on that ran in circles and was stopped")
    resume.add_argument(
        "conversation", nargs="?", default="", help="as the refusal names it; none lists those stopped"
    )
    call = actions.add_parser("simulate", help="what would be decided of a call")
    call.add_argument("--model", required=True)
    for name in (
        "provider",
        "api",
        "upstream",
        "tenant",
        "team",
        "user",
        "agent",
        "conversation",
        "task",
        "key",
    ):
        call.add_argument(f"--{name}")
    call.add_argument("--tag", type=pair, action="append", default=[], metavar="NAME=VALUE")
    call.add_argument("--stream", action="store_true")
    call.add_argument("--input-tokens", type=int, default=1000)
    call.add_argument("--max-tokens", type=int, default=1000)
    for action in (listed, show, call):
        action.add_argument("--format", choices=("table", "json"), default="table")


def run(arguments: argparse.Namespace) -> int:
    """Ask the sidecar, and for the past the collector."""
    config = load_config(arguments.config)
    try:
        if arguments.action == "list":
            return show_list(operate(config, "GET", "/bursar/v1/budgets")["budgets"], arguments.format)
        if arguments.action == "show":
            return show_one(config, arguments.name, arguments.format)
        if arguments.action == "raise":
            return give_more(config, arguments)
        if arguments.action == "correct":
            return correct(config, arguments)
        if arguments.action == "lower":
            operate(config, "DELETE", f"/bursar/v1/raises/{urllib.parse.quote(arguments.id, safe='')}")
            sys.stdout.write(f"{arguments.id} is taken back\n")
            return 0
        if arguments.action == "resume":
            return resume(config, arguments.conversation)
        return simulate(config, arguments)
    except NoAnswer as error:
        return complain(error)


def operate(config: BursarConfig, method: str, path: str, body: object = None) -> Any:
    """One request to the sidecar's control plane.

    Raises:
        NoAnswer: it is not there, or refuses; the message says why.
    """
    headers = {"content-type": "application/json"}
    if config.control.key is not None:
        headers["authorization"] = f"Bearer {config.control.key.reveal()}"
    data = None if body is None else json.dumps(body).encode()
    url = f"http://{config.control.listen}{path}"
    try:
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - our own address
            return json.load(reply)
    except urllib.error.HTTPError as error:
        said = error.read(2000).decode("utf-8", "replace")
        with contextlib.suppress(ValueError, KeyError, TypeError):
            said = json.loads(said)["error"]
        raise NoAnswer(str(said)) from error
    except (urllib.error.URLError, OSError) as error:
        raise NoAnswer(
            f"the sidecar's control plane on {config.control.listen} does not answer; run `bursar up`"
        ) from error


def show_list(rows: list[dict[str, Any]], form: str) -> int:
    """All counters."""
    if form == "json":
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    elif not rows:
        sys.stdout.write("No budget has been touched yet.\n")
    else:
        print_rows(rows, COLUMNS)
    return 0


def show_one(config: BursarConfig, name: str, form: str) -> int:
    """One budget, with what the ledger knows of it."""
    budget = next((item for item in config.budgets if item.name == name), None)
    if budget is None:
        raise NoAnswer(
            f"no budget is called {name!r}; there are: {', '.join(b.name for b in config.budgets)}"
        )
    counters = [row for row in operate(config, "GET", "/bursar/v1/budgets")["budgets"] if row["name"] == name]
    shown = []
    for row in counters:
        where = {
            QUESTION_DIMENSIONS.get(dimension, dimension): list(values)
            for dimension, values in budget.budget().match.wanted
            if not dimension.startswith("tag:")
        }
        if budget.each and row["subject"]:
            where[QUESTION_DIMENSIONS.get(str(budget.each), str(budget.each))] = [row["subject"]]
        since = row["starts_at"] or (datetime.now(UTC) - timedelta(days=30)).isoformat()
        spenders = ask(config, "spend_by", by="agent,request_model", limit=5, since=since, **where)
        hour = ask(config, "totals", since=(datetime.now(UTC) - timedelta(hours=1)).isoformat(), **where)
        shown.append({**row, "spenders": spenders, **forecast(row, hour[0])})
    if form == "json":
        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
        return 0
    if not shown:
        sys.stdout.write(f"{name} has not been touched yet.\n")
    for row in shown:
        print_rows([row], COLUMNS)
        sys.stdout.write(f"  last hour: {row['usd_per_hour']} USD; {row['runs_out']}\n")
        for spender in row["spenders"]:
            who = f"{spender['agent'] or '(no agent)'} {spender['request_model']}"
            sys.stdout.write(f"  {spender['effective_cost_usd']:>20}  {spender['calls']:>8} calls  {who}\n")
    return 0


def forecast(row: Mapping[str, Any], hour: Mapping[str, Any]) -> dict[str, str]:
    """When a budget runs out if the next hours are like the last one."""
    rate = Decimal(hour["effective_cost_usd"] or 0)
    if row["unit"] != "usd":
        return {"usd_per_hour": f"{rate:f}", "runs_out": "no forecast for budgets that do not count money"}
    if rate <= 0:
        return {"usd_per_hour": f"{rate:f}", "runs_out": "nothing was spent in the last hour"}
    left = Decimal(row["remaining"]) / rate
    at = datetime.now(UTC) + timedelta(hours=float(min(left, Decimal(24 * 366))))
    resets = row["resets_at"]
    if resets is not None and datetime.fromisoformat(resets) <= at:
        return {"usd_per_hour": f"{rate:f}", "runs_out": f"lasts until it resets at {resets}"}
    return {"usd_per_hour": f"{rate:f}", "runs_out": f"runs out at {at:%Y-%m-%dT%H:%M}Z at this rate"}


def give_more(config: BursarConfig, arguments: argparse.Namespace) -> int:
    """Raise a budget."""
    said = {
        "budget": arguments.name,
        "amount": arguments.amount,
        "for_s": float(arguments.duration),
        "subject": arguments.subject,
        "reason": arguments.reason,
        "source": f"{getpass.getuser()} (bursar budgets)",
    }
    made = operate(config, "POST", "/bursar/v1/raises", said)
    until = datetime.fromtimestamp(made["until_us"] / 1e6, UTC)
    sys.stdout.write(
        f"{arguments.name} has {arguments.amount} more until {until:%Y-%m-%dT%H:%M:%S}Z; "
        f"`bursar budgets lower {made['id']}` takes it back\n"
    )
    return 0


def correct(config: BursarConfig, arguments: argparse.Namespace) -> int:
    """Correct what a budget counts as spent."""
    said = {
        "budget": arguments.name,
        "amount": arguments.amount,
        "charge": arguments.charge,
        "reason": arguments.reason,
        "subject": arguments.subject,
        "lifetime": arguments.lifetime,
        "at": arguments.at and arguments.at.isoformat(),
        "source": f"{getpass.getuser()} (bursar budgets)",
    }
    made = operate(config, "POST", "/bursar/v1/corrections", said)
    what = "charged to" if arguments.charge else "given back to"
    sys.stdout.write(
        f"{arguments.amount} {what} {arguments.name}: {made['spent']} spent in {made['window']}\n"
    )
    return 0


def resume(config: BursarConfig, conversation: str) -> int:
    """Let a stopped conversation go on, or list those stopped; 1 when it was not stopped."""
    if not conversation:
        stopped = operate(config, "GET", "/bursar/v1/runaways")["stopped"]
        if not stopped:
            sys.stdout.write("No conversation is stopped.\n")
        else:
            print_rows(stopped, ("conversation", "tenant", "until", "reason"))
        return 0
    said = {"conversation": conversation, "by": f"{getpass.getuser()} (bursar budgets)"}
    if not operate(config, "POST", "/bursar/v1/resume", said)["resumed"]:
        sys.stderr.write(f"{conversation} is not stopped\n")
        return 1
    sys.stdout.write(f"{conversation} may go on\n")
    return 0


def simulate(config: BursarConfig, arguments: argparse.Namespace) -> int:
    """What would be decided of a call."""
    names = (
        "model",
        "provider",
        "api",
        "upstream",
        "tenant",
        "team",
        "user",
        "agent",
        "conversation",
        "task",
        "key",
    )
    said: dict[str, Any] = {name: value for name in names if (value := getattr(arguments, name))}
    said |= {
        "stream": arguments.stream,
        "input_tokens": arguments.input_tokens,
        "max_tokens": arguments.max_tokens,
    }
    said["tags"] = dict(arguments.tag)
    shown = operate(config, "POST", "/bursar/v1/simulate", said)
    if arguments.format == "json":
        sys.stdout.write(json.dumps(shown, indent=1) + "\n")
        return 0 if shown["decision"] == "allow" else 1
    sys.stdout.write(f"{shown['decision']}: costs at most {shown['most_usd']} USD\n")
    for hold in shown.get("holds", []):
        subject = f" ({hold['subject']})" if hold["subject"] else ""
        sys.stdout.write(f"  {hold['budget']}{subject}: holds {hold['amount']} of {hold['room']}\n")
    for name in ("message", "reason", "to"):
        if shown.get(name):
            sys.stdout.write(f"  {name}: {shown[name]}\n")
    return 0 if shown["decision"] == "allow" else 1


def print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """A table for people."""
    cells = [[str(row[name]) if row[name] is not None else "" for name in columns] for row in rows]
    widths = [max(len(name), *(len(line[place]) for line in cells)) for place, name in enumerate(columns)]
    for line in [list(columns), *cells]:
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(text.rstrip() + "\n")

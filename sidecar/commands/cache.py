"""``bursar cache``: what reuse saves or could save, why a call was reused or not; forgetting answers."""

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sidecar.commands.budgets import operate
from sidecar.commands.questions import NoAnswer, ask, complain
from sidecar.config import BursarConfig, load_config

REUSED = ("hit", "semantic")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One of stats, explain, tune, purge."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    stats = actions.add_parser("stats", help="what is kept, and what reuse saved")
    stats.add_argument("--days", type=int, default=7, metavar="N", help="of the past (default: 7)")
    stats.add_argument("--by", choices=("request_model", "team", "agent", "api"), default="request_model")
    stats.add_argument("--format", choices=("table", "json"), default="table")
    explain = actions.add_parser("explain", help="why a call was, or was not, answered from memory")
    explain.add_argument("call", help="as x-bursar-call-id says")
    tune = actions.add_parser("tune", help="what other distances would have saved, and how wrong they were")
    tune.add_argument("--days", type=int, default=7, metavar="N", help="of the past (default: 7)")
    tune.add_argument("--tenant")
    tune.add_argument("--format", choices=("table", "json"), default="table")
    purge = actions.add_parser("purge", help="forget answers; all that is named must fit")
    purge.add_argument("--tenant")
    purge.add_argument("--model", help="as calls ask for it")
    purge.add_argument("--tag", metavar="NAME=VALUE")
    purge.add_argument("--everything", action="store_true")


def run(arguments: argparse.Namespace) -> int:
    """Ask the sidecar, and for the past the collector."""
    config = load_config(arguments.config)
    try:
        if arguments.action == "stats":
            return show_stats(config, arguments)
        if arguments.action == "explain":
            return explain(config, arguments.call)
        if arguments.action == "tune":
            from sidecar.commands.cache_tune import show

            return show(config, arguments)
        return purge(config, arguments)
    except NoAnswer as error:
        return complain(error)


def show_stats(config: BursarConfig, arguments: argparse.Namespace) -> int:
    """What is kept now, and hit rate and saving of the past days."""
    kept = operate(config, "GET", "/bursar/v1/cache")
    since = (datetime.now(UTC) - timedelta(days=arguments.days)).isoformat()
    rows = rates(ask(config, "spend_by", by=f"{arguments.by},cache", since=since, limit=1_000), arguments.by)
    if arguments.format == "json":
        sys.stdout.write(json.dumps({"kept": kept, "reuse": rows}, indent=1) + "\n")
        return 0
    similar = kept.pop("similar", None)
    sys.stdout.write("kept: " + ", ".join(f"{name} {value}" for name, value in kept.items()) + "\n")
    if similar is not None:
        sys.stdout.write("similar: " + "; ".join(trust(similar)) + "\n")
    for row in rows:
        rate = f"{row['hit_rate']:.1%}" if row["hit_rate"] is not None else "-"
        sys.stdout.write(
            f"{row[arguments.by] or '(none)':<32} {row['reusable']:>9,} calls that could be reused, "
            f"{rate:>6} were, {row['avoided_cost_usd']} USD saved\n"
        )
    if not rows:
        sys.stdout.write(f"No call in the last {arguments.days} days.\n")
    return 0


def trust(similar: Mapping[str, Any]) -> list[str]:
    """What finds similar answers, and how far they may be trusted."""
    said = [f"found by {similar['found_by']}"]
    if similar["problem"]:
        said.append(str(similar["problem"]))
    if Decimal(str(similar.get("embedding_cost_usd", 0))):
        said.append(f"its vectors cost {similar['embedding_cost_usd']} USD since the start")
    said.append(f"{similar['right']} compared right and {similar['wrong']} wrong since the start")
    said.append(f"{similar['bins_serving']} steps of distance serve, {similar['bins_learning']} still learn")
    if similar["error"] is None:
        said.append("none has shown yet to be right often enough")
    else:
        said.append(
            f"{similar['error']:.2%} wrong where they serve (between {similar['error_low']:.2%} and "
            f"{similar['error_high']:.2%}, of {similar['compared']} compared)"
        )
    return said


def rates(rows: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """Hit rate and saving for each value of ``by``; calls that could not be reused are left aside."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows:
        name = str(row[by] or "")
        line = found.setdefault(name, {by: name, "reusable": 0, "reused": 0, "saved": Decimal(0)})
        if row["cache"] in (*REUSED, "miss"):
            line["reusable"] += int(row["calls"])
        if row["cache"] in REUSED:
            line["reused"] += int(row["calls"])
            line["saved"] += Decimal(str(row["avoided_cost_usd"] or 0))
    return [
        {
            by: line[by],
            "reusable": line["reusable"],
            "reused": line["reused"],
            "hit_rate": line["reused"] / line["reusable"] if line["reusable"] else None,
            "avoided_cost_usd": f"{line['saved']:f}",
        }
        for line in sorted(found.values(), key=lambda line: (-line["saved"], -line["reusable"], line[by]))
    ]


def explain(config: BursarConfig, call_id: str) -> int:
    """Say of one call what became of it, as far as the ledger knows."""
    rows = ask(config, "call", call_id=call_id)
    if not rows:
        raise NoAnswer(f"no call {call_id!r} is in the ledger (it may take a second to get there)")
    sys.stdout.write("\n".join(reasons(rows[0])) + "\n")
    return 0


def reasons(row: Mapping[str, Any]) -> list[str]:
    """What the ledger's row says of reuse, in sentences."""
    said = [
        f"{row['call_id']}: {row['cache']}, {row['outcome']}, model {row['request_model']}, api {row['api']}."
    ]
    cache = row["cache"]
    if cache in REUSED:
        saved = Decimal(str(row["avoided_cost_usd"] or 0))
        whose = "The answer to a similar question" if cache == "semantic" else "Its answer"
        said.append(f"{whose} was there already; {saved:f} USD were not spent.")
        if (reason := str(row.get("outcome_reason") or "")).startswith("similar "):
            _, likeness, distance = reason.split(" ")
            words = "almost the same words" if likeness == "same" else "other words"
            said.append(f"It was asked in {words}, at a distance of {distance}.")
    elif cache == "miss":
        said.append("An answer could have been reused, and none was there (or too old, or to be asked anew).")
        if row["outcome"] != "served":
            said.append(f"Its own answer was not kept: the call was {row['outcome']}.")
        elif row.get("downgraded_from"):
            said.append("Its own answer was not kept: another model gave it than was asked for.")
        else:
            said.append(
                "Its own answer was kept if it came to its end, nothing of it cut, filtered or refused."
            )
    else:
        said.append(
            "No answer could be reused. That takes temperature 0 or embeddings (a seed promises nothing), or "
            "a route with `exact: always`; no search or other live tool, no media by URL, no response to "
            "go on from; a body that can be read in one way only; and an agent that does not forbid it by "
            "`Cache-Control: no-store` or `x-bursar-cache: bypass`."
        )
    return said


def purge(config: BursarConfig, arguments: argparse.Namespace) -> int:
    """Forget answers."""
    which = {
        name: value for name in ("tenant", "model", "tag") if (value := getattr(arguments, name)) is not None
    }
    body = which or ({"everything": True} if arguments.everything else {})
    gone = operate(config, "POST", "/bursar/v1/cache/purge", body)["gone"]
    sys.stdout.write(f"{gone} answers are forgotten\n")
    return 0

"""``bursar alerts``: watch, warn and act; and look into it."""

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sidecar.commands.process import checked_config, started
from sidecar.commands.tables import Column, print_columns
from sidecar.config import BursarConfig, load_config

if TYPE_CHECKING:
    from alerts.backtest import Episode
    from alerts.engine import Tracked
    from alerts.run import Surroundings

MOST_SHOWN = 100
"""Incidents of the past that are listed; the newest."""

SUMMARIES = {
    "run": "watch, warn and act until told to stop (the default)",
    "list": "the alerts of this data directory as they stand",
    "explain": "everything known of one alert, or what a rule means",
    "rules": "print the rules for Prometheus, with the thresholds of this configuration",
    "backtest": "run every detector over this ledger's history: what it would have found, how often",
    "tune": "set the severity from which anomalies page, so that history fits the page budget",
    "test-route": "who would be told of an alert with these labels",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command, and what it takes."""
    parser.add_argument("--supervised", action="store_true", help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="action", metavar="WHAT")
    made = {name: verbs.add_parser(name, help=text, description=text) for name, text in SUMMARIES.items()}
    made["list"].add_argument("--all", action="store_true", help="pending and resolved ones too")
    made["list"].add_argument("--format", choices=("table", "json"), default="table")
    made["explain"].add_argument("id", metavar="ID", help="an alert's id from the list, or a rule's name")
    for name in ("backtest", "tune"):
        made[name].add_argument("--days", type=float, default=14.0, help="how much history (default: 14)")
    made["tune"].add_argument("--pages-per-week", type=float, help="instead of the configured budget")
    route = made["test-route"]
    route.add_argument("labels", nargs="+", metavar="LABEL=VALUE", help="such as severity=page impact=cost")
    route.add_argument("--file", type=Path, help="an alertmanager.yml (default: of the running Alertmanager)")
    route.add_argument("--send", action="store_true", help="send such an alert, which ends after a minute")


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked."""
    verbs = {
        None: watch,
        "run": watch,
        "list": list_alerts,
        "explain": explain,
        "rules": print_rules,
        "backtest": backtest,
        "tune": backtest,
        "test-route": test_route,
    }
    return verbs[arguments.action](arguments)


def watch(arguments: argparse.Namespace) -> int:
    """Be the alerting process."""
    config = checked_config(arguments.config)
    started("alerts", config, supervised=arguments.supervised)
    from alerts.run import run as run_alerts

    return run_alerts(config.alerts, surroundings(config))


def surroundings(config: BursarConfig) -> "Surroundings":
    """Where everything is that alerting reads and speaks to."""
    from alerts.run import Surroundings

    pools = {name: upstream for name, upstream in config.upstreams.items() if upstream.kind == "vllm"}
    return Surroundings(
        data_dir=config.data_dir,
        control_url=f"http://{config.control.listen}",
        collector_url=f"http://{config.collector.listen}",
        control_key=config.control.key.reveal() if config.control.key else None,
        vllm={f"{name}/{i}": url for name, pool in pools.items() for i, url in enumerate(pool.urls)},
        dashboard_url=f"http://{config.dashboard.listen}",
    )


# ---- looking into it ------------------------------------------------------------------------


def list_alerts(arguments: argparse.Namespace) -> int:
    """The alerts as they stand."""
    from alerts.run import saved_alerts

    config = load_config(arguments.config)
    found = [
        tracked
        for tracked in saved_alerts(config.data_dir)
        if arguments.all or (tracked.alert.firing and tracked.labels.get("severity") != "none")
    ]
    if arguments.format == "json":
        sys.stdout.write(json.dumps([{"id": one.id, **one.to_dict()} for one in found], indent=1) + "\n")
        return 0
    if not found:
        sys.stdout.write("Nothing fires.\n")
        return 0
    print_alerts(found, time.time())
    return 0


def print_alerts(alerts: "list[Tracked]", now: float) -> None:
    """A table for people."""
    words = {"id": [one.id for one in alerts]}
    words["severity"] = [one.labels.get("severity", "") for one in alerts]
    words["alert"] = [one.name for one in alerts]
    words["state"] = [str(one.alert.phase) for one in alerts]
    words["for"] = [age(now - one.began_at) for one in alerts]
    columns = [Column(title=title, cells=cells, whole=True) for title, cells in words.items()]
    costs = [f"{one.usd_per_hour:.2f}" for one in alerts]
    columns.append(Column(title="USD/h", cells=costs, figures=True))
    summaries = [one.annotations.get("summary", "") for one in alerts]
    print_columns([*columns, Column(title="summary", cells=summaries)], ["USD/h", "for", "state"])


def age(seconds: float) -> str:
    """A length of time in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def explain(arguments: argparse.Namespace) -> int:
    """Everything that is known of an alert; of a rule, what it means."""
    from alerts.rules import load_rules
    from alerts.run import saved_alerts

    config = load_config(arguments.config)
    for one in saved_alerts(config.data_dir):
        if one.id.startswith(arguments.id) or one.annotations.get("finding") == arguments.id:
            out = sys.stdout.write
            out(f"{one.annotations.get('summary', one.name)}\n\n")
            facts = {"id": one.id, "state": str(one.alert.phase), **one.labels, **one.annotations}
            for name in [name for name in facts if name != "summary"]:
                out(f"  {name:<14} {printable(str(facts[name]))}\n")
            return 0
    for rule in load_rules(thresholds=config.alerts.thresholds):
        if rule.name == arguments.id:
            sys.stdout.write(f"{rule.name} ({rule.severity}, {rule.impact})\n  {rule.about}\n")
            sys.stdout.write(f"  fires after {rule.for_s} s of: {rule.promql()}\n  {rule.advice}\n")
            return 0
    sys.stderr.write(
        f"no alert has the id {arguments.id!r}, and no rule that name; see bursar alerts list --all\n"
    )
    return 1


def printable(text: str) -> str:
    """``text`` with control characters spelled out: a label never steers the terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def print_rules(arguments: argparse.Namespace) -> int:
    """The rules file for Prometheus."""
    from alerts.rules import InvalidRule, prometheus_text
    from alerts.run import rules_of

    config = load_config(arguments.config)
    try:
        sys.stdout.write(prometheus_text(rules_of(config.alerts)))
    except InvalidRule as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def backtest(arguments: argparse.Namespace) -> int:
    """What the detectors would have said of this ledger; for ``tune``, what they may page from now on."""
    from alerts.run import adopt, back_test

    config = load_config(arguments.config)
    wanted = getattr(arguments, "pages_per_week", None)
    budget = config.alerts.pages_per_week if wanted is None else wanted
    now = time.time()
    found = asyncio.run(
        back_test(config.alerts, surroundings(config), days=arguments.days, pages_per_week=budget, now=now)
    )
    if found is None:
        sys.stderr.write(f"the collector on {config.collector.listen} does not answer; run `bursar up`\n")
        return 1
    tuning, episodes = found
    print_episodes(episodes, tuning.threshold)
    out = sys.stdout.write
    out(f"{tuning.incidents} incidents; {tuning.reason}\n")
    if tuning.threshold <= 1:
        out(f"anomalies of severity {tuning.threshold:.2f} and above may page ({budget:g} pages a week)\n")
    else:
        out("anomalies warn and do not page\n")
    if arguments.action == "tune":
        adopt(config.data_dir, tuning, now)
        out("kept; a running `bursar alerts` takes it up within five minutes\n")
    return 0


def print_episodes(episodes: "list[Episode]", threshold: float) -> None:
    """The incidents of the past, newest last."""
    latest = episodes[-MOST_SHOWN:]
    began = [time.strftime("%m-%d %H:%M", time.gmtime(one.since)) for one in latest]
    lasted = [f"{(one.ended - one.since) / 60:.0f} min" for one in latest]
    columns = [
        Column(title="began (UTC)", cells=began, whole=True),
        Column(title="lasted", cells=lasted, figures=True),
        Column(title="what", cells=[str(one.kind) for one in latest], whole=True),
        Column(
            title="whose",
            cells=[", ".join(f"{name} {value}" for name, value in one.subject) for one in latest],
        ),
        Column(title="severity", cells=[f"{one.severity:.2f}" for one in latest], figures=True),
        Column(title="USD/h", cells=[f"{one.usd_per_hour:.2f}" for one in latest], figures=True),
        Column(title="pages", cells=["yes" if one.severity >= threshold else "" for one in latest]),
    ]
    print_columns(columns, ["severity", "USD/h"])


# ---- routes ---------------------------------------------------------------------------------


def test_route(arguments: argparse.Namespace) -> int:
    """Which receivers an alert would reach."""
    from alerts.routing import BadRouting, receivers
    from alerts.trial import NoAlertmanager, send_trial, tree_of

    config = load_config(arguments.config)
    labels = {}
    for text in arguments.labels:
        name, equals, value = text.partition("=")
        if not equals or not name:
            sys.stderr.write(f"{text!r}: write LABEL=VALUE\n")
            return 2
        labels[name] = value
    labels = {**config.alerts.labels, "alertname": "TestRoute", **labels}
    try:
        source, text = tree_of(config.alerts, arguments.file)
        sys.stdout.write(f"by {source}:\n")
        sys.stdout.writelines(f"  {name}\n" for name in receivers(text, labels))
        if arguments.send:
            sent = send_trial(config.alerts, labels)
            sys.stdout.write(f"sent to {sent} Alertmanager{'' if sent == 1 else 's'}\n")
    except (BadRouting, NoAlertmanager, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0

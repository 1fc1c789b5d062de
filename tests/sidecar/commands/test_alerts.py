"""The alerts as a table: whole through a pipe, and in a terminal as much as there is room for."""

from collections.abc import Callable
from decimal import Decimal

import pytest

from alerts.backtest import Episode
from alerts.engine import Tracked
from alerts.signals import KINDS
from sidecar.commands.alerts import print_alerts, print_episodes

KIND = next(iter(KINDS))
SUMMARY = "Team search-and-recommendations spends 41.20 USD an hour, nine times what it spent a week ago"
ALERTS = [
    Tracked(
        labels={
            "alertname": "BursarBudgetBurnsTooFast",
            "severity": "page",
            "team": "search-and-recommendations",
        },
        annotations={"summary": SUMMARY},
        usd_per_hour=Decimal("41.2"),
    ),
    Tracked(
        labels={"alertname": "BursarQuiet", "severity": "ticket"}, annotations={"summary": "\x1b[2J[/red]"}
    ),
]


def test_a_pipe_has_every_alert_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_alerts(ALERTS, 90.0)
    text = capsys.readouterr().out
    (line,) = [line for line in text.splitlines() if ALERTS[0].id in line]
    for told in (SUMMARY, "BursarBudgetBurnsTooFast", "page", "inactive", "90 s", "41.20"):
        assert told in line
    assert "\\x1b[2J[/red]" in text


def test_a_terminal_has_the_ids_whole(
    capsys: pytest.CaptureFixture[str], a_terminal: Callable[[int], None]
) -> None:
    a_terminal(80)
    print_alerts(ALERTS, 90.0)
    lines = capsys.readouterr().out.splitlines()
    assert all(any(one.id in line for line in lines) for one in ALERTS)
    assert lines[-1].startswith("Not shown in a terminal this narrow: ")
    assert max(map(len, lines)) <= 80


def test_incidents_of_the_past_are_whole_through_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    subject = tuple((name, "x" * 40) for name in ("team", "agent", "model"))
    one = Episode(
        kind=KIND,
        subject=subject,
        since=0,
        opened=60,
        ended=120,
        severity=0.9,
        usd_per_hour=Decimal(3),
        confirmed=True,
    )
    print_episodes([one], 0.5)
    assert ", ".join(f"{name} {value}" for name, value in subject) in capsys.readouterr().out

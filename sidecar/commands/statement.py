"""``bursar report --statement FOLDER``: a week of each team as a page that can be mailed or filed."""

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from sidecar.commands.questions import ask
from sidecar.commands.statement_page import Statement, html, money
from sidecar.config import BursarConfig

MOST_ROWS = 50
MOST_CONVERSATIONS = 10
MOST_TEAMS = 10_000
NO_TEAM = "no_team"
"""Of the calls that name none; with a line that no other file's name has."""

_WEEK = re.compile(r"(\d{4})-W(\d{2})")


class BadWeek(ValueError):
    """There is no such week; the message says how one is written."""


def add_statement_flags(parser: argparse.ArgumentParser) -> None:
    """Where to write statements, and of which week."""
    parser.add_argument(
        "--statement",
        type=Path,
        metavar="FOLDER",
        help="write a page in HTML for each team there: what it spent in a week",
    )
    parser.add_argument(
        "--week", metavar="2026-W48", help="of which week, ISO 8601 (default: the last whole one)"
    )


def week_of(text: str | None, today: date) -> date:
    """The Monday of the week ``text``; of the last whole week before ``today`` when there is none.

    Raises:
        BadWeek: it is not a week.
    """
    if text is None:
        return today - timedelta(days=today.weekday() + 7)
    found = _WEEK.fullmatch(text)
    try:
        if found is None:
            raise ValueError("not of that form")
        return date.fromisocalendar(int(found[1]), int(found[2]), 1)
    except ValueError as error:
        raise BadWeek(f"--week {text!r}: write a year and an ISO week, such as 2026-W48") from error


def write_statements(
    config: BursarConfig, folder: Path, monday: date, filters: Mapping[str, list[str]]
) -> list[Path]:
    """Write a page for each team that had calls in the week; returns where.

    Raises:
        NoAnswer: the collector does not answer.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    year, week, _ = monday.isocalendar()
    written = []
    for told in _statements(config, monday, filters):
        path = folder / f"{file_name(told.team)}-{year}-W{week:02d}.html"
        path.write_text(html(told), encoding="utf-8")
        sys.stdout.write(f"{path}  {money(told.total):.12f} USD\n")
        written.append(path)
    return written


def file_name(team: str) -> str:
    """A name for the file of a team: readable, safe, and no other team's."""
    if not team:
        return NO_TEAM
    slug = re.sub(r"[^a-z0-9]+", "-", team.lower()).strip("-")[:40]
    if slug == team:
        return slug
    return f"{slug or 'team'}-{hashlib.sha256(team.encode()).hexdigest()[:8]}"


def _statements(config: BursarConfig, monday: date, filters: Mapping[str, list[str]]) -> Iterator[Statement]:
    week = _span(monday, monday + timedelta(days=7))
    before = _span(monday - timedelta(days=7), monday)
    only = "; ".join(f"{name} {' or '.join(values)}" for name, values in filters.items())
    teams = ask(config, "spend_by", by="team", limit=MOST_TEAMS, **week, **filters)
    for team in (str(row["team"] or "") for row in teams):
        mine = {**filters, "team": [team]}

        def by(dimension: str, limit: int, mine: Mapping[str, list[str]] = mine) -> list[dict[str, Any]]:
            return ask(config, "spend_by", by=dimension, limit=limit, **week, **mine)

        days = {monday + timedelta(days=n): Decimal(0) for n in range(7)}
        for row in ask(config, "spend_over_time", bucket="day", **week, **mine):
            days[datetime.fromisoformat(str(row["bucket"])).date()] += money(row)
        yield Statement(
            team=team,
            only=only,
            first=monday,
            last=monday + timedelta(days=6),
            written=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            total=ask(config, "totals", **week, **mine)[0],
            before=ask(config, "totals", **before, **mine)[0],
            days=list(days.items()),
            agents=by("agent", MOST_ROWS),
            models=by("request_model", MOST_ROWS),
            conversations=[
                row for row in by("conversation_id", MOST_CONVERSATIONS) if row["conversation_id"]
            ],
            quality=ask(config, "quality", by="agent", limit=MOST_ROWS, **week, team=[team]),
        )


def _span(since: date, until: date) -> dict[str, str]:
    return {"since": f"{since.isoformat()}T00:00:00Z", "until": f"{until.isoformat()}T00:00:00Z"}

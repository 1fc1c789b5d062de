"""A team's week as a page."""

from datetime import date, timedelta
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sidecar.commands import statement
from sidecar.commands.statement import BadWeek, file_name, week_of, write_statements
from sidecar.commands.statement_page import Statement, html
from sidecar.config import BursarConfig

MONDAY = date(2026, 11, 23)


class Page(HTMLParser):
    """What a browser would make of a page: its tables, its text, and everything that has an address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self._cell: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = []

    def handle_data(self, data: str) -> None:
        if self._cell is not None:
            self._cell.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th") and self._cell is not None:
            self.tables[-1][-1].append("".join(self._cell))
            self._cell = None


def row(cost: str, calls: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "calls": calls, "failed_calls": 0, "input_tokens": 10 * calls, "output_tokens": calls,
        "cache_read_input_tokens": 0, "effective_cost_usd": cost, "list_cost_usd": cost,
        "avoided_cost_usd": "0", "estimated_calls": 0, "unpriced_calls": 0, **more,
    }  # fmt: skip


def told(**more: Any) -> Statement:
    given: dict[str, Any] = {
        "team": "search", "first": MONDAY, "last": MONDAY + timedelta(days=6), "written": "today",
        "total": row("7.000000000003", 4), "before": row("3.5"),
        "days": [(MONDAY + timedelta(days=n), Decimal(n)) for n in range(7)],
        "agents": [row("4.000000000001", 2, agent="crawler"), row("2", 1, agent="")],
        "models": [row("7.000000000003", 4, request_model="gpt-5")], "conversations": [], "quality": [],
    }  # fmt: skip
    return Statement(**given | more)


def test_every_table_sums_to_the_ledger_s_total_to_the_last_digit() -> None:
    page = html(told())
    assert "Exactly 7.000000000003 USD" in page
    agents, models, _ = Page(page).tables
    # 7.000000000003 - 4.000000000001 - 2
    assert [line[0::3] for line in agents[1:]] == [
        ["crawler", "4.000000000001"],
        ["(none)", "2.000000000000"],
        ["All others", "1.000000000002"],
        ["Total", "7.000000000003"],
    ]
    assert [line[0] for line in models[1:]] == ["gpt-5", "Total"]
    assert "+100.0 % against the week before" in page


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=x>', "a & b", "{0}"])
def test_names_are_text_and_nothing_is_fetched_or_run(name: str) -> None:
    text = html(told(team=name, agents=[row("7.000000000003", 4, agent=name)]))
    page = Page(text)
    assert page.tables[0][1][0] == name
    assert not {"script", "img", "link", "iframe", "object"} & set(page.tags)
    assert page.addresses == []
    assert "url(" not in text
    assert "@import" not in text


def test_a_page_of_some_calls_says_of_which() -> None:
    assert "only calls of agent &lt;b&gt;" in html(told(only="agent <b>"))
    assert "only calls" not in html(told())
    assert "<h1>What no team spent on models</h1>" in html(told(team=""))


def test_a_week_is_written_by_its_number_and_the_last_whole_one_is_meant_by_default() -> None:
    assert week_of("2026-W48", date(2026, 1, 1)) == MONDAY
    assert week_of(None, date(2026, 11, 29)) == date(2026, 11, 16)  # on a Sunday the week is not over
    assert week_of(None, date(2026, 11, 30)) == MONDAY
    for text in ("2026-W54", "48", "2026-48"):
        with pytest.raises(BadWeek, match="such as 2026-W48"):
            week_of(text, MONDAY)


def test_teams_with_alike_names_have_files_of_their_own() -> None:
    names = ["search", "Search", "search!", "", "../../etc/passwd", "搜索", "search" * 30]
    files = [file_name(name) for name in names]
    assert files[0] == "search"
    assert files[3] == "no_team"
    assert file_name("no_team") != "no_team"
    assert len({file.lower() for file in files}) == len(names)
    assert all("/" not in file and len(file) < 60 for file in files)


def test_each_team_has_a_page_of_its_week(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def ask(config: BursarConfig, question: str, **given: Any) -> list[dict[str, Any]]:
        asked.append((question, given))
        if question == "spend_by" and given["by"] == "team":
            return [row("2", team="search"), row("1", team="")]
        cost = "2" if given["team"] == ["search"] else "1"
        if question == "spend_over_time":
            return [row(cost, bucket="2026-11-24T00:00:00Z")]
        return [] if question == "quality" else [row(cost, agent="a", request_model="m", conversation_id="c")]

    monkeypatch.setattr(statement, "ask", ask)
    files = write_statements(BursarConfig(), tmp_path / "pages", MONDAY, {})
    assert files[0].name == "search-2026-W48.html"
    assert "Exactly 2.000000000000 USD" in files[0].read_text()
    assert "Exactly 1.000000000000 USD" in files[1].read_text()
    assert "2.000000000000 USD" in capsys.readouterr().out
    spans = {(given["since"], given["until"]) for question, given in asked if question == "spend_by"}
    assert spans == {("2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z")}

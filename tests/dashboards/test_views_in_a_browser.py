"""Every view in a real browser over a ledger that the demonstration filled: figures, clicks, links."""

import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect
from support.browsing import PAGES, Watch, opened_browser, said, wait_until_drawn, without_chromium
from support.staged import Staged, staged

from tests.dashboards.pictures import interesting, take

pytestmark = [pytest.mark.slow, pytest.mark.browser, without_chromium, pytest.mark.timeout(1800)]

RANGE = "range=90d&live=false"
"""All of the ledger: its end moves on with every minute, and nothing comes in."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staged]:
    with staged(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with opened_browser(tmp_path) as page:
        yield page


def spent(stage: Staged, **filters: str) -> str:
    (row,) = stage.ask("totals", since="90d", **filters)
    return f"{Decimal(row['effective_cost_usd']):,.12f} USD"


def cells(page: Page, words: str) -> Locator:
    """A table that says ``words``: it is drawn on a canvas, and told beside it to those who listen."""
    return page.get_by_test_id("stDataFrame").filter(has_text=words).first


def test_every_view_is_drawn_on_every_screen_without_a_complaint(
    stage: Staged, page: Page, tmp_path: Path
) -> None:
    pictures = Path(os.environ.get("BURSAR_SCREENSHOTS", tmp_path / "pictures"))
    assert take(page, stage.url, pictures, interesting(stage)) == []


@pytest.mark.parametrize(
    ("path", "words"), [("", "spent"), ("calls", "·"), ("models", "spent in all"), ("agents", "")]
)
def test_the_total_on_the_page_is_the_ledger_s(stage: Staged, page: Page, path: str, words: str) -> None:
    page.goto(f"{stage.url}/{path}?{RANGE}")
    expect(said(page, f"{spent(stage)} {words}".strip())).to_be_visible()


def test_what_a_budget_has_left_is_what_the_sidecar_counts(stage: Staged, page: Page) -> None:
    (row,) = [one for one in stage.control("budgets")["budgets"] if one["name"] == "everything"]
    page.goto(f"{stage.url}/budgets?budget=everything&subject=&{RANGE}")
    expect(said(page, "Who is eating it")).to_be_visible()
    expect(cells(page, f"{Decimal(row['spent']):,.12f} USD")).to_be_attached()


def test_health_counts_the_calls_of_the_ledger(stage: Staged, page: Page) -> None:
    (row,) = stage.ask("health")
    page.goto(f"{stage.url}/health?{RANGE}")
    expect(said(page, "Ledger behind")).to_be_visible()
    expect(cells(page, f"{row['calls']:,}")).to_be_attached()


def test_a_click_on_a_conversation_opens_its_course_and_the_link_brings_it_back(
    stage: Staged, page: Page, tmp_path: Path
) -> None:
    watch = Watch(page)
    page.goto(f"{stage.url}/agents?{RANGE}")
    expect(said(page, "The dearest conversations")).to_be_visible()
    course = said(page, "The course of one conversation")
    for _ in range(10):  # A table that is being drawn takes no click.
        wait_until_drawn(page)
        tables = page.get_by_test_id("stDataFrame")
        tables.last.click(position={"x": 60, "y": 50})
        try:
            expect(course).to_be_visible(timeout=5_000)
            break
        except AssertionError:
            continue
    expect(course).to_be_visible()
    expect(page).to_have_url(re.compile("run="))
    run = re.search("run=([^&]+)", page.url)
    assert run is not None
    told = spent(stage, conversation_id=run[1])
    expect(said(page, f"Ledger: {told}")).to_be_visible()

    with page.context.new_page() as again:
        again.goto(page.url)
        expect(said(again, f"Ledger: {told}")).to_be_visible()
    page.get_by_role("button", name="All its calls").click()
    expect(page).to_have_url(re.compile(f"/calls.*conversation_id={run[1]}"))
    expect(said(page, f"Ledger: {told} ·")).to_be_visible()
    assert watch.complaints == []


def test_a_click_on_a_budget_shows_who_eats_it(stage: Staged, page: Page) -> None:
    page.goto(f"{stage.url}/budgets?{RANGE}")
    expect(said(page, "Used up")).to_be_visible()
    eaters = said(page, "Who is eating it")
    for _ in range(10):
        wait_until_drawn(page)
        page.get_by_test_id("stDataFrame").first.click(position={"x": 40, "y": 50})
        try:
            expect(eaters).to_be_visible(timeout=5_000)
            break
        except AssertionError:
            continue
    expect(eaters).to_be_visible()
    expect(page).to_have_url(re.compile("budget="))


def test_the_range_and_the_filters_stay_from_view_to_view(stage: Staged, page: Page) -> None:
    page.goto(f"{stage.url}/?{RANGE}&agent=coding-agent")
    told = spent(stage, agent="coding-agent")
    expect(said(page, f"Ledger: {told} spent")).to_be_visible()
    for title in ("Calls", "Models", "Agents"):
        page.get_by_role("link", name=title, exact=True).click()
        expect(page).to_have_url(re.compile("agent=coding-agent"))
        expect(said(page, "Agent: coding-agent")).to_be_visible()
        expect(said(page, told)).to_be_visible()


def test_every_view_is_in_the_navigation(stage: Staged, page: Page) -> None:
    page.goto(f"{stage.url}/?{RANGE}")
    expect(said(page, "Ledger:")).to_be_visible()
    links = page.get_by_role("navigation").get_by_role("link").all()
    assert len(links) == len(PAGES)

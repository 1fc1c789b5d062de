"""Every view in a real browser over a ledger that the demonstration filled: figures, clicks, links."""

import contextlib
import os
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect
from playwright.sync_api import TimeoutError as PlaywrightTimeoutError
from support.browsing import OPEN_X, PAGES, Watch, opened_browser, said, wait_until_drawn, without_chromium
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


def facts(page: Page, words: str) -> Locator:
    """A table of named facts that says ``words``."""
    return page.get_by_test_id("stTable").filter(has_text=words).first


def press_first_row(page: Page, words: str, there: Locator) -> None:
    """Press the button of the first row of the table that says ``words``, until ``there`` is to be seen."""
    for _ in range(10):  # A table that is being drawn takes no click.
        wait_until_drawn(page)
        with contextlib.suppress(PlaywrightTimeoutError):  # It may have led on already.
            cells(page, words).click(position={"x": OPEN_X, "y": 50}, timeout=5_000)
        try:
            expect(there).to_be_visible(timeout=10_000)
            return
        except AssertionError:
            continue
    expect(there).to_be_visible()


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
    for _ in range(10):  # The last calls of the stage are settled a moment after they were answered.
        (row,) = [one for one in stage.control("budgets")["budgets"] if one["name"] == "everything"]
        page.goto(f"{stage.url}/budgets?budget=everything&subject=&{RANGE}")
        expect(said(page, "Who is eating it")).to_be_visible()
        spent = facts(page, f"{Decimal(row['spent']):,.12f} USD")
        with contextlib.suppress(AssertionError):
            expect(spent).to_be_visible(timeout=5_000)
            break
    expect(spent).to_be_visible()


def test_health_counts_the_calls_of_the_ledger(stage: Staged, page: Page) -> None:
    (row,) = stage.ask("health")
    page.goto(f"{stage.url}/health?{RANGE}")
    expect(said(page, "Ledger behind")).to_be_visible()
    expect(facts(page, f"{row['calls']:,}")).to_be_visible()


def test_cache_shows_the_ledger_s_hits(stage: Staged, page: Page) -> None:
    rows = {row["cache"]: int(row["calls"]) for row in stage.ask("spend_by", since="90d", by="cache")}
    hits = rows.get("hit", 0) + rows.get("semantic", 0)
    assert hits, "the demonstration reuses answers"
    page.goto(f"{stage.url}/cache?{RANGE}")
    expect(said(page, f"{100 * hits / (hits + rows['miss']):.1f} %")).to_be_visible()
    expect(cells(page, f"{100 * rows['bypass'] / sum(rows.values()):.1f} %")).to_be_attached()


def test_the_meter_on_the_page_is_the_ledger_s(stage: Staged, page: Page) -> None:
    (row,) = [one for one in stage.ask("gpu_costs", since="90d") if one["upstream"] == "local"]
    assert Decimal(row["meter_usd"]) > 0
    page.goto(f"{stage.url}/gpu?{RANGE}")
    # The meter runs on: what it shows has the digits of a moment ago, or more.
    shown = page.get_by_test_id("stMetric").filter(has_text="Meter")
    expect(shown).to_be_visible()
    told = Decimal(shown.get_by_test_id("stMetricValue").inner_text().removeprefix("$"))
    (later,) = [one for one in stage.ask("gpu_costs", since="90d") if one["upstream"] == "local"]
    nearly = Decimal("0.99")
    assert nearly * Decimal(row["meter_usd"]) <= told <= Decimal(later["meter_usd"]) / nearly
    assert Decimal(later["meter_usd"]) == sum(
        Decimal(later[f"{part}_usd"]) for part in ("charged", "idle", "unobserved")
    )


def test_alerts_counts_the_ledger_s_open_incidents(stage: Staged, page: Page) -> None:
    page.goto(f"{stage.url}/incidents?{RANGE}")
    line = said(page, "ended in this time range")
    expect(line).to_be_visible()
    rows = stage.ask("incidents", since="90d", limit=200)
    still_open = sum(row["state"] == "open" for row in rows)
    expect(line).to_contain_text(f"{still_open} open, {len(rows) - still_open} ended")


@pytest.mark.parametrize(
    ("path", "words", "arrives"),
    [
        ("cache", "What the cache said", r"/cache\?.*[?&]cache=(bypass|hit|miss)"),
        ("gpu", "Replica", r"/calls\?.*upstream=local"),
        ("health", "Under way", r"/calls\?.*upstream=local"),
        ("incidents", "Severity", r"/incidents\?.*incident="),
        ("calls", "Started", r"/calls\?.*call="),
    ],
)
def test_a_row_s_button_leads_on_and_the_link_brings_it_back(
    stage: Staged, page: Page, path: str, words: str, arrives: str
) -> None:
    watch = Watch(page)
    page.goto(f"{stage.url}/{path}?{RANGE}")
    there = {
        "cache": said(page, "Cache: "),
        "gpu": said(page, "Upstream: local"),
        "health": said(page, "Upstream: local"),
        "incidents": said(page, "The course of one incident"),
        "calls": page.get_by_role("dialog"),
    }[path]
    press_first_row(page, words, there)
    expect(page).to_have_url(re.compile(arrives))
    page.reload()
    expect(there).to_be_visible()
    assert watch.complaints == []


@pytest.mark.parametrize("path", [name if name != "spend" else "" for name in PAGES])
def test_the_time_range_stands_in_the_link_of_every_view(stage: Staged, page: Page, path: str) -> None:
    page.goto(f"{stage.url}/{path}?range=7d&compare=vs+week+before&live=false")
    chosen = page.get_by_role("radio", name="7d", exact=True)
    expect(chosen).to_be_checked()
    expect(page.get_by_role("combobox", name="Compare with")).to_have_value("vs week before")
    wait_until_drawn(page)
    page.get_by_text("30d", exact=True).click()
    expect(page).to_have_url(re.compile("range=30d"))
    page.reload()
    expect(page.get_by_role("radio", name="30d", exact=True)).to_be_checked()
    expect(page).to_have_url(re.compile(r"compare=vs(\+|%20)week(\+|%20)before"))


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
        tables.last.click(position={"x": OPEN_X, "y": 50})
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
        page.get_by_test_id("stDataFrame").first.click(position={"x": OPEN_X, "y": 50})
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


@pytest.mark.parametrize(
    ("path", "drawn", "at", "narrowed"),
    [
        ("?look=Map", "Spend by team, agent and model as areas", (0.2, 0.5),
         r"team=platform&agent=coding-agent&request_model="),
        ("?look=Map", "Spend by team, agent and model as areas", (0.1, 0.03), r"team=platform$"),
        ("?look=Why+it+changed&split=team", "Change of spend by team", (0.55, 0.08), r"&team=platform$"),
        ("models?", "USD a million tokens, by model", None, r"&request_model="),
    ],
    ids=["an area of the map", "a team of the map", "a cause", "a model"],
)  # fmt: skip
def test_a_click_on_a_chart_narrows_the_page_to_what_was_clicked(
    stage: Staged, page: Page, path: str, drawn: str, at: tuple[float, float] | None, narrowed: str
) -> None:
    watch = Watch(page)
    page.goto(f"{stage.url}/{path}&{RANGE}")
    for _ in range(10):  # A chart that is being drawn takes no click.
        wait_until_drawn(page)
        chart = page.get_by_role("img", name=drawn).last
        size = chart.bounding_box()
        assert size is not None
        for x, y in [at] if at else scattered():
            chart.click(position={"x": size["width"] * x, "y": size["height"] * y})
        try:
            expect(page).to_have_url(re.compile(narrowed), timeout=5_000)
            break
        except AssertionError:
            continue
    expect(page).to_have_url(re.compile(narrowed))
    filters = {
        name: values[0]
        for name, values in parse_qs(urlsplit(page.url).query).items()
        if name in ("team", "agent", "request_model")
    }
    expect(said(page, spent(stage, **filters))).to_be_visible()
    assert watch.complaints == []


def scattered() -> list[tuple[float, float]]:
    """Places all over a chart, near enough to one another that a spot is hit."""
    return [(x / 60, y / 24) for x in range(8, 58, 1) for y in range(2, 16, 1)]


def test_calls_are_found_by_a_text_that_the_link_brings_along(stage: Staged, page: Page) -> None:
    page.goto(f"{stage.url}/calls?{RANGE}")
    expect(said(page, "Ledger:")).to_be_visible()
    (newest,) = stage.ask("calls", since="90d", search="research", limit=1)
    page.get_by_role("textbox", name="Search", exact=True).fill("research")
    page.keyboard.press("Enter")
    expect(said(page, "shown are those with “research”")).to_be_visible()
    expect(page).to_have_url(re.compile("search=research"))
    expect(cells(page, newest["agent"])).to_be_attached()
    page.reload()
    expect(said(page, "shown are those with “research”")).to_be_visible()


def test_a_chart_is_saved_as_a_png_by_its_own_button(stage: Staged, page: Page, tmp_path: Path) -> None:
    page.goto(f"{stage.url}/?{RANGE}")
    wait_until_drawn(page)
    chart = page.get_by_role("img", name="Spend per day by model")
    expect(chart).to_be_visible()
    chart.hover()
    with page.expect_download() as saved:
        page.get_by_role("button", name=re.compile("Download", re.I)).first.click()
    file = tmp_path / "chart.png"
    saved.value.save_as(file)
    with Image.open(file) as image:
        assert image.format == "PNG"
        assert min(image.size) >= 250
        small = image.convert("RGB").resize((64, 64))
        assert len(small.getcolors(64 * 64) or ()) > 10  # something is drawn on it


@pytest.mark.parametrize(
    ("path", "words"),
    [
        *(("", "Ledger:"), ("calls", "Ledger:"), ("models", "spent in all"), ("budgets", "Used up")),
        *(("agents", "By agent"), ("cache", "Hit rate"), ("gpu", "Every replica")),
        *(("incidents", "Open incidents"), ("health", "Ledger behind")),
    ],
)
def test_the_keyboard_reaches_everything_and_one_sees_where_it_is(
    stage: Staged, page: Page, path: str, words: str
) -> None:
    page.goto(f"{stage.url}/{path}?{RANGE}")
    expect(said(page, words)).to_be_visible()
    wait_until_drawn(page)
    page.wait_for_load_state("networkidle")
    met: list[str] = []
    for _ in range(90):
        page.keyboard.press("Tab")
        focus = page.evaluate(FOCUS)
        if focus is None or focus["tag"] == "MAIN":
            continue  # The page itself, so that its keys scroll.
        met.append(focus["name"])
        for _ in range(20):  # While a page is drawn anew, its style is not there for a moment.
            if focus is None or focus["seen"]:
                break
            page.wait_for_timeout(100)
            focus = page.evaluate(FOCUS)
        assert focus is None or focus["seen"], f"nothing shows that {focus} has the focus"
    told = " | ".join(met)
    assert [name for name in ("Spend", "Budgets", "Health") if name in told] == ["Spend", "Budgets", "Health"]
    for what in ("1h", "Compare with", "Filters", "Live"):  # Arrows lead from range to range.
        assert what in told, what
    assert met.index("Spend") < told_at(met, "1h") < told_at(met, "Filters")  # as one reads
    assert any("canvas" in name or "data grid" in name for name in met), "no table can be reached"
    for chart in page.get_by_role("img").all():
        assert chart.get_attribute("aria-label") or chart.get_attribute("alt")


def told_at(met: list[str], words: str) -> int:
    return next(place for place, name in enumerate(met) if words in name)


FOCUS = """() => {
  const on = document.activeElement;
  if (!on || on === document.body) return null;
  const told = on.getAttribute('aria-label') || on.innerText || on.tagName;
  const table = on.closest('[data-testid=stDataFrame]') ? 'data grid ' : '';
  // The ring may be drawn around the element or what holds it.
  let seen = false;
  for (let it = on, n = 0; it && n < 6 && !seen; it = it.parentElement, n++) {
    const style = getComputedStyle(it);
    seen = (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0)
      || style.boxShadow !== 'none' || it.matches('[data-focused=true]');
  }
  return {name: table + told.trim().slice(0, 60), seen: seen || !!table, tag: on.tagName};
}"""
"""What has the focus, by its name, and whether it can be seen; nothing where the page itself has it."""


def test_every_view_is_in_the_navigation(stage: Staged, page: Page) -> None:
    page.goto(f"{stage.url}/?{RANGE}")
    expect(said(page, "Ledger:")).to_be_visible()
    links = page.get_by_role("navigation").get_by_role("link").all()
    assert len(links) == len(PAGES)

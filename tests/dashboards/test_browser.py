"""The served page in a real browser: it draws, adds up, reacts, and talks to nobody else."""

import contextlib
import http.client
import itertools
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect
from support.browsing import (
    BACKGROUNDS,
    OPEN_X,
    Watch,
    opened_browser,
    said,
    until_healthy,
    wait_until_drawn,
    without_chromium,
)
from support.ports import free_port

from dashboards import launch

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
ALLURING = "https://evil.example/pay www.evil.example ada@evil.example :material/home: a->b"

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def dashboard(collector: Any, tmp_path: Path) -> Iterator[str]:
    """The address of the dashboard, served by Streamlit itself as ``bursar dashboard`` does."""
    port = free_port()
    log = (tmp_path / "dashboard.log").open("wb")
    process = subprocess.Popen(
        launch.command("127.0.0.1", port, collector.url),
        env=os.environ | launch.environment(collector.url),
        cwd=tmp_path,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        until_healthy(launch.health_url("127.0.0.1", port), process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        log.close()


@pytest.fixture
def browser_page(tmp_path: Path) -> Iterator[Page]:
    with opened_browser(tmp_path) as page:
        yield page


def some_calls(collector: Any) -> None:
    """Forty calls of three agents; one of them has a name that is a program."""
    for number in range(40):
        agent = ("planner", "triage", HOSTILE)[number % 3]
        collector.book(
            timedelta(minutes=10 * number + 1),
            agent=agent,
            team="search" if agent == "planner" else "support",
            request_model=("gpt-5", "claude-sonnet-4-5")[number % 2],
            task_id=ALLURING,
            cost=f"0.0{number:02d}00000000{number % 10}",
        )


def total(rows: list[dict[str, Any]]) -> str:
    return f"{sum((row['effective_cost_usd'] for row in rows), Decimal(0)):,.12f}"


def of_agent(collector: Any, agent: str) -> list[dict[str, Any]]:
    return [row for row in collector.calls if row["agent"] == agent]


def close_panel(page: Page) -> None:
    """Put the filter panel away, and wait until the page has been drawn without it."""
    panel = page.get_by_test_id("stPopoverBody")
    page.keyboard.press("Escape")  # its list of values
    page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    wait_until_drawn(page)


def click_first_bar(page: Page, answer: str) -> None:
    """Click the largest bar until the page answers: a chart that is drawn anew takes no click."""
    for _ in range(10):
        wait_until_drawn(page)
        bars = page.get_by_role("img", name="Spend by agent, the largest on top")
        size = bars.bounding_box()
        assert size is not None
        bars.click(position={"x": size["width"] / 2, "y": 18})
        with contextlib.suppress(AssertionError):
            expect(said(page, answer)).to_be_visible(timeout=5_000)
            break


def open_first_row(page: Page) -> Locator:
    """Press the first row's button until its dialog opens: a table that is drawn anew takes no click."""
    dialog = page.get_by_role("dialog")
    for _ in range(10):
        wait_until_drawn(page)
        page.locator("[data-testid=stDataFrame]").first.click(position={"x": OPEN_X, "y": 50})
        with contextlib.suppress(AssertionError):
            expect(dialog).to_be_visible(timeout=5_000)
            break
    return dialog


@pytest.mark.browser
@without_chromium
def test_the_page_adds_up_reacts_and_asks_nobody_else(
    collector: Any, dashboard: str, browser_page: Page, tmp_path: Path
) -> None:
    """I04, among other things: an agent's name that is a program is shown, not run."""
    some_calls(collector)
    page, watch = browser_page, Watch(browser_page)

    page.goto(f"{dashboard}/?live=false")
    line, again = said(page, f"Ledger: {total(collector.calls)} USD spent"), page.get_by_text("Try again")
    expect(line.or_(again)).to_be_visible()
    if again.is_visible():  # A busy machine may be late with the very first answer.
        again.click()
    expect(line).to_be_visible()
    expect(page.locator("[data-testid=stEChartsChart] canvas")).to_have_count(5)

    agents = {row["agent"] for row in collector.calls}
    dearest = max(agents, key=lambda agent: float(total(of_agent(collector, agent))))
    click_first_bar(page, f"Agent: {dearest}")
    expect(said(page, f"Ledger: {total(of_agent(collector, dearest))} USD spent")).to_be_visible()
    expect(said(page, f"Agent: {dearest}")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    expect(said(page, f"Ledger: {total(collector.calls)} USD spent")).to_be_visible()

    page.get_by_role("button", name="Filters", exact=True).click()
    team = page.get_by_role("combobox", name="Team")
    team.click()
    page.get_by_role("option", name="search").click()
    planner = of_agent(collector, "planner")
    expect(said(page, f"Ledger: {total(planner)} USD spent")).to_be_visible()
    expect(page).to_have_url(re.compile("team=search"))
    expect(team).to_be_visible()  # the panel stays open for the next choice
    close_panel(page)
    page.get_by_role("button", name="Clear filters").click()
    expect(said(page, f"Ledger: {total(collector.calls)} USD spent")).to_be_visible()
    expect(page).not_to_have_url(re.compile("team="))

    page.get_by_role("button", name="Filters", exact=True).click()
    page.get_by_role("combobox", name="Agent").click()
    page.get_by_role("option", name="planner").click()
    expect(said(page, f"Ledger: {total(planner)} USD spent")).to_be_visible()
    close_panel(page)
    page.get_by_role("link", name="Calls").click()
    expect(said(page, f"Ledger: {total(planner)} USD · 14 calls")).to_be_visible()
    page.get_by_role("button", name="Clear filters").click()
    expect(said(page, f"Ledger: {total(collector.calls)} USD · 40 calls")).to_be_visible()
    newest = collector.calls[0]
    dialog = open_first_row(page)
    expect(dialog.get_by_text(newest["call_id"])).to_be_visible()
    task = dialog.get_by_role("row").filter(has_text="evil.example")
    expect(task).to_be_visible()
    assert task.inner_text().replace("\u2060", "").split("\t")[-1].strip() == ALLURING
    expect(dialog.get_by_role("link")).to_have_count(0)
    expect(page).to_have_url(re.compile(f"call={newest['call_id']}"))
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
    expect(said(page, "40 calls")).to_be_visible()

    assert page.title() != "owned"
    assert watch.hosts == {urlsplit(dashboard).netloc}
    assert watch.complaints == []


def test_only_this_machine_is_listened_to_and_only_under_our_own_name(dashboard: str) -> None:
    """I01."""
    address = urlsplit(dashboard).netloc
    port = f":{int(address.rpartition(':')[2]):04X}"
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[1].endswith(port) and line.split()[3] == "0A"
    ]
    assert listening == [f"0100007F{port}"]  # 127.0.0.1, in the kernel's byte order
    assert handshake(address, address) == http.HTTPStatus.SWITCHING_PROTOCOLS
    foreign = f"evil.example:{address.rpartition(':')[2]}"
    assert handshake(address, foreign) == http.HTTPStatus.FORBIDDEN


def handshake(address: str, name: str) -> int:
    """The status of opening Streamlit's socket at ``address`` as a page of the site ``name`` would."""
    connection = http.client.HTTPConnection(address, timeout=10)
    headers = {
        "Host": name,
        "Origin": f"http://{name}",
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==",
        "Sec-WebSocket-Protocol": "streamlit",
    }
    connection.request("GET", "/_stcore/stream", headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.slow
@pytest.mark.browser
@without_chromium
def test_nothing_is_wider_than_the_screen_in_light_or_dark(
    collector: Any, dashboard: str, browser_page: Page
) -> None:
    some_calls(collector)
    page, watch = browser_page, Watch(browser_page)
    for appearance, width, path in itertools.product(BACKGROUNDS, (1280, 390), ("", "calls")):
        page.emulate_media(color_scheme="dark" if appearance == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{dashboard}/{path}?live=false")
        expect(said(page, "Ledger:")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        background = page.evaluate("getComputedStyle(document.querySelector('.stApp')).backgroundColor")
        assert background == BACKGROUNDS[appearance]
    assert watch.complaints == []

"""A real headless Chromium that looks at the dashboard, and what it saw, said and asked for."""

import contextlib
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000

PAGES = ("spend", "budgets", "agents", "calls", "models", "cache", "gpu", "incidents", "health")
"""Every view, by its place in the address; ``spend`` is the first page and has none."""

OPEN_X = 62
"""Where in a table the buttons are that open a row, in pixels from its left."""

BACKGROUNDS = {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 23, 30)"}

without_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium on PATH (Debian: apt-get install chromium)"
)


class Watch:
    """What a page said on its console, and whom it asked."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        page.on("console", lambda message: self._said(message.type, message.text, message.location))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def _said(self, kind: str, text: str, location: Any) -> None:
        # Opened at /calls, Streamlit looks for its own endpoints below that path first, and finds none.
        if kind == "error" and "/_stcore/" not in str(location):
            self.complaints.append(f"{text} ({location})")


@contextlib.contextmanager
def opened_browser(folder: Path) -> Iterator[Page]:
    """One page of a browser that knows nobody; its profile lies in ``folder``."""
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(folder / "profile"),
            executable_path=CHROMIUM,
            args=FLAGS,
            viewport={"width": 1280, "height": 800},
            color_scheme="light",
            timezone_id="Europe/Berlin",
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield context.pages[0]
        context.close()


def until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait for a dashboard to serve."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert process.poll() is None, "the dashboard ended by itself"
        try:
            with urllib.request.urlopen(url, timeout=2) as reply:
                assert reply.status == 200
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise AssertionError("the dashboard did not come up in 90 s")


def said(page: Page, words: str) -> Locator:
    """Where the page says ``words``: while it is drawn anew, the old line may stand beside the new one."""
    return page.get_by_text(words).first


def wait_until_drawn(page: Page) -> None:
    """Wait until the page's program has run to its end."""
    expect(page.get_by_test_id("stApp")).to_have_attribute("data-test-script-state", "notRunning")


def look(page: Page, address: str, *, width: int, appearance: str) -> None:
    """Open an address on a screen of that width, in light or dark, and wait for all of it."""
    page.emulate_media(color_scheme="dark" if appearance == "dark" else "light")
    page.set_viewport_size({"width": width, "height": 900})
    page.goto(address)
    expect(page.get_by_test_id("stAppViewContainer")).to_be_visible()
    wait_until_drawn(page)
    expect(page.locator("[data-testid=stSkeleton]")).to_have_count(0)
    page.wait_for_load_state("networkidle")


def photograph(page: Page, path: Path) -> None:
    """Keep the whole page as a picture, also what one would have to scroll for."""
    # Streamlit scrolls inside of the page: the screen is made as high as what is on it.
    inner = page.evaluate(
        "Math.max(...['[data-testid=stMain]', '[role=dialog]']"
        ".map(one => document.querySelector(one)?.scrollHeight || 0), 900)"
    )
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({"width": size["width"], "height": min(int(inner) + 40, 6000)})
    page.wait_for_timeout(1200)  # Charts grow into place.
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(path))

"""The pictures of the README: a demonstration with a past, looked at through a headless Chromium.

usage: python scripts/pictures/make.py [FOLDER]     (make pictures)
"""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "pictures"
PATIENCE_S = 180
WIDTH, HEIGHT = 1440, 900
COLOURS = 128
"""Enough for charts and text; a quarter of the bytes."""

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)

CHART = "[data-testid=stEChartsChart] canvas"

PICTURES = {
    "spend": ("?range=30d&live=false", "light", CHART),
    "why": (
        "?range=7d&live=false&look=Why+it+changed&split=agent&compare=vs+week+before",
        "dark",
        "[aria-label*='Change of spend']",
    ),
    "models": ("models?range=30d&live=false", "light", CHART),
}
"""Address, appearance, and what must be there before the picture is taken (a selector)."""


@contextlib.contextmanager
def demonstration(folder: Path) -> Iterator[str]:
    """The address of the dashboard of a running demonstration."""
    command = [sys.executable, "-m", "sidecar.cli", "demo", "--history", "40d", "--rate", "1"]
    log = (folder / "demo.log").open("w+")
    process = subprocess.Popen(  # noqa: S603 - a command of our own
        [*command, "--data-dir", str(folder / "data")], stdout=log, stderr=subprocess.STDOUT, cwd=folder
    )
    try:
        yield address(folder / "demo.log", process)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        log.close()


def address(log: Path, process: "subprocess.Popen[bytes]") -> str:
    """Where the dashboard is, once it answers."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"the demonstration ended:\n{log.read_text()}")
        told = [
            line.split()[1] for line in log.read_text().splitlines() if line.strip().startswith("Dashboard:")
        ]
        with contextlib.suppress(urllib.error.URLError, OSError):
            if told and urllib.request.urlopen(f"{told[0]}/_stcore/health", timeout=2):  # noqa: S310
                return told[0]
        time.sleep(0.5)
    raise SystemExit("the dashboard did not come up")


def opened(page: Page, address: str, awaited: str) -> None:
    """Open a page, again until the ledger has caught up with the journal and everything is drawn."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        page.goto(address)
        page.wait_for_selector(awaited)
        page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")
        late = page.get_by_text("behind the journal").or_(page.get_by_text("No figures"))
        if not late.count() and not page.locator("[data-testid=stSkeleton]").count():
            return
        time.sleep(2)
    raise SystemExit(f"{address} was not complete in {PATIENCE_S} s")


def at_rest(page: Page) -> bytes:
    """A picture of the screen once nothing on it moves any more: charts grow into place."""
    before, deadline = b"", time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        page.wait_for_timeout(400)
        now = page.screenshot()
        if now == before:
            return now
        before = now
    raise SystemExit("the page never came to rest")


def take(browser: Browser, base: str, name: str, folder: Path) -> Path:
    """One picture, made small."""
    path, appearance, awaited = PICTURES[name]
    context = browser.new_context(
        viewport={"width": WIDTH, "height": HEIGHT},
        color_scheme="dark" if appearance == "dark" else "light",
        timezone_id="UTC",
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    opened(page, f"{base}/{path}", awaited)
    if name == "why":
        page.get_by_text("Why it changed").first.evaluate("look => look.scrollIntoView()")
        page.mouse.move(WIDTH / 2, HEIGHT / 2)
        page.mouse.wheel(0, -90)  # From under the navigation.
    file = folder / f"{name}.png"
    file.write_bytes(at_rest(page))
    context.close()
    with Image.open(file) as image:
        image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    return file


def main() -> None:
    """Make them all."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("no chromium on PATH (Debian: apt-get install chromium)")
    with (
        tempfile.TemporaryDirectory() as temporary,
        demonstration(Path(temporary)) as base,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for name in PICTURES:
            file = take(browser, base, name, folder)
            sys.stdout.write(f"{file}  {file.stat().st_size >> 10} KiB\n")
        browser.close()


if __name__ == "__main__":
    main()

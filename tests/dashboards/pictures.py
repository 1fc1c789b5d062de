"""Pictures of every view, wide and narrow, light and dark, for a person to look through.

    PYTHONPATH=.:tests python tests/dashboards/pictures.py FOLDER [ADDRESS [PAGE ...]]

`make screenshots` takes them of a ledger that the demonstration filled; with an ADDRESS they are of the
dashboard there. A PAGE is a place in the address, such as `agents?run=ID`.
"""

import itertools
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page
from support.browsing import PAGES, Watch, look, opened_browser, photograph
from support.staged import Staged, staged

WIDTHS = (1440, 390)


def take(page: Page, address: str, folder: Path, pages: tuple[str, ...] = PAGES) -> list[str]:
    """Take them; what was wrong with a page, in words."""
    watch, complaints = Watch(page), []
    for name, width, appearance in itertools.product(pages, WIDTHS, ("light", "dark")):
        path, _, query = name.partition("?")
        where = "" if path == "spend" else path
        look(page, f"{address}/{where}?live=false&{query}", width=width, appearance=appearance)
        label = f"{path}-{query.partition('=')[0]}" if query else path
        wide = page.evaluate("document.documentElement.scrollWidth")
        photograph(page, folder / f"{label}-{width}-{appearance}.png")
        complaints += [f"{name} {width} {appearance}: {said}" for said in watch.complaints]
        watch.complaints.clear()
        if wide > width:
            complaints.append(f"{name} is {wide} px wide on a screen of {width}")
        for trouble in page.get_by_test_id("stException").all():
            complaints.append(f"{name}: {trouble.inner_text()[:300]}")
        print(f"{label} {width} {appearance}", flush=True)
    if foreign := watch.hosts - {address.partition("://")[2]}:
        complaints.append(f"asked elsewhere: {', '.join(sorted(foreign))}")
    return complaints


def interesting(stage: Staged) -> tuple[str, ...]:
    """Every view, one budget, one conversation, one call, one incident."""
    run = next(row for row in stage.ask("runs", limit=50) if 5 <= row["steps"] <= 40)
    call = stage.ask("calls", order="dearest", limit=1)[0]
    incident = stage.ask("incidents", limit=1)[0]["anomaly_id"]
    return (*PAGES, "budgets?budget=everything", f"incidents?incident={incident}",
            f"agents?run={run['conversation_id']}", f"calls?call={call['call_id']}")  # fmt: skip


def main(arguments: list[str]) -> int:
    """Take them of a dashboard that runs, or of one that is put up for it."""
    folder = Path(arguments[0])
    with tempfile.TemporaryDirectory() as there, opened_browser(Path(there)) as page:
        if len(arguments) > 1:
            complaints = take(page, arguments[1].rstrip("/"), folder, tuple(arguments[2:]) or PAGES)
        else:
            with staged(Path(there)) as stage:
                complaints = take(page, stage.url, folder, interesting(stage))
    print("\n".join(complaints))
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

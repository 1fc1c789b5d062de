"""Pictures of every view of a running dashboard, wide and narrow, light and dark.

    python tests/dashboards/pictures.py ADDRESS FOLDER [PAGE ...]

`make screenshots` takes them of the demonstration.
"""

import itertools
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support.browsing import PAGES, Watch, browser_page, look, photograph

WIDTHS = (1440, 390)


def take(address: str, folder: Path, pages: tuple[str, ...] = PAGES) -> list[str]:
    """Take them; what the browser complained of meanwhile, by page."""
    complaints = []
    with tempfile.TemporaryDirectory() as profile, browser_page(Path(profile)) as page:
        watch = Watch(page)
        for name, width, appearance in itertools.product(pages, WIDTHS, ("light", "dark")):
            path, _, query = name.partition("?")
            where = "" if path == "spend" else path
            look(page, f"{address}/{where}?live=false&{query}", width=width, appearance=appearance)
            wide = page.evaluate("document.documentElement.scrollWidth")
            label = path if not query else f"{path}-{query.partition('=')[0]}"
            photograph(page, folder / f"{label}-{width}-{appearance}.png")
            complaints += [f"{name} {width} {appearance}: {said}" for said in watch.complaints]
            watch.complaints.clear()
            if wide > width:
                complaints.append(f"{name} is {wide} px wide on a screen of {width}")
            print(f"{label} {width} {appearance}", flush=True)
    return complaints


if __name__ == "__main__":
    found = take(sys.argv[1].rstrip("/"), Path(sys.argv[2]), tuple(sys.argv[3:]) or PAGES)
    sys.exit("\n".join(found) or 0)

"""Compile what our processes import, so that the first start of each is as fast as the others.

Run by ``make env``. Of the packages that we use only what is imported is compiled: that is a tenth of them.
"""

import compileall
import importlib
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ("sidecar", "collector", "alerts", "dashboards", "inference")
ENTRANCES = (
    *("sidecar.cli", "sidecar.app", "sidecar.reload", "sidecar.budgets.redis_store"),
    *(
        "sidecar.commands.up",
        "sidecar.commands.demo",
        "sidecar.commands.alerts",
        "sidecar.commands.collector",
    ),
    *("collector.run", "collector.api.app", "collector.ingest.keeper", "collector.ingest.otlp.receiver"),
    *("uvicorn.config", "uvicorn.protocols.http.httptools_impl", "httpx", "rich.live", "streamlit.web.cli"),
)
"""Some of it is imported at the first use; the set of packages at hand may be a smaller one."""


def main() -> None:
    """Compile ours, then import what ours import: Python compiles what it imports."""
    for package in OURS:
        compileall.compile_dir(ROOT / package, quiet=2, workers=0)
    for entrance in ENTRANCES:
        with suppress(ImportError):
            importlib.import_module(entrance)


if __name__ == "__main__":
    main()

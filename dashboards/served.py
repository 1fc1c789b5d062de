"""The dashboard as Streamlit serves it, which reads at once what the first reader's page will need.

Streamlit imports the half of it only when a page draws its first table or chart: whoever looks first would
wait seconds for that.
"""

import importlib
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from dashboards.front import Front

PAGES = ("budgets", "agents", "calls", "models", "cache", "gpu", "incidents", "health")
NEEDED = (
    *("numpy", "pandas", "pyarrow.ipc", "pyarrow.parquet", "PIL.Image"),
    *(f"dashboards.views.{page}" for page in ("spend", *PAGES)),
)


def read_ahead() -> None:
    """Import what pages need; a page that comes meanwhile waits for what it needs of it."""
    for name in NEEDED:
        importlib.import_module(name)


@asynccontextmanager
async def begun(_: object) -> AsyncIterator[None]:
    """Once it listens."""
    threading.Thread(target=read_ahead, name="read-ahead", daemon=True).start()
    yield


app = st.App(
    "app.py",
    lifespan=begun,
    middleware=[Middleware(Front, folder=Path(st.__file__).parent / "static", pages=PAGES)],
)

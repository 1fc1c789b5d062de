"""The collector's HTTP face over a ledger, in the process of a test."""

from pathlib import Path

import httpx
from starlette.types import ASGIApp

from collector.api.app import build_app
from collector.ingest.books import Books
from collector.ingest.follower import Follower
from collector.ingest.state import Ledger, State
from collector.settings import Address
from collector.store.duckdb import Database
from collector.store.reader import LedgerReader
from collector.store.sandbox import SandboxLimits
from collector.store.snapshot import Publisher

HERE = Address("127.0.0.1", 4010)
LIMITS = SandboxLimits(seconds=60)


def state_over(database: Database, folder: Path) -> State:
    """A collector's state whose journal and snapshot lie in ``folder``."""
    books = Books(database)
    ledger = Ledger(
        books=books,
        reader=LedgerReader(database),
        follower=Follower(folder / "journal", books),
        publisher=Publisher(database, folder / "snapshot.duckdb", 60),
    )
    return State(data_dir=folder, ledger=ledger, trouble="")


def app_over(state: State) -> ASGIApp:
    """The application of a collector that listens on loopback without a key."""
    return build_app(state, HERE, None, LIMITS)


def client_of(app: ASGIApp, host: str = "127.0.0.1:4010") -> httpx.AsyncClient:
    """A client that asks ``app`` and no network."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")

"""Spans that libraries really made, requests of our own, and a ledger to put them in."""

import itertools
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.domain.record import CallRecord
from collector.export.protobuf import SpanEncoder
from collector.export.span_data import SpanFacts
from collector.ingest.books import Books
from collector.ingest.otlp.normalise import ROW, Spans
from collector.ingest.otlp.protobuf import SpanDecoder
from collector.store.duckdb import Database
from collector.store.migrate import migrate

RECORDED = Path(__file__).parent / "recorded"
NOW_US = 1_790_000_000_000_000


def rows_of(body: bytes) -> list[dict[str, Any]]:
    """The spans of a protobuf request, as rows by field name."""
    spans = Spans(NOW_US)
    SpanDecoder().read(body, spans)
    return [dict(zip(ROW, row, strict=True)) for row in spans.rows]


def recorded(library: str) -> list[dict[str, Any]]:
    """What ``library`` really sent (`record_spans.py`), as rows."""
    return rows_of((RECORDED / f"{library}.pb").read_bytes())


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll for ``condition``; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class SpanMaker:
    """Makes requests out of a few words about each span; times are in seconds from a fixed noon."""

    def __init__(self) -> None:
        self._serial = itertools.count(1)
        self._encoder = SpanEncoder({"service.name": "agent"}, scope="test", version="1", schema_url="")

    def span(
        self,
        name: str = "chat gpt-5-mini",
        *,
        trace: int = 1,
        span: int | None = None,
        parent: int = 0,
        at: float = 0.0,
        lasts: float = 1.0,
        kind: int = 3,
        **attributes: object,
    ) -> SpanFacts:
        """One span; attributes with ``__`` for dots."""
        started = int((NOW_US / 1e6 + at) * 1e6) * 1000
        return SpanFacts(
            name=name,
            kind=kind,
            trace_id=f"{trace:032x}",
            span_id=f"{span or 1_000_000 + next(self._serial):016x}",
            parent_span_id=f"{parent:016x}" if parent else "",
            start_ns=started,
            end_ns=started + int(lasts * 1e9),
            attributes={key.replace("__", "."): value for key, value in attributes.items()},
            error_type="",
            parent_is_remote=False,
        )

    def model(self, **about: Any) -> SpanFacts:
        """A call of a model, as the conventions have it."""
        operation = {"gen_ai__operation__name": "chat", "gen_ai__request__model": "gpt-5-mini"}
        return self.span(**(operation | about))

    def request(self, *spans: SpanFacts) -> bytes:
        """An ``ExportTraceServiceRequest``."""
        return self._encoder.request([self._encoder.spans(spans)])


@pytest.fixture
def maker() -> SpanMaker:
    return SpanMaker()


class LedgerOfSpans:
    """A database with calls and spans."""

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        self.books = Books(self.database)

    def book(self, *calls: CallRecord) -> None:
        """Put calls in."""
        entry = self.books.begin()
        entry.records.extend(calls)
        self.books.enter(entry)

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """What a query says."""
        with self.database.turn:
            return self.database.connection.execute(statement, list(values)).fetchall()

    def one(self, statement: str) -> Mapping[str, Any]:
        """The only row of a query, by column."""
        with self.database.turn:
            result = self.database.connection.execute(statement)
            names = [about[0] for about in result.description]
            (row,) = result.fetchall()
        return dict(zip(names, row, strict=True))


@pytest.fixture(scope="session")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database at the present schema, to be copied: making one takes half a second."""
    path = tmp_path_factory.mktemp("ledger") / "empty.duckdb"
    database = Database(path)
    migrate(database.connection)
    database.checkpoint()
    database.close()
    return path


@pytest.fixture
def ledger(tmp_path: Path, empty_ledger: Path) -> Iterator[LedgerOfSpans]:
    shutil.copyfile(empty_ledger, tmp_path / "ledger.duckdb")
    made = LedgerOfSpans(tmp_path / "ledger.duckdb")
    yield made
    made.database.close()


@pytest.fixture(name="rows_of")
def rows_of_fixture() -> Callable[[bytes], list[dict[str, Any]]]:
    """The spans of a protobuf request, as rows."""
    return rows_of


@pytest.fixture(name="recorded")
def recorded_fixture() -> Callable[[str], list[dict[str, Any]]]:
    """What a library really sent, as rows."""
    return recorded


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    """Polls for a condition."""
    return wait_until


@pytest.fixture
def now_us() -> int:
    """The instant from which `SpanMaker` counts."""
    return NOW_US


@pytest.fixture(scope="session")
def recordings() -> dict[str, bytes]:
    """The requests that libraries really sent, by library."""
    return {path.stem: path.read_bytes() for path in sorted(RECORDED.glob("*.pb"))}

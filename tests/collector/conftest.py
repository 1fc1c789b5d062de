"""Builders for the books: calls, intents, and journals that hold them."""

import functools
import itertools
import random
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.domain.record import AttemptRecord, CallRecord, Intent
from collector.journal import JournalConfig, JournalWriter

NOON_US = 1_790_000_000_000_000
"""The instant at which most tests play: 2026-09-21, in the afternoon."""

_serial = itertools.count(1)


def uuid7(at_us: int, noise: random.Random) -> str:
    bits = (
        (at_us // 1000) << 80 | 0x7 << 76 | noise.getrandbits(12) << 64 | 0b10 << 62 | noise.getrandbits(62)
    )
    return str(uuid.UUID(int=bits))


def make_call(**changes: Any) -> CallRecord:
    """A served call of one attempt; ``changes`` are fields. ``cost`` sets all costs of call and attempt."""
    serial = next(_serial)
    noise = random.Random(serial)
    cost = changes.pop("cost", 1_000_000 + serial)
    started = changes.get("started_at_us", NOON_US + serial)
    base: dict[str, Any] = {
        "call_id": uuid7(max(started, 0), noise),
        "started_at_us": started,
        "duration_us": 1_200_000,
        "time_to_first_chunk_us": 300_000,
        "tenant": "acme",
        "team": "search",
        "user_id": "u1",
        "agent": "indexer",
        "conversation_id": f"c{serial // 5}",
        "conversation_source": "header",
        "task_id": "",
        "tags": {"env": "prod"},
        "key_id": "vk_1a2b3c",
        "trace_id": f"{noise.getrandbits(128):032x}",
        "span_id": f"{noise.getrandbits(64):016x}",
        "parent_span_id": "",
        "gen_ai_span_id": f"{noise.getrandbits(64):016x}",
        "api": "openai.chat",
        "stream": True,
        "request_model": "gpt-5-mini",
        "response_model": "gpt-5-mini-2025-08-07",
        "provider_name": "openai",
        "upstream": "openai",
        "outcome": "served",
        "outcome_reason": "",
        "http_status": 200,
        "error_type": "",
        "cache": "miss",
        "downgraded_from": "",
        "input_tokens": 1200,
        "output_tokens": 300,
        "cache_read_input_tokens": 800,
        "cache_write_input_tokens": 0,
        "cache_write_1h_input_tokens": 0,
        "reasoning_output_tokens": 100,
        "audio_input_tokens": 0,
        "audio_output_tokens": 0,
        "usage_grade": "reported",
        "price_grade": "listed",
        "price_version": "2026-09-01",
        "list_cost_pico": cost,
        "effective_cost_pico": cost,
        "avoided_cost_pico": 0,
        "provider_cost_pico": None,
        "overhead_us": 80,
        "response_id": f"chatcmpl-{serial}",
        "finish_reasons": ["stop"],
        "tool_names": [],
        "request_bytes": 2000,
        "response_bytes": 5000,
        "chunks": 40,
        "path": "/v1/chat/completions",
        "server_address": "api.openai.com",
        "server_port": 443,
        "client_address": "127.0.0.1",
        "user_agent": "openai-python/3.54",
        "request_attributes": {"max_tokens": 500},
        "response_attributes": {"service_tier": "default"},
        "message_hashes": [noise.getrandbits(63), noise.getrandbits(63)],
        "last_message_hash": noise.getrandbits(63),
        "content": None,
    }
    base["attempts"] = (make_attempt(cost, started),)
    return CallRecord(**(base | changes))


def make_attempt(cost: int, started_at_us: int, **changes: Any) -> AttemptRecord:
    base = {
        "attempt": 1,
        "upstream": "openai",
        "replica": "api.openai.com:443",
        "provider_name": "openai",
        "request_model": "gpt-5-mini",
        "span_id": "00f067aa0ba902b7",
        "started_at_us": started_at_us,
        "duration_us": 1_100_000,
        "time_to_first_chunk_us": 290_000,
        "http_status": 200,
        "error_type": "",
        "input_tokens": 1200,
        "output_tokens": 300,
        "cache_read_input_tokens": 800,
        "cache_write_input_tokens": 0,
        "cache_write_1h_input_tokens": 0,
        "reasoning_output_tokens": 100,
        "usage_grade": "reported",
        "price_grade": "listed",
        "price_version": "2026-09-01",
        "list_cost_pico": cost,
        "effective_cost_pico": cost,
    }
    return AttemptRecord(**(base | changes))


def intent_of(call: CallRecord, hold_pico: int = 9_000_000) -> Intent:
    """What the journal said before ``call``, with another cost held for it."""
    same = {name: getattr(call, name) for name in Intent._fields if name in CallRecord._fields}
    return Intent(**same, hold_input_tokens=2000, hold_output_tokens=500, hold_cost_pico=hold_pico)


class Journal:
    """A journal directory that tests write to as sidecars do."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._writers: list[JournalWriter] = []

    def writer(self, source: str = "host-boot1", segment_bytes: int = 32 << 20) -> JournalWriter:
        """A living source. The fixture closes it."""
        config = JournalConfig(segment_bytes=segment_bytes, sync_interval_s=5.0, slow_write_s=60.0)
        writer = JournalWriter(self.directory, source, config)
        self._writers.append(writer)
        return writer

    def write(self, *items: CallRecord | Intent, source: str = "host-boot1", **options: Any) -> None:
        """A source that writes ``items`` and ends."""
        writer = self.writer(source, **options)
        for item in items:
            writer.intent(item) if isinstance(item, Intent) else writer.record(item)
        self.end(writer)

    def end(self, writer: JournalWriter) -> None:
        """The source's process goes away."""
        self._writers.remove(writer)
        writer.close()

    def close(self) -> None:
        for writer in list(self._writers):
            self.end(writer)


@pytest.fixture(scope="session", name="make_call")
def make_call_fixture() -> Callable[..., CallRecord]:
    """The same as ``call``, for fixtures that live longer."""
    return make_call


@pytest.fixture(scope="session")
def call() -> Callable[..., CallRecord]:
    """Makes calls; see `make_call`."""
    return make_call


@pytest.fixture
def attempt() -> Callable[..., AttemptRecord]:
    """Makes attempts; see `make_attempt`."""
    return make_attempt


@pytest.fixture
def intent() -> Callable[..., Intent]:
    """Makes the intent of a call; see `intent_of`."""
    return intent_of


@pytest.fixture
def noon_us() -> int:
    """The instant around which made calls start."""
    return NOON_US


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """An empty journal directory with its writers."""
    made = Journal(tmp_path / "journal")
    yield made
    made.close()


@pytest.fixture(scope="session")
def journal_at() -> Callable[[Path], Journal]:
    """A journal in a folder of the test's choice (close it)."""
    return Journal


@pytest.fixture(scope="session")
def new_ledger(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Any]:
    """Opens an empty ledger at the present schema in a folder; the migrations are run once for all tests."""
    from collector.store.duckdb import DatabaseConfig
    from collector.store.opening import LIVE, open_ledger

    config = DatabaseConfig(memory_limit_bytes=128 << 20)
    empty = tmp_path_factory.mktemp("empty")
    open_ledger(empty, config).database.close()

    def open_in(folder: Path) -> Any:
        shutil.copy(empty / LIVE, folder / LIVE)
        return open_ledger(folder, config).database

    return open_in


@pytest.fixture
def database(tmp_path: Path, new_ledger: Callable[[Path], Any]) -> Iterator[Any]:
    """An empty ledger at the present schema."""
    opened = new_ledger(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def books(database: Any) -> Any:
    """The writer of that ledger."""
    from collector.ingest.books import Books

    return Books(database)


@pytest.fixture(scope="session")
def enter_into() -> Callable[..., None]:
    """Books calls and intents, by a writer, as frames of one source that goes on."""
    from collector.ingest.pairing import Mark
    from collector.journal import encoded, parse_frames

    def enter_items(books: Any, *items: CallRecord | Intent, source: str = "test") -> None:
        mark = books.marks.get(source, Mark())
        frames, _, _ = parse_frames(encoded(items, mark.sequence + 1))
        entry = books.begin()
        books.take(entry, source, frames, mark)
        books.enter(entry)

    return enter_items


@pytest.fixture
def enter(books: Any, enter_into: Callable[..., None]) -> Callable[..., None]:
    """Books calls and intents as frames of one source that goes on."""
    return functools.partial(enter_into, books)


@pytest.fixture
def rows(database: Any) -> Callable[..., list[tuple[Any, ...]]]:
    """Asks the database in SQL."""

    def ask(sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return list(database.connection.execute(sql, list(values)).fetchall())

    return ask

"""Newer prices are in the ledger under the version that records name; a bad file changes nothing."""

import json
import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from collector.ingest.price_watch import PriceSource, PriceWatch
from collector.pricing.book import PriceBook
from collector.pricing.refresh import MOST_LEFT, leave_prices, left_prices, load_overlay

CONFIGURED = {"house": {"input": 1}}


def a_map(usd_per_mtok: float) -> bytes:
    entry = {"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": usd_per_mtok / 1e6}
    return json.dumps(dict.fromkeys(("gpt-4o-mini", *(f"m{n}" for n in range(12))), entry)).encode()


@pytest.fixture
def source(tmp_path):
    return tmp_path / "prices.json"


@pytest.fixture
def watch(books, source):
    return PriceWatch(
        PriceSource(str(source), 0), CONFIGURED, lambda: books, source.parent, threading.Event(), lambda: 0.0
    )


def listed(books, model):
    """Picos a token by version, of OpenAI's own or the configuration's: hosts list the same names."""
    query = (
        "SELECT price_version, CAST(input_usd * 1000000000000 AS BIGINT) FROM prices"
        " WHERE provider_name IN ('openai', '') AND model = $1"
    )
    return dict(books.database.connection.execute(query, [model]).fetchall())


@pytest.mark.slow
def test_each_state_of_the_source_is_a_version_of_its_own(books, source, watch):
    for usd_per_mtok in (3, 5, 5):
        source.write_bytes(a_map(usd_per_mtok))
        assert watch.look()

    today = datetime.now(UTC).date()
    versions = {
        load_overlay(PriceBook.load(CONFIGURED), a_map(usd), str(source), today).version: usd * 1_000_000
        for usd in (3, 5)
    }
    newer = {version: pico for version, pico in listed(books, "gpt-4o-mini").items() if version in versions}
    assert newer == versions
    assert versions.keys() <= listed(books, "house").keys()


def test_a_source_that_cannot_be_used_changes_nothing(books, source, watch):
    before = listed(books, "gpt-4o-mini")
    assert watch.look()  # it is not there
    source.write_bytes(b"{broken")
    assert watch.look()
    assert listed(books, "gpt-4o-mini") == before


def test_a_ledger_that_is_not_open_is_waited_for(source):
    source.write_bytes(a_map(3))
    assert not PriceWatch(
        PriceSource(str(source), 60), {}, lambda: None, source.parent, threading.Event()
    ).look()


def test_what_a_sidecar_priced_by_is_taken_though_the_source_has_gone_on(books, source, watch):
    yesterday = date(2026, 3, 4)
    leave_prices(a_map(3), yesterday, source.parent)
    source.write_bytes(b"{broken")
    assert watch.look()
    version = load_overlay(PriceBook.load(CONFIGURED), a_map(3), str(source), yesterday).version
    assert version in listed(books, "gpt-4o-mini")
    assert left_prices(source.parent) == []


def test_few_prices_wait_for_a_collector_that_does_not_come(tmp_path):
    day = date(2026, 3, 4)
    for number in range(MOST_LEFT + 5):
        leave_prices(b"%d" % number, day + timedelta(days=number), tmp_path)
        leave_prices(b"%d" % number, day + timedelta(days=number), tmp_path)
    left = left_prices(tmp_path)
    assert len(left) == MOST_LEFT
    assert left[-1][0].read_bytes() == b"%d" % (MOST_LEFT + 4)
    assert left[-1][1] == day + timedelta(days=MOST_LEFT + 4)


def test_what_cannot_be_read_does_not_stand_in_the_way_of_the_next(books, source, watch):
    day = date(2026, 3, 4)
    leave_prices(b"{broken", day, source.parent)
    leave_prices(a_map(3), day, source.parent)
    assert watch.look()
    assert watch.look()
    assert load_overlay(PriceBook.load(CONFIGURED), a_map(3), str(source), day).version in listed(
        books, "house"
    )
    assert left_prices(source.parent) == []

"""The price book is written down once a version, and not even read when it stands there already."""

from decimal import Decimal

import pytest

from collector.pricing.book import PriceBook
from collector.store import prices
from collector.store.asking import parse
from collector.store.questions import CATALOGUE
from collector.store.reader import LedgerReader


def test_the_built_in_book_is_written_once(database, rows):
    written = prices.remember(database, 1_000_000)

    assert written == len(list(PriceBook.load().rows())) > 100
    assert prices.remember(database, 2_000_000) == 0
    assert rows("SELECT count(*), count(DISTINCT price_version) FROM prices") == [(written, 1)]


def test_a_book_that_stands_there_is_not_read_again(database, monkeypatch):
    prices.remember(database, 1_000_000)
    monkeypatch.setattr(PriceBook, "load", classmethod(lambda cls: pytest.fail("the book was read")))
    assert prices.remember(database, 2_000_000) == 0


def test_a_book_with_other_prices_is_written_beside_the_first(database, rows):
    prices.remember(database, 1_000_000)
    other = PriceBook.load({"house-model": {"input": 1, "output": 2}})

    assert prices.remember(database, 2_000_000, other) > 100
    assert prices.remember(database, 3_000_000, other) == 0
    assert rows("SELECT count(DISTINCT price_version) FROM prices") == [(2,)]


def test_configured_prices_are_written_beside_the_built_in_ones_under_the_version_calls_name(database, rows):
    configured = {"House-Model": {"input": Decimal("1"), "output": Decimal("2.5")}}

    built_in = prices.remember(database, 1_000_000)
    written = prices.remember(database, 2_000_000, configured=configured)

    version = PriceBook.load(configured).version
    assert written == built_in + 1
    assert rows(f"SELECT count(*) FROM prices WHERE price_version = '{version}'") == [(written,)]
    assert rows(
        "SELECT model, price_grade, input_usd, output_usd, epoch_us(first_seen_at)"
        " FROM prices WHERE provider_name = ''"
    ) == [("house-model", "configured", Decimal("0.000001"), Decimal("0.0000025"), 2_000_000)]
    assert prices.remember(database, 3_000_000, configured=configured) == 0


def answer(database, name, **given):
    asked = parse(CATALOGUE[name], {key: [value] for key, value in given.items()}, 9_000_000)
    return LedgerReader(database).answer(asked).to_pylist()


def test_a_price_is_found_by_version_provider_and_model(database):
    prices.remember(database, 1_000_000)
    version = PriceBook.load().version

    (row,) = answer(database, "prices", price_version=version, provider_name="openai", model="gpt-4o-mini")

    assert (row["input_usd"], row["output_usd"]) == (
        Decimal("0.00000015"),
        Decimal("0.0000006"),
    )  # $0.15, $0.60
    assert answer(database, "prices", price_version="another", model="gpt-4o-mini") == []


def test_a_change_of_a_configured_price_is_told_with_what_it_was_before(database):
    prices.remember(database, 1_000_000)
    prices.remember(database, 2_000_000, configured={"house": {"input": 1, "output": 2}})
    prices.remember(database, 3_000_000, configured={"house": {"input": 1, "output": 3}})

    (second, first) = answer(database, "price_changes", since="1", until="9", model="house")

    assert (second["output_usd_before"], second["output_usd"]) == (Decimal("0.000002"), Decimal("0.000003"))
    assert (second["input_usd_before"], second["input_usd"]) == (Decimal("0.000001"), Decimal("0.000001"))
    assert (first["output_usd_before"], first["output_usd"]) == (None, Decimal("0.000002"))
    assert answer(database, "price_changes", since="4", until="9", model="house") == []


def test_a_book_that_says_the_same_as_the_one_before_changes_nothing(database):
    prices.remember(database, 1_000_000)
    prices.remember(database, 2_000_000, configured={"house": {"input": 1, "output": 2}})

    assert [row["model"] for row in answer(database, "price_changes", since="1", until="9")] == ["house"]


def test_a_dated_price_changes_on_its_day(database):
    database.connection.execute(
        """
        INSERT INTO prices BY NAME
        SELECT 'v1' AS price_version, 'acme' AS provider_name, 'm' AS model, day AS effective_from,
            'listed' AS price_grade, 'a list' AS source, usd AS input_usd, usd AS output_usd,
            usd AS cache_read_usd, usd AS cache_write_usd, usd AS cache_write_1h_usd, usd AS reasoning_usd,
            0 AS per_request_usd, '{}' AS terms, make_timestamp(0) AS first_seen_at
        FROM (VALUES ('', 0.5), ('2026-03-01', 0.25), ('16:30-00:30', 0.1)) AS dated(day, usd)
        """
    )

    (row,) = answer(database, "price_changes", since="2026-02-01", until="2026-04-01")

    assert (row["kind"], row["input_usd_before"], row["input_usd"]) == (
        "dated",
        Decimal("0.5"),
        Decimal("0.25"),
    )
    assert answer(database, "price_changes", since="2026-03-02", until="2026-04-01") == []

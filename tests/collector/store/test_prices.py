"""The price book is written down once a version, and not even read when it stands there already."""

import pytest

from collector.pricing.book import PriceBook
from collector.store import prices


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

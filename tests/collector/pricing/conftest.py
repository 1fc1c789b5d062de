"""One book for all tests that only read it, and small ones built on the spot."""

from collections.abc import Callable, Mapping
from datetime import date
from typing import Any

import pytest

from collector.pricing.book import PriceBook
from collector.pricing.merge import merged
from collector.pricing.sources import read_genai, read_litellm
from collector.pricing.table import Source

TODAY = date(2026, 11, 22)

TableOf = Callable[..., PriceBook]


@pytest.fixture(scope="session")
def book() -> PriceBook:
    """The book that comes with Bursar."""
    return PriceBook.load()


@pytest.fixture
def book_of() -> TableOf:
    """Make a book from a few entries of each source."""

    def make(
        *,
        litellm: Mapping[str, Any] | None = None,
        genai: list[dict[str, Any]] | None = None,
        configured: Mapping[str, Any] | None = None,
    ) -> PriceBook:
        from collector.pricing.configured import configured_prices

        sources = {"g": Source("genai-prices", "1", "2026-11-22"), "l": Source("litellm", "2", "2026-11-22")}
        table = merged(read_genai(genai or [], TODAY), read_litellm(litellm or {}, TODAY), sources, TODAY)
        return PriceBook((table,), configured_prices(configured or {}))

    return make

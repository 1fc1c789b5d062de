"""The price book in the ledger: which prices a record's ``price_version`` stands for."""

import hashlib
import time
from collections.abc import Iterable

import pyarrow as pa

from collector.pricing.book import TABLE_PATH, PriceBook
from collector.store.duckdb import Database
from collector.store.schema import MONEY

_RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "per_request")
_WORDS = ("price_version", "provider_name", "model", "effective_from", "price_grade", "source")


def remember(database: Database, now_us: int | None = None, book: PriceBook | None = None) -> int:
    """Write the prices of ``book`` (the built-in one) into table ``prices``, once a version.

    Returns:
        The number of rows written.
    """
    with database.turn:
        versions = database.connection.execute("SELECT DISTINCT price_version FROM prices").fetchall()
        if book is None and _built_in_is_among(version for (version,) in versions):
            return 0
        book = book or PriceBook.load()
        if (book.version,) in versions:
            return 0
        rows = list(book.rows())
        columns = {name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in _WORDS}
        for name in _RATES:
            columns[name] = pa.array([getattr(row, name) for row in rows], pa.int64())
        columns["terms"] = pa.array([row.terms for row in rows], pa.string())
        pico = "CAST(0.000000000001 AS DECIMAL(13,12))"
        rates = ", ".join(f"CAST({name} * {pico} AS {MONEY})" for name in _RATES)
        moment = time.time_ns() // 1000 if now_us is None else now_us
        with database.transaction() as connection:
            connection.register("staged_prices", pa.table(columns))
            try:
                connection.execute(
                    f"INSERT INTO prices SELECT {', '.join(_WORDS)}, {rates}, terms, make_timestamp($1)"  # noqa: S608
                    " FROM staged_prices",
                    [moment],
                )
            finally:
                connection.unregister("staged_prices")
    return len(rows)


def _built_in_is_among(versions: Iterable[str]) -> bool:
    """Whether one of them ends in the hash of the built-in table; to read all of it takes 10 MiB."""
    digest = hashlib.blake2b(TABLE_PATH.read_bytes(), digest_size=4).hexdigest()
    return any(version.endswith(f"-{digest}") for version in versions)

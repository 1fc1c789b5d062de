"""The price book in the ledger: which prices a record's ``price_version`` stands for."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

import pyarrow as pa

from collector.pricing.book import (
    TABLE_PATH,
    PriceBook,
    PriceRow,
    configured_row,
    normalised,
    version_of,
)
from collector.pricing.configured import configured_prices
from collector.store.duckdb import Database
from collector.store.schema import MONEY

_RATES = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "per_request")
_WORDS = ("price_version", "provider_name", "model", "effective_from", "price_grade", "source")


def remember(
    database: Database,
    now_us: int | None = None,
    book: PriceBook | None = None,
    configured: Mapping[str, Mapping[str, Decimal]] | None = None,
) -> int:
    """Write the prices of ``book`` (the built-in one) into table ``prices``, once a version.

    Args:
        database: the ledger.
        now_us: the clock.
        book: another book than the built-in one.
        configured: prices of a configuration, USD per million tokens by model, which win over the built-in
            ones; written as a version of their own beside those.

    Returns:
        The number of rows written.
    """
    moment = time.time_ns() // 1000 if now_us is None else now_us
    with database.turn:
        versions = [version for (version,) in database.connection.execute(_VERSIONS).fetchall()]
        written = 0
        built_in = _built_in_among(versions)
        if book is not None or built_in is None:
            book = book or PriceBook.load()
            if book.version not in versions:
                written = _insert(database, list(book.rows()), moment)
            built_in = book.version
        if configured:
            written += _remember_configured(database, versions, built_in, configured, moment)
    return written


_VERSIONS = "SELECT DISTINCT price_version FROM prices"


def _remember_configured(
    database: Database,
    versions: Iterable[str],
    built_in: str,
    configured: Mapping[str, Mapping[str, Decimal]],
    moment: int,
) -> int:
    """Write what a configuration says, and beside it all that the built-in book says, from its own rows."""
    prices = normalised(configured_prices(configured))
    version = version_of([built_in], prices)
    if version in versions:
        return 0
    rows = [configured_row(version, name, price) for name, price in prices.items()]
    return _insert(database, rows, moment, beside=built_in)


def _insert(database: Database, rows: Sequence[PriceRow], moment: int, beside: str = "") -> int:
    """Write ``rows``, and under their version those of the version ``beside``; returns how many there are."""
    columns = {name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in _WORDS}
    for name in _RATES:
        columns[name] = pa.array([getattr(row, name) for row in rows], pa.int64())
    columns["terms"] = pa.array([row.terms for row in rows], pa.string())
    pico = "CAST(0.000000000001 AS DECIMAL(13,12))"
    rates = ", ".join(f"CAST({name} * {pico} AS {MONEY})" for name in _RATES)
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
        connection.execute(
            "INSERT INTO prices SELECT * REPLACE ($1 AS price_version, make_timestamp($2) AS first_seen_at)"
            " FROM prices WHERE price_version = $3",
            [rows[0].price_version, moment, beside],
        )
        ((count,),) = connection.execute(
            "SELECT count(*) FROM prices WHERE price_version = $1", [rows[0].price_version]
        ).fetchall()
    return int(count)


def _built_in_among(versions: Iterable[str]) -> str | None:
    """Which of them ends in the hash of the built-in table; to read all of it takes 10 MiB."""
    digest = hashlib.blake2b(TABLE_PATH.read_bytes(), digest_size=4).hexdigest()
    return next((version for version in versions if version.endswith(f"-{digest}")), None)

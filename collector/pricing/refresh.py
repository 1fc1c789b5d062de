"""Newer prices without a restart: from a file or an https address, in any of three formats.

Our own table replaces the one that is in use. litellm's price map or genai-prices'
data.json is laid over it: what it lists wins, the rest stays. Either way a new
:class:`PriceBook` comes out; the old one is untouched, and stays in use when the new
file is bad. Parsing a whole price map takes about a second of CPU: call this from a
thread, or run ``python -m collector.pricing.refresh SOURCE OUT`` in a process of its own
and load what it wrote.
"""

import contextlib
import os
import ssl
import sys
import urllib.error
import urllib.request
import zlib
from datetime import UTC, date, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from collector.pricing.book import PriceBook
from collector.pricing.merge import merged
from collector.pricing.sources import parse_json, read_genai, read_litellm
from collector.pricing.table import InvalidTable, Source, Table, check_table, read_table, write_table

MAX_BYTES = 64 << 20
"""Of a price file, unpacked. litellm's is 3 MB."""

_LEFT = "prices"
MOST_LEFT = 16
"""Prices that wait for a collector; should none ever come, the oldest go."""

TIMEOUT_S = 30.0
FEWEST_MODELS = 10
"""A price file with fewer models is taken for a broken one."""


def load_overlay(book: PriceBook, data: bytes, name: str, today: date) -> PriceBook:
    """A new book with the prices of ``data`` in force; ``book`` stays as it is.

    Args:
        book: the book in use; an overlay of its own is dropped, its configured prices stay.
        data: our table, litellm's price map or genai-prices' data.json, gzipped or not.
        name: where the data came from, for messages and sources.
        today: for dated prices in it.

    Raises:
        InvalidTable: the data cannot be used; says why.
    """
    table = read_prices(data, name, today)
    base = book.tables[-1]
    tables = (table,) if _stands_alone(table) else (table, base)
    return PriceBook(tables, book.configured)


def read_prices(data: bytes, name: str, today: date) -> Table:
    """The prices in ``data``, whatever its format, checked.

    Raises:
        InvalidTable: the data cannot be used; says why.
    """
    data = _unpacked(data)
    found = parse_json(data)
    try:
        if isinstance(found, dict) and found.get("format") is not None:
            table = read_table(data)
        else:
            table = _foreign(found, name, today)
        check_table(table)
    except InvalidTable as error:
        raise InvalidTable(f"{name}: {error}") from error
    models = sum(len(provider.models) for provider in table.providers.values())
    if models < FEWEST_MODELS:
        raise InvalidTable(f"{name}: only {models} models with a price in it")
    return table


def _foreign(found: Any, name: str, today: date) -> Table:
    source = Source(name.rpartition("/")[2] or name, "", today.isoformat())
    try:
        if isinstance(found, dict) and all(isinstance(entry, dict) for entry in found.values()):
            table = merged((), read_litellm(found, today), {"l": source}, today)
        elif isinstance(found, list):
            table = merged(read_genai(found, today), (), {"g": source}, today)
        else:
            raise InvalidTable("neither a price table of ours, nor litellm's, nor genai-prices' data.json")
    except InvalidTable:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise InvalidTable(f"not the price file it looks like: {type(error).__name__}: {error}") from error
    table.version = f"{table.made}-{_digest(table)}"
    return table


def _digest(table: Table) -> str:
    import hashlib

    digest = hashlib.blake2b(digest_size=4)
    for name, provider in table.providers.items():
        for key, row in provider.models.items():
            digest.update(f"{name}/{key}=".encode() + bytes(row))
    return digest.hexdigest()


def _stands_alone(table: Table) -> bool:
    """Whether a table is a whole one of ours, made of both sources, and not a single source laid over it."""
    return len(table.sources) > 1


def _unpacked(data: bytes) -> bytes:
    if data[:2] != b"\x1f\x8b":
        return data
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(data, MAX_BYTES + 1)
    except zlib.error as error:
        raise InvalidTable(f"not a gzip file: {error}") from error
    if len(unpacked) > MAX_BYTES:
        raise InvalidTable(f"larger than {MAX_BYTES >> 20} MiB when unpacked")
    return unpacked


def fetch(source: str, timeout_s: float = TIMEOUT_S) -> bytes:
    """The bytes at ``source``: a path, a ``file:`` or an ``https:`` address. Blocks: call it in a thread.

    Raises:
        InvalidTable: it cannot be had; says why.
    """
    parts = urlsplit(source)
    if parts.scheme in ("", "file"):
        path = Path(parts.path if parts.scheme else source)
        try:
            with path.open("rb") as file:
                return _capped(file.read(MAX_BYTES + 1), source)
        except OSError as error:
            raise InvalidTable(f"{source}: {error.strerror or error}") from error
    if parts.scheme != "https":
        raise InvalidTable(f"{source}: prices are read from a file or over https, not {parts.scheme}")
    request = urllib.request.Request(source, headers={"accept": "application/json", "user-agent": "bursar"})  # noqa: S310 - https only
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=ssl.create_default_context()), _StaysOnHttps()
    )
    try:
        with opener.open(request, timeout=timeout_s) as reply:
            return _capped(reply.read(MAX_BYTES + 1), source)
    except (urllib.error.URLError, HTTPException, OSError) as error:
        raise InvalidTable(f"{source}: {error}") from error


class _StaysOnHttps(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to another https address."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"redirected away from https, to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _capped(data: bytes, source: str) -> bytes:
    if len(data) > MAX_BYTES:
        raise InvalidTable(f"{source}: larger than {MAX_BYTES >> 20} MiB")
    return data


def leave_prices(data: bytes, today: date, data_dir: Path) -> None:
    """Put what prices were made of where the collector of this machine looks for it.

    Records name the version that they were priced by. Had the collector read the same source at another time
    it could have found other prices, or have put another day into the version's name.
    """
    import hashlib

    folder = data_dir / _LEFT
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.blake2b(data, digest_size=8).hexdigest()
    path = folder / f"{today.isoformat()}-{digest}.json"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_bytes(data)
        partial.replace(path)
    for old, _ in left_prices(data_dir)[:-MOST_LEFT]:
        old.unlink(missing_ok=True)


def left_prices(data_dir: Path) -> list[tuple[Path, date]]:
    """What was left there and of which day it is, oldest first."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = [
            (entry.stat().st_mtime_ns, Path(entry.path), date.fromisoformat(entry.name[:10]))
            for entry in os.scandir(data_dir / _LEFT)
            if entry.name.endswith(".json")
        ]
        return [(path, day) for _, path, day in sorted(found)]
    return []


def main(arguments: list[str] | None = None) -> int:
    """Read prices from SOURCE, check them, and write them to OUT in our own format."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        sys.stderr.write("usage: python -m collector.pricing.refresh SOURCE OUT\n")
        return 2
    source, out = given
    try:
        table = read_prices(fetch(source), source, datetime.now(UTC).date())
    except InvalidTable as error:
        sys.stderr.write(f"{error}\n")
        return 1
    partial = Path(out).with_name(Path(out).name + ".part")
    write_table(table, partial)
    partial.replace(out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""The price table on disk: what it holds, and how a row is found and read.

One JSON file, a model a line, decoded in a few milliseconds: rows stay raw bytes
until somebody asks for them. ``scripts/prices/build.py`` writes it.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from collector.pricing.names import model_of, starts_at
from collector.pricing.rates import Rates, price_of, read_rates, written

FORMAT = 1

FOREVER = 1 << 62
"""A moment in microseconds that no call reaches."""

Clause = dict[str, Any]
"""When a name means a row, in genai-prices' words: ``equals``, ``starts_with``, ``ends_with``,
``contains``, ``regex``, ``or``, ``and``; see :func:`matches`."""


class InvalidTable(ValueError):
    """A price file cannot be used; the message says why."""


class Source(msgspec.Struct, frozen=True):
    """Where figures came from."""

    name: str
    version: str
    date: str
    """When it was read, ISO 8601."""
    licence: str = ""
    url: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}".strip()


class Row(msgspec.Struct, kw_only=True):
    """One model's price, and what the source that was not chosen says."""

    model: str
    """As the source writes it."""
    rates: Rates
    """Until a change applies."""
    changes: list[tuple[str, Rates]] = []
    """(``2026-09-01`` or ``16:30-00:30`` in UTC, rates), the last one that applies holds."""
    sources: str = "l"
    """Letters of the sources, the chosen one first: ``g`` genai-prices, ``l`` litellm."""
    kind: str = ""
    """``e`` for embeddings, ``o`` for other things than chat."""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    filled: list[str] = []
    """What the chosen source does not say and the other does."""
    other: Rates | None = None
    """The other source's figures, where they differ from the chosen ones."""
    silent: list[str] = []
    """What the chosen source says and the other does not."""
    why: str = ""
    """Which rule chose; see :data:`collector.pricing.merge.REASONS`."""


class Provider(msgspec.Struct, omit_defaults=True, dict=True):
    """The price list of one provider."""

    home: list[str] = []
    """Providers whose models this one resells at the same price."""
    prior: tuple[str, str] | None = None
    """Provider and key of the model that stands in for an unknown one."""
    embedding_prior: tuple[str, str] | None = None
    rules: list[tuple[Clause, str]] = []
    """For names that are not listed one by one: the first rule that matches holds."""
    aliases: dict[str, str] = {}
    """Other lower-case names to keys of ``models``."""
    models: dict[str, msgspec.Raw] = {}
    """Rows by lower-case name, undecoded."""

    def find(self, name: str) -> str:
        """The key of the model with exactly this name; empty when there is none."""
        return name if name in self.models else self.aliases.get(name, "")

    def find_by_rule(self, name: str) -> str:
        """The key of the first model whose rule accepts this name; empty when there is none."""
        return next(self._accepting(name), (None, ""))[1]

    def find_release(self, name: str) -> str:
        """The key of the first model of which a rule says that this name is a release; empty when none does.

        Many rules hold for all that begins or goes on in a certain way, and so for names that nobody
        has given to anything yet: ``claude-opus-5.5-ultra`` begins as ``claude-opus-5.5`` does.
        """
        return next((key for clause, key in self._accepting(name) if is_release(clause, name)), "")

    def _accepting(self, name: str) -> Iterator[tuple[Clause, str]]:
        for needles, clause, key in self._needles:
            if any(needle in name for needle in needles) and matches(clause, name):
                yield clause, key

    @cached_property
    def _needles(self) -> list[tuple[tuple[str, ...], Clause, str]]:
        """The rules with strings of which a name must contain one: 20 times faster than all the rules."""
        return [(_needed(clause), clause, key) for clause, key in self.rules]

    def row(self, key: str) -> Row:
        """The row under ``key``, decoded now."""
        return read_row(key, self.models[key])


class Table(msgspec.Struct):
    """The whole file."""

    format: int
    made: str
    """Day, ISO 8601."""
    sources: dict[str, Source]
    """By letter."""
    prior: tuple[str, str]
    """Provider and key of the model that stands in where not even the provider is known."""
    providers: dict[str, Provider]
    version: str = ""
    """Day and content hash: names this set of prices in every record made with it."""


# Attributes of Row whose short names appear in the file, in this order.
_ROW_KEYS = {
    "sources": "s",
    "kind": "k",
    "context_tokens": "c",
    "max_output_tokens": "m",
    "filled": "f",
    "silent": "y",
    "why": "w",
}
_ROW_DEFAULTS = Row(model="", rates=Rates())
_ENCODE = msgspec.json.Encoder(decimal_format="number").encode
_NUMBERS_AS_WRITTEN = msgspec.json.Decoder(float_hook=Decimal)
_TABLE = msgspec.json.Decoder(Table)


def write_row(key: str, row: Row) -> msgspec.Raw:
    """``row`` as the file has it under ``key``."""
    out: dict[str, Any] = {} if row.model.lower() == key else {"n": row.model}
    out["p"] = written(row.rates)
    if row.changes:
        out["d"] = [[when, written(rates)] for when, rates in row.changes]
    for name, short in _ROW_KEYS.items():
        if (value := getattr(row, name)) != getattr(_ROW_DEFAULTS, name):
            out[short] = value
    if row.other is not None:
        out["x"] = written(row.other)
    return msgspec.Raw(_ENCODE(out))


def read_row(key: str, data: msgspec.Raw) -> Row:
    """The inverse of :func:`write_row`.

    Raises:
        InvalidTable: it is no such row.
    """
    try:
        found = _NUMBERS_AS_WRITTEN.decode(data)
        row = Row(model=found.get("n", key), rates=read_rates(found["p"]))
        row.changes = [(when, read_rates(rates)) for when, rates in found.get("d", ())]
        for name, short in _ROW_KEYS.items():
            if short in found:
                setattr(row, name, found[short])
        row.other = read_rates(found["x"]) if "x" in found else None
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:
        raise InvalidTable(f"price table: {key}: {error}") from error
    return row


def read_table(data: bytes) -> Table:
    """The table in ``data``; rows are not looked into.

    Raises:
        InvalidTable: it is not a price table of ours, or one of another format.
    """
    try:
        table = _TABLE.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidTable(f"not a price table: {error}") from error
    if table.format != FORMAT:
        raise InvalidTable(f"price table of format {table.format}; this program reads format {FORMAT}")
    table.version = f"{table.made}-{hashlib.blake2b(data, digest_size=4).hexdigest()}"
    return table


def check_table(table: Table) -> None:
    """Look into every row and every reference of a table that comes from elsewhere.

    Raises:
        InvalidTable: something in it cannot be used; says where.
    """
    try:
        date.fromisoformat(table.made)
    except ValueError as error:
        raise InvalidTable(f"price table: made: {error}") from error
    for provider_name, provider in table.providers.items():
        for key in (*provider.aliases.values(), *(key for _, key in provider.rules)):
            if key not in provider.models:
                raise InvalidTable(f"price table: {provider_name} has no model {key!r}")
        for key in provider.models:
            try:
                _check_row(key, provider.row(key))
            except ValueError as error:
                raise InvalidTable(f"price table: {provider_name}/{key}: {error}") from error
        for clause, _ in provider.rules:
            _check_clause(clause)
    for prior in (
        table.prior,
        *(p.prior for p in table.providers.values()),
        *(p.embedding_prior for p in table.providers.values()),
    ):
        if prior is not None and prior[1] not in table.providers.get(prior[0], Provider()).models:
            raise InvalidTable(f"price table: the stand-in {'/'.join(prior)} is not there")


def _check_clause(clause: Clause) -> None:
    for kind, value in clause.items():
        if kind in ("or", "and") and isinstance(value, list):
            for part in value:
                _check_clause(part)
        elif kind not in ("equals", "starts_with", "ends_with", "contains", "regex") or not isinstance(
            value, str
        ):
            raise InvalidTable(f"unknown match {clause}")
        elif kind == "regex":
            _regex(value)


def _check_row(key: str, row: Row) -> None:
    for rates in (row.rates, *(rates for _, rates in row.changes)):
        if not rates.is_price:
            raise InvalidTable("no price")
        price_of(rates, model=key)
    in_force(row, 0)


def write_table(table: Table, path: Path) -> None:
    """Write ``table`` so that a change of one price is a change of one line."""
    head = {"format": table.format, "made": table.made, "sources": table.sources, "prior": table.prior}
    lines = [_text(head)[:-1] + ',"providers":{']
    for name, provider in table.providers.items():
        first = _text(msgspec.structs.replace(provider, models={}, rules=[]))[1:-1]
        lines.append(f"{_text(name)}:{{{first}{',' if first else ''}" + '"rules":[')
        lines.append(",\n".join(_text(rule) for rule in provider.rules) + '],"models":{')
        rows = (f"{_text(key)}:{bytes(row).decode()}" for key, row in provider.models.items())
        lines.append(",\n".join(rows) + "}},")
    lines[-1] = lines[-1].removesuffix(",")
    path.write_text("\n".join([*lines, "}}"]) + "\n", encoding="utf-8")


def _text(value: Any) -> str:
    return _ENCODE(value).decode()


def matches(clause: Clause, name: str) -> bool:
    """Whether ``clause`` accepts the lower-case ``name``."""
    for kind, value in clause.items():
        if kind == "equals":
            return bool(name == value.lower())
        if kind == "starts_with":
            return name.startswith(value.lower())
        if kind == "ends_with":
            return name.endswith(value.lower())
        if kind == "contains":
            return value.lower() in name
        if kind == "regex":
            return _regex(value).search(name) is not None
        if kind == "or":
            return any(matches(part, name) for part in value)
        if kind == "and":
            return all(matches(part, name) for part in value)
    raise InvalidTable(f"unknown match {clause}")


def is_release(clause: Clause, name: str) -> bool:
    """Whether what ``clause`` accepts in the lower-case ``name`` is the model's name, and the rest a release.

    What may stand before it are a path, a region, a publisher; behind it a date, a version, a stage, a route.
    """
    for kind, value in clause.items():
        if kind == "equals":
            return bool(name == value.lower())
        if kind in ("or", "and"):
            return any(is_release(part, name) for part in value if matches(part, name))
        if kind == "regex":
            found = _regex(value).search(name)
            start, end = found.span() if found is not None else (0, 0)
            if value.endswith(r"-\d"):
                end -= 2  # It is where a release begins; a digit alone is another model's.
        else:
            start = name.rfind(value.lower()) if kind == "ends_with" else name.find(value.lower())
            end = start + len(value)
        return end >= len(model_of(name)) and starts_at(name, start)
    return False


def _needed(clause: Clause) -> tuple[str, ...]:
    """Strings of which a name that ``clause`` accepts contains at least one; ``""`` when nothing is known."""
    needed: list[str] = []
    for kind, value in clause.items():
        if kind == "or":
            needed += [needle for part in value for needle in _needed(part)]
        else:
            needed.append("" if kind in ("regex", "and") else value.lower())
    return tuple(needed)


@lru_cache(maxsize=512)
def _regex(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InvalidTable(f"{pattern!r} is not a regular expression: {error}") from error


# Moments beyond these are a broken clock; a calendar cannot hold them all.
_EARLIEST, _LATEST = 0, 200 * 365 * 86_400 * 1_000_000


class Dated(Protocol):
    """Something with a price that changes."""

    rates: Rates
    changes: list[tuple[str, Rates]]


def in_force(row: Dated, at_us: int) -> tuple[Rates, int, int]:
    """The rates of ``row`` at a moment, and since when and until when they hold (microseconds, half open)."""
    if not row.changes:
        return row.rates, -FOREVER, FOREVER
    at_us = min(max(at_us, _EARLIEST), _LATEST)
    at = datetime.fromtimestamp(at_us / 1e6, UTC)
    rates, edges = row.rates, {-FOREVER, FOREVER}
    for condition, changed in row.changes:
        if len(condition) == len("2026-09-01"):
            start = datetime.combine(date.fromisoformat(condition), time(), UTC)
            edges.add(_us(start))
            applies = at >= start
        else:
            opens, closes = (time.fromisoformat(part) for part in condition.split("-"))
            now = at.time()
            applies = opens <= now < closes if opens <= closes else now >= opens or now < closes
            for day in (-1, 0, 1):
                for edge in (opens, closes):
                    edges.add(_us(datetime.combine(at.date() + timedelta(days=day), edge, UTC)))
        if applies:
            rates = changed
    return rates, max(edge for edge in edges if edge <= at_us), min(edge for edge in edges if edge > at_us)


def _us(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000

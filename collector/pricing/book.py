"""The price book: a provider, a model's name and a moment in, a :class:`Quote` out.

How a name becomes a price, first that answers:

1. the configuration's own price for the name;
2. the provider's list, by name, by rule, then by the model's family (its name without a date);
3. the provider or maker that the name itself points at;
4. the dearest host that lists a model of this name, as a stand-in;
5. the stand-in of the provider: the dearest of its current ordinary models;
6. the stand-in for all.

A rule lists a name where that is its model's with a date, a version or a stage. What else a rule accepts
(``claude-opus-5.5-ultra`` begins like a model of that name) is nobody's model yet: it costs what 4 to 6
say, and no less than the model that the rule takes it for.

Where the call's region is known, a price of the model's own there is looked for first, and else what
the provider charges for the region comes on top (:mod:`collector.pricing.regions`). A configured price
is meant for wherever its model is, and stays as it is.

A quote never fails and is never free for want of knowledge: 4 to 6 are graded ``prior``.
A book never changes. New prices make a new book with a new version, and whoever holds the
old one finishes with it.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from collector.domain.price import PERMILLE, TokenPrice, in_region
from collector.domain.record import PriceGrade
from collector.patterns import expression
from collector.pricing.configured import PriceWarning, configured_prices, suspicions
from collector.pricing.names import (
    SELF_HOSTED,
    Names,
    candidates,
    maker_of,
    normal,
    prefix_provider,
    provider_id,
)
from collector.pricing.rates import APART, APART_OF_SPECIAL, Rates, price_of
from collector.pricing.regions import NOTHING_MORE, Surcharge, names_in, region_of_model, surcharge
from collector.pricing.table import FOREVER, Row, Table, in_force, read_table

if TYPE_CHECKING:
    from collector.pricing.explain import Explanation

TABLE_PATH = Path(__file__).with_name("table.json")

MAX_HELD = 4096
"""Quotes kept at hand; more names than that are somebody's experiment."""

PASSES_ON = frozenset(
    {
        "openrouter",
        "litellm",
        "portkey",
        "helicone",
        "vercel_ai_gateway",
        "cloudflare",
        "github-copilot",
        "azure",
        "vertex",
    }
)
"""Providers that sell other makers' models at the makers' prices."""

_MOST_HOSTS = 24
_PRO = expression(r"([a-z]+)(?:-|(?=\d))[\w.-]*?-pro(?![a-z])")


@dataclass(frozen=True, slots=True)
class Quote:
    """What a model costs at one moment, and how well that is known."""

    price: TokenPrice
    grade: PriceGrade
    version: str
    """Names the whole set of prices; stored with every cost that was made from it."""
    source: str
    """Who says so: ``genai-prices 0.2.3``, ``configured``, ..."""
    model: str
    """The row's own name for the model."""
    max_output_tokens: int | None
    context_tokens: int | None
    reason: str
    """How the name led here, in words."""
    measured: TokenPrice | None = None
    """What a token costs at present on servers of our own; ``price`` is then there for comparison."""
    region: str = ""
    """Where the call is processed, as far as that is known; its surcharge is in ``price``."""
    elsewhere: TokenPrice | None = None
    """The price without the region's surcharge; None where there is none."""
    surcharge: Surcharge = NOTHING_MORE
    """What the region does to the price, and why."""
    unstated: frozenset[str] = frozenset()
    """Rates for sound, images and searches that nobody states: the text's stand in, or none."""

    @property
    def owed(self) -> TokenPrice:
        """What calls are admitted and charged at."""
        return self.measured or self.price


class PriceRow(NamedTuple):
    """One price of the book, for the ledger's ``prices`` table. Rates in pico-USD per token."""

    price_version: str
    provider_name: str
    model: str
    effective_from: str
    """ISO day, or ``HH:MM-HH:MM`` (UTC) for an hour of the day; empty: from the beginning."""
    price_grade: str
    source: str
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    reasoning: int
    per_request: int
    """Pico-USD."""
    terms: str
    """Everything that was stated, tiers and services too, as JSON in the table's short form."""


class Found(NamedTuple):
    """Where a name led."""

    table: Table
    provider: str
    key: str
    grade: PriceGrade
    reason: str

    @property
    def row(self) -> Row:
        """The row itself."""
        return self.table.providers[self.provider].row(self.key)


class PriceBook:
    """An immutable set of prices.

    Args:
        tables: looked up in this order; the last is the one that stands for everything.
        configured: prices that win, by name.
    """

    def __init__(self, tables: tuple[Table, ...], configured: Mapping[str, TokenPrice] | None = None) -> None:
        self.tables = tables
        self.configured = normalised(configured or {})
        self.version = _version(tables, self.configured)
        """Day of the newest table, and a hash of all that the prices depend on."""
        self._held: dict[tuple[str, str, str], tuple[Quote, int, int]] = {}

    @classmethod
    def load(
        cls,
        configured: Mapping[str, Mapping[str, Decimal | int | float | str]] | None = None,
        path: Path | None = None,
    ) -> "PriceBook":
        """The book in ``path``, by default the one that comes with Bursar, with configured prices on top.

        Raises:
            InvalidTable: the file is no price table.
            InvalidPrices: the configured prices cannot be used.
        """
        table = read_table((path or TABLE_PATH).read_bytes())
        return cls((table,), configured_prices(configured or {}))

    def quote(self, provider: str, model: str, at_us: int, region: str = "") -> Quote:
        """What ``model`` of ``provider`` costs at ``at_us`` (microseconds since the epoch, UTC).

        Never fails: what nobody lists is priced by a stand-in and graded ``prior``.

        Args:
            provider: who serves it.
            model: as the provider, or whoever asks, calls it.
            at_us: when.
            region: where, as :func:`collector.pricing.regions.region_name` writes it; empty where that is
                not known, or open.
        """
        held = self._held.get((provider, model, region))
        if held is not None and held[1] <= at_us < held[2]:
            return held[0]
        return self._worked_out(provider, model, at_us, region)

    def _worked_out(self, provider: str, model: str, at_us: int, region: str) -> Quote:
        asked = provider_id(provider)
        # A name that speaks of a region means it, whoever says otherwise.
        place = region_of_model(asked, model) or region
        own = self.configured_price(provider, model)
        if own is not None:
            quote, since, until = self._configured_quote(provider, model, own, at_us), -FOREVER, FOREVER
            quote = replace(quote, region=place)
        else:
            there = self.find_in(asked, model, place)
            found = there or self.find(provider, model)
            quote, since, until = self._listed_quote(found, at_us)
            quote = replace(quote, region=place)
            if there is None and not region_of_model(asked, found.key):
                quote = _with_surcharge(quote, asked, place)
        if len(self._held) >= MAX_HELD:
            del self._held[next(iter(self._held))]
        self._held[provider, model, region] = (quote, since, until)
        return quote

    def _listed_quote(self, found: Found, at_us: int) -> tuple[Quote, int, int]:
        row = found.row
        rates, since, until = in_force(row, at_us)
        stated = rates.stated()
        quote = Quote(
            price=price_of(rates, model=found.key),
            grade=found.grade,
            version=self.version,
            source=source_of(found.table, row),
            model=row.model,
            max_output_tokens=row.max_output_tokens,
            context_tokens=row.context_tokens,
            reason=found.reason,
            unstated=_unstated(stated, row.kind),
        )
        return quote, since, until

    def _configured_quote(self, provider: str, model: str, price: TokenPrice, at_us: int) -> Quote:
        found = self.find(provider, model)
        row = found.row if found.grade is PriceGrade.LISTED else None
        return Quote(
            price=price,
            grade=PriceGrade.CONFIGURED,
            version=self.version,
            source="configured",
            model=row.model if row else model,
            max_output_tokens=row.max_output_tokens if row else None,
            context_tokens=row.context_tokens if row else None,
            reason="the configuration says so",
        )

    # -- finding

    def configured_price(self, provider: str, model: str) -> TokenPrice | None:
        """The configuration's price for ``model``: under ``provider/model``, else under the name alone."""
        if not self.configured:
            return None
        for name in candidates(model).literal:
            for written in (f"{provider.lower()}/{name}", f"{provider_id(provider)}/{name}", name):
                if written in self.configured:
                    return self.configured[written]
        return None

    def find(self, provider: str, model: str) -> Found:
        """Where ``model`` of ``provider`` is listed, or what stands in for it."""
        asked = provider_id(provider)
        names = candidates(model)
        if (found := self._listed_at(self._places(asked), names)) is not None:
            return found
        knows_its_list = any(asked in table.providers for table in self.tables)
        passes_on = asked in PASSES_ON or not (knows_its_list or asked in SELF_HOSTED)
        bare = normal(model).rpartition("/")[2]
        for other in dict.fromkeys((prefix_provider(model), maker_of(bare))):
            if (
                other
                and other != asked
                and (found := self._listed_at(self._places(other), names)) is not None
            ):
                if passes_on:
                    return found
                reason = f"{asked} does not list it; {found.provider}'s price stands in"
                return found._replace(grade=PriceGrade.PRIOR, reason=reason)
        stand_in = self._dearest_host(asked, names) or self._stand_in(asked, bare)
        alike = self._dearest_alike(dict.fromkeys((*self._places(asked), maker_of(bare))), names)
        return max((stand_in, alike), key=_level_of) if alike is not None else stand_in

    def find_in(self, asked: str, model: str, region: str) -> Found | None:
        """Where ``model`` has a price of its own in ``region``, at the provider whose id is ``asked``."""
        if not region or region_of_model(asked, model):
            return None
        names = candidates(model)
        for name in (*names.literal, *names.family):
            for table in self.tables:
                provider = table.providers.get(asked)
                for written in names_in(region, name) if provider is not None else ():
                    if provider is not None and (key := provider.find(written)):
                        reason = f"listed by {asked} for {region}"
                        return Found(table, asked, key, PriceGrade.LISTED, reason)
        return None

    def _places(self, provider: str) -> list[str]:
        places = [provider]
        for table in self.tables:
            if provider in table.providers:
                places += table.providers[provider].home
        return list(dict.fromkeys(places))

    def _listed_at(self, places: list[str], names: Names) -> Found | None:
        """The first place that lists one of ``names``: the very model anywhere before its family.

        A spelling that leaves a region out is tried after all those that name it: it is another price.
        """
        listed = PriceGrade.LISTED
        for place in places:
            for _, spellings in groupby(names.literal, partial(region_of_model, place)):
                if found := self._spelled_at(place, tuple(spellings)):
                    return found
        for place in places:
            for name in names.family:
                for table in self.tables:
                    provider = table.providers.get(place)
                    if provider is not None and (key := provider.find(name)):
                        return Found(
                            table, place, key, listed, f"listed by {place} as {key}: a release of it"
                        )
        return None

    def _spelled_at(self, place: str, spellings: tuple[str, ...]) -> Found | None:
        """A name that ``place`` lists, however it is written, before what a rule takes a spelling for."""
        for by_rule in (False, True):
            for name in spellings:
                for table in self.tables:
                    provider = table.providers.get(place)
                    if provider is None:
                        continue
                    if key := provider.find_release(name) if by_rule else provider.find(name):
                        return Found(table, place, key, PriceGrade.LISTED, f"listed by {place}")
        return None

    def _dearest_alike(self, places: Iterable[str], names: Names) -> Found | None:
        """The dearest model for which a rule takes one of ``names``, though that is no release of it."""
        found = [
            Found(table, place, key, PriceGrade.PRIOR, f"nobody lists it; it is named like {place}'s {key}")
            for table in self.tables
            for place in places
            if (provider := table.providers.get(place)) is not None
            for name in names.literal
            if (key := provider.find_by_rule(name))
        ]
        return max(found, key=_level_of, default=None)

    def _dearest_host(self, asked: str, names: Names) -> Found | None:
        """The dearest host of a model with the same last part of its name."""
        hosts: list[Found] = []
        for name in (*names.literal, *names.family):
            for table, provider, key in self._by_last_part.get(name.rpartition("/")[2], ()):
                said = f"{asked} lists no such model" if asked else "no provider was named"
                reason = f"{said}; the dearest host of one, {provider}, stands in"
                hosts.append(Found(table, provider, key, PriceGrade.PRIOR, reason))
            if hosts:
                break
        priced = [(level(host.row.rates), host.provider, host) for host in hosts[:_MOST_HOSTS]]
        dearest = max(priced, key=lambda entry: entry[:2], default=None)
        return dearest[2] if dearest is not None and dearest[0] else None

    @cached_property
    def _by_last_part(self) -> dict[str, list[tuple[Table, str, str]]]:
        index: dict[str, list[tuple[Table, str, str]]] = {}
        for table in self.tables:
            for name, provider in table.providers.items():
                for key in provider.models:
                    index.setdefault(key.rpartition("/")[2], []).append((table, name, key))
        return index

    def _stand_in(self, asked: str, bare: str) -> Found:
        # Who passes on a maker's model asks what the maker asks, and may list none but small ones yet.
        makers = dict.fromkeys((asked, maker_of(bare)))
        own = makers if asked in PASSES_ON else (asked,)
        found = [one for maker in own if (one := self._prior_of(maker, bare)) is not None]
        if not found:
            reason = "nobody lists it; the dearest ordinary model stands in"
            found = [Found(self.tables[-1], *self.tables[-1].prior, PriceGrade.PRIOR, reason)]
        if pro := _PRO.match(bare):
            found += [sister for maker in makers if (sister := self._dearest_pro.get((maker, pro[1])))]
        return max(found, key=_level_of)

    @cached_property
    def _dearest_pro(self) -> dict[tuple[str, str], Found]:
        """By provider and how its name begins, the dearest model that is called ``-pro``.

        They are no measure of an ordinary model, and ordinary ones are none of theirs.
        """
        dearest: dict[tuple[str, str], Found] = {}
        for table in self.tables:
            for place, provider in table.providers.items():
                for key in provider.models:
                    if pro := _PRO.match(key.rpartition("/")[2]):
                        reason = f"nobody lists it; {place}'s dearest {pro[1]}...-pro stands in"
                        one = Found(table, place, key, PriceGrade.PRIOR, reason)
                        known = dearest.get((place, pro[1]))
                        if known is None or _level_of(one) > _level_of(known):
                            dearest[place, pro[1]] = one
        return dearest

    def _prior_of(self, maker: str, bare: str) -> Found | None:
        embeds = "embed" in bare
        for table in self.tables:
            provider = table.providers.get(maker)
            if provider is None:
                continue
            prior = (provider.embedding_prior if embeds else None) or provider.prior
            if prior is not None:
                kind = "embedding model" if embeds and prior == provider.embedding_prior else "model"
                reason = f"nobody lists it; {maker}'s dearest ordinary {kind} stands in"
                return Found(table, *prior, PriceGrade.PRIOR, reason)
        return None

    # -- the whole book

    @cached_property
    def warnings(self) -> tuple[PriceWarning, ...]:
        """Configured prices that are probably a slip of the finger."""
        listed = PriceBook(self.tables)
        found: list[PriceWarning] = []
        for name, price in self.configured.items():
            quote = listed.quote(prefix_provider(name), name, self.made_us)
            known = quote.price if quote.grade is PriceGrade.LISTED else None
            found += suspicions(name, price, known)
        return tuple(found)

    def rows(self) -> Iterator[PriceRow]:
        """Every price of the book, dated ones apart, for the ledger."""
        for name, price in self.configured.items():
            yield configured_row(self.version, name, price)
        seen: set[tuple[str, str]] = set()
        for table in self.tables:
            for provider_name, provider in table.providers.items():
                for key, data in provider.models.items():
                    if (provider_name, key) in seen:
                        continue
                    seen.add((provider_name, key))
                    row = provider.row(key)
                    source = source_of(table, row)
                    for since, rates in (("", row.rates), *row.changes):
                        yield _price_row(
                            self.version,
                            provider_name,
                            key,
                            since,
                            PriceGrade.LISTED,
                            source,
                            price_of(rates, model=key),
                            bytes(data).decode(),
                        )

    @property
    def made_us(self) -> int:
        """Noon (UTC) of the day on which the newest table was made, in microseconds since the epoch."""
        made = max(date.fromisoformat(table.made) for table in self.tables)
        return int(datetime.combine(made, time(12), UTC).timestamp()) * 1_000_000

    def explain(
        self, model: str, provider: str = "", at_us: int | None = None, region: str = ""
    ) -> "Explanation":
        """Both sources' figures for ``model`` (by default on the book's own day), the choice, and why."""
        from collector.pricing.explain import explanation

        return explanation(self, provider, model, self.made_us if at_us is None else at_us, region)


def _level_of(found: Found) -> int:
    return level(found.row.rates)


def _unstated(stated: Mapping[str, int], kind: str) -> frozenset[str]:
    missing = {name for name in (APART_OF_SPECIAL if kind == "o" else APART) if name not in stated}
    # A fee for the call pays for its searches.
    return frozenset(missing - {"per_search"} if "per_request" in stated else missing)


def _with_surcharge(quote: Quote, provider: str, region: str) -> Quote:
    """``quote`` with what the region costs on top; graded ``prior`` where that is a stand-in."""
    found = surcharge(provider, quote.price, region)
    if found == NOTHING_MORE:
        return quote
    quote = replace(quote, surcharge=found)
    if found.permille != PERMILLE:
        quote = replace(quote, price=in_region(quote.price, found.permille), elsewhere=quote.price)
    if not found.is_known:
        quote = replace(quote, grade=PriceGrade.PRIOR, reason=f"{quote.reason}; {found.why}")
    return quote


def normalised(configured: Mapping[str, TokenPrice]) -> dict[str, TokenPrice]:
    """The prices of a configuration by the names that the book looks them up by."""
    return {normal(name): price for name, price in configured.items()}


def source_of(table: Table, row: Row) -> str:
    """Who says what ``row`` says: the chosen source, and the other one where it filled gaps."""
    used = row.sources if row.filled else row.sources[:1]
    return (
        " + ".join(str(table.sources[letter]) for letter in used if letter in table.sources) or "naming rule"
    )


def level(rates: Rates) -> int:
    """How dear a price is, in pico-USD: three tokens read for each one written, as agents do."""
    return 3 * (rates.input or 0) + (rates.output or 0)


def _version(tables: tuple[Table, ...], configured: Mapping[str, TokenPrice]) -> str:
    return version_of([table.version for table in tables], configured)


def version_of(versions: Sequence[str], configured: Mapping[str, TokenPrice]) -> str:
    """Names a book made of tables of these versions, with the prices of a configuration on top."""
    if len(versions) == 1 and not configured:
        return versions[0]
    digest = hashlib.blake2b(digest_size=4)
    for version in versions:
        digest.update(version.encode())
    for name in sorted(configured):
        digest.update(f"{name}={configured[name]}".encode())
    newest_day = max(version.rpartition("-")[0] for version in versions)
    return f"{newest_day}-{digest.hexdigest()}"


def configured_row(version: str, name: str, price: TokenPrice) -> PriceRow:
    """A configuration's price as a row of the ledger."""
    return _price_row(version, "", name, "", PriceGrade.CONFIGURED, "configured", price, "{}")


def _price_row(
    version: str,
    provider: str,
    model: str,
    since: str,
    grade: PriceGrade,
    source: str,
    price: TokenPrice,
    terms: str,
) -> PriceRow:
    return PriceRow(
        version,
        provider,
        model,
        since,
        grade,
        source,
        price.input,
        price.output,
        price.cache_read,
        price.cache_write,
        price.cache_write_1h,
        price.reasoning,
        price.per_request,
        terms,
    )

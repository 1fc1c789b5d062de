"""The cross-check: two price lists into one table, every choice with its reason.

genai-prices and litellm's map mostly agree. Where they do not:

* Both list the model under the very same provider and name: genai-prices is taken. Its
  figures carry dates and hours, and are checked against real bills by its own tests.
* genai-prices has the basic rates from the model's home provider, or by a rule, and litellm, which
  lists the provider's own name, states the same ones with other terms (a fee for searches, a
  service tier, a cached rate): the provider's own terms are taken.
* genai-prices reaches the name only by a rule (``contains "nova-lite"``) or through the
  model's home provider, and litellm lists that provider's own name: the dearer of the two
  is taken. The rule may be blind to a region's surcharge or a host's own price.

What the chosen source does not state is filled in from the other (service tiers, one-hour
cache writes, long-prompt tiers): being silent is not disagreeing. Where the two differ in
the basic rates, they may be speaking of different releases: then only what makes a call
dearer is filled in, in proportion, and no discount. What the other source says is kept
beside the chosen price, so that the choice can be explained.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial

from collector.pricing.names import candidates, normal
from collector.pricing.rates import FEE_NAMES, INPUT_SIDE, Rates, map_stated, proportion, written
from collector.pricing.sources import GenaiProvider, Listing, loose_part, names_of
from collector.pricing.table import (
    FORMAT,
    Clause,
    InvalidTable,
    Provider,
    Row,
    Source,
    Table,
    in_force,
    is_release,
    matches,
    write_row,
)

REASONS = {
    "": "only one source lists this model",
    "agree": "both sources agree; what one does not say comes from the other",
    "named": "both list this provider's model by name and differ: genai-prices is taken, "
    "whose figures carry dates and hours",
    "dearer": "genai-prices knows the name only by a rule or from the model's home provider, and litellm "
    "lists it: the dearer is taken",
    "host": "the rate for tokens is the maker's; litellm states other terms for this host, which are taken",
    "free": "OpenRouter serves every model variant named :free free of charge",
    "prior": "a stand-in for models that nobody lists: the dearest of the provider's current models, "
    "outliers left out",
}
"""Why a row's figures were chosen."""

OUTLIER = 4
"""A model that costs so many times its provider's upper quartile is no measure of an unknown one."""

LEFT_OUT = re.compile(
    r"huggingface_|quicksilverpro$|kyma$|aihubmix$|inferenceapis$|opencode_go$|streamlake$|sail$|avian$|doubleword$"
    r"|qwen_ai_platform$|qwencloud$|llamagate$|coralbricks$|pinstripes$|refuseless$|darkbloom$|tensormesh$|libertai$"
    r"|clf_ai_gateway$|hostinger_router$|zerogpu$|openinfer$|openai-decisions$"
)
"""Small resellers. Their models are found at other hosts; their lists would be a fifth of the table."""

_SPECIAL = re.compile(
    r"audio|realtime|-live|tts|speech|transcri|whisper|voice|sonic|image|banana|vision|search|research|embed"
    r"|rerank|moderation|guard|ocr|computer-use|^ft:|cyber|-fast|\d{2}k"
    r"|^(?:openai[/.])?(?:gpt|o\d)[\w.-]*-pro"
)
"""Names of models that do not stand for what an ordinary unknown model may cost."""

FREE = ":free"
FREE_ROW = Row(model=FREE, rates=Rates(input=0, output=0), sources="", why="free")

_SEARCH_FEES = {"x-ai": 5_000_000_000}
"""Pico-USD for a search by a tool of the server's, where the lists state none: five USD for a thousand.
Source: litellm 1.109.1's cost calculation for xAI, which has the figure in its code; read on 2026-11-30."""

_OTHER_NAMES = {
    "anthropic": {"claude-2.1": "claude-2"},
    "google": {"gemini-1.5-flash-8b": "gemini-flash-1.5-8b"},
}
"""Names under which a provider served a model that the lists have, by names that no rule of theirs reaches.
Bedrock's list has Claude 2.1 at the price of Claude 2; Google's own name of the other is
gemini-1.5-flash-8b. Both are retired. Read in litellm 1.109.1 and genai-prices on 2026-11-22."""

_RETIRED = {"anthropic": {"claude-instant-1.2": ("aws", "anthropic.claude-instant-v1")}}
"""Retired models that only another provider's list still has, which served them at their maker's price."""

_GOVERNMENTS = "us-gov."
"""GovCloud costs a fifth more; genai-prices has some of its names among those of other regions."""

_CLOSE = 0.002
_HOURS = re.compile(r"\d\d:\d\d-")


@dataclass(slots=True)
class _Shelf:
    """What is known of one provider while the table is made."""

    provider: Provider
    search_fee: int = 0
    """Pico-USD for a search, where neither source states one for a model."""
    rows: dict[str, Row] = field(default_factory=dict)
    retired: set[str] = field(default_factory=set)

    def put(self, name: str, row: Row, *, retired: bool) -> str:
        """Keep ``row`` under its name; the key that it has."""
        key = normal(name)
        if self.search_fee and not row.kind:
            for rates in (row.rates, *(rates for _, rates in row.changes)):
                if rates.per_search is None and rates.costs_something:
                    rates.per_search = self.search_fee
        self.rows[key] = row
        self.provider.models[key] = write_row(key, row)
        if retired:
            self.retired.add(key)
        return key


def merged(
    genai: Iterable[GenaiProvider],
    litellm: Iterable[Listing],
    sources: Mapping[str, Source],
    today: date,
    *,
    global_prior_of: Iterable[str] = ("openai", "anthropic", "google"),
) -> Table:
    """One table from both lists.

    Args:
        genai: genai-prices' providers.
        litellm: litellm's models.
        sources: what to call them, under ``g`` and ``l``.
        today: the day for which dated prices are compared.
        global_prior_of: providers of whose stand-ins the dearest serves where not even
            the provider is known.
    """
    curated = {provider.id: provider for provider in genai if not LEFT_OUT.match(provider.id)}
    # Vertex AI is Google's other door: same list, and prices of its own in litellm's map.
    if "google" in curated:
        curated.setdefault("vertex", GenaiProvider(id="vertex", home=["google", "anthropic"], listings=[]))
    listed: dict[str, dict[str, Listing]] = {}
    # By name: which of the entries that one rule accepts fills its row is not to hang on the file's order.
    for listing in sorted(litellm, key=lambda entry: (entry.provider, normal(entry.name))):
        if LEFT_OUT.match(listing.provider):
            continue
        at_provider, key = listed.setdefault(listing.provider, {}), normal(listing.name)
        twin = at_provider.get(key)
        at_provider[key] = listing if twin is None else _both(twin, listing)
    shelves = {}
    for name in (*curated, *sorted(listed.keys() - curated.keys())):
        provider = curated.get(name) or GenaiProvider(id=name, home=[], listings=[])
        shelves[name] = _shelf(provider, listed, curated, today)
    if "openrouter" in shelves:
        free = shelves["openrouter"].put(FREE, FREE_ROW, retired=False)
        shelves["openrouter"].provider.rules.append(({"ends_with": FREE}, free))
    own = {name: _dearest_ordinary(shelf, "", today) for name, shelf in shelves.items()}
    own_embedding = {name: _dearest_ordinary(shelf, "e", today) for name, shelf in shelves.items()}
    for name, shelf in shelves.items():
        places = (name, *shelf.provider.home)
        shelf.provider.prior = _dearest_of(own, places)
        shelf.provider.embedding_prior = _dearest_of(own_embedding, places)
    anywhere = _dearest_of(own, global_prior_of) or _dearest_of(own, own)
    if anywhere is None:
        raise InvalidTable("no model with a price in any source")
    return Table(
        format=FORMAT,
        made=today.isoformat(),
        sources=dict(sources),
        prior=anywhere,
        providers={
            name: shelf.provider for name, shelf in shelves.items() if shelf.rows or shelf.provider.home
        },
    )


def _both(one: Listing, two: Listing) -> Listing:
    """Two entries of litellm's map for the same name at the same provider: what either states.

    It has some models under two doors (``gemini-3.5-flash`` and ``vertex_ai/gemini-3.5-flash``), of which
    one states a surcharge or a service tier that the other does not. Where they differ the dearer holds;
    which of them the file has first is no matter.
    """
    order = sorted((one, two), key=lambda entry: (_level(entry.rates), str(written(entry.rates))))
    cheaper, dearer = order
    alike = _close(one.rates, two.rates)
    rates = _filled_from(dearer.rates, other=cheaper.rates, tiers=True, discounts=alike)
    if alike:
        rates = _dearest_figures(rates, cheaper.rates)
    rates.regions = {
        name: max(entry.rates.regions.get(name, 0) for entry in order)
        for name in sorted({*cheaper.rates.regions, *dearer.rates.regions})
    }
    return replace(
        dearer,
        rates=rates,
        kind=min(one.kind, two.kind),
        context_tokens=dearer.context_tokens or cheaper.context_tokens,
        max_output_tokens=dearer.max_output_tokens or cheaper.max_output_tokens,
        retired=one.retired and two.retired,
    )


def _dearest_figures(rates: Rates, other: Rates) -> Rates:
    """``rates`` with each figure, tier and service that ``other`` has dearer."""
    theirs = other.stated()
    found = Rates.of({name: max(value, theirs.get(name, 0)) for name, value in rates.stated().items()})
    at_least = dict(other.tiers)
    found.tiers = [
        (above, _dearest_figures(tier, at_least[above]) if above in at_least else tier)
        for above, tier in rates.tiers
    ]
    found.services = {
        name: _dearest_figures(service, other.services[name]) if name in other.services else service
        for name, service in rates.services.items()
    }
    found.regions = rates.regions
    return found


def _shelf(
    provider: GenaiProvider,
    listings: Mapping[str, Mapping[str, Listing]],
    curated: Mapping[str, GenaiProvider],
    today: date,
) -> _Shelf:
    """One provider's rows: genai-prices' models first, then what only litellm lists or lists apart."""
    listed = listings.get(provider.id, {})
    out = Provider(home=provider.home)
    shelf = _Shelf(out, _SEARCH_FEES.get(provider.id, 0))
    spoken_for = {name: _matching(provider, name, curated) for name in listed}
    for listing in provider.listings:
        names = names_of(listing)
        twin = next((listed[name] for name in (normal(listing.name), *names) if name in listed), None)
        if twin is None:
            # Reached by a rule alone: one that says the same fills gaps; others get rows of their own below.
            twin = next(
                (
                    listed[name]
                    for name, found in spoken_for.items()
                    if found is listing and _close(dearest_hour(listing, today), listed[name].rates)
                ),
                None,
            )
        row = _joined(listing, twin, "named", today)
        key = shelf.put(listing.name, row, retired=listing.retired or bool(twin and twin.retired))
        for name in names:
            if name != key:
                out.aliases.setdefault(name, key)
        if listing.match is not None and (rule := loose_part(listing.match)) is not None:
            out.rules.append((_compact(rule), key))
    for name, entry in listed.items():
        found = spoken_for[name]
        if name in out.models:
            continue
        if name in out.aliases:
            means = shelf.rows[out.aliases[name]]
            elsewhere = dearest_hour(means, today)
            is_apart = name.startswith(_GOVERNMENTS) and _level(entry.rates) > _level(elsewhere)
            if is_apart or ("search" in name and _has_other_fees(entry.rates, elsewhere)):
                row = _of_its_own(entry, means, today)
                row.why = "dearer" if is_apart else "host"
                shelf.put(name, row, retired=entry.retired)
            continue
        if found is None:
            row = Row(model=entry.name, sources="l", rates=entry.rates, kind=entry.kind)
            row.context_tokens, row.max_output_tokens = entry.context_tokens, entry.max_output_tokens
        else:
            known = normal(found.name)
            family = candidates(name).family if found in provider.listings else ()
            row = _joined(found, entry, "named" if known in family else "dearer", today)
            if row.why == "agree":
                is_own = any(listing is found for listing in provider.listings)
                led_to = shelf.rows[known] if is_own else _at_home(found, provider, listings, curated, today)
                depends_on_hour = not is_own and any(_HOURS.match(when) for when, _ in led_to.changes)
                if depends_on_hour or not _is_in(entry.rates, dearest_hour(led_to, today)):
                    row = _of_its_own(entry, led_to, today)
                elif _names(found, name):
                    continue  # the rule, or the home provider, leads to the same figures
                elif is_own:
                    out.aliases[name] = known
                    continue
            elif row.sources[0] == "g":
                if found in provider.listings and not _names(found, name):
                    out.aliases[name] = known
                continue
            row.model = entry.name
        shelf.put(name, row, retired=entry.retired)
    for name, (place, key) in _RETIRED.get(provider.id, {}).items():
        if name not in shelf.rows and (still := listings.get(place, {}).get(key)) is not None:
            shelf.put(name, Row(model=name, rates=still.rates, sources="l"), retired=True)
    for name, key in _OTHER_NAMES.get(provider.id, {}).items():
        if key in shelf.rows:
            out.aliases.setdefault(name, key)
    # A model's own name stands for itself, whatever another's list of names says.
    out.aliases = {name: key for name, key in out.aliases.items() if name not in out.models}
    return shelf


def _names(listing: Listing, name: str) -> bool:
    """Whether the rule of ``listing`` says that ``name`` is the model, not only that it begins like it."""
    return listing.match is not None and is_release(listing.match, name)


def _at_home(
    found: Listing,
    provider: GenaiProvider,
    listed: Mapping[str, Mapping[str, Listing]],
    curated: Mapping[str, GenaiProvider],
    today: date,
) -> Row:
    """The row that a home provider has for its model ``found``."""
    home = next(
        name
        for name in provider.home
        if name in curated and any(listing is found for listing in curated[name].listings)
    )
    twins = listed.get(home, {})
    twin = next((twins[name] for name in (normal(found.name), *names_of(found)) if name in twins), None)
    return _joined(found, twin, "named", today)


def _is_in(stated: Rates, rates: Rates) -> bool:
    """Whether ``rates`` have each figure of ``stated``."""
    mine, theirs = stated.stated(), rates.stated()
    return (
        all(name in theirs and _near(value, theirs[name]) for name, value in mine.items())
        and (
            not stated.tiers
            or [_shape(tier) for tier in stated.tiers] == [_shape(tier) for tier in rates.tiers]
        )
        and all(
            name in rates.services and _is_in(service, rates.services[name])
            for name, service in stated.services.items()
        )
        and (not stated.regions or stated.regions == rates.regions)
    )


def _has_other_fees(stated: Rates, rates: Rates) -> bool:
    """Whether a name that one list takes for another model's has a fee of its own, at the same rates."""
    fees = {name: stated.stated().get(name) for name in FEE_NAMES}
    return _close(stated, rates) and any(
        fee is not None and not _near(fee, rates.stated().get(name, 0)) for name, fee in fees.items()
    )


def _of_its_own(entry: Listing, led_to: Row, today: date) -> Row:
    """What litellm states for this host of a model, with what it leaves out from where the name leads."""
    elsewhere = dearest_hour(led_to, today)
    row = Row(model=entry.name, sources="lg", why="host", kind=entry.kind, rates=entry.rates)
    row.context_tokens, row.max_output_tokens = entry.context_tokens, entry.max_output_tokens
    row.filled, row.silent, row.other = _compared(entry.rates, elsewhere)
    alike = _close(entry.rates, elsewhere)
    row.rates = _filled_from(entry.rates, other=elsewhere, tiers=True, discounts=alike)
    return row


def _matching(provider: GenaiProvider, name: str, curated: Mapping[str, GenaiProvider]) -> Listing | None:
    """The genai-prices model that ``name`` means at ``provider``, at its home providers else."""
    for place in (provider, *(curated[home] for home in provider.home if home in curated)):
        for listing in place.listings:
            if listing.match is not None and matches(listing.match, name):
                return listing
    return None


def _joined(curated: Listing, entry: Listing | None, if_they_differ: str, today: date) -> Row:
    """One row from a model of genai-prices and what litellm says of it."""
    row = Row(
        model=curated.name,
        sources="g",
        rates=curated.rates,
        changes=curated.changes,
        kind=curated.kind,
        context_tokens=curated.context_tokens,
    )
    if entry is None:
        return row
    now = dearest_hour(row, today)
    if _close(now, entry.rates):
        why, chosen, other = "agree", now, entry.rates
    elif if_they_differ == "dearer" and _level(entry.rates) > _level(now):
        why, chosen, other = "dearer", entry.rates, now
        row.rates, row.changes = entry.rates, []
    else:
        why, chosen, other = if_they_differ, now, entry.rates
    row.sources = "lg" if chosen is entry.rates else "gl"
    row.why = why
    row.kind = entry.kind or curated.kind
    row.context_tokens = entry.context_tokens or curated.context_tokens
    row.max_output_tokens = entry.max_output_tokens
    row.filled, row.silent, row.other = _compared(chosen, other)
    had_tiers = any(rates.tiers for rates in (row.rates, *(rates for _, rates in row.changes)))
    fill = partial(_filled_from, other=other, tiers=not had_tiers, discounts=why == "agree")
    before = row.rates
    row.rates = fill(row.rates)
    row.changes = [(when, fill(rates)) for when, rates in row.changes]
    got = {
        *row.rates.stated(),
        *row.rates.services,
        *(("tiers",) if row.rates.tiers and not before.tiers else ()),
    }
    row.filled = [name for name in row.filled if name in got]
    return row


def _compared(chosen: Rates, other: Rates) -> tuple[list[str], list[str], Rates | None]:
    """What only the other says, what only the chosen says, and the other's differing figures."""
    mine, theirs = chosen.stated(), other.stated()
    filled = [name for name in theirs if name not in mine]
    silent = [name for name in mine if name not in theirs]
    differing = Rates.of(
        {name: theirs[name] for name in theirs if name in mine and not _near(mine[name], theirs[name])}
    )
    if other.tiers and not chosen.tiers:
        filled.append("tiers")
    elif chosen.tiers and not other.tiers:
        silent.append("tiers")
    elif [_shape(tier) for tier in chosen.tiers] != [_shape(tier) for tier in other.tiers]:
        differing.tiers = other.tiers
    filled += [name for name in other.services if name not in chosen.services]
    silent += [name for name in chosen.services if name not in other.services]
    return filled, silent, differing if differing != Rates() else None


def _shape(tier: tuple[int, Rates]) -> tuple[int, int | None, int | None]:
    # 199,999 and 200,000 are the same edge, written by two people.
    return round(tier[0], -3), tier[1].input, tier[1].output


def _filled_from(rates: Rates, *, other: Rates, tiers: bool, discounts: bool) -> Rates:
    """``rates``, with what only ``other`` states, in proportion to the basic rates of both.

    Args:
        rates: the chosen figures.
        other: the other source's.
        tiers: whether tiers are to be filled in.
        discounts: whether figures below the basic rates are.
    """
    if not rates.costs_something and rates.is_price:
        return rates  # free of charge is a statement, too
    carry = proportion(other, rates)

    def welcome(filled: Rates) -> bool:
        return discounts or (filled.input or 0) > (rates.input or 0)

    figures = rates.stated()
    for name, value in other.stated().items():
        if name == "per_search" and "per_request" in figures:
            continue  # the call's fee already pays for its searches
        carried = carry(name, value)
        basic = rates.input if name in INPUT_SIDE else rates.output
        if discounts or name in FEE_NAMES or carried >= (basic or 0):
            figures.setdefault(name, carried)
    result = Rates.of(figures)
    result.tiers = rates.tiers
    if tiers and not rates.tiers:
        longer = [(above, map_stated(tier, carry)) for above, tier in other.tiers]
        result.tiers = [(above, tier) for above, tier in longer if welcome(tier)]
    result.services = dict(rates.services)
    for name, service in other.services.items():
        carried_service = map_stated(service, carry)
        carried_service.tiers = [(above, map_stated(tier, carry)) for above, tier in service.tiers]
        if name not in result.services and welcome(carried_service):
            result.services[name] = carried_service
    result.regions = rates.regions or other.regions
    return result


def dearest_hour(row: Row | Listing, today: date) -> Rates:
    """What holds on a day, at its dearest hour: the price that the two sources are compared by."""
    if not row.changes:
        return row.rates
    hours = [
        in_force(
            row, int(datetime(today.year, today.month, today.day, hour, 30, tzinfo=UTC).timestamp()) * 10**6
        )
        for hour in range(24)
    ]
    return max((rates for rates, _, _ in hours), key=_level)


def _close(one: Rates, two: Rates) -> bool:
    return _near(one.input or 0, two.input or 0) and (
        _near(one.output or 0, two.output or 0) or not (one.output and two.output)
    )


def _near(one: int, two: int) -> bool:
    return abs(one - two) <= _CLOSE * max(one, two)


def _level(rates: Rates) -> int:
    """How dear a price is: three tokens read for each written, as agents do."""
    fees = sum(rates.stated().get(name, 0) for name in FEE_NAMES[:1])
    return 3 * (rates.input or 0) + (rates.output or 0) + fees // 1_000_000


def _dearest_of(
    levels: Mapping[str, tuple[int, str] | None], places: Iterable[str]
) -> tuple[str, str] | None:
    found = [(level[0], place, level[1]) for place in places if (level := levels.get(place)) is not None]
    return max(found)[1:] if found else None


def _dearest_ordinary(shelf: _Shelf, kind: str, today: date) -> tuple[int, str] | None:
    """How dear, and under which key, the dearest current ordinary model is; outliers left out."""
    levels = sorted(
        (level, key)
        for key, row in shelf.rows.items()
        if row.kind == kind and key not in shelf.retired and (kind or not _SPECIAL.search(key))
        if (level := _level(dearest_hour(row, today)))
    )
    if not levels:
        return None
    upper_quartile = levels[3 * (len(levels) - 1) // 4][0]
    return [pair for pair in levels if pair[0] <= OUTLIER * upper_quartile][-1]


def _compact(clause: Clause) -> Clause:
    """The same rule without parts that others cover."""
    if "or" not in clause:
        return clause
    parts = [_compact(part) for part in clause["or"]]
    contained = [part["contains"].lower() for part in parts if "contains" in part]
    kept = [
        part
        for part in parts
        if not any(
            other in str(value).lower() and str(value).lower() != other
            for kind, value in part.items()
            if kind in ("contains", "starts_with", "ends_with", "equals")
            for other in contained
        )
    ]
    return kept[0] if len(kept) == 1 else {"or": kept}

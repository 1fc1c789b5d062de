"""Price files of others, read into one shape: litellm's price map and genai-prices' data.

Both are read as data. What a source does not say stays unsaid; only what can be
charged from a :class:`collector.domain.usage.Usage` is taken (prices by the second,
the picture or the page are left out).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, time
from decimal import Decimal
from typing import Any

import msgspec

from collector.domain.money import PICO_PER_USD, pico_per_token
from collector.domain.price import PERMILLE
from collector.pricing.names import normal, provider_id
from collector.pricing.rates import Rates, pico_from_float
from collector.pricing.regions import ANYWHERE
from collector.pricing.table import Clause, InvalidTable


@dataclass(slots=True, kw_only=True)
class Listing:
    """One model as one source lists it."""

    provider: str
    name: str
    """As the source writes it, less the provider in front."""
    rates: Rates
    changes: list[tuple[str, Rates]] = field(default_factory=list)
    """See :class:`collector.pricing.table.Row`."""
    match: Clause | None = None
    """Which names mean this model; none: its own."""
    kind: str = ""
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    retired: bool = False
    """The source says that the model is no longer served."""


# ---- litellm --------------------------------------------------------------------------------

_LITELLM_RATES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "cache_creation_input_token_cost_above_12hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "cache_read_input_audio_token_cost": "cache_read_audio",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
    "input_cost_per_request": "per_request",
    "input_cost_per_query": "per_request",
}
_LITELLM_SERVICES = {
    "batches": "batch",
    "flex": "flex",
    "priority": "priority",
    "ultrafast": "ultrafast",
    "balanced": "balanced",
}
_LITELLM_KEY = re.compile(
    f"(?P<rate>{'|'.join(sorted(_LITELLM_RATES, key=len, reverse=True))})"
    r"(?:_above_(?P<thousands>\d+)k_tokens)?"
    f"(?:_(?P<service>{'|'.join(_LITELLM_SERVICES)}))?"
)
_LITELLM_REGION = re.compile(r"regional_processing_uplift_multiplier_(\w+)")
_LITELLM_ANYWHERE = "regional_endpoint_uplift_multiplier"
"""Of models on Vertex: at every endpoint but the global one."""
_LITELLM_KINDS = {"chat": "", "responses": "", "completion": "", "embedding": "e"}
_NOT_MODELS = frozenset({"sample_spec", "fallback_generalizations"})
_DEAREST_PLAUSIBLE = pico_per_token("1000")
"""Five hundred is the dearest there is; a slip by a factor of a thousand is above."""
_FREE_OF_CHARGE = re.compile(r"[:-]free$|moderation|-flash$")
"""Names for which litellm's zero is a price. Elsewhere it stands for "not known"."""


def read_litellm(entries: Mapping[str, Any], today: date) -> list[Listing]:
    """The models of litellm's price map that are sold by the token or the call."""
    listings = []
    for key, entry in entries.items():
        if key in _NOT_MODELS or not isinstance(entry, dict) or not entry.get("litellm_provider"):
            continue
        provider = provider_id(str(entry["litellm_provider"]))
        rates = _litellm_rates(entry, provider)
        if not rates.is_price or (
            not rates.costs_something
            and not (_FREE_OF_CHARGE.search(key) and "input_cost_per_token" in entry and provider != "google")
        ):
            continue
        name = _without_provider(key, provider)
        kind = _LITELLM_KINDS.get(str(entry.get("mode")), "o")
        if kind == "" and _EMBEDDING.search(name):
            kind = "e"
        if kind == "" and not _is_for_chat(rates):
            continue
        listings.append(
            Listing(
                provider=provider,
                name=name,
                rates=rates,
                kind=kind,
                context_tokens=_count(entry.get("max_input_tokens")),
                max_output_tokens=_count(entry.get("max_output_tokens")),
                retired=str(entry.get("deprecation_date") or "9999") <= today.isoformat(),
            )
        )
    return listings


def _is_for_chat(rates: Rates) -> bool:
    """Whether this can be all that a model which writes costs.

    Azure's model router is listed with its fee alone, to which the answering model's price comes; a few
    prices are written for a thousand tokens. Taken at their word, one would have nothing to hold for what
    is written, and the other would shut every budget.
    """
    if rates.input and rates.output == 0 and not rates.per_request:
        return False
    return max(rates.input or 0, rates.output or 0) <= _DEAREST_PLAUSIBLE


def _without_provider(key: str, provider: str) -> str:
    head, slash, rest = key.partition("/")
    return rest if slash and provider_id(head) == provider else key


def _litellm_rates(entry: Mapping[str, Any], provider: str) -> Rates:
    """One entry's figures, its tiers and services in the places where ours are."""
    found: dict[tuple[str, int], dict[str, int]] = {}
    for key, value in entry.items():
        shape = _LITELLM_KEY.fullmatch(key)
        if shape is None or not _is_amount(value):
            continue
        place = (_LITELLM_SERVICES.get(shape["service"] or "", ""), int(shape["thousands"] or 0) * 1000)
        found.setdefault(place, {})[_LITELLM_RATES[shape["rate"]]] = pico_from_float(value)
    for step in entry.get("tiered_pricing") or ():
        if "range" not in step:
            continue  # steps by something else than tokens
        start = int(step["range"][0])
        tier = {
            _LITELLM_RATES[key]: pico_from_float(value)
            for key, value in step.items()
            if key in _LITELLM_RATES and _is_amount(value)
        }
        if tier:
            found.setdefault(("", start), {}).update(tier)
    search = entry.get("search_context_cost_per_query")
    base = found.setdefault(("", 0), {})
    if isinstance(search, dict) and _is_amount(search.get("search_context_size_medium")):
        fee = pico_from_float(search["search_context_size_medium"])
        # Perplexity charges it for the call, by how much was read, not for each search.
        base.setdefault("per_request" if provider == "perplexity" else "per_search", fee)
    for cached in ("cache_read", "cache_write"):
        # A zero beside a price for input says that there is no price of its own: the input rate holds.
        if base.get("input") and base.get(cached) == 0:
            del base[cached]
    return _assembled(found, _litellm_regions(entry))


def _litellm_regions(entry: Mapping[str, Any]) -> dict[str, int]:
    regions = {
        region[1]: round(value * PERMILLE)
        for key, value in entry.items()
        if (region := _LITELLM_REGION.fullmatch(key)) and _is_amount(value)
    }
    if _is_amount(entry.get(_LITELLM_ANYWHERE)):
        regions[ANYWHERE] = round(entry[_LITELLM_ANYWHERE] * PERMILLE)
    extra = entry.get("provider_specific_entry")
    if isinstance(extra, dict) and _is_amount(extra.get("us")):
        regions["us"] = round(extra["us"] * PERMILLE)
    return regions


def _assembled(found: Mapping[tuple[str, int], dict[str, int]], regions: dict[str, int]) -> Rates:
    """Rates from figures by (service tier, prompt threshold)."""

    def at(service: str) -> Rates:
        rates = Rates.of(found.get((service, 0), {}))
        rates.tiers = sorted(
            ((above, Rates.of(tier)) for (name, above), tier in found.items() if name == service and above),
            key=lambda pair: pair[0],
        )
        return rates

    rates = at("")
    rates.services = {name: at(name) for name in sorted({name for name, _ in found if name})}
    rates.regions = regions
    return rates


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6


def _count(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) and 0 < value < 1e9 else None


# ---- genai-prices ---------------------------------------------------------------------------

_GENAI_RATES = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "output_audio_mtok": "audio_output",
    "cache_audio_read_mtok": "cache_read_audio",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
}
_GENAI_FEES = {"requests_kcount": "per_request", "web_searches_kcount": "per_search"}
_GENAI_SERVICES = {("processing", "batch"): "batch", ("speed", "fast"): "fast"}
_EMBEDDING = re.compile(r"embed|^voyage-\d")


@dataclass(slots=True, kw_only=True)
class GenaiProvider:
    """One provider of genai-prices' data."""

    id: str
    home: list[str]
    listings: list[Listing]


def read_genai(providers: Iterable[Mapping[str, Any]], today: date) -> list[GenaiProvider]:
    """The providers of genai-prices' data.json, with models that are sold by the token or the call."""
    found = []
    for provider in providers:
        listings = [
            listing
            for model in provider["models"]
            if (listing := _genai_listing(str(provider["id"]), model, today)) is not None
        ]
        home = [str(name) for name in provider.get("fallback_model_providers") or ()]
        found.append(GenaiProvider(id=str(provider["id"]), home=home, listings=listings))
    return found


def _genai_listing(provider: str, model: Mapping[str, Any], today: date) -> Listing | None:
    steps = model["prices"] if isinstance(model["prices"], list) else [{"prices": model["prices"]}]
    variants = model.get("price_variants") or ()
    rows = [
        (
            _condition(step.get("constraint")),
            _genai_rates(step["prices"], step.get("constraint"), variants, today),
        )
        for step in steps
    ]
    if not all(rates.is_price for _, rates in rows):
        return None
    return Listing(
        provider=provider,
        name=str(model["id"]),
        rates=rows[0][1],
        changes=[row for row in rows[1:] if row[0]],
        match=model["match"],
        kind="e" if _EMBEDDING.search(str(model["id"])) else "",
        context_tokens=_count(model.get("context_window")),
        retired=bool(model.get("deprecated")),
    )


def _condition(constraint: Mapping[str, Any] | None) -> str:
    if not constraint:
        return ""
    if "start_date" in constraint:
        return date.fromisoformat(constraint["start_date"]).isoformat()
    opens, closes = (
        time.fromisoformat(str(constraint[edge]).replace("Z", "+00:00"))
        for edge in ("start_time", "end_time")
    )
    if opens.utcoffset() or closes.utcoffset():
        raise InvalidTable(f"hours must be in UTC: {constraint}")
    return f"{opens:%H:%M}-{closes:%H:%M}"


def _genai_rates(
    prices: Mapping[str, Any],
    constraint: Mapping[str, Any] | None,
    variants: Iterable[Mapping[str, Any]],
    today: date,
) -> Rates:
    """One set of rates with the service tiers that go with it.

    A service tier's own start date is the day on which it was written down, so that
    one in the past counts for every date.
    """
    found = _genai_figures(prices, "")
    since = (constraint or {}).get("start_date") or today.isoformat()
    for variant in variants:
        ((key, value), *more) = variant["when"].items()
        name = _GENAI_SERVICES.get((key, value), value if key == "service_tier" else "")
        start = (variant.get("constraint") or {}).get("start_date") or ""
        if not more and name not in ("", "default") and start <= max(since, today.isoformat()):
            for place, figures in _genai_figures(variant["prices"], name).items():
                kept = found.setdefault(place, {})
                for rate, figure in figures.items():
                    kept.setdefault(rate, figure)
    if any(figure < 0 for figures in found.values() for figure in figures.values()):
        raise InvalidTable(f"negative price in {dict(prices)}")
    return _assembled(found, {})


def _genai_figures(prices: Mapping[str, Any], service: str) -> dict[tuple[str, int], dict[str, int]]:
    found: dict[tuple[str, int], dict[str, int]] = {}
    for key, value in prices.items():
        if value is None:
            continue
        if fee := _GENAI_FEES.get(key):
            per_thousand = Decimal(str(value["base"] if isinstance(value, dict) else value))
            found.setdefault((service, 0), {})[fee] = int(per_thousand * PICO_PER_USD / 1000)
        elif rate := _GENAI_RATES.get(key):
            base, tiers = (value["base"], value["tiers"]) if isinstance(value, dict) else (value, ())
            found.setdefault((service, 0), {})[rate] = pico_per_token(str(base))
            for tier in tiers:
                place = (service, int(tier["start"]))
                found.setdefault(place, {})[rate] = pico_per_token(str(tier["price"]))
    return found


def names_of(listing: Listing) -> list[str]:
    """Names that mean this model one by one, lower case; its own among them."""
    names = [normal(listing.name)]
    if listing.match is not None:
        names = [normal(value) for value in _equal_values(listing.match)]
    return list(dict.fromkeys(names))


def _equal_values(clause: Clause) -> list[str]:
    if "equals" in clause:
        return [str(clause["equals"])]
    return [value for part in clause.get("or", ()) for value in _equal_values(part)]


def loose_part(clause: Clause) -> Clause | None:
    """What of ``clause`` is not a plain list of names; nothing: None."""
    if "equals" in clause:
        return None
    if "or" in clause:
        rest = [part for part in clause["or"] if "equals" not in part]
        return None if not rest else rest[0] if len(rest) == 1 else {"or": rest}
    return clause


def parse_json(data: bytes) -> Any:
    """A price file as JSON.

    Raises:
        InvalidTable: it is not JSON.
    """
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidTable(f"not JSON: {error}") from error

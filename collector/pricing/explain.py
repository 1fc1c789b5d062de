"""Why a model costs what it does: both sources' figures, the choice, and the rule behind it."""

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from collector.domain.money import usd
from collector.domain.price import RATE_NAMES, TokenPrice
from collector.domain.record import PriceGrade
from collector.pricing.configured import in_usd_per_mtok
from collector.pricing.merge import REASONS, dearest_hour
from collector.pricing.names import provider_id
from collector.pricing.rates import FEE_NAMES, Rates, price_of
from collector.pricing.regions import ANYWHERE, FACTS
from collector.pricing.table import Row, Source, in_force

if TYPE_CHECKING:
    from collector.pricing.book import PriceBook, Quote


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One rate as each source states it, in pico-USD; None where it is silent."""

    rate: str
    charged: int
    chosen: int | None
    other: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Everything that led from a name to a price."""

    asked: str
    provider: str
    """Whose list it was found in; empty for a configured price that nobody lists."""
    asked_provider: str
    """Who serves it, by the price table's id."""
    quote: "Quote"
    chosen: Source | None
    """Whose figures hold."""
    other: Source | None
    """Who was heard, too."""
    why: str
    """Which rule chose between them."""
    figures: tuple[Figure, ...]
    filled: tuple[str, ...]
    """What only the other source states, and was taken from it."""
    silent: tuple[str, ...]
    """What only the chosen source states."""
    changes: tuple[tuple[str, TokenPrice], ...]
    """Prices at other days or hours."""
    other_tiers: tuple[tuple[int, Rates], ...]
    """The other source's long-prompt tiers, where they differ."""


def explanation(book: "PriceBook", provider: str, model: str, at_us: int, region: str = "") -> Explanation:
    """What ``book`` knows of ``model`` in a region, at a moment (microseconds since the epoch)."""
    # Nobody names a provider for a well-known model: whose price it is decides what a region costs.
    whose = provider or (book.find(provider, model).provider if region else "")
    quote = book.quote(whose, model, at_us, region)
    found = book.find_in(provider_id(whose), model, region) or book.find(whose, model)
    row = found.row
    listed = found.grade is PriceGrade.LISTED
    sources = [found.table.sources[letter] for letter in row.sources if letter in found.table.sources]
    now, _, _ = in_force(row, at_us)
    configured = quote.grade is PriceGrade.CONFIGURED
    why = REASONS.get(row.why, row.why)
    if configured:
        why = (
            f"the configuration's price wins over the listed one ({why})"
            if listed
            else "the configuration says so"
        )
    elif not listed:
        why = quote.reason
    return Explanation(
        asked=model,
        provider=found.provider if listed or not configured else "",
        quote=quote,
        chosen=sources[0] if sources and (listed or not configured) else None,
        other=sources[1] if len(sources) > 1 and (listed or not configured) else None,
        why=why,
        figures=tuple(_figures(quote.price, row, now, date.fromisoformat(found.table.made))),
        asked_provider=provider_id(whose),
        filled=tuple(row.filled),
        silent=tuple(row.silent),
        changes=tuple(
            (when, price_of(rates, model=found.key)) for when, rates in (("", row.rates), *row.changes)
        )
        if row.changes
        else (),
        other_tiers=tuple(row.other.tiers) if row.other else (),
    )


def _figures(price: TokenPrice, row: Row, now: Rates, day: date) -> list[Figure]:
    stated = now.stated()
    compared = dearest_hour(row, day).stated()
    differing = row.other.stated() if row.other else {}
    figures = []
    for name in (*RATE_NAMES, *FEE_NAMES):
        chosen = None if name in row.filled else stated.get(name)
        other = differing.get(name)
        if other is None and len(row.sources) > 1 and name not in row.silent:
            other = compared.get(name)
        charged = getattr(price, name)
        if chosen is not None or other is not None or name in ("input", "output"):
            figures.append(Figure(rate=name, charged=charged, chosen=chosen, other=other))
    return figures


def format_explanation(found: Explanation) -> list[str]:
    """``found`` as lines for a terminal; rates in USD per million tokens, fees in USD each."""
    quote = found.quote
    lines = [
        f"model      {found.asked}",
        f"resolved   {quote.model} ({quote.reason})",
        f"grade      {quote.grade}   version {quote.version}   source {quote.source}",
        f"why        {found.why}",
        *_region_lines(found),
    ]
    if quote.context_tokens or quote.max_output_tokens:
        context, output = quote.context_tokens or "?", quote.max_output_tokens or "?"
        lines.append(f"limits     {context} tokens of context, {output} of output")
    heads = [str(source) if source else "" for source in (found.chosen, found.other)]
    lines += [
        "",
        f"{'USD per million tokens':<24}{'charged':>12}" + "".join(f"  {head:>20}" for head in heads if head),
    ]
    for figure in found.figures:
        cells = [_shown(figure.rate, figure.chosen), _shown(figure.rate, figure.other)]
        lines.append(
            f"{figure.rate:<24}{_shown(figure.rate, figure.charged):>12}"
            + "".join(f"  {cell:>20}" for cell, head in zip(cells, heads, strict=True) if head)
        )
    lines += _terms(quote.price)
    if found.other is not None:
        if found.filled:
            lines.append(f"only {found.other} states: {', '.join(found.filled)} (taken from it)")
        if found.silent:
            lines.append(f"only {found.chosen} states: {', '.join(found.silent)}")
        for above, tier in found.other_tiers:
            shown = ", ".join(f"{name} {_shown(name, value)}" for name, value in tier.stated().items())
            lines.append(f"{found.other} above {above} tokens: {shown}")
    for when, price in found.changes:
        lines.append(
            f"{_when(when):<24}{in_usd_per_mtok(price.input):>12} in {in_usd_per_mtok(price.output):>12} out"
        )
    return lines


def _region_lines(found: Explanation) -> list[str]:
    """Where it is asked for, what that does to the price, and who says so."""
    quote = found.quote
    if not quote.region:
        return []
    why = quote.surcharge.why or quote.reason
    lines = [f"region     {quote.region}: {why}"]
    fact = FACTS.get(found.asked_provider)
    if fact is not None and quote.grade is not PriceGrade.CONFIGURED:
        lines.append(f"           {fact.source}, read on {fact.read_on}")
    return lines


def _terms(price: TokenPrice) -> list[str]:
    lines = [_line(f"above {tier.above} tokens", tier.price) for tier in price.context_tiers]
    for name, service in price.service_tiers:
        lines.append(_line(f"{name} service", service))
        lines += [_line(f"  above {tier.above} tokens", tier.price) for tier in service.context_tiers]
    for region, permille in price.regional_permille:
        where = "outside of global" if region == ANYWHERE else f"in region {region}"
        lines.append(f"{where:<24}{f'x {permille / 1000:g}':>12}")
    return lines


def _line(label: str, price: TokenPrice) -> str:
    return (
        f"{label:<24}{in_usd_per_mtok(price.input):>12} in {in_usd_per_mtok(price.output):>9} out"
        f" {in_usd_per_mtok(price.cache_read):>9} read"
    )


def _shown(name: str, value: int | None) -> str:
    if value is None:
        return "-"
    return f"{usd(value).normalize():f}" if name in FEE_NAMES else in_usd_per_mtok(value)


def _when(condition: str) -> str:
    if not condition:
        return "otherwise"
    return f"from {condition}" if len(condition) == len("2026-09-01") else f"{condition} UTC"

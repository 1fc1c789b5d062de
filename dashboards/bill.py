"""The bill of one attempt: which rows of the price book were used, line by line, to the pico-dollar.

The ledger keeps every version of the price book, and each attempt names its version. The rows that may
have been meant are looked up there, most literal name first; what is shown is the one whose lines sum to
what the ledger says, and where none does, that is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from collector.domain.money import pico_from_usd, usd
from collector.domain.price import RATE_NAMES, CostPart, TokenPrice, cost_parts, in_region, list_cost
from collector.domain.usage import Usage
from collector.pricing.names import candidates, prefix_provider, provider_id
from collector.pricing.rates import price_of
from collector.pricing.regions import names_in, region_of_model, surcharge
from collector.pricing.table import InvalidTable, in_force, read_row
from dashboards import data

MOST_ROWS = 1000
_MOST_NAMES = 60
_CLASSES = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_write_input_tokens"),
    *("cache_write_1h_input_tokens", "reasoning_output_tokens"),
)
_PER_MILLION = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """How an amount came about."""

    attempt: int
    row: data.Row
    """Of the ledger's table of prices."""
    parts: tuple[CostPart, ...]
    listed: Decimal
    """At the list price of the standard service tier, as the ledger has it; USD."""
    more: tuple[CostPart, ...] = ()
    """What is owed beyond that: another service tier, searches."""
    owed: Decimal
    """Really, as the ledger has it; USD."""
    is_worked_out: bool = False
    """How many image tokens there were was worked out from the amount: the ledger does not keep it."""

    @property
    def tallies(self) -> bool:
        """Whether the parts sum to the ledger's list price, to the last digit."""
        return _sum(self.parts) == pico_from_usd(self.listed)

    @property
    def is_owed(self) -> bool:
        """Whether all lines sum to what the ledger says is really owed, to the last digit."""
        return _sum((*self.parts, *self.more)) == pico_from_usd(self.owed)

    def lines(self) -> list[dict[str, object]]:
        """The lines as people read them; rates in USD per million tokens, fees in USD each."""
        return [
            {
                "part": part.name.replace("_", " "),
                "quantity": part.quantity,
                "rate": f"{_rate(part).normalize():f}",
                "cost": f"{usd(part.cost):.12f}",
            }
            for part in (*self.parts, *self.more)
        ]


def _sum(parts: Sequence[CostPart]) -> int:
    return sum(part.cost for part in parts)


def _rate(part: CostPart) -> Decimal:
    return usd(part.list_unit_price) * (_PER_MILLION if part.name in RATE_NAMES else 1)


def rows_question(attempts: Sequence[data.Row]) -> data.Question | None:
    """What to ask for the price rows of ``attempts``; ``None`` when none of them was priced."""
    priced = [row for row in attempts if row.get("price_version")]
    if not priced:
        return None
    names = dict.fromkeys(name for row in priced for name in _names_of(row))
    versions = dict.fromkeys(str(row["price_version"]) for row in priced)
    params = (
        *(("price_version", version) for version in versions),
        *(("model", name) for name in list(names)[:_MOST_NAMES]),
        ("limit", str(MOST_ROWS)),
    )
    return data.Question("prices", params, family="|".join((*versions, *names)), lasting=True)


def bill_of(
    attempt: data.Row, rows: Sequence[data.Row], service_tier: str = "", audio: tuple[int, int] = (0, 0)
) -> Bill | None:
    """The bill of one attempt; ``None`` where no row that may have been meant is there.

    Args:
        attempt: of the ledger.
        rows: of its table of prices, of any version.
        service_tier: as the provider said it served the call.
        audio: tokens in and out that were audio, which the ledger keeps of calls.
    """
    counted = {name: int(attempt.get(name) or 0) for name in _CLASSES}
    heard = {"audio_input_tokens": audio[0], "audio_output_tokens": audio[1]}
    seen = {f"{name}_tokens": _charged(attempt, name) for name in ("image_input", "image_output")}
    try:
        usage = Usage(**counted, **heard, **seen)
    except ValueError:
        return None
    priced = [
        (row, price)
        for row in _in_order(attempt, rows)
        if (price := price_of_row(row, attempt.get("started_at"))) is not None
    ]
    bills = [_bill(attempt, row, price, usage, service_tier) for row, price in priced]
    found = next((bill for bill in bills if bill.tallies), None)
    if found is not None or not bills:
        return found
    for (row, price), bill in zip(priced, bills, strict=True):
        if pictured := _with_images(usage, price, pico_from_usd(bill.listed) - _sum(bill.parts)):
            found = _bill(attempt, row, price, pictured, service_tier)
            if found.tallies:
                return replace(found, is_worked_out=True)
    return bills[0]


def _charged(attempt: data.Row, part: str) -> int:
    """How much of a part that is no text the ledger says was charged."""
    try:
        charges = msgspec.json.decode(str(attempt.get("charges") or "{}"), type=dict[str, list[int]])
    except msgspec.MsgspecError:
        return 0
    return charges[part][0] if charges.get(part) else 0


def _bill(attempt: data.Row, row: data.Row, price: TokenPrice, usage: Usage, service_tier: str) -> Bill:
    parts = cost_parts(usage, price)
    region, provider = str(attempt.get("region") or ""), provider_id(str(attempt.get("provider_name") or ""))
    if region and row["price_grade"] != "configured" and not region_of_model(provider, str(row["model"])):
        there = in_region(price, surcharge(provider, price, region).permille)
        if more := list_cost(usage, there) - _sum(parts):
            parts = (*parts, CostPart(f"region {region}", 1, more, more))
        price = there
    listed, owed = (data.money(attempt.get(f"{name}_cost_usd")) for name in ("list", "effective"))
    return Bill(
        attempt=int(attempt.get("attempt") or 1),
        row=row,
        parts=parts,
        listed=listed,
        more=_beyond(parts, usage, price, service_tier, pico_from_usd(owed)),
        owed=owed,
    )


def _beyond(
    parts: Sequence[CostPart], usage: Usage, price: TokenPrice, service_tier: str, owed: int
) -> tuple[CostPart, ...]:
    """The lines between list price and what is owed; none where they do not lead there exactly."""
    lines: list[CostPart] = []
    at_tier = list_cost(usage, price, service_tier=service_tier)
    if moved := at_tier - _sum(parts):
        lines.append(CostPart(f"service tier {service_tier}", 1, moved, moved))
    fees = owed - at_tier
    if fees > 0 and price.per_search and fees % price.per_search == 0:
        lines.append(CostPart("per_search", fees // price.per_search, price.per_search, fees))
        fees = 0
    return tuple(lines) if not fees else ()


def _with_images(usage: Usage, price: TokenPrice, missing: int) -> Usage | None:
    """``usage`` with as many image tokens as make up for ``missing`` pico-USD, where one number does."""
    found = []
    for name, room, extra in (
        ("image_input_tokens", usage.uncached_input_tokens - usage.audio_input_tokens,
         price.image_input - price.input),
        ("image_output_tokens", usage.output_tokens - usage.audio_output_tokens,
         price.image_output - price.output),
    ):  # fmt: skip
        if extra and missing % extra == 0 and 0 < missing // extra <= room:
            found.append(replace(usage, **{name: missing // extra}))
    return found[0] if len(found) == 1 else None


def _in_order(attempt: data.Row, rows: Sequence[data.Row]) -> list[data.Row]:
    """The rows of the attempt's version: configured ones, its provider's, then others'; by name."""
    provider = provider_id(str(attempt.get("provider_name") or ""))
    names = {name: place for place, name in enumerate(_names_of(attempt))}

    def rank(row: data.Row) -> tuple[int, int]:
        whose = 0 if row["price_grade"] == "configured" else 1 if row["provider_name"] == provider else 2
        return whose, names.get(str(row["model"]), len(names))

    mine = [row for row in rows if row["price_version"] == attempt["price_version"] and row["model"] in names]
    return sorted(mine, key=rank)


def _names_of(attempt: data.Row) -> tuple[str, ...]:
    """What the price book may list the model of ``attempt`` under, in the region that it was processed in."""
    names, region = names_of(str(attempt["request_model"])), str(attempt.get("region") or "")
    return (*(there for name in names for there in names_in(region, name)), *names) if region else names


def names_of(model: str) -> tuple[str, ...]:
    """What the price book may list ``model`` under, most literal first."""
    found = candidates(model)
    prefix = prefix_provider(model)
    literal = [*found.literal, *(f"{prefix}/{name}" for name in found.literal if prefix)]
    return tuple(dict.fromkeys((*literal, *found.family)))


def price_of_row(row: data.Row, at: Any) -> TokenPrice | None:
    """The price that a row states: its terms with all tiers, else its plain rates."""
    terms = str(row.get("terms") or "{}")
    if terms != "{}":
        moment = at if isinstance(at, datetime) else datetime.now(UTC)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        try:
            rates, _, _ = in_force(
                read_row(str(row["model"]), msgspec.Raw(terms.encode())), int(moment.timestamp() * 1e6)
            )
            return price_of(rates, model=str(row["model"]))
        except (InvalidTable, ValueError, LookupError):
            return None
    named = ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning", "per_request")
    stated: Mapping[str, Any] = {
        name: pico_from_usd(row[f"{name}_usd"]) for name in named if row.get(f"{name}_usd") is not None
    }
    return TokenPrice(**stated)

"""The bill of one attempt: which rows of the price book were used, line by line, to the pico-dollar.

The ledger keeps every version of the price book, and each attempt names its version. The rows that may
have been meant are looked up there, most literal name first; what is shown is the one whose lines sum to
what the ledger says, and where none does, that is said.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from collector.domain.money import pico_from_usd, usd
from collector.domain.price import CostPart, TokenPrice, cost_parts
from collector.domain.usage import Usage
from collector.pricing.names import candidates, prefix_provider, provider_id
from collector.pricing.rates import FEE_NAMES, price_of
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
    owed: Decimal
    """At list price, as the ledger has it; USD."""

    @property
    def tallies(self) -> bool:
        """Whether the lines sum to the ledger's amount, to the last digit."""
        return sum(part.cost for part in self.parts) == pico_from_usd(self.owed)

    def lines(self) -> list[dict[str, object]]:
        """The lines as people read them; rates in USD per million tokens, fees in USD each."""
        return [
            {
                "part": part.name.replace("_", " "),
                "quantity": part.quantity,
                "rate": f"{_rate(part).normalize():f}",
                "cost": f"{usd(part.cost):.12f}",
            }
            for part in self.parts
        ]


def _rate(part: CostPart) -> Decimal:
    return usd(part.list_unit_price) * (1 if part.name in FEE_NAMES else _PER_MILLION)


def rows_question(attempts: Sequence[data.Row]) -> data.Question | None:
    """What to ask for the price rows of ``attempts``; ``None`` when none of them was priced."""
    priced = [row for row in attempts if row.get("price_version")]
    if not priced:
        return None
    names = dict.fromkeys(name for row in priced for name in names_of(str(row["request_model"])))
    versions = dict.fromkeys(str(row["price_version"]) for row in priced)
    params = (
        *(("price_version", version) for version in versions),
        *(("model", name) for name in list(names)[:_MOST_NAMES]),
        ("limit", str(MOST_ROWS)),
    )
    return data.Question("prices", params, family="|".join((*versions, *names)), lasting=True)


def bill_of(attempt: data.Row, rows: Sequence[data.Row], service_tier: str = "") -> Bill | None:
    """The bill of one attempt; ``None`` where no row that may have been meant is there.

    Args:
        attempt: of the ledger.
        rows: of its table of prices, of any version.
        service_tier: as the provider said it served the call.
    """
    try:
        usage = Usage(**{name: int(attempt.get(name) or 0) for name in _CLASSES})
    except ValueError:
        return None
    owed, best = data.money(attempt.get("list_cost_usd")), None
    for row in _in_order(attempt, rows):
        price = price_of_row(row, attempt.get("started_at"))
        if price is None:
            continue
        for tier in dict.fromkeys((service_tier, "")):
            found = Bill(
                attempt=int(attempt.get("attempt") or 1),
                row=row,
                parts=cost_parts(usage, price, service_tier=tier),
                owed=owed,
            )
            if found.tallies:
                return found
            best = best or found
    return best


def _in_order(attempt: data.Row, rows: Sequence[data.Row]) -> list[data.Row]:
    """The rows of the attempt's version: configured ones, its provider's, then others'; by name."""
    provider = provider_id(str(attempt.get("provider_name") or ""))
    names = {name: place for place, name in enumerate(names_of(str(attempt["request_model"])))}

    def rank(row: data.Row) -> tuple[int, int]:
        whose = 0 if row["price_grade"] == "configured" else 1 if row["provider_name"] == provider else 2
        return whose, names.get(str(row["model"]), len(names))

    mine = [row for row in rows if row["price_version"] == attempt["price_version"] and row["model"] in names]
    return sorted(mine, key=rank)


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

"""What calls of one model would have cost on another: the same tokens at the other's list price. Pure.

An estimate: another model writes other lengths, and its prompt cache is another. Long-prompt and
service tiers are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from collector.domain.money import usd
from collector.domain.price import TokenPrice, list_cost
from collector.domain.usage import Usage
from collector.pricing.names import maker_of, normal, prefix_provider
from dashboards import data
from dashboards.bill import names_of, price_of_row


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """One model's calls on another model."""

    model: str
    calls: int
    spent: Decimal
    """Really, USD."""
    instead: Decimal
    """On the other model, USD."""

    @property
    def saved(self) -> Decimal:
        """Below 0 it would have cost more."""
        return self.spent - self.instead


def prices_question(model: str) -> data.Question:
    """What to ask for the price of ``model``: every row that may be meant, newest version first."""
    names = names_of(model)[:60]
    params = (*(("model", name) for name in names), ("limit", "500"))
    return data.Question("prices", params, family="|".join(names), lasting=True)


def price_now(model: str, rows: Sequence[data.Row]) -> TokenPrice | None:
    """The price of ``model`` in the newest version that has it: configured, its maker's, then any."""
    maker = prefix_provider(model) or maker_of(normal(model).rpartition("/")[2])
    names = {name: place for place, name in enumerate(names_of(model))}
    newest = next((row["price_version"] for row in rows), None)
    known = [row for row in rows if row["price_version"] == newest and row["model"] in names]
    known.sort(
        key=lambda row: (
            0 if row["price_grade"] == "configured" else 1 if row["provider_name"] == maker else 2,
            names[str(row["model"])],
            str(row["provider_name"]),
        )
    )
    return next((price for row in known if (price := price_of_row(row, None)) is not None), None)


def alternatives(rows: Sequence[data.Row], target: str, price: TokenPrice) -> list[Alternative]:
    """Every other model's calls at the price of ``target``, the largest saving first."""
    found = [
        Alternative(
            model=str(row["request_model"] or ""),
            calls=int(row["calls"]),
            spent=data.money(row["effective_cost_usd"]),
            instead=instead(row, price),
        )
        for row in rows
        if row["request_model"] != target and row["effective_cost_usd"]
    ]
    return sorted(found, key=lambda one: (-one.saved, one.model))


def instead(row: data.Row, price: TokenPrice) -> Decimal:
    """What the tokens of many calls cost at ``price``, USD."""
    usage = Usage(
        input_tokens=int(row["input_tokens"] or 0),
        output_tokens=int(row["output_tokens"] or 0),
        cache_read_input_tokens=int(row["cache_read_input_tokens"] or 0),
        cache_write_input_tokens=int(row.get("cache_write_input_tokens") or 0),
        reasoning_output_tokens=int(row.get("reasoning_output_tokens") or 0),
    )
    flat = replace(price, context_tiers=())  # The tokens of many calls are not one long prompt.
    more_calls = max(0, int(row["calls"]) - 1)
    return usd(list_cost(usage, flat) + more_calls * price.per_request)

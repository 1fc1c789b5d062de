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


MOST_NAMES = 90


def prices_question(*models: str) -> data.Question:
    """What to ask for the prices of ``models``: every row that may be meant, newest version first."""
    names = list(dict.fromkeys(name for model in models for name in names_of(model)))[:MOST_NAMES]
    params = (*(("model", name) for name in names), ("limit", "1000"))
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
    more_calls = max(0, int(row["calls"]) - 1)
    return usd(list_cost(_usage(row), _flat(price)) + more_calls * price.per_request)


def saved_by_prompt_cache(row: data.Row, price: TokenPrice) -> Decimal:
    """How much less many calls cost, USD, than without a provider's prompt cache.

    Below 0 where what was written to it cost more than was read out of it.
    """
    usage, flat = _usage(row), _flat(price)
    without = replace(
        usage, cache_read_input_tokens=0, cache_write_input_tokens=0, cache_write_1h_input_tokens=0
    )
    return usd(list_cost(without, flat) - list_cost(usage, flat))


def _usage(row: data.Row) -> Usage:
    return Usage(
        input_tokens=int(row["input_tokens"] or 0),
        output_tokens=int(row["output_tokens"] or 0),
        cache_read_input_tokens=int(row["cache_read_input_tokens"] or 0),
        cache_write_input_tokens=int(row.get("cache_write_input_tokens") or 0),
        cache_write_1h_input_tokens=int(row.get("cache_write_1h_input_tokens") or 0),
        reasoning_output_tokens=int(row.get("reasoning_output_tokens") or 0),
    )


def _flat(price: TokenPrice) -> TokenPrice:
    return replace(price, context_tiers=())  # The tokens of many calls are not one long prompt.

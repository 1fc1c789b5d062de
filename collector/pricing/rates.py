"""Rates as the price table writes them, and the :class:`TokenPrice` that they make.

A :class:`Rates` says only what a source states; nothing is filled in. Turning it
into a price is where missing figures take their fallbacks.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from collector.domain.money import pico_from_usd, pico_per_token
from collector.domain.price import RATE_NAMES, ContextTier, TokenPrice

FEE_NAMES = ("per_request", "per_search")

_SHORT = {
    "input": "i",
    "output": "o",
    "cache_read": "r",
    "cache_write": "w",
    "cache_write_1h": "h",
    "reasoning": "z",
    "audio_input": "ai",
    "audio_output": "ao",
    "cache_read_audio": "ar",
    "image_input": "ii",
    "image_output": "io",
    "per_request": "q",
    "per_search": "b",
}
_LONG = {short: name for name, short in _SHORT.items()}

APART = ("audio_output", "image_output", "per_search")
"""What is not sold at the text's rates as a rule, nor for nothing."""
APART_OF_SPECIAL = (*APART, "audio_input", "image_input")
"""The same of models that are not for text; a chat model reads sound and images at the text's rate, where
its price list has no other."""

INPUT_SIDE = frozenset(
    {
        "input",
        "cache_read",
        "cache_write",
        "cache_write_1h",
        "audio_input",
        "cache_read_audio",
        "image_input",
    }
)
"""Rates that go with the price of input; the others go with that of output."""


class Rates(msgspec.Struct):
    """Integer pico-USD per token (fees: pico-USD each); absent where the source is silent."""

    input: int | None = None
    output: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    reasoning: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None
    cache_read_audio: int | None = None
    image_input: int | None = None
    image_output: int | None = None
    per_request: int | None = None
    per_search: int | None = None
    tiers: list[tuple[int, "Rates"]] = []
    """(above so many prompt tokens, rates), ascending. Rates not stated stay as they are."""
    services: dict[str, "Rates"] = {}
    """Service tier to rates. Rates not stated stay as they are."""
    regions: dict[str, int] = {}
    """Region to thousandths of these rates."""

    @classmethod
    def of(cls, figures: Mapping[str, int]) -> "Rates":
        """Rates that state exactly ``figures``, by name."""
        values: dict[str, Any] = dict(figures)
        return cls(**values)

    def stated(self) -> dict[str, int]:
        """Every rate and fee that is stated, by name."""
        return {
            name: value for name in (*RATE_NAMES, *FEE_NAMES) if (value := getattr(self, name)) is not None
        }

    @property
    def is_price(self) -> bool:
        """Whether a call can be priced by it: input, output or the call itself has a figure."""
        return any(figure is not None for figure in (self.input, self.output, self.per_request))

    @property
    def costs_something(self) -> bool:
        """Whether any stated figure is above zero."""
        return any(self.stated().values())


def written(rates: Rates) -> dict[str, Any]:
    """``rates`` as the table writes them: USD per million tokens (fees: USD), short names."""
    out: dict[str, Any] = {
        _SHORT[name]: Decimal(value).scaleb(-12 if name in FEE_NAMES else -6).normalize()
        for name, value in rates.stated().items()
    }
    if rates.tiers:
        out["t"] = [[above, written(tier)] for above, tier in rates.tiers]
    if rates.services:
        out["s"] = {name: written(service) for name, service in rates.services.items()}
    if rates.regions:
        out["g"] = rates.regions
    return out


def read_rates(data: Mapping[str, Any]) -> Rates:
    """The inverse of :func:`written`; numbers come as ``Decimal``.

    Raises:
        ValueError, KeyError, TypeError, ArithmeticError: it is nothing of the kind.
    """
    rates = Rates.of(
        {
            name: pico_per_token(data[short]) if name not in FEE_NAMES else pico_from_usd(data[short])
            for short, name in _LONG.items()
            if short in data
        }
    )
    if len(rates.stated()) + sum(key in data for key in "tsg") != len(data):
        raise ValueError(f"unknown rate among {sorted(data)}")
    if any(value < 0 for value in rates.stated().values()):
        raise ValueError(f"negative rate in {dict(data)}")
    rates.tiers = [(int(above), read_rates(tier)) for above, tier in data.get("t", ())]
    rates.services = {name: read_rates(service) for name, service in data.get("s", {}).items()}
    rates.regions = {name: int(permille) for name, permille in data.get("g", {}).items()}
    return rates


def price_of(rates: Rates, *, model: str) -> TokenPrice:
    """The price that ``rates`` make; ``model`` decides fallbacks that are one maker's custom."""
    base = rates.stated()
    services = tuple(
        (
            name,
            _tiered(_raised(base, service.stated()), service.tiers or _moved(rates, service), model),
        )
        for name, service in rates.services.items()
    )
    return _tiered(
        base, rates.tiers, model, services=services, regional_permille=tuple(rates.regions.items())
    )


def _tiered(
    stated: dict[str, int],
    tiers: list[tuple[int, Rates]],
    model: str,
    *,
    services: tuple[tuple[str, TokenPrice], ...] = (),
    regional_permille: tuple[tuple[str, int], ...] = (),
) -> TokenPrice:
    return TokenPrice(
        **_filled(stated, model),
        context_tiers=tuple(
            ContextTier(above, TokenPrice(**_filled(_raised(stated, tier.stated()), model)))
            for above, tier in tiers
        ),
        service_tiers=services,
        regional_permille=regional_permille,
    )


def _raised(base: dict[str, int], tier: dict[str, int]) -> dict[str, int]:
    """``base`` with what ``tier`` changes; a one-hour write that it leaves out follows the short one."""
    raised = {**base, **tier}
    if "output" in tier and "reasoning" not in tier and base.get("reasoning") == base.get("output"):
        # Reasoning that is charged as the output it is stays so in every tier.
        raised.pop("reasoning", None)
    if (
        "cache_write_1h" in base
        and "cache_write" in tier
        and "cache_write_1h" not in tier
        and base.get("cache_write")
    ):
        raised["cache_write_1h"] = -(-base["cache_write_1h"] * tier["cache_write"] // base["cache_write"])
    return raised


def _filled(stated: dict[str, int], model: str) -> dict[str, Any]:
    """``stated`` with input and output at least, and what the maker publishes as a rule.

    A source that gives only one of input and output (embeddings) has the other charged
    alike: there are no such tokens, or they are not free. Anthropic's rule for cache
    writes that last an hour is twice the input rate:
    https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing
    """
    filled: dict[str, Any] = dict(stated)
    filled.setdefault("input", filled.get("output", 0))
    filled.setdefault("output", filled["input"])
    if "claude" in model:
        filled.setdefault("cache_write_1h", 2 * filled["input"])
    return filled


def _moved(rates: Rates, service: Rates) -> list[tuple[int, Rates]]:
    """Long-prompt rates of a service tier that states none: the standard ones, in the tier's proportion."""
    if not service.tiers and rates.tiers:
        scale = proportion(rates, service)
        return [(above, map_stated(tier, scale)) for above, tier in rates.tiers]
    return []


def proportion(of: Rates, to: Rates) -> Callable[[str, int], int]:
    """A function that carries a rate of ``of`` over to the level of ``to``, rounding up to a pico-USD."""

    def carried(name: str, value: int) -> int:
        side = "input" if name in INPUT_SIDE else "output"
        before: int | None = getattr(of, side)
        after: int | None = getattr(to, side)
        if name in FEE_NAMES or not before or after is None:
            return value
        return -(-value * after // before)

    return carried


def map_stated(rates: Rates, change: Callable[[str, int], int]) -> Rates:
    """The same statement with every rate and fee changed, without tiers, services or regions."""
    return Rates.of({name: change(name, value) for name, value in rates.stated().items()})


def pico_from_float(usd: float) -> int:
    """An amount of USD, as a price file's binary float, as pico-USD: the decimal it was written as."""
    return pico_from_usd(repr(usd))

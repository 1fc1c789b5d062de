"""What the tokens of a call cost, at list price.

A :class:`TokenPrice` holds one rate for every token class of
:class:`collector.domain.usage.Usage`, in integer pico-USD per token (one USD per
million tokens is one million pico-USD per token), and the ways in which a
provider lets the rates move: with the size of the prompt, with the service tier,
with the region (:func:`in_region`). :func:`list_cost` charges each token once, at its
most specific rate, in integers from end to end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import lru_cache
from typing import Any, NamedTuple

from collector.domain.usage import Usage

NOT_LISTED = -1
"""A rate that the price list does not state; it is replaced by its fallback when the price is made."""

RATE_NAMES = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
    "cache_read_audio",
    "image_input",
    "image_output",
)
"""The fields of :class:`TokenPrice` that are pico-USD per token."""

PERMILLE = 1000

STANDARD_TIERS = frozenset({"default", "standard", "auto", "on_demand"})
"""What providers call the service that the rates themselves are for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPrice:
    """Rates of one model, in integer pico-USD per token unless said otherwise.

    A rate that is not given takes its fallback, so that every rate can be used:
    nothing is ever free for want of a figure.

    Raises:
        ValueError: a rate is negative, or the context tiers do not ascend.
    """

    input: int
    output: int
    cache_read: int = NOT_LISTED
    """Input read from the provider's cache; not listed: ``input``."""
    cache_write: int = NOT_LISTED
    """Input written to the cache for a short time (five minutes at Anthropic, thirty at OpenAI); not listed:
    ``input``."""
    cache_write_1h: int = NOT_LISTED
    """Input written to the cache for a long time: an hour at Anthropic, whose word it is, twelve at OpenAI;
    not listed: ``cache_write``. (The price book fills in Anthropic's published 2 x ``input`` for
    Claude models before it comes to this.)"""
    reasoning: int = NOT_LISTED
    """Hidden reasoning; not listed: the ``output`` that it is."""
    audio_input: int = NOT_LISTED
    """Not listed: ``input``."""
    audio_output: int = NOT_LISTED
    """Not listed: ``output``."""
    cache_read_audio: int = NOT_LISTED
    """Audio read from the cache; not listed: ``cache_read``."""
    image_input: int = NOT_LISTED
    """Not listed: ``input``."""
    image_output: int = NOT_LISTED
    """Not listed: ``output``."""
    per_request: int = 0
    """Pico-USD for each call."""
    per_search: int = 0
    """Pico-USD for each search that the provider ran on its side."""
    context_tiers: tuple["ContextTier", ...] = ()
    """Rates for long prompts, thresholds ascending."""
    service_tiers: tuple[tuple[str, "TokenPrice"], ...] = ()
    """Rates of ``batch``, ``flex``, ``priority`` and whatever else the provider sells."""
    regional_permille: tuple[tuple[str, int], ...] = ()
    """What a token costs in a region, in thousandths of the rates here: ``("eu", 1100)`` is 10 % more.
    The rates themselves are for the provider's usual endpoint; ``collector.pricing.regions`` reads this."""
    flat: bool = dataclass_field(init=False, repr=False, compare=False, default=False)
    """Audio and image tokens cost what text does: the cost needs no closer look at the classes."""

    def __post_init__(self) -> None:
        fill = object.__setattr__
        for name, fallback in _FALLBACKS:
            if getattr(self, name) == NOT_LISTED:
                fill(self, name, getattr(self, fallback))
        rates = [getattr(self, name) for name in RATE_NAMES]
        if min(*rates, self.per_request, self.per_search) < 0:
            raise ValueError(f"negative rate in {self}")
        thresholds = [tier.above for tier in self.context_tiers]
        if thresholds != sorted(set(thresholds)):
            raise ValueError(f"context tiers must ascend: {thresholds}")
        flat = (
            self.audio_output == self.image_output == self.output
            and self.audio_input == self.image_input == self.input
            and self.cache_read_audio == self.cache_read
        )
        fill(self, "flat", flat)


class ContextTier(NamedTuple):
    """Rates that hold for the whole call once its prompt is long enough."""

    above: int
    """Tokens. The tier applies when the whole prompt, cached parts included, is larger than this."""
    price: TokenPrice


class CostPart(NamedTuple):
    """One line of a bill."""

    name: str
    """A name of :data:`RATE_NAMES`, ``per_request`` or ``per_search``."""
    quantity: int
    """Tokens, calls or searches."""
    list_unit_price: int
    """Pico-USD for one."""
    cost: int
    """Pico-USD."""


# Order matters: a fallback may itself have come from a fallback.
_FALLBACKS = (
    ("cache_read", "input"),
    ("cache_write", "input"),
    ("cache_write_1h", "cache_write"),
    ("reasoning", "output"),
    ("audio_input", "input"),
    ("audio_output", "output"),
    ("cache_read_audio", "cache_read"),
    ("image_input", "input"),
    ("image_output", "output"),
)


def list_cost(usage: Usage, price: TokenPrice, *, service_tier: str = "") -> int:
    """Cost of one call in pico-USD, at list price, exact.

    Args:
        usage: what the call consumed.
        price: of the model that answered, at the time and in the region of the call.
        service_tier: the tier that the provider says it served with; one that the
            price does not know is charged at the standard rates.
    """
    tiers = price.context_tiers
    if (service_tier and service_tier not in STANDARD_TIERS) or (
        tiers and usage.input_tokens > tiers[0].above
    ):
        price = price_in_force(price, usage.input_tokens, service_tier=service_tier)
    if not price.flat and (
        usage.audio_input_tokens
        or usage.image_input_tokens
        or usage.audio_output_tokens
        or usage.image_output_tokens
        or usage.cache_read_audio_input_tokens
    ):
        return sum(part.cost for part in _parts(usage, price))
    read = usage.cache_read_input_tokens
    write = usage.cache_write_input_tokens
    cost = (
        (usage.input_tokens - read - write) * price.input
        + usage.output_tokens * price.output
        + read * price.cache_read
        + price.per_request
    )
    if write:
        for_an_hour = usage.cache_write_1h_input_tokens
        cost += (write - for_an_hour) * price.cache_write + for_an_hour * price.cache_write_1h
    if usage.reasoning_output_tokens:
        cost += usage.reasoning_output_tokens * (price.reasoning - price.output)
    if usage.web_searches:
        cost += usage.web_searches * price.per_search
    return cost


def search_cost(usage: Usage, price: TokenPrice) -> int:
    """The part of :func:`list_cost` that is not tokens or the call: fees for server-side searches."""
    return usage.web_searches * price.per_search


def cost_parts(usage: Usage, price: TokenPrice, *, service_tier: str = "") -> tuple[CostPart, ...]:
    """The bill behind :func:`list_cost`, line by line; the lines sum exactly to it."""
    return _parts(usage, price_in_force(price, usage.input_tokens, service_tier=service_tier))


def price_in_force(price: TokenPrice, prompt_tokens: int, *, service_tier: str = "") -> TokenPrice:
    """The rates that hold for one call: its service tier first, then its prompt size."""
    if service_tier and service_tier not in STANDARD_TIERS:
        for name, tier_price in price.service_tiers:
            if name == service_tier:
                price = tier_price
                break
    for tier in reversed(price.context_tiers):
        if prompt_tokens > tier.above:
            price = tier.price
            break
    return price


@lru_cache(maxsize=512)
def in_region(price: TokenPrice, permille: int) -> TokenPrice:
    """``price`` where a token costs ``permille`` / 1000 of it, in all tiers; rounded up to whole pico-USD.

    Fees for calls and searches stay as they are. The result knows no further regions.
    """

    def up(rate: int) -> int:
        return -(-rate * permille // PERMILLE)

    return replace(map_rates(price, up), regional_permille=())


def map_rates(price: TokenPrice, change: Callable[[int], int]) -> TokenPrice:
    """The same price with ``change`` applied to every token rate, in its tiers too."""
    rates: dict[str, Any] = {name: change(getattr(price, name)) for name in RATE_NAMES}
    return replace(
        price,
        **rates,
        context_tiers=tuple(
            ContextTier(tier.above, map_rates(tier.price, change)) for tier in price.context_tiers
        ),
        service_tiers=tuple((name, map_rates(tier, change)) for name, tier in price.service_tiers),
    )


def _parts(usage: Usage, price: TokenPrice) -> tuple[CostPart, ...]:
    """Lines with a quantity, from disjoint classes.

    Providers count audio and images across cached and uncached input alike; what is not
    known to be cached audio is taken to be uncached, as far as there is uncached input.
    """
    uncached = usage.uncached_input_tokens
    read = usage.cache_read_input_tokens
    read_audio = min(usage.cache_read_audio_input_tokens, read)
    audio = min(max(usage.audio_input_tokens - read_audio, 0), uncached)
    image = min(usage.image_input_tokens, uncached - audio)
    write_1h = usage.cache_write_1h_input_tokens
    output = usage.output_tokens
    reasoning = usage.reasoning_output_tokens
    audio_out = min(usage.audio_output_tokens, output - reasoning)
    image_out = min(usage.image_output_tokens, output - reasoning - audio_out)
    lines = (
        ("input", uncached - audio - image, price.input),
        ("audio_input", audio, price.audio_input),
        ("image_input", image, price.image_input),
        ("cache_read", read - read_audio, price.cache_read),
        ("cache_read_audio", read_audio, price.cache_read_audio),
        ("cache_write", usage.cache_write_input_tokens - write_1h, price.cache_write),
        ("cache_write_1h", write_1h, price.cache_write_1h),
        ("output", output - reasoning - audio_out - image_out, price.output),
        ("reasoning", reasoning, price.reasoning),
        ("audio_output", audio_out, price.audio_output),
        ("image_output", image_out, price.image_output),
        ("per_request", 1 if price.per_request else 0, price.per_request),
        ("per_search", usage.web_searches if price.per_search else 0, price.per_search),
    )
    return tuple(CostPart(name, count, rate, count * rate) for name, count, rate in lines if count)

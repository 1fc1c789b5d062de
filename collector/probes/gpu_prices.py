"""What a replica's token costs at present, and whether it would be cheaper to buy it. Pure.

Two prices answer two questions. *Busy* cost leaves idle time out: it is what one more call uses, and
what routing should compare. *Loaded* cost spreads idle time over what was done: it is what a call
really has to bring in, and what make-or-buy should compare with a provider's price.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from collector.domain.price import TokenPrice
from collector.probes.gpu_cost import CapacityPrice, Split, apportion, energy_money
from collector.probes.work_units import Coefficients

_PS_PER_HOUR = 3600 * 10**12
_MJ_PS = 10**12
"""A milliwatt for so many picoseconds is a millijoule."""


def fully_loaded(split: Split) -> Mapping[str, int]:
    """Each attempt's charge with its part of idle time, pico-USD, by money; key "" is the unobserved line.

    The values sum to the window's meter, exactly. A window in which nothing was charged is empty: its
    idle time is nobody's.
    """
    busy = {attempt: charge.money_pico for attempt, charge in split.charges.items()}
    busy[""] = split.unobserved.money_pico
    if not any(busy.values()):
        return {}
    idle = apportion(split.idle.money_pico, list(busy.values()))
    return {attempt: own + more for (attempt, own), more in zip(busy.items(), idle, strict=True)}


def present_price(splits: Sequence[Split], *, loaded: bool = False) -> TokenPrice | None:
    """What a token cost over these windows (of one replica or pool), rounded up to a pico-USD.

    Cached prompt tokens cost nothing. None where no work was done in them.
    """
    units = sum(one.units + one.unobserved_units for one in splits)
    money = sum(one.total.money_pico - (0 if loaded else one.idle.money_pico) for one in splits)
    if units <= 0:
        return None
    last = splits[-1].coefficients
    return TokenPrice(
        input=-(-money * last.prompt_ps // units),
        output=-(-money * last.output_ps // units),
        cache_read=0,
    )


def engine_price(
    price: CapacityPrice, coefficients: Coefficients, busy_power_mw: int = 0
) -> TokenPrice | None:
    """What a token costs by its calibrated engine time: before any window is split.

    Args:
        price: of the replica.
        coefficients: None comes back for a prior, which has no scale.
        busy_power_mw: what all GPUs of the replica draw while they work, milliwatts.
    """
    if coefficients.method == "prior":
        return None

    def cost(picoseconds: int) -> int:
        hire = price.hour_pico * picoseconds / _PS_PER_HOUR
        energy = energy_money(price, 10**6) * busy_power_mw * picoseconds / _MJ_PS / 10**6
        return ceil(hire + energy)

    return TokenPrice(input=cost(coefficients.prompt_ps), output=cost(coefficients.output_ps), cache_read=0)


def cache_saving(cached_tokens: int, price: TokenPrice) -> int:
    """What cached prompt tokens would have cost to compute, pico-USD."""
    return cached_tokens * price.input


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """A replica beside the provider that could have done the same."""

    own_pico: int
    """The meter of the time looked at, idle time included."""
    provider_pico: int
    """What the same tokens would have cost there."""
    busy_ratio: float
    """Share of the time in which the replica worked."""
    needed_busy_ratio: float | None
    """At which both would cost the same, with the same mixture of tokens; above 1: it never pays. None
    where nothing was done."""

    @property
    def saved_pico(self) -> int:
        """Below zero: the provider would have been cheaper."""
        return self.provider_pico - self.own_pico


def break_even(
    splits: Sequence[Split],
    provider: TokenPrice,
    *,
    prompt_tokens: int,
    cached_tokens: int,
    output_tokens: int,
) -> BreakEven:
    """Compare what windows cost with a provider's price for what was done in them.

    Args:
        splits: the windows.
        provider: what the alternative asks.
        prompt_tokens: computed in them; cached ones come beside.
        cached_tokens: charged at the provider's price for cache reads, as if it cached as well as we do.
        output_tokens: produced in them.
    """
    own = sum(one.total.money_pico for one in splits)
    theirs = (
        prompt_tokens * provider.input + cached_tokens * provider.cache_read + output_tokens * provider.output
    )
    whole = sum(one.window.length_us for one in splits)
    busy = sum(one.window.worked_us for one in splits) / whole if whole else 0.0
    return BreakEven(
        own_pico=own,
        provider_pico=theirs,
        busy_ratio=busy,
        needed_busy_ratio=busy * own / theirs if theirs else None,
    )

"""What a self-hosted call really cost: the meter of a replica, split to the last pico-USD. Pure.

The meter of a window of time is the hire (or the instalment) of the GPUs plus the energy they drew.
It is split in this order:

1. Time in which no request ran is *idle*: its share of the hire, and the energy of standing still.
2. The rest is divided by work (`work_units`): computed prompt tokens and output tokens of each call.
   Cached prompt tokens are no work. What the engine did beyond the calls we know (others talk to it
   directly, or calls that have not ended) is *unobserved*.

Charges + idle + unobserved are the meter, exactly, whatever the figures. A call whose record comes
after its window was split claims its share from the unobserved line (`claim`).

A window should be a second or longer: the energy counter steps ten times a second.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

from collector.domain.money import pico_from_usd
from collector.probes.work_units import Coefficients, Method

_HOUR_US = 3_600_000_000
_MJ_PER_KWH = 3_600_000_000
_YEAR_H = Decimal("8766")
"""365.25 days."""
_PUE_PARTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityPrice:
    """What a replica's GPUs cost whether they work or not, and what energy costs on top.

    Where the hourly price includes energy (every cloud's does), ``kwh_pico`` is 0: it would be paid twice.
    """

    hour_pico: int
    """One hour of the whole replica, all its GPUs, in pico-USD."""
    kwh_pico: int = 0
    pue_parts: int = _PUE_PARTS
    """Power usage effectiveness in ten-thousandths: what the building draws for each joule of a GPU."""
    gpus: int = 1

    def __post_init__(self) -> None:
        if self.hour_pico < 0 or self.kwh_pico < 0 or self.pue_parts < _PUE_PARTS or self.gpus < 1:
            raise ValueError("prices are not negative, PUE is at least 1, and a replica has a GPU")

    @classmethod
    def rented(
        cls, gpu_hour_usd: Decimal, *, gpus: int = 1, kwh_usd: Decimal = Decimal(0), pue: Decimal = Decimal(1)
    ) -> "CapacityPrice":
        """So much for an hour of one GPU."""
        return cls(
            hour_pico=pico_from_usd(gpu_hour_usd * gpus),
            kwh_pico=pico_from_usd(kwh_usd),
            pue_parts=_parts(pue),
            gpus=gpus,
        )

    @classmethod
    def owned(
        cls,
        purchase_usd: Decimal,
        life_years: Decimal,
        *,
        residual_usd: Decimal = Decimal(0),
        upkeep_hour_usd: Decimal = Decimal(0),
        gpus: int = 1,
        kwh_usd: Decimal = Decimal(0),
        pue: Decimal = Decimal(1),
    ) -> "CapacityPrice":
        """Bought: the value that one GPU, with its share of the machine, loses evenly over its life; and
        upkeep."""
        if life_years <= 0:
            raise ValueError("a life of no years divides nothing")
        hour = (purchase_usd - residual_usd) / (life_years * _YEAR_H) + upkeep_hour_usd
        return cls.rented(hour, gpus=gpus, kwh_usd=kwh_usd, pue=pue)


def _parts(pue: Decimal) -> int:
    return int((pue * _PUE_PARTS).to_integral_value(ROUND_HALF_EVEN))


class Meter(NamedTuple):
    """What a window cost, before it is split."""

    capacity_pico: int
    energy_pico: int

    @property
    def total_pico(self) -> int:
        """Both."""
        return self.capacity_pico + self.energy_pico


def capacity_between(price: CapacityPrice, start_us: int, end_us: int) -> int:
    """Hire from ``start_us`` to ``end_us``, pico-USD; neighbouring windows add up exactly."""
    return price.hour_pico * end_us // _HOUR_US - price.hour_pico * start_us // _HOUR_US


def energy_money(price: CapacityPrice, millijoules: int) -> int:
    """Price of energy drawn by the GPUs, the building's share included, pico-USD."""
    return price.kwh_pico * price.pue_parts * millijoules // (_MJ_PER_KWH * _PUE_PARTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one attempt had the engine do within a window."""

    attempt: str
    """Any name that tells attempts apart."""
    prompt_tokens: int = 0
    """Computed within the window."""
    output_tokens: int = 0
    cached_tokens: int = 0
    """Prompt tokens that a cache supplied: no work, but worth telling."""

    def __post_init__(self) -> None:
        if min(self.prompt_tokens, self.output_tokens, self.cached_tokens) < 0:
            raise ValueError(f"tokens of {self.attempt} below zero")
        if not self.attempt:
            raise ValueError("work is some attempt's")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One stretch of a replica's time, and what was measured in it."""

    start_us: int
    end_us: int
    busy_us: int
    """Time in which at least one request ran; see `timelines.busy_time`."""
    energy_mj: int = 0
    idle_power_mw: int | None = None
    """Power at rest, milliwatts; None: energy is taken as spread over the window evenly."""
    engine_prompt_tokens: int | None = None
    """Computed in the window by the engine's own count; None: only the known calls count."""
    engine_output_tokens: int | None = None

    def __post_init__(self) -> None:
        if not self.start_us < self.end_us:
            raise ValueError("a window ends after it starts")

    @property
    def length_us(self) -> int:
        """How long."""
        return self.end_us - self.start_us

    @property
    def worked_us(self) -> int:
        """Busy time, within bounds."""
        return min(max(self.busy_us, 0), self.length_us)


class Charge(NamedTuple):
    """A line of a split: an attempt's, or that of idle or unobserved work."""

    money_pico: int = 0
    gpu_us: int = 0
    """GPU time, all GPUs of the replica added up."""
    energy_mj: int = 0

    def __add__(self, other: object) -> "Charge":
        if not isinstance(other, Charge):
            return NotImplemented
        return Charge(*(mine + its for mine, its in zip(self, other, strict=True)))

    def __sub__(self, other: "Charge") -> "Charge":
        return Charge(*(mine - its for mine, its in zip(self, other, strict=True)))


NOTHING = Charge()


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A window's meter, divided. ``total`` is the sum of all lines, exactly."""

    window: Window
    total: Charge
    charges: Mapping[str, Charge]
    idle: Charge
    unobserved: Charge
    units: int
    """Work of all charges."""
    unobserved_units: int = 0
    """Work behind the unobserved line; `claim` takes from it."""
    coefficients: Coefficients
    ahead_units: int = 0
    """Work that the engine counted and that is neither charged nor called unobserved yet (below zero: the
    other way round). Hand it to the next window's split."""

    @property
    def method(self) -> Method:
        """How the coefficients came about."""
        return self.coefficients.method

    @property
    def residual(self) -> float | None:
        """How much of the engine's time they leave unexplained."""
        return self.coefficients.residual


def split(
    window: Window,
    price: CapacityPrice,
    works: Sequence[Work],
    coefficients: Coefficients,
    *,
    ahead_units: int = 0,
    slack: float = 0.25,
) -> Split:
    """Divide a window's meter over the calls in it.

    Args:
        window: what was measured.
        price: what the replica costs.
        works: what each attempt had done in the window; several of one attempt are added up.
        coefficients: work of a token.
        ahead_units: from the split of the window before.
        slack: share of the window's work by which engine and calls may differ for now. The engine counts a
            prompt when it is done, we spread it over its time: what is too much here is too little in the
            next window. Only what stays is unobserved.

    With work but no busy time, or busy time but no work, the money goes to idle or to unobserved.
    """
    capacity = capacity_between(price, window.start_us, window.end_us)
    energy_mj = max(0, window.energy_mj)
    energy_pico = energy_money(price, energy_mj)
    total = Charge(capacity + energy_pico, window.length_us * price.gpus, energy_mj)
    idle = _idle(window, price, capacity, energy_mj, energy_pico)
    busy = total - idle

    units: dict[str, int] = {}
    for work in works:
        own = coefficients.units(work.prompt_tokens, work.output_tokens)
        units[work.attempt] = units.get(work.attempt, 0) + own
    observed = sum(units.values())
    unobserved_units, ahead_units = _beyond(window, coefficients, observed, ahead_units, slack)
    weights = [*units.values(), unobserved_units]
    if not any(weights):
        # Something ran, and nobody knows what: it is not idle, and it is nobody's we know.
        weights[-1] = 1
    shares = [Charge(*parts) for parts in zip(*(apportion(amount, weights) for amount in busy), strict=True)]
    return Split(
        window=window,
        total=total,
        charges=dict(zip(units, shares[:-1], strict=True)),
        idle=idle,
        unobserved=shares[-1],
        units=observed,
        unobserved_units=unobserved_units,
        coefficients=coefficients,
        ahead_units=ahead_units,
    )


def _idle(window: Window, price: CapacityPrice, capacity: int, energy_mj: int, energy_pico: int) -> Charge:
    rest_us = window.length_us - window.worked_us
    if window.idle_power_mw is None:
        idle_mj = energy_mj * rest_us // window.length_us
    else:
        idle_mj = min(energy_mj, window.idle_power_mw * rest_us // 1_000_000)
    money = capacity * rest_us // window.length_us
    if energy_mj:
        money += energy_pico * idle_mj // energy_mj
    return Charge(money, rest_us * price.gpus, idle_mj)


def _beyond(
    window: Window, coefficients: Coefficients, observed: int, ahead: int, slack: float
) -> tuple[int, int]:
    """Work of others, and what is carried into the next window."""
    if window.engine_prompt_tokens is None or window.engine_output_tokens is None:
        return 0, ahead
    engine = coefficients.units(max(0, window.engine_prompt_tokens), max(0, window.engine_output_tokens))
    balance = ahead + engine - observed
    tolerated = int(max(engine, observed) * slack)
    beyond = max(0, balance - tolerated)
    # A debt is carried no further than that either: our own miscount must not hide a bypass for long.
    return beyond, max(balance - beyond, -tolerated)


def claim(settled: Split, work: Work) -> tuple[Charge, Split]:
    """Charge a call that became known after its window was split: from the unobserved line.

    Returns:
        What it is charged, and the split with that moved. It is nothing where nothing is left.
    """
    wanted = settled.coefficients.units(work.prompt_tokens, work.output_tokens)
    taken = min(wanted, settled.unobserved_units)
    if taken <= 0:
        return NOTHING, settled
    left = settled.unobserved_units - taken
    charge = Charge(*(apportion(amount, [taken, left])[0] for amount in settled.unobserved))
    charges = dict(settled.charges)
    charges[work.attempt] = charges.get(work.attempt, NOTHING) + charge
    unobserved = settled.unobserved - charge
    return charge, replace(
        settled, charges=charges, unobserved=unobserved, units=settled.units + taken, unobserved_units=left
    )


def apportion(amount: int, weights: Sequence[int]) -> list[int]:
    """``amount`` in parts that go as ``weights`` and sum to it exactly; each is less than 1 off.

    Raises:
        ValueError: no weight is above zero.
    """
    whole = sum(weights)
    if whole <= 0:
        raise ValueError("nothing to divide by")
    parts, given, seen = [], 0, 0
    for weight in weights:
        seen += weight
        upto = amount * seen // whole
        parts.append(upto - given)
        given = upto
    return parts

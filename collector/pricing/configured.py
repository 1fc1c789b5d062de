"""Prices from the configuration: they win over the book, so they are looked at hard.

USD per million tokens, fees in USD::

    prices:
      qwen3-8b: {input: 0.05, output: 0.20, cache_read: 0.01}
      azure/my-deployment: {input: 1.25, output: 10}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from collector.domain.money import PICO_PER_USD, TOKENS_PER_MTOK, pico_from_usd, pico_per_token
from collector.domain.price import RATE_NAMES, TokenPrice
from collector.pricing.rates import FEE_NAMES, Rates, price_of

SUSPICIOUS_RATIO = 20
"""A configured price so many times the listed one, or so small a part of it, is probably a slip."""

PICO_PER_MTOK_USD = PICO_PER_USD // TOKENS_PER_MTOK
DEAREST_PLAUSIBLE = 2_000 * PICO_PER_MTOK_USD
CHEAPEST_PLAUSIBLE = PICO_PER_MTOK_USD // 1_000
"""No model is sold outside these (pico-USD per token), however little we know of it."""
MOST_USD = 1_000_000
"""Per million tokens, or a fee: with more, a long call costs more than a row of the ledger holds."""


class InvalidPrices(ValueError):
    """Configured prices cannot be used; ``problems`` says all that is wrong."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceWarning:
    """A price that is usable and probably wrong."""

    model: str
    rate: str
    """Which rate, a field of :class:`collector.domain.price.TokenPrice`."""
    price: int
    """Pico-USD per token."""
    listed: int | None
    """What the price book says; None when it does not know the model."""

    def __str__(self) -> str:
        said = f"prices.{self.model}.{self.rate}: {in_usd_per_mtok(self.price)} USD per million tokens"
        if self.listed is None:
            return f"{said} is far from what any model costs; a slip of the unit?"
        ratio = Decimal(self.price) / Decimal(self.listed)
        times = f"{ratio:.0f} times" if ratio >= 1 else f"1/{1 / ratio:.0f} of"
        return f"{said} is {times} the listed {in_usd_per_mtok(self.listed)}; a slip of the unit?"


def configured_prices(
    prices: Mapping[str, Mapping[str, Decimal | int | float | str]],
) -> dict[str, TokenPrice]:
    """The configuration's ``prices``, by model as written.

    Raises:
        InvalidPrices: an amount or a name of a rate is not one; all of them are named.
    """
    problems: list[str] = []
    found = {}
    for model, amounts in prices.items():
        figures = {}
        for name, amount in amounts.items():
            try:
                figures[name] = _pico(name, amount)
            except ValueError as error:
                problems.append(f"prices.{model}.{name}: {error}")
        if "input" not in amounts and not problems:
            problems.append(f"prices.{model}: input is missing")
        if not problems:
            found[model] = price_of(Rates.of(figures), model=model.lower())
    if problems:
        raise InvalidPrices(problems)
    return found


def _pico(name: str, amount: Decimal | int | float | str) -> int:
    known = (*RATE_NAMES, *FEE_NAMES)
    if name not in known:
        import difflib  # only a mistake needs it

        close = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; choose from {', '.join(known)}"
        raise ValueError(f"unknown rate{hint}")
    try:
        value = Decimal(repr(amount) if isinstance(amount, float) else amount)
    except (InvalidOperation, TypeError, ValueError):
        raise ValueError(f"{amount!r} is not an amount in USD") from None
    if not value.is_finite() or value < 0:
        raise ValueError(f"{amount} is not an amount in USD")
    if value > MOST_USD:
        raise ValueError(f"{amount} is more than a million USD; rates are in USD per million tokens")
    pico = pico_from_usd(value) if name in FEE_NAMES else pico_per_token(value)
    if value and not pico:
        raise ValueError(f"{amount} is below a pico-USD; rates are in USD per million tokens")
    return pico


def suspicions(model: str, price: TokenPrice, listed: TokenPrice | None) -> list[PriceWarning]:
    """What in ``price`` is probably a slip, such as dollars per thousand tokens for dollars per million."""
    found = []
    for name in ("input", "output"):
        here = getattr(price, name)
        there = getattr(listed, name) if listed is not None else 0
        if not here:
            continue  # own hardware may well be booked at nothing
        if there:
            if here > SUSPICIOUS_RATIO * there or here * SUSPICIOUS_RATIO < there:
                found.append(PriceWarning(model=model, rate=name, price=here, listed=there))
        elif not CHEAPEST_PLAUSIBLE <= here <= DEAREST_PLAUSIBLE:
            found.append(PriceWarning(model=model, rate=name, price=here, listed=None))
    return found


def in_usd_per_mtok(rate: int) -> str:
    """Pico-USD per token as people write prices: USD per million tokens, exact."""
    return f"{Decimal(rate).scaleb(-6).normalize():f}"

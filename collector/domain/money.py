"""Money as integers: pico-USD in prices and records, nano-USD in budget counters.

One USD per million tokens is exactly one million pico-USD per token, so every
published price is a whole number here. ``Decimal`` appears only where people
read or write amounts; a float never does.
"""

from decimal import ROUND_HALF_EVEN, Decimal

PICO_PER_USD = 10**12
PICO_PER_NANO = 1000
TOKENS_PER_MTOK = 10**6
BEYOND_USD = 10**15
"""No amount is so large; with twelve places after the point it exceeds the 28 digits of a ``Decimal``."""

_PICO = Decimal(1).scaleb(-12)


def usd(pico: int) -> Decimal:
    """``pico`` pico-USD as an exact amount in USD."""
    return Decimal(pico).scaleb(-12)


def usd_text(pico: int) -> str:
    """``pico`` pico-USD as an exact decimal number of USD, all twelve places."""
    sign, amount = ("-", -pico) if pico < 0 else ("", pico)
    return f"{sign}{amount // PICO_PER_USD}.{amount % PICO_PER_USD:012d}"


def pico_from_usd(amount: Decimal | int | str) -> int:
    """An amount in USD as pico-USD, rounded half to even below one pico-USD.

    Raises:
        ValueError: the amount is not a finite number, or larger than any amount of money.
    """
    value = _finite(amount)
    return int(value.quantize(_PICO, rounding=ROUND_HALF_EVEN).scaleb(12))


def pico_per_token(usd_per_mtok: Decimal | int | str) -> int:
    """A price in USD per million tokens as pico-USD per token.

    Raises:
        ValueError: the price is not a finite number, or larger than any amount of money.
    """
    return pico_from_usd(_finite(usd_per_mtok) / TOKENS_PER_MTOK)


def _finite(amount: Decimal | int | str) -> Decimal:
    value = Decimal(amount)
    if not value.is_finite():
        raise ValueError(f"not an amount of money: {amount}")
    if not -BEYOND_USD < value < BEYOND_USD:
        raise ValueError(f"larger than any amount of money: {amount}")
    return value


def nano_rounded_up(pico: int) -> int:
    """``pico`` pico-USD in nano-USD, rounded up: a budget counter never falls short."""
    return -(-pico // PICO_PER_NANO)

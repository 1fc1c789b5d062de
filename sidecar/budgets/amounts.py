"""The words of budgets in ``bursar.yaml``: amounts, rates, windows, zones and dimensions, each checked."""

import re
from decimal import Decimal
from typing import NamedTuple

from collector.domain.credit import Unit
from collector.domain.policy.budget import LARGEST, LARGEST_USD
from collector.domain.policy.matching import DIMENSIONS, TAG
from collector.domain.policy.windows import Window, zone_of

_NANO_PER_USD = 10**9
_AMOUNT = re.compile(r"(\$)?\s*(\d[\d_]*(?:\.\d+)?)\s*(k|M|G)?\s*(usd|\$|tokens?|calls?)?", re.IGNORECASE)
_FACTORS = {"k": 10**3, "m": 10**6, "g": 10**9}
_UNITS = {"usd": Unit.USD, "$": Unit.USD, "token": Unit.TOKENS, "call": Unit.CALLS}
_PER_MINUTE = re.compile(r"(.+?)\s*(?:/|per)\s*(s|sec|second|min|minute|h|hour)")
_MINUTES = {"s": Decimal(60), "m": Decimal(1), "h": Decimal(1) / 60}


class Amount(NamedTuple):
    """So much of a unit: ``25 USD``, ``2M tokens``, ``1000 calls``."""

    amount: int
    """Nano-USD, tokens or calls."""
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> "Amount":
        """Read a number with its unit.

        Raises:
            ValueError: it is not one, or out of bounds.
        """
        match = _AMOUNT.fullmatch(text.strip())
        named = (match[1] or match[4] or "").lower() if match else ""
        if match is None or not named or (match[1] and match[4]):
            raise ValueError(f"{text!r} is not an amount; write 25 USD, 2M tokens or 1000 calls")
        unit = _UNITS[named.rstrip("s") if named != "usd" else named]
        number = Decimal(match[2].replace("_", "")) * _FACTORS.get((match[3] or "").lower(), 1)
        if unit is Unit.USD and number > LARGEST_USD:
            raise ValueError(f"{text!r} is more than {LARGEST_USD} USD, the most that can be counted exactly")
        counted = number * _NANO_PER_USD if unit is Unit.USD else number
        if counted != int(counted):
            smallest = "a nano-USD" if unit is Unit.USD else f"one of {unit.value}"
            raise ValueError(f"{text!r} is not a whole number of {smallest}")
        if counted > LARGEST:
            raise ValueError(f"{text!r} is more than can be counted exactly")
        return cls(int(counted), unit)


class Money(int):
    """An amount of money in nano-USD, written ``2.50 USD``."""

    @classmethod
    def parse(cls, text: str) -> "Money":
        """Read an amount in USD.

        Raises:
            ValueError: it is none.
        """
        amount, unit = Amount.parse(text)
        if unit is not Unit.USD:
            raise ValueError(f"{text!r} is not money; write 2.50 USD")
        return cls(amount)


class Rate(int):
    """Nano-USD a minute, written ``0.50 USD/min`` or ``10 USD/hour``."""

    @classmethod
    def parse(cls, text: str) -> "Rate":
        """Read an amount in USD over a time.

        Raises:
            ValueError: it is none, or nothing.
        """
        match = _PER_MINUTE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"{text!r} is not a rate; write 0.50 USD/min or 10 USD/hour")
        rate = cls(Money.parse(match[1]) * _MINUTES[match[2][0]])
        if rate <= 0:
            raise ValueError(f"{text!r} lets nothing through; write pause as a directive instead")
        return rate


class WindowText(str):
    """The name of a window, checked."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "WindowText":
        """Read ``day`` or ``rolling 6h``.

        Raises:
            ValueError: it is no window.
        """
        Window.parse(text)
        return cls(text)


class ZoneName(str):
    """The name of a time zone, checked."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "ZoneName":
        """Read an IANA name.

        Raises:
            ValueError: this machine knows none such.
        """
        zone_of(text)
        return cls(text)


class Dimension(str):
    """What a counter is kept for each of, checked."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> "Dimension":
        """Read ``agent`` or ``tag:NAME``.

        Raises:
            ValueError: it is no dimension.
        """
        if text and text not in DIMENSIONS and not (text.startswith(TAG) and len(text) > len(TAG)):
            raise ValueError(f"{text!r} is not one of {', '.join(DIMENSIONS)}, {TAG}NAME")
        return cls(text)

"""Kinds of arguments: what is wrong with one is said as whoever reads it says it.

argparse alone makes "invalid parse value" of a ValueError, whatever it says.
"""

import argparse
import math
from collections.abc import Callable
from typing import Final, TypeVar

from collector.settings import Address, Duration

T = TypeVar("T")

MOST_DAYS: Final = 36_500
"""Of a length of time: a century, so that every moment it leads to has a date."""


def told(parse: Callable[[str], T]) -> Callable[[str], T]:
    """``parse``, with its complaint passed on to whoever typed the argument."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read


def _duration(text: str) -> Duration:
    found = Duration.parse(text)
    if found <= 0:
        raise ValueError(f"{text!r} is no time at all; write 30s, 5m, 24h or 7d")
    if found > MOST_DAYS * 86_400:
        raise ValueError(f"{text!r} is too long; at most {MOST_DAYS}d")
    return found


def _positive(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not (math.isfinite(found) and found > 0):
        raise ValueError(f"{text!r} is not a number above zero")
    return found


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name.strip() and equals):
        raise ValueError(f"{text!r}: write NAME=VALUE")
    return name, value


duration: Final = told(_duration)
"""A length of time above zero, such as ``30s`` or ``7d``."""
positive: Final = told(_positive)
"""A number above zero."""
pair: Final = told(_pair)
"""``NAME=VALUE``."""
address: Final = told(Address.parse)
"""``host:port``."""

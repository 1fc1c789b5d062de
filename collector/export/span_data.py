"""The shape of a span before it is put into any form, and how text from outside gets into one."""

from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Final, NamedTuple

from collector.domain.money import PICO_PER_USD
from collector.logs import redact

SERVER: Final = 2
CLIENT: Final = 3
"""Span kinds, by their OTLP numbers."""

Attribute = str | bool | int | float | list[str] | list[object]
Attributes = dict[str, Attribute]

LARGEST_INT = 2**63 - 1
_REMEMBERED = 4096
_LONGEST_REMEMBERED = 256


class SpanFacts(NamedTuple):
    """One span."""

    trace_id: str
    span_id: str
    parent_span_id: str
    """Empty for a root."""
    parent_is_remote: bool
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Attributes
    error_type: str
    """Not empty: the status is ERROR; otherwise UNSET, as instrumentation leaves it."""


class Cleaner(dict[str, str]):
    """Takes secrets out of texts that came from outside, and shortens those that should be names.

    ``clean[text]`` is the text as it may leave. Names repeat from call to call, so what
    became of the last few thousand is remembered, and then costs one look-up.
    """

    def __init__(self, redact: Callable[[str], str] = redact, longest: int = 512) -> None:
        super().__init__()
        self.redact = redact
        self._longest = longest

    def __missing__(self, text: str) -> str:
        # Cut first, generously, so that the filter never works on megabytes; then to length.
        cleaned = self.redact(text[: 4 * self._longest])[: self._longest]
        if len(text) <= _LONGEST_REMEMBERED:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[text] = cleaned
        return cleaned


def derived_span_id(*parts: object) -> str:
    """A span id that follows from what it stands for: sending the same record again makes no new span."""
    return blake2b("\0".join(map(str, parts)).encode("utf-8", "replace"), digest_size=8).hexdigest()


def put_text(attributes: Attributes, clean: Cleaner, texts: Mapping[str, str]) -> None:
    """Set the attributes whose text is not empty."""
    for name, text in texts.items():
        if text:
            attributes[name] = clean[text]


def put_money(attributes: Attributes, kind: str, pico: int) -> None:
    """An amount twice: exact for machines, in whole pico-USD, and readable, as a decimal in USD."""
    if pico <= LARGEST_INT:
        attributes[f"bursar.cost.{kind}_pico_usd"] = pico
    attributes[f"bursar.cost.{kind}_usd"] = usd_text(pico)


def usd_text(pico: int) -> str:
    """``pico`` pico-USD as a decimal in USD, to the last digit."""
    sign, whole = ("-", -pico) if pico < 0 else ("", pico)
    return f"{sign}{whole // PICO_PER_USD}.{whole % PICO_PER_USD:012d}"

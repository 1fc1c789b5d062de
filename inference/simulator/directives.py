"""What a request may dictate to the simulator, and the one way to write it.

A directive is a list of items, separated by spaces, commas or semicolons: ``name=value``
or the bare name of a fault. It travels in

- the last user text, between ``[[simulate`` and ``]]``: survives any proxy;
- OpenAI's ``metadata: {"simulate": "..."}``;
- the headers ``x-simulate``, ``x-simulate-usage`` and ``x-simulate-output-tokens``, for direct use.

The later of these wins, item by item. Examples::

    [[simulate usage input=1200 cache_read=1024 output=50 reasoning=12]]
    [[simulate rate_limit retry_after=2]]
    [[simulate output_tokens=40 reset after=3]]

Usage figures mean what :class:`collector.domain.usage.Usage` means by them: ``input`` includes cached
tokens, ``output`` includes reasoning. Each dialect then reports them in its own way.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from collector.domain.usage import Usage
from inference.simulator.faults import Fault

MARKER = re.compile(r"\[\[simulate\b([^\]]{0,1000})\]\]")
_SEPARATORS = re.compile(r"[\s,;]+")

_USAGE_FIELDS = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_write_input_tokens",
    "cache_write_1h": "cache_write_1h_input_tokens",
    "reasoning": "reasoning_output_tokens",
}


class InvalidDirective(ValueError):
    """An item that the simulator does not know, or a value it cannot use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Directives:
    """What one request dictates; the defaults dictate nothing."""

    fault: Fault | None = None
    after: int = 3
    """Events sent before the fault, for faults in mid-stream."""
    delay_s: float = 30.0
    """How long ``slow`` and ``stall`` last."""
    retry_after_s: float = 1.0
    mib: float = 16.0
    """Size of a ``huge`` reply."""
    output_tokens: int | None = None
    """Exactly so many tokens of output, unless the request's own cap is lower."""
    usage: Usage | None = None
    """Figures to report, whatever was really sent."""
    speed: float | None = None
    """Pace of this reply; 0 waits for nothing."""
    tools: int | None = None
    """How many tools to call."""
    seed: int = 0


def items_of(text: str) -> dict[str, str]:
    """Items of one directive by name; a bare fault name becomes ``fault``."""
    items: dict[str, str] = {}
    for item in filter(None, _SEPARATORS.split(text)):
        name, equals, value = item.partition("=")
        if equals:
            items[name] = value
        elif name != "usage":  # a word for readers: the figures follow it
            items["fault"] = name
    return items


def items_in(headers: Mapping[str, str], body: Mapping[str, object], user_text: str) -> dict[str, str]:
    """Every item that a request carries, the header's word last."""
    items: dict[str, str] = {}
    if "[[simulate" in user_text:
        for found in MARKER.finditer(user_text):
            items |= items_of(found.group(1))
    metadata = body.get("metadata")
    if isinstance(metadata, Mapping) and isinstance(metadata.get("simulate"), str):
        items |= items_of(metadata["simulate"])
    for header in ("x-simulate", "x-simulate-usage"):
        if header in headers:
            items |= items_of(headers[header])
    if "x-simulate-output-tokens" in headers:
        items["output_tokens"] = headers["x-simulate-output-tokens"]
    return items


def directives_from(items: Mapping[str, str]) -> Directives:
    """The directives that these items spell.

    Raises:
        InvalidDirective: an unknown name, or a value that does not fit; it lists the choices.
    """
    known: dict[str, object] = {}
    figures: dict[str, int] = {}
    for name, value in items.items():
        try:
            if name in _USAGE_FIELDS:
                figures[_USAGE_FIELDS[name]] = int(value)
            elif name in _READERS:
                field, read = _READERS[name]
                known[field] = read(value)
            else:
                raise InvalidDirective(
                    f"unknown item {name!r}; known: {', '.join([*_READERS, *_USAGE_FIELDS])}"
                )
        except InvalidDirective:
            raise
        except ValueError:
            choices = f"; faults: {', '.join(Fault)}" if name == "fault" else ""
            raise InvalidDirective(f"{value!r} is no value for {name!r}{choices}") from None
    if figures:
        try:
            known["usage"] = Usage(**figures)
        except ValueError as error:
            raise InvalidDirective(f"these figures cannot be: {error}") from None
    return Directives(**known)  # type: ignore[arg-type]


def marker(items: Mapping[str, object]) -> str:
    """The text to put into the last user message so that ``items`` are dictated."""
    return "[[simulate " + " ".join(f"{name}={value}" for name, value in items.items()) + "]]"


def usage_items(usage: Usage) -> dict[str, object]:
    """The items that dictate ``usage``; classes that are 0 are left out, but for input and output."""
    return {
        name: count
        for name, field in _USAGE_FIELDS.items()
        if (count := getattr(usage, field)) or name in ("input", "output")
    }


def _whole(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError(value)
    return number


def _span(value: str) -> float:
    number = float(value)
    if not 0 <= number <= 86_400:
        raise ValueError(value)
    return number


_READERS = {
    "fault": ("fault", Fault),
    "after": ("after", _whole),
    "delay": ("delay_s", _span),
    "retry_after": ("retry_after_s", _span),
    "mib": ("mib", _span),
    "output_tokens": ("output_tokens", _whole),
    "speed": ("speed", _span),
    "tools": ("tools", _whole),
    "seed": ("seed", _whole),
}

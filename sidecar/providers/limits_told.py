"""What providers say of their rate limits on each reply: how much is left, and when it is full again.

OpenAI: ``x-ratelimit-remaining-requests: 59``, ``x-ratelimit-reset-requests: 1m2.5s``; also for tokens
(https://platform.openai.com/docs/guides/rate-limits). Anthropic: ``anthropic-ratelimit-requests-remaining``,
``anthropic-ratelimit-requests-reset`` in RFC 3339; also tokens, input-tokens, output-tokens
(https://docs.claude.com/en/api/rate-limits). ``Retry-After`` is seconds or a date; OpenAI also sends
``retry-after-ms``.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

HeaderList = Sequence[tuple[bytes, bytes]]

MOST_S = 3600.0
"""Longer waits are not believed: nobody would hold a call that long."""

_NAME = re.compile(
    rb"x-ratelimit-(?P<part>limit|remaining|reset)-(?P<what>requests|tokens)"
    rb"|anthropic-ratelimit-(?P<what2>requests|tokens|input-tokens|output-tokens)-(?P<part2>limit|remaining|reset)"
)
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class Told(NamedTuple):
    """What was said of one limit."""

    limit: int | None = None
    remaining: int | None = None
    resets_in_s: float | None = None
    """From when it was said."""

    def plain(self) -> dict[str, object]:
        """For operators."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def limits_told(headers: HeaderList, wall_s: float) -> dict[str, Told]:
    """What a reply says of limits, by what they count: requests, tokens, input-tokens, output-tokens."""
    found: dict[str, dict[str, object]] = {}
    for name, value in headers:
        if b"ratelimit-" not in name:
            continue
        match = _NAME.fullmatch(name)
        if match is None:
            continue
        what = (match["what"] or match["what2"]).decode()
        part = (match["part"] or match["part2"]).decode()
        text = value.decode("latin-1").strip()
        parts = found.setdefault(what, {})
        if part == "reset":
            parts["resets_in_s"] = span_s(text, wall_s)
        elif text.isdecimal() and len(text) < 16:
            parts[part] = int(text)
    return {what: Told(**parts) for what, parts in found.items()}  # type: ignore[arg-type]


def wait_of(told: dict[str, Told]) -> float:
    """How long nothing more is to be had, in seconds; 0 while something is left."""
    waits = [
        limit.resets_in_s for limit in told.values() if limit.remaining == 0 and limit.resets_in_s is not None
    ]
    return min(max(waits, default=0.0), MOST_S)


def retry_after_s(headers: HeaderList, wall_s: float) -> float | None:
    """How long a reply asks to wait; None where it says nothing that can be read."""
    named = dict(headers)
    exact = named.get(b"retry-after-ms", b"").decode("latin-1").strip()
    if exact:
        try:
            return min(max(0.0, float(exact) / 1000), MOST_S)
        except ValueError:
            pass
    text = named.get(b"retry-after", b"").decode("latin-1").strip()
    return span_s(text, wall_s) if text else None


def span_s(text: str, wall_s: float) -> float | None:
    """A time from now in seconds: ``2``, ``1m2.5s``, ``120ms``, an RFC 3339 or an HTTP date."""
    found = None
    if text.replace(".", "", 1).isdecimal():
        found = float(text)
    else:
        parts = _SPAN.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            found = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
        else:
            from email.utils import parsedate_to_datetime  # Three megabytes, and few providers write dates.

            for read in (datetime.fromisoformat, parsedate_to_datetime):
                try:
                    when = read(text)
                except ValueError:
                    continue
                found = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - wall_s
                break
    return None if found is None else min(max(0.0, found), MOST_S)

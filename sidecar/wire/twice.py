"""What a request on pass-through says twice, read so that a hold is enough whichever its provider takes.

Of a name that stands twice in one object some parsers take the first value and others the last. Our own
routes refuse such a body; what only passes is not ours to refuse. It is read both ways, and of all that
decides its cost the dearer holds. Of a body that is too heavy to be decoded, all that it names counts.
"""

import json
import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from collector.patterns import expression
from sidecar.wire.facts import RequestFacts

MOST_NAMED: Final = 256
"""As often may a heavy body say one thing; beyond, nothing is known of it."""
_ESCAPED_NAME: Final = expression(rb'\\u00[0-7][0-9a-fA-F][^"]{0,64}+"\s*+:')
"""The end of a name that is written with an escape, as none has to be."""
_NAMED: Final = expression(
    rb'"(\w{1,32})"\s*+:\s*+(-?\d[^\s,}\]]{0,32}+|"(?:[^"\\]|\\.){0,1024}+"|[a-z]{4,5})'
)
_BEGINNINGS: Final = (
    b'"max',
    b'"num_',
    b'"n"',
    b'"candidateCount"',
    b'"model',
    b'"service_tier"',
    b'"stream"',
)
"""Of the names that decide on costs: a few looks through a long body find all of them."""
_TIERS: Final = (
    *("ultrafast", "priority", "fast", "", "default", "auto", "standard", "balanced", "flex", "batch"),
)
"""Service tiers, the dearest first; what else is asked for costs as nothing does."""
DEAREST_TIER: Final = _TIERS[0]
_USUAL: Final = _TIERS.index("")

_decode: Final = msgspec.json.Decoder().decode


def both_ways(body: bytes) -> tuple[bytes, bytes] | None:
    """``body`` as those who take the first value of a name read it, and as those who take the last do.

    None where it cannot be taken apart and written again.
    """

    def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return dict(reversed(pairs))

    try:
        return _written(_lenient(body, first)), _written(_lenient(body, None))
    except (ValueError, RecursionError):
        return None


def as_lenient(body: bytes) -> bytes | None:
    """``body`` written strictly, as those read it who take what is no JSON for it.

    Half of a surrogate pair, bytes that are no UTF-8, ``NaN`` and numbers past all bounds are such. None
    where it is more than that.
    """
    try:
        return _written(_lenient(body, _once))
    except (ValueError, RecursionError):
        return None


def _lenient(body: bytes, pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None) -> Any:
    return json.loads(
        body.decode("utf-8", "replace"),
        object_pairs_hook=pairs,
        parse_int=_number,
        parse_float=_finite,
        parse_constant=_no_number,
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of what stands twice in one object, either may be meant: then nothing is believed."""
    if len(said := dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return said


def _written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")


def _number(digits: str) -> int | float | None:
    return int(digits) if len(digits) < 19 else _finite(digits)


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _no_number(_name: str) -> None:
    return None


def dearer(first: RequestFacts, last: RequestFacts) -> RequestFacts:
    """``last``, with whatever of ``first`` makes a call dearer."""
    if first.model != last.model:
        last.other_models = (first.model,)
    caps = (first.max_output_tokens, last.max_output_tokens)
    last.max_output_tokens = None if None in caps else max(cap for cap in caps if cap is not None)
    last.choice_count = max(first.choice_count, last.choice_count)
    last.text_bytes = max(first.text_bytes, last.text_bytes)
    # A hold that grows while a stream runs would be too small for an answer in one piece.
    last.stream = first.stream and last.stream
    last.background = first.background or last.background
    last.has_images = first.has_images or last.has_images
    last.has_remote_media = first.has_remote_media or last.has_remote_media
    if not last.region or last.region == "global":
        last.region = first.region or last.region
    tier = dearest_tier([str(facts.attributes.get("service_tier", "")) for facts in (first, last)])
    if tier:
        last.attributes["service_tier"] = tier
    if "previous_response_id" in first.attributes:
        last.attributes.setdefault("previous_response_id", first.attributes["previous_response_id"])
    last.conversation_id = last.conversation_id or first.conversation_id
    return last


def dearest_tier(tiers: Iterable[object]) -> str:
    """The dearest of some service tiers; empty for the usual one where nobody says more."""
    named = [tier if isinstance(tier, str) else "" for tier in tiers]
    return min(named, key=lambda tier: _TIERS.index(tier) if tier in _TIERS else _USUAL)[:64]


def named_in(body: bytes) -> dict[str, list[Any]] | None:
    """What ``body`` says, wherever in it, of each name that decides on costs; null for what is long.

    None where that cannot be told: it says so too often, or writes a name with an escape.
    """
    if b"\\u00" in body and _ESCAPED_NAME.search(body) is not None:
        return None
    found: dict[str, list[Any]] = {}
    for beginning in _BEGINNINGS:
        looked_at = 0
        place = body.find(beginning)
        while place >= 0:
            looked_at += 1
            if looked_at > MOST_NAMED:
                return None
            if said := _NAMED.match(body, place):
                try:
                    value = _decode(said[2])
                except msgspec.DecodeError:
                    value = None
                found.setdefault(said[1].decode(), []).append(value)
            place = body.find(beginning, place + 1)
    return found

"""Identifiers: UUIDv7 for calls, W3C trace context for spans. Pure: bits and time are handed in."""

import re
from typing import NamedTuple

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_VERSION_AND_VARIANT = (0x7 << 76) | (0b10 << 62)
_RANDOM_BITS = ((1 << 12) - 1) << 64 | ((1 << 62) - 1)


def uuid7(unix_ms: int, random_bits: int) -> str:
    """A UUIDv7 (RFC 9562) from a time in milliseconds and 76 or more random bits."""
    value = (unix_ms & 0xFFFFFFFFFFFF) << 80 | _VERSION_AND_VARIANT | (random_bits & _RANDOM_BITS)
    digits = value.to_bytes(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class TraceParent(NamedTuple):
    """The parts of a W3C ``traceparent`` header that we use."""

    trace_id: str
    parent_span_id: str
    sampled: bool


def parse_traceparent(header: str) -> TraceParent | None:
    """The caller's trace context; None when it sent none that is valid (W3C Trace Context, 3.2)."""
    match = _TRACEPARENT.fullmatch(header.strip())
    if match is None:
        return None
    version, trace_id, parent_id, flags, rest = match.groups()
    if version == "ff" or (version == "00" and rest) or not int(trace_id, 16) or not int(parent_id, 16):
        return None
    return TraceParent(trace_id, parent_id, bool(int(flags, 16) & 1))


def format_traceparent(trace_id: str, span_id: str, sampled: bool) -> str:
    """The header that makes ``span_id`` the parent of what the next server does."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"

"""Which of four things a reply is, told by its content type and its first byte."""

from typing import Final

from sidecar.wire.sse import BOM

UNKNOWN, SSE, FRAMES, JSON, OPAQUE = range(5)
"""Not known yet, server-sent events, AWS frames, JSON (whole, array, lines), something we do not read."""

_LINES: Final = frozenset({b"application/x-ndjson", b"application/stream+json", b"application/jsonl"})
_SAY_NOTHING: Final = frozenset({b"", b"text/plain", b"application/octet-stream", b"binary/octet-stream"})
_EVENTS: Final = (b"data:", b"event:")


def says_events(content_type: bytes) -> bool:
    """Whether a content type is that of server-sent events, however it is written."""
    return b"event-stream" in content_type.lower()


def mode_of(content_type: bytes, started: bytes, status: int) -> int:
    """What a reply is that begins with ``started``; UNKNOWN also while that may be half of a :data:`BOM`."""
    if content_type == b"application/vnd.amazon.eventstream":
        return FRAMES
    started = started.removeprefix(BOM).lstrip()
    begin = started[:1]
    if BOM.startswith(started):
        return UNKNOWN
    if begin in b"{[":
        return JSON
    if content_type == b"application/json" and status < 400:
        # Some servers forget to say that they stream. A JSON body cannot begin like an event.
        first = started[:6]
        if first.startswith(_EVENTS):
            return SSE
        if any(event.startswith(first) for event in _EVENTS):
            return UNKNOWN
    if content_type == b"text/event-stream" or (begin in b"deir:" and content_type in _SAY_NOTHING):
        return SSE
    return OPAQUE if status < 400 else JSON


def comes_in_parts(content_type: bytes, started: bytes, path: str) -> bool:
    """Whether JSON that begins with ``started`` is a stream: lines of it, or an array asked for as one."""
    begin = started.removeprefix(BOM).lstrip()[:1]
    return begin in b"{[" and (content_type in _LINES or (begin == b"[" and "stream" in path.lower()))

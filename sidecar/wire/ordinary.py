"""Chunks that only add text, as nearly all of a stream do, read in C where that is built.

What was read is kept there until somebody asks: most chunks then cost no Python beyond handing them on.
"""

from typing import Final, Protocol

from sidecar.native import native
from sidecar.wire.reading import Reading

_CHAT, _MESSAGES, _RESPONSES = range(3)
_DIALECTS: Final = {"chat": _CHAT, "messages": _MESSAGES, "responses": _RESPONSES}
_SAID, _THOUGHT = range(2)


class Lane(Protocol):
    """Reads the chunks of one stream as they came (``sidecar/native/streams.c``)."""

    open: bool
    """Whether the next byte begins an event."""
    limit: int
    """Bytes of text that are kept before the reading is to be told."""

    def take(self, data: bytes) -> int:
        """Read whole chunks of the chunked coding that hold only whole events that add text of one kind.

        Gives the bytes of body in them, less than 0 once ``limit`` bytes of text are kept. 0: nothing was
        read, and somebody else is to read ``data``.
        """

    def drain(self) -> tuple[int, int, bytes, int] | None:
        """Events, kind and text since the last time, and the number of the last event."""


def lane_for(dialect: str) -> Lane | None:
    """A lane for a stream of ``dialect``; None where none can be had."""
    number = _DIALECTS.get(dialect)
    if native is None or number is None:
        return None
    lane: Lane = native.Lane(number)
    return lane


def tell(lane: Lane, dialect: str, reading: Reading) -> None:
    """Tell ``reading`` what ``lane`` has read since the last time."""
    told = lane.drain()
    if told is None:
        return
    events, kind, text, number = told
    reading.chunks += events
    if dialect == "responses":
        reading.scratch["sequence_number"] = number
    if not text:
        return
    if kind == _SAID:
        reading.hear(text)
    elif kind == _THOUGHT:
        reading.ponder(text)
    else:
        reading.argue(text.decode(), -1 if dialect == "messages" else None)

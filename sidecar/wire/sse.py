"""Server-sent events, cut anywhere (https://html.spec.whatwg.org/multipage/server-sent-events.html).

:class:`Splitter` takes the bytes as they come and gives back whole events. Lines may
end in CRLF, LF or CR; an event ends at a blank line; comments and unknown fields are
passed over. An event with a line above 1 MiB, or above 4 MiB in all, is left unread
and flagged; the events after it are read again. Of a line of data above 1 MiB the end
can be had, and the usage in it (:mod:`sidecar.wire.tails`).
"""

from typing import Final, NamedTuple

from sidecar.wire.tails import Passing, Rest

MAX_LINE: Final = 1 << 20
MAX_EVENT: Final = 4 << 20
TAIL: Final = 64 << 10
"""So much of the end of a line that is too long."""
_LINE_COST: Final = 64
"""What keeping one more line costs beside its bytes."""
_LONGEST_NAME: Final = 128
_CR: Final = 0x0D  # looking for a number in bytes is many times cheaper than for a byte string
BOM: Final = b"\xef\xbb\xbf"
"""What some servers write before all else, to say that UTF-8 follows; it is no part of what they say."""


class Event(NamedTuple):
    """One event: its name (empty when none was given) and its data."""

    name: str
    data: bytes
    start: int
    """Where its bytes begin, counted from the last :meth:`Splitter.rebase`."""
    end: int
    """Where they end, likewise."""
    cut: bool = False
    """It was too large: ``data`` are the end of what they were."""
    usage: Rest | None = None
    """What was met in one that was too large, wherever it stood."""


class Splitter:
    """Finds the events in a stream of bytes."""

    __slots__ = ("_data", "_first", "_line", "_name", "_offset", "_passing", "_size", "_skipping", "_spoiled",
                 "_tail", "_tails", "after_cr", "block_end", "idle", "oversized")  # fmt: skip

    def __init__(self, *, tails: bool = False) -> None:
        """With ``tails`` an event whose one line of data is too long is given as its end, ``cut``."""
        self._tails = tails
        self._tail = bytearray()
        self._passing: Passing | None = None
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._skipping = False
        self._spoiled = False
        self._first = True
        self._offset = 0
        self.after_cr = False
        """The last byte was a CR: an LF that follows belongs to it."""
        self.block_end = 0
        """Where the last whole block (event or comment) ends, counted from the last :meth:`rebase`."""
        self.idle = False
        """Between two events, with nothing kept: the next byte starts a new event."""
        self.oversized = False
        """An event was too large to be read."""

    def begin(self) -> None:
        """Know that the stream has begun, with whole events that others read."""
        self._first = False
        self.idle = True

    def rebase(self) -> None:
        """Count places from here on."""
        self._offset = self.block_end = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that ``chunk`` completes."""
        events: list[Event] = []
        start = 0
        base = self._offset
        if self.after_cr and chunk:
            self.after_cr = False
            if chunk[0] == 0x0A:  # The second half of a CRLF that was cut in two.
                start = 1
                if self.block_end == base:
                    self.block_end = base + 1
        carriage = _CR in chunk
        while start < len(chunk):
            end = chunk.find(b"\n", start)
            if carriage:
                cr = chunk.find(b"\r", start, end if end >= 0 else len(chunk))
                end = cr if cr >= 0 else end
            if end < 0:
                self._keep(chunk[start:])
                break
            line = chunk[start:end]
            if self._line:
                self._line += line
                line = bytes(self._line)
                self._line.clear()
            start = end + 1
            if chunk[end] == 0x0D:
                if start == len(chunk):
                    self.after_cr = True
                elif chunk[start] == 0x0A:
                    start += 1
            if self._skipping:
                self._skipping = False
                self._keep_tail(line)
            elif len(line) > MAX_LINE:
                self._spoil()
                self._begin_tail(line)
            else:
                self._take(line, events, base + start)
        self._offset = base + len(chunk)
        if self._skipping:
            self.block_end = self._offset
        self.idle = not (
            self._line or self._data or self._name or self.after_cr or self._first or self._spoiled
        )
        return events

    def finish(self) -> list[Event]:
        """The event that was cut off by the end of the stream.

        The specification drops it, yet servers do forget the last blank line; what it
        says has been paid for.
        """
        events: list[Event] = []
        if self._skipping:
            self._tail.clear()  # Its end did not come.
        if self._line:
            line = bytes(self._line)
            self._line.clear()
            self._take(line, events, self._offset)
        self._take(b"", events, self._offset)
        return events

    def _keep(self, part: bytes) -> None:
        if self._skipping:
            self._keep_tail(part)
            return
        self._line += part
        if len(self._line) > MAX_LINE:
            self._skipping = True
            self._spoil()
            self._begin_tail(bytes(self._line))
            self._line.clear()

    def _begin_tail(self, line: bytes) -> None:
        if self._tails and line.startswith(b"data:"):
            self._tail += line[-TAIL:]
            self._passing = Passing()
            self._passing.feed(line[5:])

    def _keep_tail(self, part: bytes) -> None:
        if self._tail and self._passing is not None:
            self._tail += part[-TAIL:]
            del self._tail[:-TAIL]
            self._passing.feed(part)

    def _take(self, line: bytes, events: list[Event], end: int) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(BOM)
        if not line:
            start, self.block_end = self.block_end, end
            if self._data and not self._spoiled:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append(Event(self._name, data, start, end))
            elif self._tail:
                met = self._passing.usage() if self._passing is not None else None
                events.append(Event(self._name, bytes(self._tail), start, end, True, met))
                self._tail.clear()
            self._data = []
            self._size = 0
            self._name = ""
            self._spoiled = False
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value[1:] if value[:1] == b" " else value
            self._size += len(value) + _LINE_COST
            if self._size > MAX_EVENT:
                self._spoil()
            elif not self._spoiled:
                self._data.append(value)
            else:
                self._tail.clear()  # What came before is not the end.
        elif name == b"event":
            value = value[1:] if value[:1] == b" " else value
            self._name = value[:_LONGEST_NAME].decode("utf-8", "replace")
        elif not name and not self._data and not self._name and not self._spoiled:
            self.block_end = end  # A comment on its own keeps a connection alive: it must not wait.

    def _spoil(self) -> None:
        """Leave the event at hand unread; the next is read again."""
        self._spoiled = self.oversized = True
        self._data = []
        self._tail.clear()


def place_of_data(block: bytes) -> int:
    """Where the data of an event begin that is one line of them, under a name or not.

    0 for all other lines, which the :class:`Splitter` is to read. ``block`` has only plain line ends and no
    blank line, but perhaps its beginning is one.
    """
    line_end = block.find(b"\n")
    if line_end < 0:
        place = 6 if block.startswith(b"data: ") else 0
    elif block.startswith(b"event: ") and block.startswith(b"data: ", line_end + 1):
        place = line_end + 7 if line_end <= _LONGEST_NAME and block.find(b"\n", line_end + 1) < 0 else 0
    else:
        place = 0
    return place if len(block) <= MAX_LINE else 0


def event_bytes(data: bytes, name: str = "") -> bytes:
    """One event as bytes; ``data`` is a single line of JSON."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"


def comment_bytes(text: str) -> bytes:
    """A comment, which clients pass over."""
    return b": " + " ".join(text.split()).encode("utf-8", "replace")[:512] + b"\n\n"


def without(data: bytes, gaps: list[tuple[int, int]]) -> bytes:
    """``data`` but for ``gaps``, each from its start to its end, in order."""
    kept: list[bytes] = []
    place = 0
    for start, end in gaps:
        kept.append(data[place:start])
        place = end
    return b"".join((*kept, data[place:]))

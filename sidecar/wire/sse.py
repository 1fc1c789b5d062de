"""Server-sent events, cut anywhere (https://html.spec.whatwg.org/multipage/server-sent-events.html).

:class:`Splitter` takes the bytes as they come and gives back whole events. Lines may
end in CRLF, LF or CR; an event ends at a blank line; comments and unknown fields are
passed over. A line above 1 MiB or an event above 4 MiB makes it give up: from then
on it sees nothing, and says so.
"""

from typing import Final, NamedTuple

MAX_LINE: Final = 1 << 20
MAX_EVENT: Final = 4 << 20
_BOM: Final = b"\xef\xbb\xbf"


class Event(NamedTuple):
    """One event: its name (empty when none was given) and its data."""

    name: str
    data: bytes
    end: int
    """Where its bytes end, counted from the last :meth:`Splitter.rebase`."""


class Splitter:
    """Finds the events in a stream of bytes."""

    __slots__ = ("_after_cr", "_data", "_first", "_line", "_name", "_offset", "_size", "block_end", "given_up", "line_end")

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._after_cr = False
        self._first = True
        self._offset = 0
        self.given_up = False
        self.line_end = 0
        """Where the last complete line ends, counted from the last :meth:`rebase`."""
        self.block_end = 0
        """Where the last blank line ends, likewise."""

    @property
    def idle(self) -> bool:
        """Between two events, with nothing kept: the next byte starts a new event."""
        return not (self._line or self._data or self._name or self._after_cr or self._first)

    @property
    def after_cr(self) -> bool:
        """The last byte was a CR: an LF that follows belongs to it."""
        return self._after_cr

    def rebase(self) -> None:
        """Count places from here on."""
        self._offset = self.line_end = self.block_end = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that ``chunk`` completes."""
        events: list[Event] = []
        if self.given_up:
            return events
        start = 0
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk[0] == 0x0A:  # The second half of a CRLF that was cut in two.
                start = 1
                if self.block_end == self.line_end:
                    self.block_end = self._offset + 1
                self.line_end = self._offset + 1
        base = self._offset
        carriage = b"\r" in chunk
        while start < len(chunk):
            end = chunk.find(b"\n", start)
            if carriage:
                cr = chunk.find(b"\r", start, end if end >= 0 else len(chunk))
                end = cr if cr >= 0 else end
            if end < 0:
                self._line += chunk[start:]
                if len(self._line) > MAX_LINE:
                    self._give_up()
                break
            line = chunk[start:end]
            if self._line:
                line = bytes(self._line + line)
                self._line.clear()
            start = end + 1
            if chunk[end] == 0x0D:
                if start == len(chunk):
                    self._after_cr = True
                elif chunk[start] == 0x0A:
                    start += 1
            self.line_end = base + start
            if len(line) > MAX_LINE:
                self._give_up()
                break
            self._take(line, events, base + start)
            if self.given_up:
                break
        self._offset = base + len(chunk)
        return events

    def finish(self) -> list[Event]:
        """The event that was cut off by the end of the stream.

        The specification drops it, yet servers do forget the last blank line; what it
        says has been paid for.
        """
        events: list[Event] = []
        if not self.given_up:
            if self._line:
                line = bytes(self._line)
                self._line.clear()
                self._take(line, events, self._offset)
            self._take(b"", events, self._offset)
        return events

    def _take(self, line: bytes, events: list[Event], end: int) -> None:
        if self._first:
            self._first = False
            line = line.removeprefix(_BOM)
        if not line:
            self.block_end = end
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append(Event(self._name, data, end))
                self._data = []
                self._size = 0
            self._name = ""
            return
        name, _, value = line.partition(b":")
        if name == b"data":
            value = value[1:] if value[:1] == b" " else value
            self._size += len(value) + 1
            if self._size > MAX_EVENT:
                self._give_up()
                return
            self._data.append(value)
        elif name == b"event":
            value = value[1:] if value[:1] == b" " else value
            self._name = value[:128].decode("utf-8", "replace")

    def _give_up(self) -> None:
        self.given_up = True
        self._line.clear()
        self._data = []


def event_bytes(data: bytes, name: str = "") -> bytes:
    """One event as bytes; ``data`` is a single line of JSON."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"


def comment_bytes(text: str) -> bytes:
    """A comment, which clients pass over."""
    return b": " + " ".join(text.split()).encode("utf-8", "replace")[:512] + b"\n\n"

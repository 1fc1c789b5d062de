"""The chunked transfer coding, read strictly (RFC 9112 section 7.1).

Chunk extensions and trailer fields are checked, bounded and dropped. What comes
after the last byte of the message is handed back, never looked at.
"""

import re

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"[\t\x20\x21\x23-\x5b\x5d-\x7e]*"'
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*\r\n"
)
# RFC 9110 section 6.5.1: what decides framing or routing has no place behind the body it would decide on.
_TRAILER_LINE = re.compile(
    rb"(?!(?i:content-length|transfer-encoding|content-encoding|host|connection):)"
    + _TOKEN
    + rb":[\t\x20-\x7e\x80-\xff]*\r\n"
)
_COMMON_SIZES = {b"%x" % size: size for size in range(1, 2048)}
"""The chunks of an event stream are small; looking their size up is half the cost of reading it."""
_LINE_BYTES = 4096
_TRAILER_BYTES = 16 * 1024
_FREE_FRAMING = 64 * 1024
"""Bytes of framing that may run ahead of the data they are weighed against: thirteen thousand chunks of one
byte, a hundredth of a second of reading. Large chunks do not earn more than that."""

REQUEST_FRAMING = 4
"""How many times over the data of a request must make up for its framing: chunks of 24 bytes on average.
Clients write what their buffers hold."""
REPLY_FRAMING = 2
"""The same of a reply: chunks of ten bytes. Models stream token by token, but each in an event of fifty
bytes and more, which a server may write in two or three pieces."""

LONG_READ = 64 * 1024
"""Bytes of chunks in one read after which others get their turn: reading them takes milliseconds where they
are small, and a socket that never runs dry is read dozens of times over."""


class ChunkError(ValueError):
    """The bytes are not the chunked coding, or abuse it."""

    before = b""
    """The body bytes that the same piece held before."""


class ChunkedDecoder:
    """Takes the framing off one message's body, piece by piece.

    The result does not depend on where the pieces were cut.

    Args:
        weight: how many times over the data must make up for their framing.
    """

    __slots__ = (
        "_data_left", "_end_left", "_excess", "_free", "_held", "_trailer", "_weight", "between", "done",
        "rest",
    )  # fmt: skip

    def __init__(self, weight: int = REQUEST_FRAMING) -> None:
        self._weight = weight
        self._free = -weight * _FREE_FRAMING
        self.done = False
        self.rest = b""
        """Bytes after the end of the message, once ``done``."""
        self._held = b""  # an unfinished line
        self._data_left = 0  # of the current chunk
        self._end_left = 0  # of the CRLF behind it
        self._trailer = -1  # bytes of trailer so far; -1 before the last chunk
        self.between = True
        """Whether the next byte begins a chunk."""
        self._excess = self._free  # bytes of framing, weighed, beyond what the data so far allow

    def passed(self, coded: int, size: int) -> None:
        """Whole chunks of ``coded`` bytes, with ``size`` of body, were read elsewhere."""
        self._excess = max(self._free, self._excess + self._weight * (coded - size) - size)

    def feed(self, data: bytes) -> bytes:
        """The body bytes in ``data``; may be empty.

        Raises:
            ChunkError: the framing is broken; nothing more can be read.
        """
        if self.between:
            # What an event stream sends: one whole chunk in one read.
            line_end = data.find(b"\r\n")
            size = _COMMON_SIZES.get(data[:line_end])
            if size is not None and data[line_end + 2 + size :] == b"\r\n":
                self._weigh(line_end + 4, size)
                return data[line_end + 2 : -2]
        if self._held:
            data = self._held + data
            self._held = b""
        pieces: list[bytes] = []
        position = 0
        try:
            while position < len(data) and not self.done:
                if self._data_left:
                    piece = data[position : position + self._data_left]
                    pieces.append(piece)
                    position += len(piece)
                    self._data_left -= len(piece)
                elif self._end_left:
                    position = self._read_end(data, position)
                elif self._trailer < 0:
                    position = self._read_size(data, position)
                else:
                    position = self._read_trailer(data, position)
        except ChunkError as error:
            error.before = b"".join(pieces)
            raise
        self.between = not (self._data_left or self._end_left or self._held) and self._trailer < 0
        if self.done:
            self.rest = data[position:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _read_end(self, data: bytes, position: int) -> int:
        found = data[position : position + self._end_left]
        if not b"\r\n"[2 - self._end_left :].startswith(found):
            raise ChunkError("a chunk does not end where its size says")
        self._end_left -= len(found)
        return position + len(found)

    def _read_size(self, data: bytes, position: int) -> int:
        line = _SIZE_LINE.match(data, position)
        if line is None:
            return self._hold_line(data, position)
        size = int(line[1], 16)
        if size:
            self._weigh(line.end() - position + 2, size)
            self._data_left = size
            self._end_left = 2
        else:
            self._trailer = 0
        return line.end()

    def _read_trailer(self, data: bytes, position: int) -> int:
        if data.startswith(b"\r\n", position):
            self.done = True
            return position + 2
        line = _TRAILER_LINE.match(data, position)
        if line is None:
            return self._hold_line(data, position)
        self._trailer += line.end() - position
        if self._trailer > _TRAILER_BYTES:
            raise ChunkError("the trailer is too long")
        return line.end()

    def _hold_line(self, data: bytes, position: int) -> int:
        """Keep the start of a line until the rest comes; a whole line that did not match is an error."""
        line = data[position:]
        if b"\n" in line or len(line) > _LINE_BYTES or -1 < line.find(b"\r") < len(line) - 1:
            raise ChunkError("a chunk size or trailer line is malformed")
        if self._trailer < 0 and line[0] not in b"0123456789abcdefABCDEF":
            raise ChunkError("a chunk size is not a hexadecimal number")
        self._held = line
        return len(data)

    def _weigh(self, framing: int, size: int) -> None:
        """Allow one more chunk."""
        excess = self._excess + self._weight * framing - size
        if excess > 0:
            raise ChunkError("the chunked framing outweighs its data")
        self._excess = excess if excess > self._free else self._free

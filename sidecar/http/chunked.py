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
_FREE_OVERHEAD = 16 * 1024
_OVERHEAD_RATIO = 8
"""Framing may take eight times the data: a chunk of one byte takes five. More is a flood of extensions."""


class ChunkError(ValueError):
    """The bytes are not the chunked coding, or abuse it."""


class ChunkedDecoder:
    """Takes the framing off one message's body, piece by piece.

    The result does not depend on where the pieces were cut.
    """

    __slots__ = ("_data_left", "_end_left", "_excess", "_held", "_trailer", "between", "done", "rest")

    def __init__(self) -> None:
        self.done = False
        self.rest = b""
        """Bytes after the end of the message, once ``done``."""
        self._held = b""  # an unfinished line
        self._data_left = 0  # of the current chunk
        self._end_left = 0  # of the CRLF behind it
        self._trailer = -1  # bytes of trailer so far; -1 before the last chunk
        self.between = True
        """Whether the next byte begins a chunk."""
        self._excess = -_FREE_OVERHEAD  # bytes of framing beyond what the data so far allow

    def passed(self, coded: int, size: int) -> None:
        """Whole chunks of ``coded`` bytes, with ``size`` of body, were read elsewhere."""
        self._excess += coded - (1 + _OVERHEAD_RATIO) * size

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
                self._excess += line_end + 4 - _OVERHEAD_RATIO * size
                return data[line_end + 2 : -2]
        self._excess += len(data)
        if self._held:
            data = self._held + data
            self._held = b""
        pieces: list[bytes] = []
        position = 0
        while position < len(data) and not self.done:
            if self._data_left:
                piece = data[position : position + self._data_left]
                pieces.append(piece)
                position += len(piece)
                self._excess -= (1 + _OVERHEAD_RATIO) * len(piece)
                self._data_left -= len(piece)
            elif self._end_left:
                position = self._read_end(data, position)
            elif self._trailer < 0:
                position = self._read_size(data, position)
            else:
                position = self._read_trailer(data, position)
        self._check_overhead()
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

    def _check_overhead(self) -> None:
        if self._excess > 0:
            raise ChunkError("the chunked framing outweighs its data")

"""JSON bodies that arrive in pieces: one object, an array of objects, or an object a line.

A body that is written piece by piece (Gemini's array, Ollama's lines) is read as far
as it has come, so its facts are right at any time. Up to 16 MiB are kept.

Some servers write what is nearly JSON: half of a surrogate pair where a token ended in the middle of a
character, a tab in a string, bytes that are no UTF-8. What it says has been used all the same.
"""

import json
from typing import Any, Final

import msgspec

MAX_BODY: Final = 16 << 20
_decode: Final = msgspec.json.Decoder().decode
_SPACE: Final = " \t\r\n,[]"


def decode_leniently(data: bytes) -> Any:
    """What ``data`` means where it is nearly JSON; characters that are none become question marks.

    Raises:
        ValueError, RecursionError: it is not even that.
    """
    found = json.loads(data.decode("utf-8", "replace"), strict=False, parse_constant=lambda _: None)
    return _decode(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))


def decode_event(data: bytes) -> Any:
    """What ``data``, which is whole, means; the same is raised."""
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return decode_leniently(data)


class Body:
    """Collects a JSON body."""

    __slots__ = ("_buffer", "_next_try", "_place", "is_stream", "objects", "too_large")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._place = 0
        self._next_try = 0
        self.is_stream = False
        """More than one object is expected: an array, or lines."""
        self.objects = 0
        self.too_large = False

    def feed(self, chunk: bytes) -> None:
        """Add ``chunk``."""
        if self.too_large:
            return
        if len(self._buffer) + len(chunk) > MAX_BODY:
            self.too_large = True
            self._buffer.clear()
            return
        self._buffer += chunk

    def whole(self, *, last: bool = True) -> Any:
        """The body, decoded, when it is one whole JSON value; ``None`` otherwise.

        ``last``: no more of it comes, so that it is worth a second, lenient look.
        """
        if not self._buffer:
            return None
        try:
            return _decode(self._buffer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if not last:
                return None
        try:
            return decode_leniently(bytes(self._buffer))
        except (ValueError, RecursionError):
            return None

    @property
    def bytes(self) -> bytearray:
        """What has come."""
        return self._buffer

    def text(self, limit: int) -> str:
        """The first ``limit`` bytes as text."""
        return bytes(self._buffer[:limit]).decode("utf-8", "replace")

    def new_objects(self, *, last: bool = False) -> list[dict[str, Any]]:
        """Objects completed since the last time.

        An object that is not yet whole is tried again only after its rest has grown by
        a tenth, so the work stays proportional to the bytes; ``last`` tries at once.
        """
        found: list[dict[str, Any]] = []
        if not last and len(self._buffer) < self._next_try:
            return found
        rest = bytes(self._buffer[self._place :])
        text = rest.decode("latin-1")  # One character a byte: ends of objects are places in bytes.
        place = done = 0
        decoder = json.JSONDecoder(strict=False)
        while place < len(text):
            if text[place] in _SPACE:
                place += 1
                continue
            start = place
            try:
                _, place = decoder.raw_decode(text, place)
                value = decode_event(rest[start:place])
            except (ValueError, RecursionError):
                break
            done = place
            if isinstance(value, dict):
                found.append(value)
        self._place += done
        self._next_try = len(self._buffer) + (len(rest) - done) // 10
        self.objects += len(found)
        return found

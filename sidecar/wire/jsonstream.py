"""JSON bodies that arrive in pieces: one object, an array of objects, or an object a line.

A body that is written piece by piece (Gemini's array, Ollama's lines) is read as far
as it has come, so its facts are right at any time. Up to 16 MiB are kept.
"""

import json
from typing import Any, Final

import msgspec

MAX_BODY: Final = 16 << 20
_decode: Final = msgspec.json.Decoder().decode
_SPACE: Final = " \t\r\n,[]"


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

    def whole(self) -> Any:
        """The body, decoded, when it is one whole JSON value; ``None`` otherwise."""
        if not self._buffer:
            return None
        try:
            return _decode(self._buffer)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

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
        decoder = json.JSONDecoder()
        while place < len(text):
            if text[place] in _SPACE:
                place += 1
                continue
            start = place
            try:
                _, place = decoder.raw_decode(text, place)
                value = _decode(rest[start:place])
            except (ValueError, RecursionError):
                break
            done = place
            if isinstance(value, dict):
                found.append(value)
        self._place += done
        self._next_try = len(self._buffer) + (len(rest) - done) // 10
        self.objects += len(found)
        return found

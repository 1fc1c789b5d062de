"""A decoded copy of a compressed reply, for accounting only; the agent gets the raw bytes.

The copy is bounded: an answer of 261 kB can unpack to 256 MiB. What the standard
library cannot unpack (br, and zstd before Python 3.14) is not accounted: the caller
estimates.
"""

import zlib
from typing import Any, Final

MAX_DECODED: Final = 16 << 20
_NONE: Final = frozenset({"", "identity"})
_ZLIB: Final = frozenset({"gzip", "x-gzip", "deflate"})
_MOST_LAYERS: Final = 2


class Decoder:
    """Undoes one reply's Content-Encoding, up to 16 MiB of output."""

    __slots__ = ("_layers", "_room", "trouble")

    def __init__(self, content_encoding: str) -> None:
        names = [name.strip().lower() for name in content_encoding.split(",")]
        names = [name for name in names if name not in _NONE]
        self._room = MAX_DECODED
        self.trouble = ""
        """Why the copy is not to be had, empty while all is well."""
        self._layers: list[Any] = []
        if len(names) > _MOST_LAYERS or not _ZLIB.issuperset(names):
            self.trouble = "content_encoding"
            return
        self._layers = [_Inflater(deflate=name == "deflate") for name in reversed(names)]

    def feed(self, chunk: bytes) -> bytes:
        """The decoded bytes that ``chunk`` adds; empty once there is trouble."""
        for layer in self._layers:
            if self.trouble:
                return b""
            try:
                chunk = layer.inflate(chunk, self._room + 1)
            except zlib.error:
                self.trouble = "content_encoding"
                return b""
            if len(chunk) > self._room:
                self.trouble = "decoded_too_large"
                return b""
        self._room -= len(chunk)
        return chunk


class _Inflater:
    """gzip members one after another, or deflate with or without its zlib wrapper."""

    __slots__ = ("_deflate", "_engine", "_started")

    def __init__(self, *, deflate: bool) -> None:
        self._deflate = deflate
        self._engine = zlib.decompressobj(zlib.MAX_WBITS if deflate else 16 + zlib.MAX_WBITS)
        self._started = False

    def inflate(self, chunk: bytes, most: int) -> bytes:
        if self._deflate and not self._started and chunk:
            self._started = True
            if chunk[0] & 0x0F != 8:  # No zlib wrapper: some servers send the bare stream.
                self._engine = zlib.decompressobj(-zlib.MAX_WBITS)
        out = bytearray()
        while chunk and len(out) < most:
            out += self._engine.decompress(chunk, most - len(out))
            if not self._engine.eof:
                break
            chunk = self._engine.unused_data
            if self._deflate or not chunk.startswith(b"\x1f\x8b"):
                break
            self._engine = zlib.decompressobj(16 + zlib.MAX_WBITS)
        return bytes(out)

"""AWS event streams: binary frames (application/vnd.amazon.eventstream), cut anywhere.

A frame is total length, header length and CRC-32 of these two (4 bytes each, big
endian), headers, payload, and CRC-32 of everything before. A frame that does not
add up ends the accounting, never the stream.
"""

from typing import Final, NamedTuple
from zlib import crc32

_PRELUDE: Final = 12
_MAX_FRAME: Final = 16 << 20
"""The format's own limit (docs.aws.amazon.com, event stream encoding)."""
_FIXED_SIZES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_BYTES, _TEXT = 6, 7


class Frame(NamedTuple):
    """One message: its text headers and its payload."""

    headers: dict[str, str]
    payload: bytes


class Deframer:
    """Finds the frames in a stream of bytes."""

    __slots__ = ("_buffer", "given_up")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.given_up = False

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that ``chunk`` completes."""
        frames: list[Frame] = []
        if self.given_up:
            return frames
        self._buffer += chunk
        start = 0
        while len(self._buffer) - start >= _PRELUDE:
            total = int.from_bytes(self._buffer[start : start + 4], "big")
            head = int.from_bytes(self._buffer[start + 4 : start + 8], "big")
            checksum = int.from_bytes(self._buffer[start + 8 : start + 12], "big")
            sound = total <= _MAX_FRAME and head <= total - _PRELUDE - 4
            if not sound or crc32(self._buffer[start : start + 8]) != checksum:
                self._give_up()
                return frames
            if len(self._buffer) - start < total:
                break
            message = bytes(self._buffer[start : start + total])
            if crc32(message[:-4]) != int.from_bytes(message[-4:], "big"):
                self._give_up()
                return frames
            body = _PRELUDE + head
            frames.append(Frame(_headers(message[_PRELUDE:body]), message[body:-4]))
            start += total
        del self._buffer[:start]
        return frames

    @property
    def between_frames(self) -> bool:
        """No part of a frame is waiting for its rest."""
        return not self._buffer

    def _give_up(self) -> None:
        self.given_up = True
        self._buffer.clear()


def _headers(encoded: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    place = 0
    while place < len(encoded):
        name_end = place + 1 + encoded[place]
        name = encoded[place + 1 : name_end].decode("utf-8", "replace")
        if name_end >= len(encoded):
            break
        kind = encoded[name_end]
        place = name_end + 1
        if kind in (_BYTES, _TEXT):
            size = int.from_bytes(encoded[place : place + 2], "big")
            if kind == _TEXT:
                headers[name] = encoded[place + 2 : place + 2 + size].decode("utf-8", "replace")
            place += 2 + size
        elif kind in _FIXED_SIZES:
            place += _FIXED_SIZES[kind]
        else:
            break
    return headers


def frame_bytes(headers: dict[str, str], payload: bytes) -> bytes:
    """One frame as bytes."""
    encoded = b"".join(
        bytes([len(name)])
        + name.encode()
        + bytes([_TEXT])
        + len(text.encode()).to_bytes(2, "big")
        + text.encode()
        for name, text in headers.items()
    )
    prelude = (_PRELUDE + len(encoded) + len(payload) + 4).to_bytes(4, "big") + len(encoded).to_bytes(
        4, "big"
    )
    message = prelude + crc32(prelude).to_bytes(4, "big") + encoded + payload
    return message + crc32(message).to_bytes(4, "big")

"""Frames that become objects when somebody looks at one: what is ordinary is booked from where it stands.

A sidecar reads frames too, of another's segments and few; it needs nothing of this.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Final, overload

from collector.journal import Frame, ReadEnd, parse_frames
from collector.native import native

_PLACE: Final = struct.Struct("=QIIII")
"""Sequence, where the payload starts and its size, kind; as ``native.h`` has it."""
_ENDS: Final = (ReadEnd.END, ReadEnd.TORN, ReadEnd.CORRUPT)


class PackedFrames(Sequence[Frame]):
    """Whole frames in ``data``.

    Args:
        data: what was read.
        places: where they stand in it.
        joined: no sequence lacks between them.
        offset: of ``data`` in its segment.
    """

    __slots__ = ("_offset", "data", "joined", "places")

    def __init__(self, data: bytes, places: bytes, joined: bool, offset: int) -> None:
        self.data = data
        self.places = places
        self.joined = joined
        self._offset = offset

    def __len__(self) -> int:
        return len(self.places) // _PLACE.size

    @overload
    def __getitem__(self, place: int) -> Frame: ...
    @overload
    def __getitem__(self, place: slice) -> "PackedFrames": ...
    def __getitem__(self, place: "int | slice") -> "Frame | PackedFrames":
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                raise ValueError("frames are taken in their order")
            part = self.places[start * _PLACE.size : max(start, stop) * _PLACE.size]
            return PackedFrames(self.data, part, self.joined, self._offset)
        number = place + len(self) if place < 0 else place
        if not 0 <= number < len(self):
            raise IndexError(place)
        return self._frame(*_PLACE.unpack_from(self.places, number * _PLACE.size))

    def __iter__(self) -> Iterator[Frame]:
        for place in _PLACE.iter_unpack(self.places):
            yield self._frame(*place)

    def _frame(self, sequence: int, start: int, size: int, kind: int, _: int) -> Frame:
        end = start + size
        return Frame(sequence, kind, self.data[start:end], self._offset + end)


def packed_frames(data: bytes, offset: int = 0) -> tuple[Sequence[Frame], int, ReadEnd]:
    """What `parse_frames` says of ``data``."""
    if native is None:
        return parse_frames(data, offset)
    places, joined, used, end = native.places(data)
    return PackedFrames(data, places, joined, offset), used, _ENDS[end]

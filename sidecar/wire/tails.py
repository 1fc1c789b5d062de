"""Usage in an event that is too large to be read.

OpenAI's ``response.completed`` repeats all that was said, and its usage comes after that. In the last bytes
of such an event a member's name is told from a text that looks like one by its quotation marks, which have a
backslash within a text; and how deep it stands by what is closed after it, up to the very end.

Usage that stands further in front is met while the event passes: :class:`Passing` keeps count of what is
open, piece by piece, and keeps no more of the event than one usage.
"""

import json
from typing import Any, Final, NamedTuple

import msgspec

from collector.patterns import expression

_decode: Final = msgspec.json.Decoder().decode
_NAMES: Final = (b'"usage"', b'"usageMetadata"')
_DEEPEST: Final = 2
_MOST_TRIES: Final = 8

_MEMBER: Final = expression(rb'"(usage|usageMetadata)"\s*+:')
_OVERLAP: Final = 64
"""A name and its colon are shorter, so one that is cut in two is seen whole with the next piece."""
MOST_USAGE: Final = 16 << 10
MOST_MEMBERS_MET: Final = 1024
"""Of these names, at whatever depth: beyond, the event is let pass."""
_decode_first: Final = json.JSONDecoder().raw_decode


class Rest(NamedTuple):
    """What a tail says of the object in which its usage stands."""

    depth: int
    """1: that object is the event; 2: it is a member of the event."""
    members: dict[str, Any]
    """Usage and the members after it."""


def usage_at_end(tail: bytes) -> Rest | None:
    """The last usage in ``tail``, the end of one JSON object; None where there is none for sure."""
    for name in _NAMES:
        place = len(tail)
        for _ in range(_MOST_TRIES):
            place = tail.rfind(name, 0, place)
            if place < 0:
                break
            rest = _rest_from(tail, place, name[1:-1].decode()) if _begins_member(tail, place) else None
            if rest is not None:
                return rest
    return None


def _begins_member(tail: bytes, place: int) -> bool:
    """Whether a member may begin at ``place``: within a text the mark there had a backslash before it."""
    place -= 1
    while place >= 0 and tail[place] in b" \t\r\n":
        place -= 1
    return place >= 0 and tail[place] in b"{,"


def _rest_from(tail: bytes, place: int, name: str) -> Rest | None:
    rest = tail[place:]
    for depth in range(1, _DEEPEST + 1):
        try:
            found = _decode(b'{"":' * (depth - 1) + b"{" + rest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue
        members = found if depth == 1 else found[""]
        return Rest(depth, members) if type(members) is dict and type(members.get(name)) is dict else None
    return None


class Passing:
    """Looks for usage in one JSON object that comes in pieces."""

    __slots__ = ("_at", "_depth", "_found", "_left", "_name", "_opened", "_rest", "_usage", "_within")

    def __init__(self) -> None:
        self._rest = b""
        """What was not counted yet."""
        self._left = MOST_MEMBERS_MET
        self._depth = 0
        self._within = False  # a text
        self._usage = bytearray()
        """What follows the name, while its end has not come."""
        self._name = ""
        self._at = 0
        self._opened = False  # what follows the name
        self._found: Rest | None = None

    def feed(self, piece: bytes) -> None:
        """Take in the next piece."""
        if self._left < 0:
            return
        if self._name:
            self._usage += piece[: MOST_USAGE + 1 - len(self._usage)]
        text = self._rest + piece
        end = max(0, len(text) - _OVERLAP)
        end -= _backslashes(text, end) & 1  # An escape stays whole.
        place = 0
        for member in _MEMBER.finditer(text):
            start = member.start()
            if start >= end:
                break
            self._left -= 1
            if self._left < 0:
                self._found, self._rest = None, b""
                self._usage.clear()
                return
            self._count(text[place:start])
            place = start
            if not self._within and 0 < self._depth <= _DEEPEST:
                self._name, self._at, self._opened = member[1].decode(), self._depth, False
                value = member.end()
                self._usage[:] = text[value : value + MOST_USAGE + 1]
        self._count(text[place:end])
        self._rest = text[end:]

    def usage(self) -> Rest | None:
        """The last usage of the object, which has ended; None where there is none for sure."""
        self.feed(b" " * _OVERLAP)
        self._count(self._rest)
        return self._found if not self._depth and not self._within else None

    def _settle(self) -> None:
        """Read the usage once all of it is here: to try at every piece takes long where they are small."""
        if self._depth > self._at or self._within:
            self._opened = self._opened or self._depth > self._at
            return
        try:
            value, _ = _decode_first(self._usage.decode("utf-8", "replace").lstrip(" \t\r\n"))
        except (ValueError, RecursionError):
            if not self._opened and len(self._usage) <= MOST_USAGE:
                return  # Its beginning has not been counted.
        else:
            if type(value) is dict:
                self._found = Rest(self._at, {self._name: value})
        self._name = ""
        self._usage.clear()

    def _count(self, text: bytes) -> None:
        """Know what is open after ``text`` too."""
        bare = text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text
        pieces = bare.split(b'"')
        outside = b"".join(pieces[self._within :: 2])
        self._depth += outside.count(b"{") + outside.count(b"[") - outside.count(b"}") - outside.count(b"]")
        self._within ^= len(pieces) % 2 == 0
        if self._name:
            self._settle()


def _backslashes(text: bytes, end: int) -> int:
    """How many backslashes stand before ``end`` in a row."""
    return end - len(text[:end].rstrip(b"\\"))

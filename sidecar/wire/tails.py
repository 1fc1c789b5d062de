"""Usage at the end of an event that is too large to be read.

OpenAI's ``response.completed`` repeats all that was said, and its usage comes after that. In the last bytes
of such an event a member's name is told from a text that looks like one by its quotation marks, which have a
backslash within a text; and how deep it stands by what is closed after it, up to the very end.
"""

from typing import Any, Final, NamedTuple

import msgspec

_decode: Final = msgspec.json.Decoder().decode
_NAMES: Final = (b'"usage"', b'"usageMetadata"')
_DEEPEST: Final = 2
_MOST_TRIES: Final = 8


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

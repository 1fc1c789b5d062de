"""What conversations that begin alike have in common.

Engines keep the keys and values of prompts in blocks of tokens, and share whole blocks between prompts
that begin with the same tokens: tools and system prompt first, then the messages. So calls with the same
first blocks go to the same replica. The tenant and the adapter are part of the key, for their blocks are
not shared (``cache_salt``, LoRA).
"""

from typing import Final
from zlib import crc32

BYTES_PER_TOKEN = 4
"""Of English text and JSON; being wrong by half moves the end of the key, not which calls share one."""
_BITS: Final = (1 << 64) - 1


def affinity_key(scope: bytes, rendered: bytes, *, blocks: int, block_bytes: int) -> int | None:
    """The place on the ring for a call; None where its prompt has no whole block to share.

    Not a secret: two beginnings in four thousand million share a place by chance, and are then served by
    the same replica.

    Args:
        scope: tenant and adapter.
        rendered: the beginning of the conversation in the order that the model reads it.
        blocks: how many blocks count at most; fewer where the prompt is shorter.
        block_bytes: of one block: its tokens times :data:`BYTES_PER_TOKEN`.
    """
    whole = min(len(rendered) // block_bytes, blocks) * block_bytes
    if not whole:
        return None
    return _spread(whole << 32 | crc32(memoryview(rendered)[:whole], crc32(scope))) or 1


def _spread(number: int) -> int:
    """One of 64 bits for each of 64 bits: numbers that are like another become unlike.

    CRC-32 alone gives beginnings that differ in a digit places near one another. The last steps of
    SplitMix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    """
    number &= _BITS
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    number = (number ^ number >> 27) * 0x94D049BB133111EB & _BITS
    return number ^ number >> 31

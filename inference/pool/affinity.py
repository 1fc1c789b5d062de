"""What conversations that begin alike have in common.

Engines keep the keys and values of prompts in blocks of tokens, and share whole blocks between prompts
that begin with the same tokens: tools and system prompt first, then the messages. So calls with the same
first blocks go to the same replica. The tenant and the adapter are part of the key, for their blocks are
not shared (``cache_salt``, LoRA).
"""

from hashlib import blake2b

BYTES_PER_TOKEN = 4
"""Of English text and JSON; being wrong by half moves the end of the key, not which calls share one."""


def affinity_key(scope: bytes, rendered: bytes, *, blocks: int, block_tokens: int) -> int | None:
    """The place on the ring for a call; None where its prompt has no whole block to share.

    Args:
        scope: tenant and adapter.
        rendered: the beginning of the conversation in the order that the model reads it.
        blocks: how many blocks count at most; fewer where the prompt is shorter.
        block_tokens: tokens of one block.
    """
    block_bytes = block_tokens * BYTES_PER_TOKEN
    whole = min(len(rendered) // block_bytes, blocks) * block_bytes
    if not whole:
        return None
    return int.from_bytes(blake2b(rendered[:whole], digest_size=8, key=scope[:64]).digest(), "big")

"""The prefix cache of one vLLM server: a fixed number of blocks; the least recently used are given up.

Whole blocks of tokens are kept, each known by everything before it. A request takes up its known blocks from
the beginning, then as many others as it needs; when it is done its last blocks are the first to be given up,
for the beginning is what others share. A block that is not full is never shared, and is reused at once
(vLLM's ``v1/core/block_pool.py`` and its prefix caching design).
"""

from collections import OrderedDict
from hashlib import blake2b

from inference.simulator.tokens import BYTES_PER_TOKEN


class KvBlocks:
    """What one server has cached.

    Args:
        blocks: how many there are.
        block_tokens: tokens in each.
    """

    def __init__(self, blocks: int, block_tokens: int) -> None:
        self.blocks = blocks
        self.block_tokens = block_tokens
        self._kept: OrderedDict[bytes, None] = OrderedDict()
        self.queries = 0
        """Prompt tokens that were looked up."""
        self.hits = 0
        """Prompt tokens that were found."""

    def read(self, model: str, prompt: bytes, tokens: int) -> int:
        """Look a prompt up and keep it; its cached tokens.

        Args:
            model: the blocks of one are of no use to another.
            prompt: as the model reads it.
            tokens: of the prompt.
        """
        size = self.block_tokens * BYTES_PER_TOKEN
        digest, chain = model.encode(), []
        for start in range(0, len(prompt) - size + 1, size):
            digest = blake2b(prompt[start : start + size], digest_size=16, key=digest[:64]).digest()
            chain.append(digest)
        found = 0
        for known in chain:
            if known not in self._kept:
                break
            found += 1
        for known in reversed(chain):
            self._kept[known] = None
            self._kept.move_to_end(known)
        while len(self._kept) > self.blocks:
            self._kept.popitem(last=False)
        # The last token is computed in any case: its result is the first token of the answer.
        cached = min(found * self.block_tokens, max(0, tokens - 1) // self.block_tokens * self.block_tokens)
        self.queries += tokens
        self.hits += cached
        return cached

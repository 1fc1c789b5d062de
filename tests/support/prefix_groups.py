"""Agents in groups: those of one group begin alike, with tools and a system prompt of some length.

Two replicas that cache 72 blocks of 128 tokens hold the beginnings of all 22 groups together, and neither
holds them alone: the more calls go where their beginning is cached, the fewer tokens are computed.
"""

import asyncio
import random
from typing import Any, NamedTuple

import httpx

GROUPS, CALLS, AT_ONCE = 22, 9, 4
PREFIX_TOKENS, ASKED_TOKENS = 648, 12
"""Some more come with the names of roles."""
BLOCK_TOKENS, BLOCKS = 128, 72
_TEXT = (
    "cost time path plan test read code file list name step each with from that then when this call token "
    "price query cache agent store index batch graph value total limit clear under budget ledger stream"
)
_WORDS = _TEXT.split()


class Read(NamedTuple):
    """What the engines said of the prompts."""

    tokens: int
    cached: int

    @property
    def hit_ratio(self) -> float:
        return self.cached / self.tokens


def text(size: int, seed: str) -> str:
    """English words of so many letters; the same seed gives the same ones."""
    drawn = random.Random(seed)
    return " ".join(drawn.choice(_WORDS) for _ in range(size // 3))[:size]


def bodies(model: str, salt: str, letters_a_token: float = 4) -> list[dict[str, Any]]:
    """Every call of every group, in an order in which groups are mixed."""
    made = []
    for group in range(GROUPS):
        system = text(round(PREFIX_TOKENS * letters_a_token), f"{salt} {group}")
        for call in range(CALLS):
            asked = text(round(ASKED_TOKENS * letters_a_token), f"{salt} {group} {call}")
            messages = [{"role": "system", "content": system}, {"role": "user", "content": asked}]
            made.append({"model": model, "messages": messages, "max_tokens": 4})
    random.Random(salt).shuffle(made)
    return made


async def ask_all(url: str, asked: list[dict[str, Any]]) -> Read:
    """Ask for all of them, four at once; what their usage says."""
    waiting = iter(asked)
    tokens = cached = 0

    async def agent(client: httpx.AsyncClient) -> None:
        nonlocal tokens, cached
        for body in waiting:
            reply = await client.post(f"{url}/v1/chat/completions", json=body)
            assert reply.status_code == 200, reply.text
            usage = reply.json()["usage"]
            tokens += usage["prompt_tokens"]
            cached += (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0

    async with httpx.AsyncClient(timeout=120) as client:
        await asyncio.gather(*(agent(client) for _ in range(AT_ONCE)))
    return Read(tokens, cached)

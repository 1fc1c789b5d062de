"""Prefixes of prompts seen before, as the providers remember them.

OpenAI caches by itself: prompts of 1,024 tokens and more, in steps of 128, for
about ten minutes (https://platform.openai.com/docs/guides/prompt-caching).
Anthropic caches up to the breakpoints that a request marks with ``cache_control``,
for five minutes or an hour from last use, and looks up to twenty content blocks
back from each breakpoint for something already written
(https://docs.claude.com/en/docs/build-with-claude/prompt-caching).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

from inference.simulator.prompts import Prompt
from inference.simulator.tokens import BYTES_PER_TOKEN

MINIMUM_TOKENS = 1024
STEP_TOKENS = 128
LOOKBACK_BLOCKS = 20
AUTOMATIC_TTL_S = 600.0
FIVE_MINUTES_S = 300.0
ONE_HOUR_S = 3600.0

_STEP_BYTES = STEP_TOKENS * BYTES_PER_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheFigures:
    """What became of one prompt in the cache, in tokens; the three do not overlap."""

    read: int = 0
    write_5m: int = 0
    write_1h: int = 0


class PromptCache:
    """Bounded memory of prompt prefixes; hashes only, least recently used go first."""

    def __init__(self, clock: Callable[[], float], *, entries: int = 200_000) -> None:
        self._clock = clock
        self._entries = entries
        self._expiry: OrderedDict[tuple[str, bytes], tuple[float, float]] = OrderedDict()

    def automatic(self, model: str, prompt: Prompt) -> CacheFigures:
        """OpenAI's way: the longest known prefix in whole steps, and remember all of this one."""
        if prompt.tokens < MINIMUM_TOKENS:
            return CacheFigures()
        known = 0
        unbroken = True
        digest = b""
        for start in range(0, len(prompt.text) - _STEP_BYTES + 1, _STEP_BYTES):
            digest = blake2b(prompt.text[start : start + _STEP_BYTES], digest_size=16, key=digest).digest()
            unbroken = self._touch(model, digest, AUTOMATIC_TTL_S) and unbroken
            if unbroken:
                known += STEP_TOKENS
        return CacheFigures(read=known if known >= MINIMUM_TOKENS else 0)

    def marked(self, model: str, prompt: Prompt, *, minimum_tokens: int = MINIMUM_TOKENS) -> CacheFigures:
        """Anthropic's way: read and write at the marked breakpoints only."""
        if not prompt.breakpoints:
            return CacheFigures()
        digests = _boundary_digests(prompt)
        read_to = max(
            (self._longest_known(model, prompt, digests, point.offset) for point in prompt.breakpoints),
            default=0,
        )
        read = read_to // BYTES_PER_TOKEN
        written = {FIVE_MINUTES_S: 0, ONE_HOUR_S: 0}
        reached = read
        for point in prompt.breakpoints:
            tokens = point.offset // BYTES_PER_TOKEN
            if tokens < minimum_tokens:
                continue
            self._touch(model, digests[point.offset], point.ttl_s)
            written[point.ttl_s] += max(0, tokens - reached)
            reached = max(reached, tokens)
        return CacheFigures(read=read, write_5m=written[FIVE_MINUTES_S], write_1h=written[ONE_HOUR_S])

    def _longest_known(self, model: str, prompt: Prompt, digests: dict[int, bytes], offset: int) -> int:
        candidates = [boundary for boundary in prompt.boundaries if boundary <= offset]
        for boundary in reversed(candidates[-LOOKBACK_BLOCKS:]):
            if self._refresh(model, digests[boundary]):
                return boundary
        return 0

    def _touch(self, model: str, digest: bytes, ttl_s: float) -> bool:
        """Remember a prefix; true when it was known already."""
        known = self._refresh(model, digest)
        if not known:
            self._expiry[(model, digest)] = (self._clock() + ttl_s, ttl_s)
            while len(self._expiry) > self._entries:
                self._expiry.popitem(last=False)
        return known

    def _refresh(self, model: str, digest: bytes) -> bool:
        entry = self._expiry.get((model, digest))
        if entry is None:
            return False
        expires_at, ttl_s = entry
        now = self._clock()
        if now >= expires_at:
            del self._expiry[(model, digest)]
            return False
        self._expiry[(model, digest)] = (now + ttl_s, ttl_s)
        self._expiry.move_to_end((model, digest))
        return True


def _boundary_digests(prompt: Prompt) -> dict[int, bytes]:
    rolling = blake2b(digest_size=16)
    digests: dict[int, bytes] = {}
    start = 0
    for boundary in prompt.boundaries:
        rolling.update(prompt.text[start:boundary])
        digests[boundary] = rolling.copy().digest()
        start = boundary
    return digests

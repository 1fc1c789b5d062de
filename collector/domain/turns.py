"""Calls of one conversation as they are judged after the fact: digests, tokens and exact money, no text."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from collector.domain.runaway import Step
from collector.domain.stitching_rules import BITS, CHAIN, TOP, WORD

BYTES_PER_TOKEN: Final = 4
"""About, where only the length of a text is known."""


class Rates(NamedTuple):
    """List prices of a call, in pico-USD per token; all 0 where they are not known."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0


class Turn(NamedTuple):
    """One call, after it ended."""

    call_id: str
    started_us: int = 0
    ended_us: int = 0
    agent: str = ""
    model: str = ""
    """As it was sent to the provider: after a downgrade the cheaper one."""
    upstream: str = ""
    outcome: str = "served"
    reason: str = ""
    error_type: str = ""
    downgraded_from: str = ""
    finish: str = ""
    """Why its first choice ended, in the provider's word."""
    cost_pico: int = 0
    """What it effectively cost, all attempts together."""
    list_pico: int = 0
    failed_pico: int = 0
    """Of `cost_pico`, what attempts cost that failed before one was answered."""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    """A part of `cache_write_tokens`."""
    reasoning_tokens: int = 0
    hashes: Sequence[int] = ()
    reply_hash: int = 0
    calls: Sequence[int] = ()
    role: str = ""
    said: int = 0
    errors: int = 0
    tools: int = 0
    system: int = 0
    rates: Rates = Rates()

    @property
    def state(self) -> int:
        """The rolling hash at the end of its request."""
        return self.hashes[-1] if self.hashes else 0

    def step(self) -> Step:
        """As the runaway breaker saw it."""
        reply = (self.reply_hash - self.state * CHAIN) & BITS if self.reply_hash and self.hashes else 0
        return Step(
            self.calls,
            reply,
            self.role,
            self.said,
            self.errors,
            self.state,
            self.input_tokens,
            self.cost_pico,
        )

    def part(self, tokens: int, rate: int) -> int:
        """What ``tokens`` at the list rate ``rate`` are of the effective cost, in pico-USD, rounded down."""
        if self.list_pico <= 0:
            return 0
        return min(self.cost_pico, tokens * rate * self.cost_pico // self.list_pico)


class Messages(NamedTuple):
    """The messages of a request, as far as its hashes tell of them."""

    own: list[int]
    """What tells each message from others, whatever stands before it."""
    before: list[int]
    """Bytes of text before each message, and of all at the end; a tool call counts as forty."""
    largest: int
    """Bytes of the largest."""

    @property
    def size(self) -> int:
        """Bytes of all."""
        return self.before[-1]


NO_MESSAGES: Final = Messages([], [0], 0)


def messages_of(hashes: Sequence[int], known: Sequence[int] = (), told: Messages = NO_MESSAGES) -> Messages:
    """Those of a request with ``hashes``; ``told`` are those of one with the hashes ``known``.

    A request that goes on from that one, as most of a conversation do, has only its new messages read.
    """
    length = len(known)
    own, before, largest = told
    if length and hashes[:length] == known:
        rolling, rest = known[-1], hashes[length:]
        own, before = own.copy(), before.copy()
    else:
        rolling, rest = 0, hashes
        own, before, largest = [], [0], 0
    total = before[-1]
    for here in rest:
        digest = (here - rolling * CHAIN) & BITS
        size = min(digest % WORD, (digest + TOP) % WORD) or 40  # As `text_length` has it.
        own.append(digest)
        total += size
        before.append(total)
        if size > largest:
            largest = size
        rolling = here
    return Messages(own, before, largest)

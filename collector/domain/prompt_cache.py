"""The prompt-cache doctor: which block of a request broke the provider's prefix cache, and what that costs.

Providers cache prompts from the beginning: tools, then the system prompt, then message after message.
What is the same as in an earlier request up to some block is read at a tenth of the price; whatever stands
behind the first block that differs is paid anew. A request is such a chain of blocks here: a digest of its
tools, one of its system prompt, one of each message.

A call is compared with the latest earlier call that it shares most with. It *broke* the cache where it
repeats what that call had in the cache, and did not read it from there. A request that only grows, a fork
that drops what came after, or a provider that has no cache breaks nothing.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from collector.domain.turns import NO_MESSAGES, Messages, Turn, messages_of

STEP_TOKENS: Final = 128
"""Automatic caches read in such steps."""
LEAST_TOKENS: Final = 1024
"""Shorter prompts are not cached."""
FIVE_MINUTES_US: Final = 300_000_000
ONE_HOUR_US: Final = 3_600_000_000
_LEAST_LOST: Final = 256
_LOOK_BACK: Final = 24
"""Earlier calls that a call is compared with."""
_SHAPE: Final = 32


class Cause(StrEnum):
    """Why the prefix was not read from the cache."""

    CLOCK = "clock in the system prompt"
    """The system prompt differs in its digits alone: a date, a time, a counter."""
    SYSTEM = "system prompt changed"
    TOOL_ORDER = "tools in another order"
    TOOLS = "tools changed"
    HISTORY = "earlier messages changed"
    MODEL = "another model"
    DOWNGRADE = "downgrade"
    UPSTREAM = "another upstream"
    LAPSED = "time to live lapsed"
    EVICTED = "dropped by the provider"


ADVICE: Final = {
    Cause.CLOCK: "move what changes (date, time, counter) out of the system prompt, into the last message",
    Cause.SYSTEM: "keep the system prompt the same for a conversation; say what is new in a message",
    Cause.TOOL_ORDER: "send the tools in one fixed order, sorted by name for example",
    Cause.TOOLS: "offer the same tools for the whole of a conversation",
    Cause.HISTORY: "add to the history instead of rewriting it; compact seldom, and then all at once",
    Cause.MODEL: "stay with one model for a conversation: each model has a cache of its own",
    Cause.DOWNGRADE: "downgrade at the beginning of conversations, or only where the cold cache pays off",
    Cause.UPSTREAM: "send a conversation to one upstream: each has a cache of its own",
    Cause.LAPSED: "ask for the longer time to live, or send a short call before it lapses",
    Cause.EVICTED: "nothing: the provider let go of it; ask for the longer time to live if it happens often",
}


class Break(NamedTuple):
    """A call that paid for what was, or could have been, in the cache."""

    call_id: str
    after: str
    """The call whose prefix it repeats."""
    cause: Cause
    block: str
    """The first block that differs: ``tools``, ``system``, ``message 3`` (from 1); empty for none."""
    lost_tokens: int
    cost_pico: int
    """What it paid more than it would have."""


class _Likeness(NamedTuple):
    common: int
    """Messages from the beginning that are the same."""
    kept: int
    """Bytes of the same messages, behind others that are not."""
    shared: int
    """Bytes of all messages that both have."""


def breaks(turns: Sequence[Turn]) -> list[Break]:
    """The breaks among the calls of one conversation, oldest first."""
    found: list[Break] = []
    seen: list[tuple[Turn, Messages]] = []
    known: Sequence[int] = ()
    own = NO_MESSAGES
    for turn in turns:
        if turn.outcome not in ("served", "abandoned", "cut") or not turn.hashes:
            continue
        own = messages_of(turn.hashes, known, own)
        known = turn.hashes
        before = _before(turn, own, seen)
        if before is not None:
            broken = _compared(turn, *before)
            if broken is not None:
                found.append(broken)
        seen.append((turn, own))
        del seen[:-_LOOK_BACK]
    return found


def _before(
    turn: Turn, own: Messages, seen: Sequence[tuple[Turn, Messages]]
) -> tuple[Turn, Messages, _Likeness] | None:
    """The earlier call that ``turn`` shares most with; of several the latest."""
    best: tuple[Turn, Messages, _Likeness] | None = None
    most = 0
    once = len(set(own.own)) == len(own.own)
    for earlier, theirs in reversed(seen):
        if earlier.ended_us > turn.started_us:
            continue  # It ran beside: nothing of it could have been in the cache.
        if once and theirs.size <= most:
            continue  # It has no more than that at all.
        likeness = _likeness(own, theirs)
        if likeness.shared > most:
            best, most = (earlier, theirs, likeness), likeness.shared
    return best


def _likeness(own: Messages, theirs: Messages) -> _Likeness:
    mine, other, before = own.own, theirs.own, own.before
    length = len(other)
    if mine[:length] == other:
        return _Likeness(length, 0, before[length])
    common = 0
    for here, there in zip(mine, other, strict=False):
        if here != there:
            break
        common += 1
    rest = set(other[common:])
    kept = sum(before[at + 1] - before[at] for at in range(common, len(mine)) if mine[at] in rest)
    return _Likeness(common, kept, before[common] + kept)


def _compared(turn: Turn, earlier: Turn, theirs: Messages, likeness: _Likeness) -> Break | None:
    cause, block = _difference(turn, earlier, likeness, len(theirs.own))
    held = _held(earlier)
    if cause is Cause.HISTORY:
        # What a fork drops could not be read; what is repeated behind the change could have been.
        repeated = likeness.kept * held // max(1, theirs.size)
        expected = min(held, turn.cache_read_tokens + repeated)
        if repeated * 4 < held:
            return None
    else:
        expected = held
    lost = min(expected - turn.cache_read_tokens, turn.input_tokens - turn.cache_read_tokens)
    if lost < max(_LEAST_LOST, expected // 10):
        return None
    if cause is None:
        cause = Cause.LAPSED if turn.started_us - earlier.ended_us > _lives_us(earlier) else Cause.EVICTED
    return Break(turn.call_id, earlier.call_id, cause, block, lost, _extra(turn, lost))


def _difference(turn: Turn, earlier: Turn, likeness: _Likeness, length: int) -> tuple[Cause | None, str]:
    """Why ``turn`` could not read what ``earlier`` left, and the block; None where nothing differs."""
    if turn.model != earlier.model:
        moved = turn.downgraded_from != earlier.downgraded_from
        return (Cause.DOWNGRADE if moved else Cause.MODEL), ""
    if turn.upstream != earlier.upstream:
        return Cause.UPSTREAM, ""
    if turn.tools != earlier.tools:
        same = turn.tools and earlier.tools and turn.tools >> _SHAPE == earlier.tools >> _SHAPE
        return (Cause.TOOL_ORDER if same else Cause.TOOLS), "tools"
    if turn.system != earlier.system:
        same = turn.system and earlier.system and turn.system >> _SHAPE == earlier.system >> _SHAPE
        return (Cause.CLOCK if same else Cause.SYSTEM), "system"
    if likeness.common < length:
        return Cause.HISTORY, f"message {likeness.common + 1}"
    return None, ""


def _held(turn: Turn) -> int:
    """Tokens of a request that the provider had in its cache after it."""
    said = turn.cache_read_tokens + turn.cache_write_tokens
    if turn.cache_write_tokens:
        return said if said >= LEAST_TOKENS else 0
    if turn.rates.cache_write > turn.rates.input:
        # Writing has a price of its own here, and nothing was written: only what was read is held.
        return turn.cache_read_tokens
    if turn.rates.cache_read >= turn.rates.input or turn.input_tokens < LEAST_TOKENS:
        return 0
    return max(said, turn.input_tokens // STEP_TOKENS * STEP_TOKENS)


def _lives_us(turn: Turn) -> int:
    return ONE_HOUR_US if turn.cache_write_1h_tokens else FIVE_MINUTES_US


def _extra(turn: Turn, lost: int) -> int:
    """What was paid for ``lost`` tokens beyond the price of reading them."""
    rates = turn.rates
    written = min(lost, turn.cache_write_tokens)
    paid = written * max(rates.input, rates.cache_write) + (lost - written) * rates.input
    return turn.part(1, max(0, paid - lost * rates.cache_read))

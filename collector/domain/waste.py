"""The waste bill: every dollar of a conversation in exactly one class, by rules, each with its evidence.

What is not named here was *useful*. First what a call as a whole was for nothing, then parts of calls:

failed              it ended in an error and was paid for all the same, or its task is known to have failed
retried             tries that failed before another one was answered
abandoned           the agent left before the end, or never came back with what the model had asked for
duplicate           the same request had been answered before
looped              steps that brought nothing new, in a row of such steps
cache-broken        what was paid more because a prefix was not read from the cache any more
oversized context   an old, large message that was sent along again and again
unneeded reasoning  reasoning out of all proportion to what was answered

Pure: the same rows give the same bill. Parts of one call never overlap and never exceed it.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from collector.domain.prompt_cache import Break, breaks
from collector.domain.runaway import SAME_WORDS, WEIGHTS, Track, observe
from collector.domain.turns import BYTES_PER_TOKEN, NO_MESSAGES, Turn, messages_of


class Waste(StrEnum):
    """What money was spent on, if not on something useful."""

    FAILED = "failed"
    RETRIED = "retried"
    LOOPED = "looped"
    ABANDONED = "abandoned"
    CACHE_BROKEN = "cache-broken"
    OVERSIZED_CONTEXT = "oversized context"
    UNNEEDED_REASONING = "unneeded reasoning"
    DUPLICATE = "duplicate"


USEFUL: Final = "useful"
CLASSES: Final = (USEFUL, *(waste.value for waste in Waste))

LOOP_AT: Final = 450
"""Suspicion from which stale steps in a row are a loop: the same call with the same result four times."""
_LEAST_LOOP: Final = LOOP_AT // max(SAME_WORDS, *WEIGHTS.values())
"""Steps that a loop takes at least: the first few of a row add no more than that each."""
LEFT_ALONE_US: Final = 30 * 60 * 1_000_000
"""After so long without a next call, tools that were asked for are not coming back."""
CARRIED: Final = 3
"""Requests that may carry a large message for nothing; from the next on it is too much."""
LARGE_TOKENS: Final = 8_000
LARGE_SHARE: Final = 3
"""A large message is at least one in so many of its request's bytes."""
REASONING_FREE: Final = 512
REASONING_RATIO: Final = 8
"""Reasoning tokens that go with an answer: so many in any case, and so many for each token of it."""


class Verdict(NamedTuple):
    """What of a call's cost was waste, and why."""

    call_id: str
    waste: Waste
    cost_pico: int
    whole: bool
    """All of what the call cost."""
    because: tuple[str, ...]
    """Other calls that show it."""
    detail: str


class Bill(NamedTuple):
    """What is to be said of one conversation."""

    verdicts: list[Verdict]
    breaks: list[Break]


def judge(
    turns: Sequence[Turn],
    now_us: int,
    *,
    answered: Mapping[str, str] | None = None,
    failed_tasks: Collection[str] = (),
) -> Bill:
    """Judge the calls of one conversation.

    Args:
        turns: its calls, oldest first.
        now_us: the clock; what is younger than `LEFT_ALONE_US` may still go on.
        answered: calls that repeat one of another conversation, with the call that had been answered.
        failed_tasks: calls whose task, conversation or trace is known to have failed.
    """
    whole = _whole_calls(turns, now_us, answered or {}, failed_tasks)
    broken = breaks(turns)
    verdicts = [verdict for verdict in whole.values() if verdict.cost_pico > 0]
    by_call = {one.call_id: one for one in broken}
    large = _oversized(turns)
    for turn in turns:
        left = turn.cost_pico
        if turn.call_id in whole or left <= 0:
            continue
        for verdict in (
            _retried(turn),
            _cache_broken(turn, by_call.get(turn.call_id)),
            large.get(turn.call_id),
            _reasoning(turn),
        ):
            if verdict is not None and (cost := min(left, verdict.cost_pico)) > 0:
                verdicts.append(verdict._replace(cost_pico=cost))
                left -= cost
    return Bill(verdicts, broken)


# ---- calls that were for nothing ----------------------------------------------------------


def _whole_calls(
    turns: Sequence[Turn], now_us: int, answered: Mapping[str, str], failed_tasks: Collection[str]
) -> dict[str, Verdict]:
    found: dict[str, Verdict] = {}

    def all_of(turn: Turn, waste: Waste, because: Sequence[str], detail: str) -> None:
        found.setdefault(
            turn.call_id, Verdict(turn.call_id, waste, turn.cost_pico, True, tuple(because), detail)
        )

    served: dict[tuple[int, ...], str] = {}
    unserved: dict[tuple[int, ...], list[Turn]] = {}
    for turn in turns:
        key = (turn.state, turn.tools, turn.system)
        if turn.outcome not in ("served", "reused"):
            if turn.state:
                unserved.setdefault(key, []).append(turn)
        elif turn.state:
            for tried in unserved.pop(key, ()):
                if tried.outcome in ("failed", "abandoned"):
                    detail = f"{tried.outcome}, then asked again and answered"
                    all_of(tried, Waste.RETRIED, (turn.call_id,), detail)
    looped = _looped(turns)
    for place, turn in enumerate(turns):
        key = (turn.state, turn.tools, turn.system)
        if turn.outcome == "failed":
            all_of(
                turn, Waste.FAILED, (), f"ended in an error: {turn.error_type or turn.reason or 'unknown'}"
            )
        elif turn.outcome == "abandoned":
            all_of(turn, Waste.ABANDONED, (), "the agent left before the end of the reply")
        elif turn.outcome == "cut" and turn.reason:
            all_of(turn, Waste.ABANDONED, (), f"cut: {turn.reason}")
        elif turn.call_id in looped:
            all_of(turn, Waste.LOOPED, looped[turn.call_id], "a step in a row that brought nothing new")
        elif turn.state and key in served:
            all_of(turn, Waste.DUPLICATE, (served[key],), "the same request had been answered before")
        elif turn.call_id in answered:
            all_of(
                turn, Waste.DUPLICATE, (answered[turn.call_id],), "the same request had been answered before"
            )
        elif turn.call_id in failed_tasks:
            all_of(turn, Waste.FAILED, (), "its task is known to have failed")
        elif _left_alone(turns, place, now_us):
            all_of(turn, Waste.ABANDONED, (), "the tools it asked for were never answered")
        if turn.state and turn.outcome == "served":
            served.setdefault(key, turn.call_id)
    return found


def _left_alone(turns: Sequence[Turn], place: int, now_us: int) -> bool:
    """Whether a reply asked for tools and nobody ever came back."""
    turn = turns[place]
    if not turn.calls or turn.outcome != "served" or place < len(turns) - 1:
        return False
    return now_us - turn.ended_us > LEFT_ALONE_US


def _looped(turns: Sequence[Turn]) -> dict[str, tuple[str, ...]]:
    """Stale steps of loops, each with the last fresh call before them."""
    found: dict[str, tuple[str, ...]] = {}
    served = [turn for turn in turns if turn.outcome == "served"]
    if len(served) < _LEAST_LOOP:
        return found
    track = Track()
    run: list[str] = []
    before: tuple[str, ...] = ()
    is_loop = False
    for turn in served:
        weight = observe(track, turn.step())
        if weight:
            run.append(turn.call_id)
            is_loop = is_loop or track.suspicion >= LOOP_AT
            if is_loop:
                found |= dict.fromkeys(run, before)
                run.clear()
        elif not track.stale:
            run.clear()
            before, is_loop = (turn.call_id,), False
    return found


# ---- parts of calls -----------------------------------------------------------------------


def _retried(turn: Turn) -> Verdict | None:
    if turn.failed_pico <= 0:
        return None
    detail = "attempts that failed before one was answered"
    return Verdict(turn.call_id, Waste.RETRIED, turn.failed_pico, False, (), detail)


def _cache_broken(turn: Turn, broken: Break | None) -> Verdict | None:
    if broken is None:
        return None
    at = f" at {broken.block}" if broken.block else ""
    detail = f"{broken.cause.value}{at}: {broken.lost_tokens} tokens were not read from the cache"
    return Verdict(turn.call_id, Waste.CACHE_BROKEN, broken.cost_pico, False, (broken.after,), detail)


def _oversized(turns: Sequence[Turn]) -> dict[str, Verdict]:
    """Large messages that stand in one request after the other, for what they cost beyond the first few."""
    found: dict[str, Verdict] = {}
    carried: dict[int, list[str]] = {}
    known: Sequence[int] = ()
    told = NO_MESSAGES
    for turn in turns:
        if turn.outcome != "served" or turn.input_tokens < 2 * LARGE_TOKENS:
            continue
        told = messages_of(turn.hashes, known, told)
        known = turn.hashes
        if told.largest < LARGE_TOKENS * BYTES_PER_TOKEN:
            continue
        own, before, total = told.own, told.before, told.size
        excess = 0
        since: tuple[str, ...] = ()
        # The last message is what the call is about, the first what the conversation is about.
        for place in range(1, len(own) - 1):
            size = before[place + 1] - before[place]
            if size < LARGE_TOKENS * BYTES_PER_TOKEN or size * LARGE_SHARE < total:
                continue
            carrying = carried.setdefault(own[place], [])
            if len(carrying) >= CARRIED:
                excess += size
                since = (carrying[0],)
            carrying.append(turn.call_id)
        if excess:
            tokens = turn.input_tokens * excess // max(1, total)
            fresh = turn.input_tokens - turn.cache_read_tokens
            paid = min(tokens, fresh) * turn.rates.input + max(0, tokens - fresh) * turn.rates.cache_read
            detail = f"a message of about {excess // BYTES_PER_TOKEN} tokens is carried along since that call"
            found[turn.call_id] = Verdict(
                turn.call_id, Waste.OVERSIZED_CONTEXT, turn.part(1, paid), False, since, detail
            )
    return found


def _reasoning(turn: Turn) -> Verdict | None:
    if turn.reasoning_tokens <= REASONING_FREE:
        return None
    answer = turn.output_tokens - turn.reasoning_tokens
    excess = turn.reasoning_tokens - max(REASONING_FREE, REASONING_RATIO * answer)
    if excess <= 0:
        return None
    detail = f"{turn.reasoning_tokens} tokens of reasoning for {answer} of answer"
    cost = turn.part(excess, turn.rates.output)
    return Verdict(turn.call_id, Waste.UNNEEDED_REASONING, cost, False, (), detail)

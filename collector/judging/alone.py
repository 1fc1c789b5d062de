"""Conversations of one call that asked for no tools: judged by their kind, all of a kind at once.

A load test, or an agent that tries again and again, makes thousands of them a minute. Of such a call the
rules look at a handful of things, and at its money only to see that there is some: so they are asked once for
each kind of call, and what they say holds for all of that kind.
"""

from functools import lru_cache
from typing import Final, NamedTuple

from collector.domain.runs import run_of
from collector.domain.signals import inferred
from collector.domain.turns import Turn
from collector.domain.waste import LARGE_TOKENS, REASONING_FREE, judge

_KINDS: Final = 1024
_CALL, _OTHER = "this", "another"


class Kind(NamedTuple):
    """What the rules look at in a call that stands alone."""

    outcome: str
    reason: str
    error_type: str
    role: str
    said: bool
    """It is known what was said last."""
    known: bool
    """Its messages are."""
    costs: bool
    answered: bool
    """Another conversation had the same request answered before."""
    failed: bool
    """Its task is known to have failed."""


class Finding(NamedTuple):
    """What is to be said of a call of some kind."""

    waste: str | None
    """What all of its cost was, if not useful."""
    detail: str | None
    has_evidence: bool
    """The call that had been answered before shows it."""
    may_be_in_part: bool
    """It cost something, and nobody has said yet what for."""
    signal: str | None
    steps: int
    turns: int


@lru_cache(_KINDS)
def finding(kind: Kind) -> Finding | None:
    """What the rules say of calls of a kind; None where that is not for a kind to say."""
    turn = Turn(
        call_id=_CALL,
        outcome=kind.outcome,
        reason=kind.reason,
        error_type=kind.error_type,
        cost_pico=int(kind.costs),
        hashes=(1,) if kind.known else (),
        role=kind.role,
        said=int(kind.said),
    )
    answered = {_CALL: _OTHER} if kind.answered else {}
    # Without tools nobody waits for their results, and the clock does not matter.
    bill = judge([turn], 0, answered=answered, failed_tasks={_CALL} if kind.failed else ())
    signals = inferred([turn], 0, answered)
    run = run_of([turn], bill.verdicts)
    verdict = bill.verdicts[0] if bill.verdicts else None
    if len(bill.verdicts) > 1 or len(signals) > 1 or bill.breaks or (verdict and not verdict.whole):
        return None
    return Finding(
        waste=verdict.waste.value if verdict else None,
        detail=verdict.detail if verdict else None,
        has_evidence=bool(verdict and verdict.because),
        may_be_in_part=kind.costs and verdict is None,
        signal=signals[0].signal.value if signals else None,
        steps=run.steps,
        turns=run.turns,
    )


def may_be_partly_wasted(attempts: int, reasoning_tokens: int, input_tokens: int) -> bool:
    """Whether a part of what a call cost may have been waste, so that it has to be looked at by itself."""
    return attempts > 1 or reasoning_tokens > REASONING_FREE or input_tokens >= 2 * LARGE_TOKENS

"""What a conversation itself says of how it ended, where nobody said: guesses, and marked as such."""

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import NamedTuple

from collector.domain.turns import Turn
from collector.domain.waste import LEFT_ALONE_US


class Signal(StrEnum):
    """Each speaks of something that went wrong; that nothing did is no sign of success."""

    USER_RETRY = "user retry"
    """The same request was sent again although it had been answered."""
    REPEATED_QUESTION = "repeated question"
    """A person asked the same again, later or in another conversation."""
    ABANDONED_RUN = "abandoned run"
    """The agent left, or never came back with what tools had said."""
    TOOL_ERROR_AT_END = "tool error at the end"
    """The last thing that the model was told is that a tool had failed."""


class Inferred(NamedTuple):
    """One guess, and the call that shows it."""

    signal: Signal
    call_id: str


def inferred(turns: Sequence[Turn], now_us: int, repeated: Collection[str] = ()) -> list[Inferred]:
    """What the calls of one conversation, oldest first, show; one of each kind at most.

    ``repeated``: calls that ask what another conversation had asked before.
    """
    found: dict[Signal, str] = {}
    states: set[int] = set()
    questions: set[int] = set()
    for turn in turns:
        if turn.state and turn.state in states and turn.role == "user":
            found.setdefault(Signal.USER_RETRY, turn.call_id)
        elif turn.role == "user" and turn.said and (turn.said in questions or turn.call_id in repeated):
            found.setdefault(Signal.REPEATED_QUESTION, turn.call_id)
        if turn.role == "user" and turn.said:
            questions.add(turn.said)
        if turn.state and turn.outcome == "served":
            states.add(turn.state)
    if turns:
        last = turns[-1]
        left = last.calls and last.outcome == "served" and now_us - last.ended_us > LEFT_ALONE_US
        if last.outcome == "abandoned" or left:
            found.setdefault(Signal.ABANDONED_RUN, last.call_id)
        elif last.errors and not last.calls:
            found.setdefault(Signal.TOOL_ERROR_AT_END, last.call_id)
    return [Inferred(signal, call_id) for signal, call_id in found.items()]

"""What a conversation comes to as a piece of work: steps, turns, retries, tools and what they cost."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from collector.domain.turns import Turn
from collector.domain.waste import Verdict, Waste


class Run(NamedTuple):
    """The figures of one conversation."""

    steps: int
    """Calls that were sent to a model."""
    turns: int
    """Times that somebody said something, rather than a tool."""
    retries: int
    looped: int
    tool_calls: int
    tool_errors: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cost_pico: int
    wasted_pico: int


class ToolUse(NamedTuple):
    """What one tool was asked for in one conversation."""

    tool: str
    uses: int
    repeats: int
    """Uses with the very arguments of an earlier one."""
    errors: int
    """Results that said they were errors, as far as dialects tell."""
    cost_pico: int
    """What the model calls cost that asked for it; where they asked for several, an equal part."""
    declared_pico: int
    """What the tool itself costs, as the configuration says."""


def run_of(turns: Sequence[Turn], verdicts: Sequence[Verdict]) -> Run:
    """The figures of a conversation that was judged."""
    sent = [turn for turn in turns if turn.outcome != "refused"]
    return Run(
        steps=len(sent),
        turns=max(1, sum(turn.role == "user" for turn in sent)),
        retries=len({one.call_id for one in verdicts if one.waste is Waste.RETRIED}),
        looped=sum(one.waste is Waste.LOOPED for one in verdicts),
        tool_calls=sum(len(turn.calls) for turn in turns),
        tool_errors=sum(turn.errors for turn in turns),
        input_tokens=sum(turn.input_tokens for turn in turns),
        output_tokens=sum(turn.output_tokens for turn in turns),
        cache_read_tokens=sum(turn.cache_read_tokens for turn in turns),
        cost_pico=sum(turn.cost_pico for turn in turns),
        wasted_pico=sum(one.cost_pico for one in verdicts),
    )


def tools_of(
    turns: Sequence[Turn], names: Mapping[str, Sequence[str]], declared: Mapping[str, int]
) -> list[ToolUse]:
    """What each tool was asked for.

    Args:
        turns: the calls of a conversation, oldest first.
        names: of the tools that each call asked for, by call.
        declared: what one use of a tool costs, in pico-USD.
    """
    uses: dict[str, list[int]] = {}
    seen: set[int] = set()
    asked: Sequence[str] = ()
    for turn in turns:
        if turn.errors and asked:
            # Dialects say how many results failed, not which: the last tools asked for are told.
            for name in asked[-turn.errors :]:
                uses[name][2] += 1
        asked = names.get(turn.call_id, ()) or (() if turn.role == "user" else asked)
        mine = names.get(turn.call_id, ())
        for place, name in enumerate(mine):
            row = uses.setdefault(name, [0, 0, 0, 0])
            row[0] += 1
            digest = turn.calls[place] if place < len(turn.calls) else 0
            row[1] += digest in seen
            seen.add(digest)
            share, rest = divmod(turn.cost_pico, len(mine))
            row[3] += share + (rest if place == 0 else 0)
    return [
        ToolUse(name, count, repeats, errors, cost, count * declared.get(name, 0))
        for name, (count, repeats, errors, cost) in uses.items()
    ]

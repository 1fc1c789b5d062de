"""How the conversation behind a page stands: turns, money, whether it goes in a circle, the last tools.

Pure: the calls come from whoever asks the ledger.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import groupby, pairwise
from typing import Any

MOST_CALLS = 40
"""The newest calls that are looked at."""
MOST_TOOLS = 6
LOOP_SHARE = 0.5
"""Part of them that must be alike to speak of a loop; three calls at least."""


def state_of(conversation: str, turns: int, cost_usd: Decimal, newest: Sequence[Mapping[str, Any]]) -> str:
    """One line about a conversation.

    Args:
        conversation: its id.
        turns: calls that it has had.
        cost_usd: what they cost.
        newest: rows of ``calls``, newest first.
    """
    told = [f"{conversation}: {turns} {'turn' if turns == 1 else 'turns'}, {cost_usd:.2f} USD so far"]
    told += loop_evidence(newest)
    if tools := last_tools(newest):
        told.append(f"last tools {tools}")
    return "; ".join(told)


def loop_evidence(newest: Sequence[Mapping[str, Any]]) -> list[str]:
    """What speaks for a conversation that goes in a circle; nothing where it goes on."""
    seen = newest[:MOST_CALLS]
    found = []
    sent = Counter(tuple(row.get("message_hashes") or ())[-1:] for row in seen)
    sent.pop((), None)
    asked = Counter(tuple(row.get("tool_names") or ()) for row in seen)
    asked.pop((), None)
    for alike, what in ((sent, "sent the same messages"), (asked, "asked for the same tools")):
        most, count = max(alike.items(), key=lambda item: item[1], default=((), 0))
        if count >= max(3, LOOP_SHARE * len(seen)):
            names = f" ({', '.join(map(str, most))})" if alike is asked else ""
            found.append(f"{count} of the last {len(seen)} calls {what}{names}")
    inputs = [int(row.get("input_tokens") or 0) for row in reversed(seen)]
    if len(inputs) >= 4 and all(later > earlier > 0 for earlier, later in pairwise(inputs)):
        found.append(f"the input grew with every call, from {inputs[0]} to {inputs[-1]} tokens")
    return found


def last_tools(newest: Sequence[Mapping[str, Any]]) -> str:
    """The tools asked for last, oldest first, in a row counted once: ``search x4, read``."""
    names = [str(name) for row in reversed(newest[:MOST_CALLS]) for name in row.get("tool_names") or ()]
    runs = [(name, len(list(run))) for name, run in groupby(names)]
    return ", ".join(name if times == 1 else f"{name} x{times}" for name, times in runs[-MOST_TOOLS:])

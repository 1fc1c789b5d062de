"""Conversations to stitch: real coding sessions told as messages, and ones in the SDKs' own shapes."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support.stitchers import Placed, Stitchers

from collector.domain.stitching import Via
from sidecar.wire.hashing import fold

BLOCK_BYTES = 250
"""Of a block of 64 tokens, about."""


class Turn(NamedTuple):
    """One call: whom it is of in truth, and what the sidecar would know of it."""

    truth: str
    hashes: list[int]
    reply: int
    session: str = ""
    after: int | None = None
    """The call of its session that it goes on from, where that is known; -1 for none."""


@dataclass
class Request:
    """A row of the real sessions."""

    agent: str
    at: float
    ranges: list[tuple[int, int]]
    shared: int
    """Blocks of tools and system prompt."""
    written: int
    """Blocks of the reply."""
    known: int = 0
    """Leading blocks that the session has had before."""
    parent: "Request | None" = None
    cut: int = 0
    """Where its last message ends, in blocks: the last block is half full, and another one later."""
    ends: list[int] = field(default_factory=list)
    """Where its messages end, in blocks."""
    hashes: list[int] = field(default_factory=list)
    reply: int = 0
    truth: str = ""

    @property
    def blocks(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)

    def holds(self, block: int) -> bool:
        return any(first <= block <= last for first, last in self.ranges)

    def block(self, number: int) -> int:
        """The id of its block ``number``, counted from 1: it stands for all blocks up to there."""
        for first, last in self.ranges:
            if number <= last - first + 1:
                return first + number - 1
            number -= last - first + 1
        raise IndexError(number)


def sessions(folder: Path, every: int = 1) -> Iterator[tuple[str, list[Request]]]:
    """Each ``every``-th real session: its requests in order of time, each with its parent.

    Block ids stand for the whole prefix up to them, so the leading blocks that a session has had
    before are those whose ids it has had.
    """
    import pyarrow.parquet as pq

    names = ["trace_id", "agent_id", "t_s", "subagent_t0_s", "tool_tokens", "system_tokens"]
    names += ["output_tokens", "block_ranges"]
    table = pq.read_table(folder / "llm_traces" / "agentic_coding_sessions.parquet", columns=names)
    found: dict[str, list[Request]] = {}
    for row in table.to_pylist():
        ranges = [
            (int(a), int(b or a))
            for a, _, b in (part.partition("-") for part in row["block_ranges"].split(","))
        ]
        shared = (row["tool_tokens"] + row["system_tokens"]) // 64
        request = Request(
            row["agent_id"],
            row["t_s"] + (row["subagent_t0_s"] or 0.0),
            ranges,
            shared,
            row["output_tokens"] // 64 + 1,
        )
        found.setdefault(row["trace_id"], []).append(request)
    for number, (name, requests) in enumerate(found.items()):
        if number % every == 0:
            requests.sort(key=lambda request: (request.at, request.agent != "main"))
            _relate(name, requests)
            yield name, requests


def _relate(name: str, requests: list[Request]) -> None:
    """Find each request's parent: the last before it whose messages, beyond the system prompt, it holds."""
    seen: set[int] = set()
    for number, request in enumerate(requests):
        for first, last in request.ranges:
            new = bisect_left(range(first, last + 1), True, key=lambda block: block not in seen)
            request.known += new
            if new <= last - first:
                break
        for first, last in request.ranges:
            seen.update(range(first, last + 1))
        if request.known:
            block = request.block(request.known)
            parent = next((old for old in reversed(requests[:number]) if old.holds(block)), None)
            if parent and (request.known > request.shared + 1 or request.known >= parent.blocks - 2):
                request.parent = parent
        request.truth = request.parent.truth if request.parent else f"{name}/{number}"
        request.cut = request.blocks
    for request in requests:
        parent = request.parent
        if parent is not None and request.known >= parent.blocks - 2:
            parent.cut = min(parent.cut, request.known)


def turns(name: str, requests: list[Request]) -> list[Turn]:
    """The calls of a session, with a message for what each call gained, and one for each reply.

    The text of a message is made of the ids of its blocks. Those of the system prompt are written alike
    in all sessions, as agents of one make share it: nothing but the rest tells two sessions apart.
    """
    for request in requests:
        parent = request.parent
        if parent is None:
            ends = [min(request.shared, request.cut - 1), request.cut]
        else:
            ends = [end for end in parent.ends if end <= request.known]
            request.hashes = parent.hashes[: len(ends)]
            whole = len(ends) == len(parent.ends)
            if whole and parent.cut + 1 < request.cut:
                # What a model thinks is not sent back, so the reply may be shorter than it was.
                ends.append(min(parent.cut + parent.written, request.cut - 1))
            if request.cut > (ends[-1] if ends else 0):
                ends.append(request.cut)
        request.ends = ends = [end for end in ends if end > 0]
        for position in range(len(request.hashes), len(ends)):
            end = ends[position]
            first = position == 0 and parent is None and request.block(end) == end
            text = f"system {end}" if first else f"{name} {request.block(end)}"
            size = (end - (ends[position - 1] if position else 0)) * BLOCK_BYTES
            before = request.hashes[-1] if request.hashes else 0
            request.hashes.append(fold(before, "user", text.encode().ljust(size, b".")))
        if parent is not None and not parent.reply and len(ends) >= len(parent.ends) + 2:
            parent.reply = request.hashes[len(parent.ends)]
    places = {id(request): number for number, request in enumerate(requests)}
    return [
        Turn(
            request.truth,
            request.hashes,
            request.reply or fold(request.hashes[-1], "assistant", f"{name} {number}".encode()),
            name,
            places[id(request.parent)] if request.parent else -1,
        )
        for number, request in enumerate(requests)
    ]


@dataclass
class Score:
    """How well calls were placed."""

    calls: int = 0
    right: int = 0
    """In the conversation that most calls of the same truth are in."""
    merged: int = 0
    """Calls in a conversation that is mostly of another truth."""
    linked: int = 0
    """Calls that are with the call they go on from, or by themselves where there is none."""
    placements: list[Placed] = field(default_factory=list)

    @property
    def share(self) -> float:
        return self.right / self.calls


def stitch(
    turns: list[Turn], stitcher: Stitchers | None = None, scope: tuple[str, ...] = ("t",), **how: Any
) -> Score:
    """Place ``turns`` in order, and score what came of it."""
    stitcher = stitcher or Stitchers()
    score = Score()
    for number, turn in enumerate(turns):
        placement = stitcher.place(scope, turn.hashes, f"c{number}", **how)
        stitcher.settle(placement, turn.reply)
        score.placements.append(placement)
    return scored(turns, score)


def scored(turns: list[Turn], score: Score) -> Score:
    pairs = Counter(
        (turn.truth, place.conversation_id) for turn, place in zip(turns, score.placements, strict=True)
    )
    best: dict[str, tuple[int, str]] = {}
    owner: dict[str, tuple[int, str]] = {}
    for (truth, conversation), count in pairs.items():
        best[truth] = max(best.get(truth, (0, "")), (count, conversation))
        owner[conversation] = max(owner.get(conversation, (0, "")), (count, truth))
    score.calls = len(turns)
    by_session: dict[str, list[str]] = {}
    for turn, place in zip(turns, score.placements, strict=True):
        placed = by_session.setdefault(turn.session, [])
        if turn.after is not None:
            score.linked += (
                (place.via is Via.NEW) if turn.after < 0 else placed[turn.after] == place.conversation_id
            )
        placed.append(place.conversation_id)
    score.right = sum(count for (truth, name), count in pairs.items() if best[truth][1] == name)
    score.merged = sum(count for (truth, name), count in pairs.items() if owner[name][1] != truth)
    return score


@pytest.fixture(name="stitch")
def stitch_fixture() -> Callable[..., Score]:
    """Places calls and scores what came of it."""
    return stitch


@pytest.fixture
def coding_turns(shared_data: Path) -> Callable[[int], list[list[Turn]]]:
    """The calls of every nth real session."""
    return lambda every: [turns(name, requests) for name, requests in sessions(shared_data, every)]

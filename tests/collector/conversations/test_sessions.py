"""Real coding sessions: 348 of them, some with sub-agents, all under one key, one system prompt for many."""

from collections.abc import Callable
from typing import Any

import pytest
from support.stitchers import Stitchers


def one_stream(sessions: list[list[Any]]) -> list[Any]:
    """The calls of all sessions, a turn of each after a turn of each."""
    longest = max(map(len, sessions))
    return [session[turn] for turn in range(longest) for session in sessions if turn < len(session)]


def check(score: Any, turns: list[Any]) -> None:
    # What is missing are requests whose very first message was changed: no message of theirs was seen before.
    assert score.linked / score.calls >= 0.99
    assert score.merged == 0
    sessions: dict[str, set[str]] = {}
    for turn, placement in zip(turns, score.placements, strict=True):
        sessions.setdefault(placement.conversation_id, set()).add(turn.session)
    assert all(len(names) == 1 for names in sessions.values())


def test_calls_of_real_sessions_are_with_the_calls_they_go_on_from(
    coding_turns: Callable[[int], list[list[Any]]], stitch: Callable[..., Any]
) -> None:
    turns = one_stream(coding_turns(8))

    check(stitch(turns), turns)


@pytest.mark.slow
def test_all_real_sessions_at_once(
    coding_turns: Callable[[int], list[list[Any]]], stitch: Callable[..., Any]
) -> None:
    turns = one_stream(coding_turns(1))
    stitcher = Stitchers()
    score = stitch(turns, stitcher)

    check(score, turns)
    assert score.calls == 23_073
    print(f"{score.linked / score.calls:.4%} of {score.calls} calls, {stitcher.hashes} hashes")

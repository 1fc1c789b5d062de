"""What a page says of the conversation behind it."""

from decimal import Decimal
from typing import Any

from alerts.conversation import last_tools, loop_evidence, state_of


def rows(*calls: tuple[int, list[str], int]) -> list[dict[str, Any]]:
    """(hash of what was sent, tools asked for, input tokens) of each call, oldest first."""
    made = [
        {"message_hashes": [1, sent], "tool_names": tools, "input_tokens": size}
        for sent, tools, size in calls
    ]
    return made[::-1]


def test_a_loop_is_told_by_what_is_sent_again_and_which_tools_are_asked_for_again() -> None:
    circle = rows((5, ["read"], 900), *[(7, ["search", "open"], 1000)] * 4)

    assert state_of("talk", 12, Decimal("3.456"), circle) == (
        "talk: 12 turns, 3.46 USD so far; 4 of the last 5 calls sent the same messages; "
        "4 of the last 5 calls asked for the same tools (search, open); "
        "last tools search, open, search, open, search, open"
    )


def test_growing_without_an_end_is_told() -> None:
    growing = rows(*[(n, ["read"] if n == 2 else [], 1000 * n) for n in range(1, 6)])

    assert loop_evidence(growing) == ["the input grew with every call, from 1000 to 5000 tokens"]


def test_an_ordinary_conversation_gives_no_evidence() -> None:
    calls = [(1, ["read"], 500), (2, [], 700), (3, ["write"], 650), (4, ["read"], 900), (5, ["test"], 880)]

    assert loop_evidence(rows(*calls)) == []
    assert loop_evidence([]) == []
    assert state_of("talk", 1, Decimal(0), []) == "talk: 1 turn, 0.00 USD so far"


def test_a_tool_that_is_asked_for_in_a_row_is_counted() -> None:
    assert (
        last_tools(rows((1, ["read"], 1), *[(2, ["search"], 1)] * 4, (3, ["read"], 1)))
        == "read, search x4, read"
    )

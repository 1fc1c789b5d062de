"""Conversations of all kinds, as calls: of one call and of several, with and without a name."""

import random
from collections.abc import Callable

from collector.domain.record import AttemptRecord, CallRecord

SECOND_US = 1_000_000


def talks_of_all_kinds(
    seed: int,
    make_call: Callable[..., CallRecord],
    make_attempt: Callable[..., AttemptRecord],
    at_us: int,
    *,
    talks: int,
) -> list[CallRecord]:
    """Calls of ``talks`` conversations; many of them repeat what was asked in another."""
    chance = random.Random(seed)
    requests = [[chance.getrandbits(62) for _ in range(chance.choice((1, 2, 2, 5)))] for _ in range(6)]
    calls: list[CallRecord] = []
    for number in range(talks):
        name = chance.choice(("", f"talk-{seed}-{number}", f"talk-{seed}-{number}", f"shared-{number % 7}"))
        history = list(chance.choice([*requests, [], [0], [chance.getrandbits(62)]]))
        for step in range(chance.choice((1, 1, 1, 1, 1, 2, 5))):
            started_us = at_us + (number * 20 + step * 3) * SECOND_US
            calls.append(_call(chance, make_call, make_attempt, name, history, started_us))
            history += [chance.getrandbits(62) for _ in range(chance.choice((0, 1, 2)))]
    return calls


def _call(
    chance: random.Random,
    make_call: Callable[..., CallRecord],
    make_attempt: Callable[..., AttemptRecord],
    name: str,
    history: list[int],
    started_us: int,
) -> CallRecord:
    outcome = chance.choice(("served",) * 12 + ("failed", "abandoned", "cut", "refused", "reused"))
    cost = chance.choice((0, 1, 7_654_321, 2_000_000_000_000))
    tried = chance.choice((1, 1, 1, 1, 3))
    attempts = [
        make_attempt(
            0 if outcome == "refused" else cost // tried + (cost % tried if place == tried - 1 else 0),
            started_us,
            attempt=place + 1,
            error_type="" if place == tried - 1 else "timeout",
        )
        for place in range(tried)
    ]
    tools = chance.choice((0, 0, 0, 0, 0, 1, 2))
    tokens = chance.choice((10, 1200, 15_999, 16_000, 50_000))
    return make_call(
        call_id=f"{chance.getrandbits(60):015x}",
        started_at_us=started_us,
        duration_us=chance.choice((0, 1, 1_234_567, 2_500_001)),
        tenant=chance.choice(("acme", "acme", "")),
        conversation_id=name,
        task_id=chance.choice(("", f"task-{chance.randrange(8)}")),
        user_id=chance.choice(("u1", "u1", "u2")),
        tags=chance.choice(({}, {"env": "prod"}, {"env": "test", "team": "ä"})),
        outcome=outcome,
        outcome_reason=chance.choice(("", "", "budget", "loop")),
        error_type=chance.choice(("timeout", "")) if outcome == "failed" else "",
        cost=cost,
        attempts=tuple(attempts),
        input_tokens=tokens,
        cache_read_input_tokens=chance.choice((0, tokens // 2)),
        reasoning_output_tokens=chance.choice((0, 0, 512, 513, 5000)),
        message_hashes=list(history),
        last_message_hash=chance.choice((0, chance.getrandbits(62))),
        tool_call_hashes=[chance.getrandbits(62) for _ in range(tools)],
        tool_names=[chance.choice(("search", "read")) for _ in range(tools)],
        tool_errors=chance.choice((0, 0, 0, 1)),
        input_role=chance.choice(("user", "user", "tool", "system", "")),
        input_hash=chance.choice((0, 4711, 4711, chance.getrandbits(62))),
        tools_hash=chance.choice((0, 0, 11)),
        system_hash=chance.choice((0, 12, 12)),
    )

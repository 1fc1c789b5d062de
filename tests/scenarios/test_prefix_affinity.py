"""What it brings to send calls where their beginning is cached, on two replicas with small caches."""

import asyncio
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path

import pytest
from support.prefix_groups import BLOCK_TOKENS, BLOCKS, CALLS, GROUPS, ask_all, bodies
from support.stack import Stack, simulator, wait_for

WAYS = ("prefix", "round_robin")
PRICE = {"input": "1", "output": "4", "cache_read": "0.1"}  # USD per million tokens


@pytest.mark.slow
def test_calls_that_begin_alike_find_their_beginning_cached(tmp_path: Path) -> None:
    kv = ("--speed", "0", "--kv-blocks", str(BLOCKS), "--kv-block-tokens", str(BLOCK_TOKENS))
    with ExitStack() as running:
        upstreams = {}
        for way in WAYS:
            replicas = [running.enter_context(simulator(*kv)) for _ in range(2)]
            upstreams[way] = {"kind": "vllm", "replicas": replicas, "balance": way}
        models = {f"qwen-{way}": {"upstream": way} for way in WAYS}
        settings = {"models": models, "prices": {name: dict(PRICE) for name in models}}
        stack = running.enter_context(Stack(tmp_path / "stack", upstreams, settings))

        read = {way: asyncio.run(ask_all(stack.url, bodies(f"qwen-{way}", "groups"))) for way in WAYS}

        wait_for("every call", lambda: stack.total("calls") == len(WAYS) * GROUPS * CALLS)
        rows = {row["request_model"]: row for row in stack.ask("spend_by", by="request_model")}
        usd = {way: Decimal(rows[f"qwen-{way}"]["list_cost_usd"]) for way in WAYS}

    prefix, in_turn = (read[way] for way in WAYS)
    for way in WAYS:
        print(f"\n{way}: {read[way].hit_ratio:.3f} of prompt tokens from the cache, {usd[way]} USD", end="")
        booked = rows[f"qwen-{way}"]
        assert (booked["input_tokens"], booked["cache_read_input_tokens"]) == read[way]
    assert prefix.tokens == in_turn.tokens
    # The first of nine calls of a group finds nothing, the others at most 5 blocks of 128 tokens.
    most = 8 / 9 * 640 * GROUPS * CALLS / prefix.tokens
    assert 0.80 <= prefix.hit_ratio <= most
    # Both replicas see all groups, and each keeps 14 of 22.
    assert in_turn.hit_ratio < 0.60
    # A cached token costs 0.9 USD per million less.
    saved = Decimal(prefix.cached - in_turn.cached) * Decimal("0.9") / 10**6
    assert usd["round_robin"] - usd["prefix"] == saved > 0

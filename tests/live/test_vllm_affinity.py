"""What it brings on two real servers to send calls where their beginning is cached: hits and dollars."""

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.prefix_groups import (
    AT_ONCE,
    CALLS,
    GROUPS,
    PREFIX_TOKENS,
    Read,
    ask_all,
    bodies,
    text,
)
from support.stack import Stack, wait_for
from support.vllm_servers import Servers

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

WAYS = ("prefix", "round_robin")


@pytest.fixture
def ways(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    """The same two servers as two upstreams, which differ in how calls are shared among them."""
    replicas = [servers.url("one"), servers.url("two")]
    upstreams = {
        way: {"kind": "vllm", "replicas": replicas, "balance": way, "gpu_hour_usd": "3.60"} for way in WAYS
    }
    settings = {
        "models": {f"tiny-{way}": {"upstream": way, "model": "tiny"} for way in WAYS},
        "prices": {"tiny": {"input": "1", "output": "4", "cache_read": "0.1"}},
    }
    with Stack(tmp_path / "stack", upstreams, settings) as made:
        yield made


def letters_a_token(servers: Servers) -> float:
    """Of the texts that are asked, by the engine's own tokenizer."""
    sample = text(20_000, "sample")
    reply = httpx.post(f"{servers.url('one')}/tokenize", json={"model": "tiny", "prompt": sample}, timeout=60)
    return len(sample) / float(reply.json()["count"])


def told(servers: Servers) -> Read:
    """What the engines have counted so far."""
    names = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total")
    queries, hits = [sum(servers.metric(one, name) for one in ("one", "two")) for name in names]
    return Read(round(queries), round(hits))


def test_calls_find_their_beginning_where_they_are_sent(ways: Stack, servers: Servers) -> None:
    letters = letters_a_token(servers)
    by_usage: dict[str, Read] = {}
    by_engine: dict[str, Read] = {}
    for way in WAYS:
        before = told(servers)
        # Other texts for each way: neither finds what the other left.
        by_usage[way] = asyncio.run(ask_all(ways.url, bodies(f"tiny-{way}", way, letters)))
        after = told(servers)
        by_engine[way] = Read(after.tokens - before.tokens, after.cached - before.cached)

    wait_for("every call", lambda: ways.total("calls") == len(WAYS) * GROUPS * CALLS)
    rows: dict[str, Any] = {row["upstream"]: row for row in ways.ask("spend_by", by="upstream")}
    print(f"\n{GROUPS} groups x {CALLS} calls, {PREFIX_TOKENS} tokens in common, {AT_ONCE} at once")
    for way in WAYS:
        read, booked = by_usage[way], rows[way]
        print(
            f"{way:<12} hit ratio {read.hit_ratio:.3f} (engine {by_engine[way].hit_ratio:.3f}),"
            f" {booked['list_cost_usd']} USD at list price"
        )
        assert read.hit_ratio == pytest.approx(by_engine[way].hit_ratio, abs=0.02)
        assert (booked["input_tokens"], booked["cache_read_input_tokens"]) == read
    prefix, in_turn = (by_usage[way] for way in WAYS)
    assert prefix.hit_ratio >= 0.80
    assert in_turn.hit_ratio < 0.60
    # What is not computed again: 0.9 USD a million at list price.
    saved = [Decimal(rows[way]["list_cost_usd"]) for way in WAYS]
    assert saved[0] < saved[1]

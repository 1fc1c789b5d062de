"""Two servers on one GPU: together they have room for the beginnings of all groups, and neither alone."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support.gpu import MODEL
from support.prefix_groups import BLOCK_TOKENS, BLOCKS, CALLS, GROUPS, ask_all, bodies, text
from support.stack import Stack, wait_for
from support.vllm_servers import Servers

from tests.gpu.conftest import kv_bytes, server

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

WAYS = ("prefix", "round_robin")


async def test_prefix_affinity(
    serve: Callable[..., Servers], stack_of: Callable[..., Stack], model: Path, tell: Callable[..., None]
) -> None:
    """Prefix hits and dollars of calls that are sent where their beginning is cached, beside each in turn."""
    options = {
        "kv_cache_memory_bytes": str(kv_bytes(BLOCKS * BLOCK_TOKENS)),
        "max_model_len": "4096",
        "gpu_memory_utilization": "0.4",
        "block_size": str(BLOCK_TOKENS),
    }
    servers = serve(
        one=server(model, "prefix-caching", **options), two=server(model, "prefix-caching", **options)
    )
    replicas = [servers.url("one"), servers.url("two")]
    stack = stack_of(
        **{
            way: {"kind": "vllm", "replicas": replicas, "balance": way, "gpu_hour_usd": "3.60"}
            for way in WAYS
        }
    )
    sample = text(20_000, "sample")
    counted = httpx.post(
        f"{replicas[0]}/tokenize", json={"model": MODEL, "prompt": sample}, timeout=60
    ).json()

    read = {}
    for way in WAYS:
        read[way] = await ask_all(stack.url, bodies(way, way, len(sample) / counted["count"]))
    wait_for("every call", lambda: stack.total("calls") == len(WAYS) * GROUPS * CALLS)
    rows = {row["upstream"]: row for row in stack.ask("spend_by", by="upstream")}
    for way in WAYS:
        tell(f"prefix hits, {way}", read[way].hit_ratio, "of prompt tokens")
        tell(f"the same calls at list price, {way}", float(rows[way]["list_cost_usd"]), "USD")
    assert read["prefix"].hit_ratio >= 0.80
    assert read["round_robin"].hit_ratio < 0.65

"""Two servers that differ in how they keep keys and values: 16 bits each, or 8."""

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from support.gpu import REHEARSAL, press
from support.stack import Stack
from support.vllm_servers import Servers

from collector.probes.vllm_metrics import parse
from tests.gpu.conftest import kv_bytes, server

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

SECONDS = 8.0 if REHEARSAL else 30.0
KV = str(kv_bytes(65_536))


def capacity(servers: Servers, name: str) -> int:
    """Tokens that fit into a server's KV cache."""
    told = parse(httpx.get(f"{servers.url(name)}/metrics", timeout=60).text, 0)
    assert told.kv_cache_tokens is not None
    return told.kv_cache_tokens


async def test_fp8_kv(
    serve: Callable[..., Servers], stack_of: Callable[..., Stack], model: Path, tell: Callable[..., None]
) -> None:
    """An fp8 KV cache on and off: how many tokens fit into the same memory, and tokens a second."""
    servers = serve(
        plain=server(model, "balanced", kv_cache_memory_bytes=KV, gpu_memory_utilization="0.4"),
        fp8=server(model, "fp8-kv", kv_cache_memory_bytes=KV, gpu_memory_utilization="0.4"),
    )
    stack = stack_of(**{name: {"kind": "vllm", "replicas": [servers.url(name)]} for name in ("plain", "fp8")})

    fit = {name: capacity(servers, name) for name in ("plain", "fp8")}
    for name, what in (("plain", "16 bits"), ("fp8", "fp8")):
        await press(stack.url, 8, 2, model=name, output=16)
        got = await press(stack.url, 48, SECONDS, model=name)
        tell(f"output tokens a second, KV in {what}, 48 at once", got.output_rate, "tok/s")
        tell(f"tokens that fit into {int(KV) / 2**30:.2f} GiB of KV in {what}", fit[name], "")
        assert got.output_tokens == got.calls * 256
    assert fit["fp8"] == pytest.approx(2 * fit["plain"], rel=0.05)

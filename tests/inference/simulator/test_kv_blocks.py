"""What one simulated vLLM server keeps of prompts."""

import json
from typing import Any

import httpx

from collector.probes.vllm_metrics import parse
from inference.simulator.kv_blocks import KvBlocks

BLOCK = 16 * 4
"""Bytes of a block of 16 tokens."""


def prompt(*blocks: str, more: str = "") -> bytes:
    """One block for each letter, and some bytes that fill none."""
    return ("".join(letter * BLOCK for letter in blocks) + more).encode()


def read(kv: KvBlocks, text: bytes, model: str = "m") -> int:
    return kv.read(model, text, -(-len(text) // 4))


def test_whole_blocks_from_the_beginning_are_found_again() -> None:
    kv = KvBlocks(8, 16)
    assert read(kv, prompt("a", "b", more="who?")) == 0
    assert read(kv, prompt("a", "b", more="else")) == 32
    assert read(kv, prompt("a", "c", more="else")) == 16
    assert read(kv, prompt("b", "a", more="else")) == 0  # not from the beginning
    assert read(kv, prompt("a", more="else"), model="other") == 0
    assert (kv.queries, kv.hits) == (33 * 4 + 17, 48)


def test_the_last_token_is_always_computed() -> None:
    kv = KvBlocks(8, 16)
    read(kv, prompt("a", "b"))
    assert read(kv, prompt("a", "b")) == 16


def test_the_ends_of_prompts_are_given_up_first_and_the_longest_unused_of_all() -> None:
    kv = KvBlocks(4, 16)
    read(kv, prompt("a", "b", "c", more="."))
    read(kv, prompt("x", "y", more="."))  # four are kept: a, b of the first prompt remain
    assert read(kv, prompt("a", "b", "c", more=".")) == 32
    # Now a, b, c and one of x, y: its beginning.
    assert read(kv, prompt("x", "y", more=".")) == 16


async def test_models_of_own_servers_are_cached_in_blocks_and_told_of(start_simulator: Any) -> None:
    running = await start_simulator(kv_blocks=64, kv_block_tokens=32)
    content = [{"role": "user", "content": "word " * 400}]

    async def ask(model: str) -> dict[str, Any]:
        body = json.dumps({"model": model, "max_tokens": 2, "messages": content}).encode()
        reply = await running.raw("/v1/chat/completions", body)
        return json.loads(reply.partition(b"\r\n\r\n")[2])["usage"]

    first, second, hosted = [await ask(model) for model in ("qwen3-8b", "qwen3-8b", "gpt-5-nano")]

    assert not first["prompt_tokens_details"]
    tokens = second["prompt_tokens"]
    assert second["prompt_tokens_details"]["cached_tokens"] == tokens // 32 * 32
    assert not hosted["prompt_tokens_details"]["cached_tokens"]
    async with httpx.AsyncClient() as client:
        told = parse((await client.get(f"{running.base_url}/metrics")).text, 0)
    assert (told.block_size, told.kv_cache_tokens) == (32, 2048)
    assert told.counters["prefix_cache_hit_tokens"] == tokens // 32 * 32

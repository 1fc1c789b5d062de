"""Calls of own GPUs are admitted and charged at what a token was measured to cost of late."""

import json
import time
import urllib.error
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

from support.stack import Stack, simulator, wait_for

from collector.probes.live_prices import FILE

PRICES = {"qwen3-8b": {"input": "1", "output": "4"}}  # USD per million tokens


def ask(stack: Stack, words: int = 20, tokens: int = 10) -> tuple[int, dict[str, Any]]:
    body = {
        "model": "qwen3-8b",
        "max_tokens": tokens,
        "messages": [{"role": "user", "content": "word " * words}],
    }
    request = urllib.request.Request(
        f"{stack.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def measured(stack: Stack, **prices: int) -> None:
    told = {"local": {"method": "calibrated", "until_us": time.time_ns() // 1000, **prices}}
    (stack.data_dir / FILE).write_text(json.dumps(told))


def test_a_call_is_charged_what_tokens_cost_at_present_and_listed_beside(tmp_path: Path) -> None:
    with simulator("--speed", "0") as url:
        local = {"kind": "vllm", "replicas": [url], "gpu_hour_usd": "2.50"}
        settings = {"models": {"qwen3-8b": {"upstream": "local"}}, "prices": PRICES}
        with Stack(tmp_path / "stack", {"local": local}, settings) as stack:
            measured(stack, input=200_000, output=3_000_000)  # pico-USD a token

            def charged() -> dict[str, Any] | None:
                ask(stack)
                rows = stack.ask("calls", limit=1)
                return rows[0] if rows and rows[0]["effective_cost_usd"] != rows[0]["list_cost_usd"] else None

            row = wait_for("the measured price", charged)

            read, wrote, cached = row["input_tokens"], row["output_tokens"], row["cache_read_input_tokens"]
            assert Decimal(row["list_cost_usd"]) * 10**6 == read + 4 * wrote
            # What the engine's own cache supplied is no work.
            assert (
                Decimal(row["effective_cost_usd"]) * 10**12 == 200_000 * (read - cached) + 3_000_000 * wrote
            )


def test_a_budget_admits_own_calls_by_what_they_really_cost(tmp_path: Path) -> None:
    """At the list price not one of these calls fits; at what it costs here, many do."""
    with simulator("--speed", "0") as url:
        local = {"kind": "vllm", "replicas": [url], "gpu_hour_usd": "2.50"}
        settings = {
            "models": {"qwen3-8b": {"upstream": "local"}},
            "prices": PRICES,
            "budgets": [
                {"name": "own", "match": {"upstream": "local"}, "limit": "0.002 USD", "window": "day"}
            ],
        }
        with Stack(tmp_path / "stack", {"local": local}, settings, with_collector=False) as stack:
            assert ask(stack, tokens=1000)[0] == 402

            stack.data_dir.mkdir(exist_ok=True)
            measured(stack, input=2_000, output=8_000)
            status, _ = wait_for(
                "a call that fits", lambda: (found := ask(stack, tokens=1000))[0] == 200 and found
            )

            assert status == 200

"""The true cost of a class of requests, held against the engine's own log of its steps."""

import asyncio
import re
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from support.stack import Stack, wait_for
from support.vllm_servers import Servers

from collector.probes.work_units import nonnegative_least_squares

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

WARM_S, MEASURED_S = 20.0, 60.0
LONG, SHORT = "prefill", "decode"
"""Clients that have long prompts read and little written, and the other way round."""
NUMBERS = {LONG: range(2), SHORT: range(10, 16)}
"""So many clients of each kind."""
_STEP = re.compile(
    r"Iteration\((\d+)\): (\d+) context requests, (\d+) context tokens, (\d+) generation requests,"
    r" (\d+) generation tokens, iteration elapsed time: ([0-9.]+) ms"
)


class Step(NamedTuple):
    number: int
    prompts: int
    prompt_tokens: int
    decodes: int
    output_tokens: int
    ms: float


class Did(NamedTuple):
    """What the clients of one class had done, by the engine's usage figures."""

    calls: int
    prompt_tokens: int
    output_tokens: int


def steps_in(log: str) -> list[Step]:
    return [
        Step(*(int(part) for part in found.groups()[:-1]), ms=float(found[6]))
        for found in _STEP.finditer(log)
    ]


def true_shares(steps: list[Step], did: dict[str, Did]) -> dict[str, float]:
    """How the engine's time divides: a step takes a fixed time, shared by its sequences, and some a token."""
    rows = [((1.0, float(one.prompt_tokens), float(one.output_tokens)), one.ms) for one in steps]
    (fixed, per_prompt, per_output), _ = nonnegative_least_squares(rows)
    calls = sum(one.calls for one in did.values())
    # The first token of each call comes out of the step that read its prompt.
    decoded = {name: one.output_tokens - one.calls for name, one in did.items()}
    times = {}
    for name, one in did.items():
        sequences = sum(
            fixed
            * (step.prompts * one.calls / calls + step.decodes * decoded[name] / sum(decoded.values()))
            / (step.prompts + step.decodes)
            for step in steps
            if step.prompts + step.decodes
        )
        times[name] = per_prompt * one.prompt_tokens + per_output * decoded[name] + sequences
    return {name: value / sum(times.values()) for name, value in times.items()}


@pytest.fixture
def priced(servers: Servers, tmp_path: Path) -> Iterator[Stack]:
    local = {"kind": "vllm", "replicas": [servers.url("one")], "gpu_hour_usd": "3.60"}
    settings = {
        "models": {"tiny": {"upstream": "local"}},
        "prices": {"tiny": {"input": "1", "output": "4", "cache_read": "0.1"}},
    }
    often = {"BURSAR_COLLECTOR_COST_WINDOW": "5s", "BURSAR_COLLECTOR_COST_LAG": "10s"}
    with Stack(tmp_path / "stack", {"local": local}, settings, often) as made:
        yield made


async def clients(
    url: str, seconds: float, suffix: str = "", kinds: Sequence[str] = (LONG, SHORT)
) -> dict[str, Did]:
    """Two that have prompts read, six that have text written, each one call after the other."""
    did: dict[str, list[tuple[int, int]]] = {LONG: [], SHORT: []}
    until = time.monotonic() + seconds

    async def one(client: httpx.AsyncClient, kind: str, number: int) -> None:
        turn = 0
        while time.monotonic() < until:
            turn += 1
            words, tokens = (700, 4) if kind == LONG else (15, 160)
            text = " ".join(f"w{number}x{turn}y{word}" if word % 9 == 0 else "cost" for word in range(words))
            body = {
                "model": "tiny",
                "messages": [{"role": "user", "content": f"{suffix} {number} {turn} {text}"}],
                "max_tokens": tokens,
                "ignore_eos": True,
            }
            reply = await client.post(
                f"{url}/v1/chat/completions", json=body, headers={"x-bursar-agent": f"{kind}{suffix}"}
            )
            usage = reply.json()["usage"]
            details = usage["prompt_tokens_details"] or {}
            computed = usage["prompt_tokens"] - (details.get("cached_tokens") or 0)
            did[kind].append((computed, usage["completion_tokens"]))

    async with httpx.AsyncClient(timeout=120) as client:
        await asyncio.gather(*(one(client, kind, number) for kind in kinds for number in NUMBERS[kind]))
    return {
        kind: Did(len(seen), sum(p for p, _ in seen), sum(o for _, o in seen)) for kind, seen in did.items()
    }


def settled(stack: Stack) -> dict[str, Decimal] | None:
    """What each agent's calls cost, once every one of them has been settled."""
    spent = {row["agent"]: Decimal(row["effective_cost_usd"]) for row in stack.ask("spend_by", by="agent")}
    (costs,) = stack.ask("gpu_costs") or [{"charged_usd": "-1"}]
    return spent if sum(spent.values()) == Decimal(costs["charged_usd"]) else None


async def test_classes_of_calls_are_charged_what_they_cost_by_the_engines_step_log(
    priced: Stack, servers: Servers
) -> None:
    # What is learnt from is traffic that changes, as traffic does; what is measured then is a mixture.
    for kinds in ((LONG,), (SHORT,), (LONG, SHORT)):
        await clients(priced.url, WARM_S, "-warm", kinds)
    before = len(steps_in(servers.log("one")))
    did = await clients(priced.url, MEASURED_S)
    await asyncio.sleep(1)
    steps = steps_in(servers.log("one"))[before:]
    truth = true_shares(steps, did)

    spent: dict[str, Any] = await asyncio.to_thread(
        wait_for, "the settlement of every call", lambda: settled(priced), 120
    )

    (costs,) = priced.ask("gpu_costs")
    charged = spent[LONG] + spent[SHORT]
    share = float(spent[LONG] / charged)
    tokens = sum(one.prompt_tokens + one.output_tokens for one in did.values())
    by_tokens = (did[LONG].prompt_tokens + did[LONG].output_tokens) / tokens
    print(
        f"\nshare of the prefill-heavy class: truth {truth[LONG]:.3f}, charged {share:.3f},"
        f" by tokens {by_tokens:.3f}; method {costs['method']}, residual {costs['residual']},"
        f" idle {costs['idle_ratio']:.3f}, unobserved {costs['unobserved_ratio']:.4f}"
    )
    assert costs["method"] == "calibrated"
    assert share == pytest.approx(truth[LONG], abs=0.05)
    lines = [Decimal(costs[name]) for name in ("charged_usd", "idle_usd", "unobserved_usd")]
    assert sum(lines) == Decimal(costs["meter_usd"])
    assert Decimal(costs["unobserved_usd"]) < Decimal("0.1") * Decimal(costs["meter_usd"])

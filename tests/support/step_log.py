"""What classes of calls cost by an engine's own log of its steps, and clients that make such classes."""

import asyncio
import re
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import httpx

from collector.probes.work_units import nonnegative_least_squares

LONG, SHORT = "prefill", "decode"
"""Clients that have long prompts read and little written, and the other way round."""
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

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.output_tokens


class Clients(NamedTuple):
    """One class: how many there are, and the words and tokens of each of their calls."""

    numbers: Sequence[int]
    words: int
    output_tokens: int


ON_PROCESSORS: Mapping[str, Clients] = {
    LONG: Clients(range(2), 700, 4),
    SHORT: Clients(range(10, 16), 15, 160),
}
"""What a tiny model on a few processors does at once."""


def steps_in(log: str) -> list[Step]:
    return [
        Step(*(int(part) for part in found.groups()[:-1]), ms=float(found[6]))
        for found in _STEP.finditer(log)
    ]


def disturbance(steps: Sequence[Step]) -> float:
    """How much longer steps that only write took on average than in the median: 1 on a machine of its own."""
    times = [one.ms for one in steps if not one.prompt_tokens]
    return statistics.fmean(times) / statistics.median(times)


def true_shares(steps: Sequence[Step], did: Mapping[str, Did]) -> dict[str, float]:
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


async def run_clients(
    url: str, model: str, seconds: float, suffix: str = "", classes: Mapping[str, Clients] = ON_PROCESSORS
) -> dict[str, Did]:
    """Let every client make one call after the other; its agent is the name of its class and ``suffix``."""
    did: dict[str, list[tuple[int, int]]] = {kind: [] for kind in classes}
    until = time.monotonic() + seconds

    async def one(client: httpx.AsyncClient, kind: str, number: int) -> None:
        turn = 0
        while time.monotonic() < until:
            turn += 1
            words = range(classes[kind].words)
            text = " ".join(f"w{number}x{turn}y{word}" if word % 9 == 0 else "cost" for word in words)
            body = {
                "model": model,
                "messages": [{"role": "user", "content": f"{suffix} {number} {turn} {text}"}],
                "max_tokens": classes[kind].output_tokens,
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
        await asyncio.gather(
            *(one(client, kind, number) for kind, who in classes.items() for number in who.numbers)
        )
    return {
        kind: Did(len(seen), sum(p for p, _ in seen), sum(o for _, o in seen)) for kind, seen in did.items()
    }

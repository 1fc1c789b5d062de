"""The load: agents that ask until they are refused, and keep count of what the provider told them."""

import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

INPUT_PICO, OUTPUT_PICO = 1_000_000, 100_000_000
"""Of the model that is asked: 1 and 100 USD per million tokens."""
PRICES = {"input": 1, "output": 100}


@dataclass(slots=True)
class Seen:
    """What agents saw of their calls."""

    statuses: Counter[int] = field(default_factory=Counter)
    cost_pico: int = 0
    """Of replies that told their usage."""
    ids: set[str] = field(default_factory=set)
    """Calls that were answered at all."""
    finishes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Of each call that was answered, to its end."""
    broken: int = 0
    """Replies that ended before they should."""

    def add(self, other: "Seen") -> None:
        """Take in what another agent saw."""
        self.statuses += other.statuses
        self.cost_pico += other.cost_pico
        self.ids |= other.ids
        self.finishes += other.finishes
        self.seconds += other.seconds
        self.broken += other.broken


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How agents ask."""

    model: str = "prover"
    stream: bool = False
    calls: int = 6
    """At most so many, one after the other."""
    refusals: int = 3
    """An agent gives up after so many in a row."""
    tokens: tuple[int, int] = (20, 200)
    """Output that the provider makes, from and to."""
    cap: int | None = 200
    dies: float = 0.0
    """Share of calls whose client hangs up in the middle."""
    pause_s: float = 0.05


async def crowd(urls: Sequence[str], count: int, manner: Manner, seed: int) -> Seen:
    """So many agents at once, taking turns over the sidecars."""
    seen = Seen()
    found = await asyncio.gather(
        *(
            agent(urls[number % len(urls)], manner, random.Random(seed * 1000 + number))  # noqa: S311
            for number in range(count)
        )
    )
    for one in found:
        seen.add(one)
    return seen


async def agent(url: str, manner: Manner, chance: random.Random) -> Seen:
    """One agent: asks until it has asked enough, or is refused too often."""
    seen = Seen()
    refused = 0
    for _ in range(manner.calls):
        status = await call(url, manner, chance, seen)
        refused = refused + 1 if status in (402, 429) else 0
        if refused >= manner.refusals:
            break
        if refused:
            await asyncio.sleep(manner.pause_s * chance.uniform(0.5, 1.5))
    return seen


async def call(url: str, manner: Manner, chance: random.Random, seen: Seen) -> int:
    """One call; its status, 0 when there was none."""
    tokens = chance.randint(*manner.tokens)
    text = f"Prove it. [[simulate output_tokens={tokens}]]"
    body: dict[str, object] = {"model": manner.model, "messages": [{"role": "user", "content": text}]}
    if manner.cap is not None:
        body["max_tokens"] = manner.cap
    if manner.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    dies = chance.random() < manner.dies
    started = time.monotonic()
    status = 0
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError, ValueError):
        async with asyncio.timeout(60):
            status = await exchange(url, json.dumps(body).encode(), seen, after_s=0.02 if dies else None)
    seen.statuses[status] += 1
    if status:
        seen.seconds.append(time.monotonic() - started)
    return status


async def exchange(url: str, body: bytes, seen: Seen, *, after_s: float | None) -> int:
    """Send one request and read its reply; with ``after_s`` hang up so long after sending."""
    place = urlsplit(url)
    reader, writer = await asyncio.open_connection(place.hostname, place.port, limit=1 << 22)
    try:
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: prove\r\ncontent-type: application/json\r\n"
            f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        if after_s is not None:
            await asyncio.sleep(after_s)
            return 0
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        if "x-bursar-call-id" in fields:
            seen.ids.add(fields["x-bursar-call-id"])
        raw = await reader.read(-1)
        if status == 200:
            read_reply(raw, fields, seen)
        return status
    finally:
        writer.close()


def read_reply(raw: bytes, fields: dict[str, str], seen: Seen) -> None:
    """Count what the provider said of a reply."""
    chunked = fields.get("transfer-encoding") == "chunked"
    if chunked and not raw.endswith(b"0\r\n\r\n"):
        seen.broken += 1
        return
    if not chunked:
        add_usage(json.loads(raw)["usage"], seen)
        return
    for line in raw.split(b"\n"):
        if line.startswith(b"data: {"):
            event = json.loads(line[6:].rstrip(b"\r"))
            for choice in event.get("choices") or ():
                if choice.get("finish_reason"):
                    seen.finishes[choice["finish_reason"]] += 1
            if event.get("usage"):
                add_usage(event["usage"], seen)


def add_usage(usage: dict[str, int], seen: Seen) -> None:
    """Add what one reply cost, by the price that the proof has configured."""
    seen.cost_pico += usage["prompt_tokens"] * INPUT_PICO + usage["completion_tokens"] * OUTPUT_PICO

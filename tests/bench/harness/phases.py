"""What is done to each gateway, one phase after the other, and what is read off it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

PARAGRAPH = 'The quick brown fox jumps over the lazy dog, said "the agent".\n' * 12
MODEL = "gpt-4o-mini"
ROOM_FOR_NUMBER = "0" * 10
"""Where the load generator writes the number of each request: agents do not say the same over and over."""


@cache
def request_body(
    model: str = MODEL, *, stream: bool = False, chunks: int = 100, gap_us: int = 0, content_bytes: int = 0
) -> bytes:
    """A chat request; with ``content_bytes`` the long context of an agent that has worked a while.

    ``chunks`` and ``gap_us`` steer the upstream's reply by fields that every gateway passes on.
    """
    messages = [{"role": "system", "content": "You are a careful assistant."}]
    while sum(len(message["content"]) for message in messages) < content_bytes:
        messages += [{"role": "user", "content": PARAGRAPH}, {"role": "assistant", "content": PARAGRAPH}]
    question = "What does a sidecar do? Answer in three sentences."
    if not content_bytes:
        question += (
            f" ({ROOM_FOR_NUMBER})"  # Each begins a conversation; a long one goes on from what is known.
        )
    messages.append({"role": "user", "content": question})
    body: dict[str, object] = {
        "model": model,
        "messages": messages,
        "temperature": 0.7,
        "max_tokens": chunks,
    }
    if gap_us:
        body["seed"] = gap_us
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One run of the load generator."""

    connections: int
    seconds: float
    content_bytes: int = 0
    stream_gap_ms: float | None = None
    """Milliseconds from chunk to chunk; None: whole replies."""
    chunks: int = 100
    rate: float | None = None
    """Requests a second, evenly; None: as fast as replies come."""

    @property
    def is_stream(self) -> bool:
        """Whether replies are event streams."""
        return self.stream_gap_ms is not None

    def body(self, model: str) -> bytes:
        """The request that every connection sends."""
        return request_body(
            model,
            stream=self.is_stream,
            chunks=self.chunks,
            gap_us=int((self.stream_gap_ms or 0) * 1000),
            content_bytes=self.content_bytes,
        )

    def arguments(self) -> list[str]:
        """The load generator's own options for this load."""
        arguments = ["-c", str(self.connections), "-d", str(self.seconds)]
        if self.rate is not None:
            arguments += ["-r", str(self.rate)]
        return [*arguments, "-s"] if self.is_stream else arguments


PHASES: Mapping[str, Callable[[float], Load]] = {
    "sat1": lambda seconds: Load(connections=1, seconds=seconds),
    "sat16": lambda seconds: Load(connections=16, seconds=seconds),
    "sat64": lambda seconds: Load(connections=64, seconds=seconds),
    "big16": lambda seconds: Load(connections=16, seconds=seconds, content_bytes=32_000),
    "rate": lambda seconds: Load(connections=16, seconds=seconds + 2, rate=50),
    # A stream of 100 chunks lasts 2 s at 20 ms and 10 s at 100 ms; each connection finishes its last one.
    "stream16": lambda seconds: Load(connections=16, seconds=seconds, stream_gap_ms=20),
    "stream500": lambda _: Load(connections=500, seconds=1, stream_gap_ms=100),
    "stream1000": lambda _: Load(connections=1000, seconds=1, stream_gap_ms=100),
    "stream2000": lambda _: Load(connections=2000, seconds=1, stream_gap_ms=100),
}
"""Name of a phase: seconds to its load. ``satN``: N connections in a closed loop, 0.3 kB requests;
``bigN``: 36 kB requests; ``rate``: 50 requests a second; ``streamN``: N streams at once."""
DEFAULT_PHASES = ("sat1", "sat16", "sat64", "rate", "stream16", "stream1000", "big16")
"""Last what leaves most to be done later (ten thousands of long calls that each repeat another): none of it
is to be counted as a stream's."""


def figures(
    load: Load, raw: Mapping[str, float], cpu_s: float | None, wall_s: float
) -> dict[str, float | None]:
    """What one phase showed.

    Args:
        load: what was asked.
        raw: what the load generator printed.
        cpu_s: CPU seconds of all of the gateway's processes, until everything it keeps was kept;
            None: there is no gateway.
        wall_s: seconds that one core takes for all of it.
    """

    def each(count: float) -> float | None:
        return None if cpu_s is None else 1e6 * cpu_s / max(1, count)

    shown: dict[str, float | None] = {
        "calls": raw["sent"],
        "bad": raw["errors"] + raw["refused"],
        "us_per_call": each(raw["answered"]),
        "calls_per_s": raw["answered"] / wall_s,
        "p50_ms": raw["latency_ms_p50"],
        "p99_ms": raw["latency_ms_p99"],
    }
    if load.stream_gap_ms is not None:
        pace = load.connections * 1000 / load.stream_gap_ms
        shown |= {
            "us_per_chunk": each(raw["chunks"]),
            "delivered_pct": 100 * min(1.0, raw["chunks"] / raw["seconds"] / pace),
            "first_chunk_p50_ms": raw["first_chunk_ms_p50"],
            "first_chunk_p99_ms": raw["first_chunk_ms_p99"],
            "delay_p50_ms": raw["chunk_delay_ms_p50"],
            "delay_p99_ms": raw["chunk_delay_ms_p99"],
        }
    return shown

"""A GPU under test: whether there is one, what its meter says, and what clients get out of it."""

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple, Self

import httpx
from support.prefix_groups import text
from support.vllm_servers import VLLM

from inference.installed import NotInstalled, find

REHEARSAL = os.environ.get("BURSAR_GPU_REHEARSAL", "") not in ("", "0")
"""Everything but the GPU: a tiny model on processors and a made-up driver. No figure means anything then."""
MODEL = "m"
_EVERY_S = 0.05


@cache
def gpu_is_here() -> bool:
    """Asked of the driver, in another process."""
    program = "import pynvml; pynvml.nvmlInit(); print(pynvml.nvmlDeviceGetCount())"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    return ended.returncode == 0 and ended.stdout.strip() not in ("", "0")


@cache
def why_not() -> str:
    """Why nothing can be run on a GPU here; empty where it can."""
    if not REHEARSAL and not gpu_is_here():
        return "there is no NVIDIA GPU here"
    try:
        vllm = find(VLLM)
    except NotInstalled:
        return f"there is no vLLM at {VLLM} (VLLM_BIN names one)"
    if "+cpu" in vllm.version and not REHEARSAL:
        return f"{VLLM} is built for processors (VLLM_BIN names another)"
    return ""


class Board:
    """One GPU by its driver's own counters."""

    def __init__(self, index: int = 0) -> None:
        import pynvml

        self._nvml: Any = pynvml
        pynvml.nvmlInit()
        self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        self.name = str(pynvml.nvmlDeviceGetName(self._handle))

    def watts(self) -> float:
        return float(self._nvml.nvmlDeviceGetPowerUsage(self._handle)) / 1000

    def joules(self) -> float:
        """Since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1000

    def close(self) -> None:
        self._nvml.nvmlShutdown()


@dataclass(slots=True)
class Meter:
    """Energy of a stretch of time, by the counter and by power looked at twenty times a second."""

    board: Board
    _looks: list[tuple[float, float]] = field(default_factory=list)
    _began_j: float = 0.0
    _ended_j: float = 0.0
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._began_j = self.board.joules()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join(10)
        self._ended_j = self.board.joules()

    def _look(self) -> None:
        while True:
            self._looks.append((time.monotonic(), self.board.watts()))
            if self._over.wait(_EVERY_S):
                self._looks.append((time.monotonic(), self.board.watts()))
                return

    @property
    def seconds(self) -> float:
        return self._looks[-1][0] - self._looks[0][0]

    @property
    def counted_j(self) -> float:
        return self._ended_j - self._began_j

    @property
    def integrated_j(self) -> float:
        return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(self._looks))

    @property
    def mean_watts(self) -> float:
        return self.integrated_j / self.seconds


class Got(NamedTuple):
    """What clients got."""

    calls: int
    seconds: float
    prompt_tokens: int
    output_tokens: int
    first_s: Sequence[float]
    """Until the first words of each call."""

    @property
    def output_rate(self) -> float:
        return self.output_tokens / self.seconds

    @property
    def prompt_rate(self) -> float:
        return self.prompt_tokens / self.seconds

    @property
    def first_ms(self) -> float:
        return statistics.median(self.first_s) * 1000


async def press(
    url: str, at_once: int, seconds: float, *, model: str = MODEL, prompt: int = 2000, output: int = 256
) -> Got:
    """Clients that stream one call after the other; every call begun is waited for.

    Args:
        url: of a sidecar.
        at_once: how many clients.
        seconds: after which no call is begun.
        model: to ask for.
        prompt: letters of each prompt, other ones for each call.
        output: tokens of each answer.
    """
    began = time.monotonic()
    prompts = outputs = calls = 0
    first_s: list[float] = []

    async def one(client: httpx.AsyncClient, number: int) -> None:
        nonlocal prompts, outputs, calls
        while time.monotonic() - began < seconds:
            calls += 1
            body = {
                "model": model,
                "messages": [{"role": "user", "content": text(prompt, f"{began} {number} {calls}")}],
                "max_tokens": output,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            asked, last = time.monotonic(), b""
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
                assert reply.status_code == 200, await reply.aread()
                async for data in reply.aiter_bytes():
                    if not last:
                        first_s.append(time.monotonic() - asked)
                    last = (last + data)[-4096:]
            usage = usage_in(last)
            prompts += usage["prompt_tokens"]
            outputs += usage["completion_tokens"]

    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(timeout=300, limits=limits) as client:
        await asyncio.gather(*(one(client, number) for number in range(at_once)))
    return Got(calls, time.monotonic() - began, prompts, outputs, first_s)


def usage_in(tail: bytes) -> dict[str, int]:
    """The usage that a stream's last event tells."""
    for line in reversed(tail.split(b"\n")):
        if line.startswith(b"data: {"):
            with contextlib.suppress(ValueError):
                told = json.loads(line.removeprefix(b"data: "))
                if told.get("usage"):
                    return dict(told["usage"])
    raise AssertionError(f"no usage at the end of a stream: {tail[-500:]!r}")

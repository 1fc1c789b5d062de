"""A simulator listening in the test's own loop, and the official SDKs pointed at it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import anthropic
import openai
import pytest

from inference.simulator.http import HttpServer
from inference.simulator.service import Simulator, SimulatorConfig


@dataclass
class Running:
    simulator: Simulator
    port: int

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def raw(self, path: str, body: bytes, headers: str = "", *, read_s: float = 5.0) -> bytes:
        """Everything that comes back on a connection of its own, until it closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        framing = f"connection: close\r\ncontent-length: {len(body)}\r\n"
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\n{headers}{framing}\r\n"
        writer.write(head.encode() + body)
        try:
            async with asyncio.timeout(read_s):
                return await reader.read(-1)
        finally:
            writer.close()


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start_simulator() -> AsyncIterator[Start]:
    async with AsyncExitStack() as stack:

        async def start(**settings: object) -> Running:
            simulator = Simulator(SimulatorConfig(**{"speed": 0.0, **settings}))  # type: ignore[arg-type]
            server = HttpServer(simulator.handle)
            port = await server.start("127.0.0.1", 0)
            stack.push_async_callback(server.stop, 0.0)
            return Running(simulator, port)

        yield start


@pytest.fixture
async def simulator(start_simulator: Start) -> Running:
    return await start_simulator()


@pytest.fixture
async def openai_client(simulator: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{simulator.base_url}/v1", api_key="any", max_retries=0, timeout=10
    ) as client:
        yield client


@pytest.fixture
async def anthropic_client(simulator: Running) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=simulator.base_url, api_key="any", max_retries=0, timeout=10
    ) as client:
        yield client

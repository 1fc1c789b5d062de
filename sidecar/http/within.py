"""A deadline around what is awaited, for modules that are compiled ahead: see `collector.ahead`."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

Result = TypeVar("Result")


async def within(seconds: float, awaited: Awaitable[Result]) -> Result:
    """What ``awaited`` comes to, begun at once.

    Raises:
        TimeoutError: it took longer.
    """
    async with asyncio.timeout(seconds):
        return await awaited

"""An event loop whose time goes on only while nobody has anything to do: durations in it are exact."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class _Skipping(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Never waits: where nothing is to be read, the time moves on to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        elif not ready and timeout is None:
            ready = super().select(5)
            assert ready, "everybody waits, and nothing will come"
        return ready


class SteppedLoop(asyncio.SelectorEventLoop):
    """Its clock knows nothing of the machine: a busy one, or a slow one, changes no duration.

    Sockets are for peers in the same loop alone: what another process does takes no time here.
    """

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` in a loop of this kind."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        runner.run(main)

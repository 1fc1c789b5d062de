"""What leaves at the end of a turn of the event loop: whole messages, those of all connections together.

A message that is written at once wakes its reader, which is done before the next is ready and sleeps again; a
dozen written one after the other wake it once. So do the writes to the journal that have to come before
them: one for all. (Measured at 64 connections: a sixth of what a call costs.)
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

logger = logging.getLogger(__name__)

_Message = tuple[asyncio.WriteTransport, bytes, bytes, Callable[[], None] | None]

MOST_TOGETHER: Final = 32
"""Messages that wait for each other: of a thousand streams that end in one turn the first is not to wait for
the last, a tenth of a second."""

COPY_BELOW = 32 * 1024
"""Up to this size one joined write is cheaper than a vectored one (measured: they cross near 32 kB)."""


class Outbox:
    """Holds messages back until the turn of the loop in which they came is over.

    Args:
        before: called ahead of the messages, for what must have been done by then.
    """

    __slots__ = ("_before", "_expected", "_expected_in", "_is_last", "_scheduled", "_waiting", "turn")

    def __init__(self, before: Callable[[], None] | None = None) -> None:
        self._before = before
        self._waiting: list[_Message] = []
        self._scheduled = False
        self._expected = self._expected_in = 0
        self._is_last = False
        self.turn = 0
        """Counts how often it was emptied."""

    def soon(self) -> None:
        """See that it is emptied when this turn is over, even without a message."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._due)

    def put(
        self,
        transport: asyncio.WriteTransport,
        head: bytes,
        body: bytes,
        leaves: Callable[[], None] | None = None,
    ) -> int:
        """Write ``head`` and ``body`` to ``transport`` at the end of this turn, unless it is closed by then.

        ``leaves`` is called just before. Returns the turn that it waits in: as long as that is :attr:`turn`,
        it has not left.
        """
        turn = self.turn
        self._waiting.append((transport, head, body, leaves))
        if self._is_last or len(self._waiting) >= MOST_TOGETHER:
            self.flush()
        elif not self._scheduled:
            self.soon()
        return turn

    def expect(self) -> None:
        """A request has come: :meth:`begun` will be called when it is begun, in this turn of the loop.

        What those that were expected put here leaves with the last of them. The loop would read all that has
        come meanwhile before it emptied this.
        """
        if self.turn - self._expected_in > 4:
            self._expected = 0  # Of those before, some were cancelled.
        self._expected_in = self.turn
        self._expected += 1

    def begun(self) -> None:
        """See :meth:`expect`."""
        if self._expected > 0:
            self._expected -= 1
            self._is_last = self._expected == 0

    def _due(self) -> None:
        self._scheduled = False
        self.flush()

    def flush(self) -> None:
        """Write what waits, now: before something that must come after it."""
        self.turn += 1
        self._is_last = False
        if self._before is not None:
            self._before()
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, []
        for transport, head, body, leaves in waiting:
            try:
                if transport.is_closing():
                    continue
                if leaves is not None:
                    leaves()
                if len(body) < COPY_BELOW:
                    transport.write(head + body)
                else:
                    transport.writelines((head, body))
            except Exception:  # The others have nothing to do with it.
                logger.exception("a message could not be handed to its socket")
                transport.abort()

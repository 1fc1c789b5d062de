"""A reply on its way out: paced, and broken where a fault says so."""

import asyncio
from collections.abc import Mapping, Sequence

from inference.simulator.answers import Answer
from inference.simulator.dialects import Api, error_event
from inference.simulator.directives import Directives
from inference.simulator.events import StreamEvent
from inference.simulator.faults import Fault
from inference.simulator.http import Exchange

_FLUSH_BYTES = 32_768
_PADDING = 65_536
_BEFORE_RESET_S = 0.01
"""A reset discards what has not left yet: time for that which should arrive."""


class Delivery:
    """Sends one reply at the model's pace, divided by ``speed``."""

    def __init__(self, exchange: Exchange, directives: Directives, speed: float) -> None:
        self._exchange = exchange
        self._directives = directives
        self._speed = speed

    async def body(self, body: bytes, due_s: float, fault: Fault | None, headers: Mapping[str, str]) -> None:
        """A whole body, after ``due_s`` seconds of the model's time."""
        headers = {"content-type": "application/json", **headers}
        await self._pause(due_s)
        match fault:
            case None | Fault.MISSING_USAGE | Fault.WRONG_MODEL:
                self._exchange.send(200, headers, body)
            case Fault.SLOW:
                await asyncio.sleep(self._directives.delay_s)
                self._exchange.send(200, headers, body)
            case Fault.EMPTY:
                self._exchange.send(200, headers, b"")
            case Fault.MALFORMED:
                self._exchange.send(200, headers, body[: len(body) * 3 // 5])
            case Fault.HUGE:
                await self._padded(body, headers)
            case Fault.ENDLESS:
                self._exchange.start(200, headers)
                while True:  # white space before JSON is legal, and so is this reply, as long as it lasts
                    await self._exchange.write(b" " * 64)
                    await asyncio.sleep(0.02)
            case _:
                await self._half(body, fault, headers)

    async def stream(
        self,
        api: Api,
        events: Sequence[StreamEvent],
        answer: Answer,
        fault: Fault | None,
        headers: Mapping[str, str],
    ) -> None:
        """A stream's events, the first after the model's time to first token."""
        self._exchange.start(200, {"content-type": "text/event-stream; charset=utf-8", **headers})
        first_s = answer.first_token_s
        if fault is Fault.SLOW:
            await asyncio.sleep(self._directives.delay_s)
        if fault is Fault.EMPTY:
            self._exchange.finish()
            return
        after = min(self._directives.after, len(events) - 1)
        broken = fault in _MID_STREAM
        await self._paced(events[:after] if broken else events, first_s, answer.token_gap_s)
        if not broken:
            if fault is Fault.HUGE:
                await self._comments()
            self._exchange.finish()
            return
        await self._break(api, events, after, fault, answer.token_gap_s)

    async def _break(
        self, api: Api, events: Sequence[StreamEvent], after: int, fault: Fault | None, gap_s: float
    ) -> None:
        match fault:
            case Fault.RESET:
                await asyncio.sleep(_BEFORE_RESET_S)
                self._exchange.reset()
            case Fault.TRUNCATED:
                self._exchange.finish()
            case Fault.STREAM_ERROR:
                await self._exchange.write(error_event(api).data)
                self._exchange.finish()
            case Fault.STALL:
                await asyncio.sleep(self._directives.delay_s)
                await self._paced(events[after:], 0.0, gap_s)
                self._exchange.finish()
            case Fault.MALFORMED:
                torn = events[after].data.rstrip(b"\n")
                await self._exchange.write(torn[: max(12, len(torn) * 3 // 5)] + b"\n\n")
                await self._paced(events[after + 1 :], 0.0, gap_s)
                self._exchange.finish()
            case _:
                again = next((event for event in events[after:] if event.tokens), events[after])
                while True:
                    await self._exchange.write(again.data)
                    await asyncio.sleep(0.01 if self._speed == 0 else max(gap_s / self._speed, 0.001))

    async def _paced(self, events: Sequence[StreamEvent], first_s: float, gap_s: float) -> None:
        """Write ``events``, each when it is due; those due together go out together."""
        loop = asyncio.get_running_loop()
        factor = gap_s / self._speed if self._speed else 0.0
        due = loop.time() + (first_s / self._speed if self._speed else 0.0)
        pending: list[bytes] = []
        size = 0
        for event in events:
            due += event.tokens * factor
            wait = due - loop.time()
            if size and (wait > 0.001 or size > _FLUSH_BYTES):
                await self._exchange.write(b"".join(pending))
                pending, size = [], 0
            if wait > 0.001:
                await asyncio.sleep(wait)
            pending.append(event.data)
            size += len(event.data)
        if pending:
            await self._exchange.write(b"".join(pending))

    async def _half(self, body: bytes, fault: Fault, headers: Mapping[str, str]) -> None:
        self._exchange.start(200, headers, length=len(body))
        middle = len(body) // 2
        await self._exchange.write(body[:middle])
        if fault is Fault.STALL:
            await asyncio.sleep(self._directives.delay_s)
            await self._exchange.write(body[middle:])
        elif fault is Fault.RESET:
            await asyncio.sleep(_BEFORE_RESET_S)
            self._exchange.reset()
        else:
            self._exchange.hang_up()

    async def _padded(self, body: bytes, headers: Mapping[str, str]) -> None:
        padding = int(self._directives.mib * (1 << 20))
        self._exchange.start(200, headers, length=padding + len(body))
        while padding:
            step = min(padding, _PADDING)
            await self._exchange.write(b" " * step)
            padding -= step
        await self._exchange.write(body)

    async def _comments(self) -> None:
        comment = b": " + b"simulated padding " * 3640 + b"\n\n"
        for _ in range(int(self._directives.mib * (1 << 20)) // len(comment)):
            await self._exchange.write(comment)

    async def _pause(self, model_s: float) -> None:
        if self._speed:
            await asyncio.sleep(model_s / self._speed)


_MID_STREAM = frozenset(
    {Fault.RESET, Fault.TRUNCATED, Fault.STREAM_ERROR, Fault.STALL, Fault.MALFORMED, Fault.ENDLESS}
)

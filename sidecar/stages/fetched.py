"""A reply that nobody meters, such as a file, passed on as it comes: it may be larger than any memory."""

import asyncio
from collections.abc import Callable

from collector.domain.record import Outcome
from sidecar.call import Call
from sidecar.http import HeaderList, UpstreamError, UpstreamReply


class FetchedStream:
    """Passes the bytes of ``answer`` on at the length that was announced, read no faster than they leave.

    Also what has no body: the reply to a HEAD tells the length of what it did not bring.
    """

    __slots__ = ("_answer", "_call", "_ended", "_headers", "_on_end")

    def __init__(self, call: Call, answer: UpstreamReply, headers: HeaderList) -> None:
        self._call = call
        self._answer = answer
        self._headers = headers
        self._ended: asyncio.Future[None] | None = None
        self._on_end: Callable[[], None] | None = None

    async def run(self, on_end: Callable[[], None]) -> None:
        """Relay until the end, or the agent's leaving. Where the upstream breaks off, so do we."""
        answer, responder = self._answer, self._call.responder
        self._on_end = on_end
        self._ended = asyncio.get_running_loop().create_future()
        try:
            responder.start(answer.status, self._headers, length=answer.length)
            responder.on_flow(answer.pause, answer.resume)
            answer.pipe(self._arrived)
            await self._ended
        except asyncio.CancelledError:
            answer.close()
            self._call.outcome, self._call.outcome_reason = Outcome.ABANDONED, "client disconnected"
            on_end()
            raise
        except BaseException:
            answer.close()
            raise

    def _arrived(self, data: bytes, done: bool, error: UpstreamError | None) -> None:
        responder, on_end = self._call.responder, self._on_end
        if not done:
            responder.write(data)
            return
        assert on_end is not None and self._ended is not None
        self._on_end = None
        on_end()
        if error is None:
            responder.finish(data)
        else:
            self._call.outcome, self._call.outcome_reason = Outcome.FAILED, error.message[:500]
            if data:
                responder.write(data)
            responder.abort()
        if not self._ended.done():
            self._ended.set_result(None)

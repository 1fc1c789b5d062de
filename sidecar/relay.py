"""A reply on its way from the upstream to the agent: bytes pass, the meter looks at each.

Pushed, not pulled: each socket read of the upstream is one call of :meth:`Relay._arrived`, which
hands the bytes to the agent's socket at once. No task wakes up for a chunk.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from sidecar.http import ChunkedDecoder, HeaderList, Responder, UpstreamError, UpstreamReply, within
from sidecar.unread import tell_unread
from sidecar.wire import Lane, Meter, place_of

CAPTURED_REPLY_LIMIT: Final = 1 << 20

TOLD_EVERY: Final = 4096
"""Bytes of text after which the meter is told what was read in C, where nobody watches."""

OPENING_LIMIT: Final = 64 << 10
"""Bytes of a stream that are held back at most while it is not known whether it fails at once."""

HELD_OPEN_S: Final = 5.0
"""How long an upstream may hold its connection open after the final event of its reply."""


def read_at_once(
    upstream: UpstreamReply, meter: Meter, captured: bytearray | None, limit: int
) -> bytes | None:
    """The whole body of a reply that came in one piece with its head, as most small ones do; else None."""
    data = upstream.at_once(limit)
    if data is None:
        return None
    if captured is not None:
        captured += data[:CAPTURED_REPLY_LIMIT]
    try:
        return meter.feed(data) + meter.finish()
    except Exception as error:
        tell_unread(place_of(error))
        return data


class Relay:
    """One reply's body. First :meth:`whole`, if it may be small; else :meth:`run`."""

    __slots__ = (
        "_back",
        "_captured",
        "_closing",
        "_complete",
        "_finished",
        "_flowing",
        "_held",
        "_lane",
        "_last",
        "_limit",
        "_meter",
        "_on_end",
        "_opening",
        "_piped",
        "_responder",
        "_streaming",
        "_unread",
        "_upstream",
        "_watch",
        "_watch_room",
        "error",
        "first_ns",
        "head",
        "last_words",
    )

    def __init__(
        self, upstream: UpstreamReply, meter: Meter, responder: Responder, captured: bytearray | None
    ) -> None:
        self._upstream = upstream
        self._meter = meter
        self._responder = responder
        self._captured = captured
        self._finished: asyncio.Future[None] | None = None
        self._held: list[bytes] = []
        self._limit = 0
        self._complete = False
        self._closing = False
        self._streaming = False
        self._flowing = False  # a stream under way of which nothing but its chunks is wanted
        self._opening = self._piped = False
        self._unread = False
        self._on_end: Callable[[], None] | None = None
        self._watch: Callable[[], bool] | None = None
        self._watch_room: Callable[[], int] | None = None
        self._lane: Lane | None = None
        self._back: list[bytes] = []
        self._last: tuple[bytes, UpstreamError | None] | None = None
        self.first_ns = 0
        """Monotonic time of the first byte of the body; 0 before."""
        self.last_words = b""
        """What ends a reply that the upstream broke off, where it is not to break off as well."""
        self.error: UpstreamError | None = None
        self.head: tuple[int, HeaderList] = (200, [])

    async def whole(self, limit: int) -> bytes | None:
        """The whole body, or None as soon as it turns out to be larger than ``limit`` bytes.

        Raises:
            UpstreamError: it broke off.
        """
        self._limit = limit
        self._upstream.pipe(self._arrived)
        if not self._complete and self._limit >= 0:
            await self._wait()
        if self.error is not None:
            raise self.error
        return b"".join(self._held) if self._complete else None

    async def opening(self, within_s: float) -> None:
        """Hold the beginning back until the model's first words are here, or the reply has failed or ended.

        Then it is known whether the agent gets to see this reply. Not for longer than ``within_s``.
        """
        self._limit = OPENING_LIMIT
        self._opening = self._piped = True
        self._upstream.pipe(self._arrived)
        if not self._complete and self._limit >= 0 and not self._has_opened():
            # Not ``wait_for``: before Python 3.12 it begins a turn later, and misses what comes in between.
            with contextlib.suppress(TimeoutError):
                await within(within_s, self._wait())
        self._opening = False
        if not self._complete:
            self._upstream.pause()

    def seal(self) -> None:
        """Take what has come as all of the reply."""
        if not self._complete:
            self._upstream.close()
            self._held.append(self._rest())
            self._complete = True

    @property
    def failed(self) -> str:
        """Why a reply that only began is none: an error's class, or our name for how it broke off."""
        if self._meter.first_content_seen:
            return ""
        if self.error is not None:
            return f"upstream_{self.error.kind}"
        wrong = self._meter.facts().error
        return wrong.error_class if wrong is not None else ""

    def _has_opened(self) -> bool:
        meter = self._meter
        return meter.first_content_seen or meter.ended or meter.facts().error is not None

    async def run(
        self,
        on_end: Callable[[], None],
        watch: Callable[[], bool] | None = None,
        watch_room: Callable[[], int] | None = None,
    ) -> None:
        """Send the head and the body as it comes; ``on_end`` runs before the last bytes go.

        When the upstream breaks off, so does the reply: the agent sees it is incomplete.

        ``watch`` is asked whenever the meter has read more, before that is forwarded. Where it says
        no, what comes is held back until :meth:`go_on` or :meth:`cut`. It has nothing to say before another
        ``watch_room()`` bytes of text have passed; without that it is asked each time.
        """
        self._on_end = on_end
        self._watch = watch
        self._watch_room = watch_room
        status, headers = self.head
        self._responder.start(status, headers, length=None)
        self._responder.on_flow(self._upstream.pause, self._upstream.resume)
        held, self._held = self._held, []
        self._streaming = True
        if self._complete:
            self._end(b"".join(held), self.error)
        elif held or self._piped:
            if held:
                self._pass(b"".join(held))
            if not self._back:
                self._upstream.resume()
        else:
            self._upstream.pipe(self._arrived)
        if not self._complete:
            await self._wait()

    def close(self) -> None:
        """Give up: the upstream's connection is closed now."""
        self._upstream.close()
        last, self._last = self._last, None
        if last is not None:
            self._read(last[0])  # Nobody is to get it; what it says of the usage counts.
            self._capture(last[0])
            self._rest()
        self._on_end = self._watch = self._watch_room = None

    def go_on(self) -> None:
        """Forward what was held back, and what comes."""
        back, self._back = self._back, []
        if back and not self._complete:
            self._responder.write(b"".join(back))
            self._upstream.resume()

    def cut(self, ending: bytes) -> bool:
        """End the stream now, in the agent's dialect, unless all of it is here; whether it was cut.

        ``on_end`` runs first. What was held back still goes: it is paid for, and ``ending`` fits what the
        meter has read.
        """
        if self.is_over:
            return False
        self._upstream.close()
        if self._streaming and not self._complete:
            self._end(ending, None)
        return True

    @property
    def is_over(self) -> bool:
        """Whether all of the reply has come, though its last bytes may still wait for their turn."""
        return self._complete or self._last is not None

    async def _wait(self) -> None:
        """Until the body is complete, or too large to be taken whole."""
        self._finished = asyncio.get_running_loop().create_future()
        await self._finished

    def _wake(self) -> None:
        if self._finished is not None and not self._finished.done():
            self._finished.set_result(None)

    def _arrived(self, data: bytes, done: bool, error: UpstreamError | None) -> None:
        meter = self._meter
        if self._flowing and not done:
            out = self._read(data)
            if out:
                self._pass(out)
            self._use_lane()
            if meter.ended:
                self._expect_end()
            return
        if not self.first_ns and data:
            self.first_ns = time.monotonic_ns()
        if done and self._streaming:
            self._last = (data, error)
            self._responder.in_turn(self._take_last)
            return
        out = self._read(data) if data else data
        self._capture(data)
        if self._streaming:
            self._flowing = self.first_ns > 0 and self._captured is None
            if out:
                self._pass(out)
            if self._flowing:
                self._use_lane()
            if meter.ended:
                self._expect_end()
            return
        self._held.append(out)
        if done:
            self._held.append(self._rest())
            self.error = error
            self._complete = True
            self._wake()
        else:
            self._limit -= len(out)
            if self._limit < 0 or (self._opening and self._has_opened()):
                self._upstream.pause()
                self._wake()

    def _take_last(self) -> None:
        """Read the last bytes and end the reply, unless it was given up."""
        if self._last is None:
            return
        (data, error), self._last = self._last, None
        out = self._read(data) if data else data
        self._capture(data)
        self._end(out, error, self._rest())

    def _capture(self, data: bytes) -> None:
        if self._captured is not None and len(self._captured) < CAPTURED_REPLY_LIMIT:
            self._captured += data

    def _read(self, data: bytes) -> bytes:
        """What of ``data`` goes on: what the meter says, or all of it once the meter has failed."""
        if self._unread:
            return data
        try:
            return self._meter.feed(data)
        except Exception as error:
            # Whatever is wrong with what we read, the agent gets its bytes.
            self._unread = True
            tell_unread(place_of(error))
            return data

    def _rest(self) -> bytes:
        """What the meter still held back at the end."""
        try:
            return self._meter.finish()
        except Exception as error:
            tell_unread(place_of(error))
            return b""

    def _use_lane(self) -> None:
        """Have chunks that only add text read in C, and forwarded as they came."""
        if self._unread:
            return
        lane = self._lane
        if lane is None:
            self._lane = lane = self._meter.lane()
            if lane is None:
                return
            lane.limit = self._room()
        gate = self._upstream.gate
        if gate is not None and not self._back:
            self._responder.open(gate, lane, self._told)

    def _room(self) -> int:
        """How much text may pass before whoever watches is to be asked."""
        if self._watch is None:
            return TOLD_EVERY
        return self._watch_room() if self._watch_room is not None else 0

    def _told(self, coded: bytes) -> None:
        """Whole chunks that the lane has read, upon which whoever watches is to be asked."""
        assert self._lane is not None
        self._meter.catch_up()
        self._pass(ChunkedDecoder().feed(coded))
        self._lane.limit = self._room()
        if self._back:
            self._responder.shut()

    def _pass(self, out: bytes) -> None:
        """Forward ``out``, if whoever watches has nothing against it."""
        watch, back = self._watch, self._back
        if watch is None:
            self._responder.write(out)
            return
        back.append(out)
        if len(back) > 1:
            return  # Already held back.
        if watch():
            back.clear()
            self._responder.write(out)
        elif not self._complete:
            self._upstream.pause()

    def _expect_end(self) -> None:
        """The final event has passed: an upstream that does not end the reply now is not waited for long."""
        if not self._closing:
            self._closing = True
            self._upstream.expect_end(HELD_OPEN_S)

    def _end(self, last: bytes, error: UpstreamError | None, held: bytes = b"") -> None:
        """``held`` is what the meter still had: the beginning of an event where the upstream broke off."""
        self._complete = True
        self.error = error
        if self._back:
            last = b"".join((*self._back, last))
            self._back.clear()
        on_end, self._on_end = self._on_end, None
        if on_end is not None:
            on_end()
        # Those who look on hold on to us: no stream is to leave a cycle.
        self._watch = self._watch_room = None
        if error is None:
            self._responder.finish(last + held if held else last)
        elif self.last_words:
            self._responder.finish(last + self.last_words)
        else:
            if last or held:
                self._responder.write(last + held)
            self._responder.abort()
        self._wake()

"""What an upstream answered, pushed on as it comes."""

import asyncio
from collections.abc import Callable
from typing import Literal, Protocol

from sidecar.http.fields import HeaderList
from sidecar.http.gate import Gate

UpstreamErrorKind = Literal[
    "connect",
    "tls",
    "timeout_connect",
    "timeout_first_byte",
    "timeout_idle",
    "timeout_total",
    "reset",
    "protocol",
    "too_large",
    "pool_full",
    "redirect",
]


class UpstreamError(Exception):
    """A call that got no whole reply out of an upstream.

    ====================  ==========================================================
    connect               no connection: name, address, refusal
    tls                   its certificate or handshake did not hold
    timeout_connect       no connection in time
    timeout_first_byte    no head in time
    timeout_idle          the reply stopped coming
    timeout_total         the reply took too long
    reset                 closed before the reply was whole
    protocol              not HTTP, or ambiguous
    too_large             longer than :meth:`UpstreamReply.read` was to read
    pool_full             no free connection in time, or too many waiting
    redirect              it sent us elsewhere; we do not go
    ====================  ==========================================================
    """

    def __init__(self, kind: UpstreamErrorKind, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind: UpstreamErrorKind = kind
        self.message = message
        self.sent = sent
        """Whether bytes of the request may have reached the upstream."""


Sink = Callable[[bytes, bool, UpstreamError | None], None]
"""Takes body bytes; whether they are the last; and the error if the reply broke off there."""


class Source(Protocol):
    """The connection a reply is read from."""

    reused: bool
    address: str
    reply_buffer: int

    @property
    def gate(self) -> Gate | None:
        """What the body comes through, where it comes in chunks and stands between two; else None."""

    def pause(self) -> None:
        """Stop reading."""

    def resume(self) -> None:
        """Read on."""

    def abandon(self) -> None:
        """Close the socket; no more of the reply comes."""

    def expect_end(self, within_s: float) -> None:
        """Take the reply as complete if it has not ended by then."""


class UpstreamReply:
    """Status, fields and body of one reply. Either :meth:`pipe` or :meth:`read` it, or :meth:`close` it."""

    __slots__ = (
        "_done", "_early", "_error", "_held_back", "_source", "address", "head_ns", "headers", "length",
        "reused", "sent_ns", "sink", "status",
    )  # fmt: skip

    def __init__(
        self,
        status: int,
        headers: HeaderList,
        length: int | None,
        source: Source,
        sent_ns: int,
        head_ns: int,
    ) -> None:
        self.status = status
        self.headers = headers
        """Lower-case names, in order; hop-by-hop and framing fields are not among them."""
        self.length = length
        """The body's bytes as announced; None when it is chunked or ends with the connection."""
        self.sent_ns = sent_ns
        """``time.monotonic_ns`` when the request was handed to the socket."""
        self.head_ns = head_ns
        """``time.monotonic_ns`` when the head was whole."""
        self.reused = source.reused
        """Whether the connection had served a call before."""
        self.address = source.address
        """``host:port`` of the upstream."""
        self._source: Source | None = source
        self.sink: Sink | None = None
        """Where the body is pushed to, once somebody asked for it (:meth:`pipe`)."""
        self._early = b""  # came before anyone read it
        self._held_back = self._done = False
        self._error: UpstreamError | None = None

    def pipe(self, sink: Sink) -> None:
        """Have the body pushed into ``sink``, one call for each read of the socket.

        What has come already is pushed before this returns. The last call has
        ``done`` set, and there is exactly one such call, unless :meth:`close` comes first.
        """
        data = self._early
        self._early = b""
        if self._done:
            sink(data, True, self._error)
            return
        self.sink = sink
        if data:
            sink(data, False, None)
        if self._held_back:
            self._held_back = False
            self.resume()

    def at_once(self, limit: int) -> bytes | None:
        """The whole body where it has come already and is no longer than ``limit`` bytes; else None."""
        data = self._early
        if not self._done or self._error is not None or len(data) > limit:
            return None
        self._early = b""
        return data

    async def read(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            UpstreamError: the reply broke off, or is longer than ``limit`` bytes (``too_large``).
        """
        if self.length is not None and self.length > limit and not self._done:
            self.close()
            raise UpstreamError("too_large", f"the reply is longer than {limit} bytes", sent=True)
        collected: list[bytes] = []
        size = 0
        whole: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def collect(data: bytes, done: bool, error: UpstreamError | None) -> None:
            nonlocal size
            size += len(data)
            collected.append(data)
            if whole.done():
                return
            if error is not None:
                whole.set_exception(error)
            elif size > limit:
                self.close()
                whole.set_exception(
                    UpstreamError("too_large", f"the reply is longer than {limit} bytes", sent=True)
                )
            elif done:
                whole.set_result(None)

        self.pipe(collect)
        try:
            await whole
        except asyncio.CancelledError:
            self.close()
            raise
        return collected[0] if len(collected) == 1 else b"".join(collected)

    @property
    def gate(self) -> Gate | None:
        """What the body comes through, where it comes in chunks and stands between two; else None."""
        return self._source.gate if self._source is not None else None

    @property
    def broke_off(self) -> bool:
        """Whether it did before anyone read it."""
        return self._error is not None

    def pause(self) -> None:
        """Stop reading from the upstream; what was read before still comes."""
        if self._source is not None:
            self._source.pause()

    def resume(self) -> None:
        """Read on."""
        if self._source is not None:
            self._source.resume()

    def close(self) -> None:
        """Abandon what is left of the reply: the socket is closed, the sink not called again."""
        source = self._source
        self._source = None
        self.sink = None
        self._early = b""
        if source is not None:
            source.abandon()

    def expect_end(self, within_s: float) -> None:
        """Say that the message is complete in its own terms, though the upstream has not ended it.

        An upstream that holds its socket open after the final event is cut off
        ``within_s`` seconds from now, and the reply then counts as complete.
        """
        if self._source is not None:
            self._source.expect_end(within_s)

    def take(self, data: bytes) -> None:
        """Pass on what the connection has read; it calls this."""
        sink = self.sink
        if sink is not None:
            sink(data, False, None)
            return
        source = self._source
        self._early += data
        if source is not None and len(self._early) > source.reply_buffer:
            self._held_back = True
            source.pause()

    def end(self, data: bytes, error: UpstreamError | None = None) -> None:
        """Pass on the last bytes, or the error in their place; the connection calls this."""
        self._source = None
        sink = self.sink
        if sink is not None:
            self.sink = None
            sink(data, True, error)
            return
        self._done = True
        self._error = error
        self._early = self._early + data if self._early else data

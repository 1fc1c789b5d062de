"""What a provider itself says while a library speaks to it, read off the wire.

A library's own counts are at times wrong, and where the provider said nothing it makes some up.
So a tap hangs on the transport that the library uses: each reply of a provider goes through the
meter that reads every other reply, and what is charged is what the provider said.

The tap is set in a context; requests made outside of one pass untouched.
"""

from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Final

import httpx
import msgspec

from sidecar.wire import Meter, ReplyFacts, RequestFacts, meter_for, spends

MOST_ERROR: Final = 64 << 10
"""Bytes of an error's body that are looked at."""

current: Final[ContextVar["Tap | None"]] = ContextVar("tap", default=None)
"""The tap of the call at hand."""


class Tap:
    """Listens to the requests of one call. The last one that asked a model is the one that counts."""

    __slots__ = ("_meter", "_open", "asked", "body", "headers", "model", "status")

    def __init__(self, model: str) -> None:
        self.model = model
        self.asked = False
        """A model was asked: what it was asked may have reached it."""
        self.status = 0
        """Of its reply; 0 while none came."""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        """The beginning of a reply that is an error."""
        self._meter: Meter | None = None
        self._open: list[httpx.Response] = []

    def heard(self, request: httpx.Request, response: httpx.Response) -> httpx.Response:
        """Listen to ``response`` from here on; it reads as before."""
        self._open.append(response)
        if spends(request.method, request.url.path) == "free":
            return response
        self.status = response.status_code
        self.headers = [(name.lower(), value) for name, value in response.headers.raw]
        self.body.clear()
        self._meter = meter_for(
            "raw",
            path=request.url.path,
            status=response.status_code,
            headers=self.headers,
            request=RequestFacts("raw", self.model),
            withhold_usage=False,
        )
        assert isinstance(response.stream, httpx.AsyncByteStream)
        response.stream = _Heard(response.stream, self, self._meter)
        return response

    def facts(self) -> ReplyFacts:
        """What the provider's reply said so far."""
        return self._meter.facts() if self._meter is not None else ReplyFacts()

    @property
    def message(self) -> str:
        """What a provider that failed said is wrong, in full."""
        try:
            told = msgspec.json.decode(self.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = self.facts().error
            return error.message if error is not None else ""
        return _message_in(told)

    async def close(self) -> None:
        """Close what is still open: the provider sees that nobody waits any more."""
        for response in self._open:
            await response.aclose()


def _message_in(told: object) -> str:
    if isinstance(told, list) and told:
        told = told[0]
    while isinstance(told, dict):
        inner = told.get("error")
        if isinstance(inner, dict | str) and inner:
            told = inner
            continue
        told = next((told[name] for name in ("message", "detail", "Message", "msg") if told.get(name)), "")
    return told if isinstance(told, str) else str(told)


class _Heard(httpx.AsyncByteStream):
    """A reply's bytes, passed on as they come and read beside."""

    def __init__(self, stream: httpx.AsyncByteStream, tap: Tap, meter: Meter) -> None:
        self._stream = stream
        self._tap = tap
        self._meter = meter

    async def __aiter__(self) -> AsyncIterator[bytes]:
        failed = self._tap.status >= 400
        async for piece in self._stream:
            self._meter.feed(piece)
            if failed and len(self._tap.body) < MOST_ERROR:
                self._tap.body += piece
            yield piece
        self._meter.finish()

    async def aclose(self) -> None:
        await self._stream.aclose()


def install() -> None:
    """Let taps listen on every transport of this process, and refuse redirects: a key goes to no other place.

    The libraries make their own clients, and none takes a transport for all of its providers.
    """
    ask = httpx.AsyncHTTPTransport.handle_async_request

    async def handle_async_request(
        transport: httpx.AsyncHTTPTransport, request: httpx.Request
    ) -> httpx.Response:
        tap = current.get()
        is_model = tap is not None and spends(request.method, request.url.path) != "free"
        try:
            response = await ask(transport, request)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            raise
        except BaseException:
            if tap is not None and is_model:
                tap.asked, tap.status = True, 0
            raise
        if 300 <= response.status_code < 400:
            await response.aclose()
            raise httpx.RemoteProtocolError(f"redirected by {request.url.host}; redirects are not followed")
        if tap is None:
            return response
        tap.asked = tap.asked or is_model
        return tap.heard(request, response)

    httpx.AsyncHTTPTransport.handle_async_request = handle_async_request  # type: ignore[method-assign, assignment]

"""The meter of a translated reply: reads the provider's own bytes, passes on the agent's dialect.

What is charged is what the provider said in its own words. The translated bytes go through a second
meter, whose facts say where the agent's stream stands (so that it can be ended validly at any event)
and how the reply will look when the agent sends it back.
"""

from collections.abc import Callable
from typing import Final

import msgspec

from sidecar.wire.encoding import Decoder
from sidecar.wire.facts import ReplyFacts, RequestFacts
from sidecar.wire.meter import HeaderList, meter_for
from sidecar.wire.modes import says_events
from sidecar.wire.refusals import error_event
from sidecar.wire.sse import BOM
from sidecar.wire.translate.translation import Translation

MOST_BODY: Final = 16 << 20
_NOT_ITS_DIALECT: Final = (
    AttributeError,
    TypeError,
    LookupError,
    ValueError,
    ArithmeticError,
    RecursionError,
)
"""What comes of a reply that is not what its dialect defines."""


class TranslatingMeter:
    """Reads one reply of one attempt, in two dialects.

    Args:
        translation: between which.
        status: of the reply.
        headers: of the reply, names in lower case.
        request: the facts of the agent's request.
        created: seconds since the epoch, for dialects that say when.
    """

    def __init__(
        self,
        translation: Translation,
        *,
        status: int,
        headers: HeaderList,
        request: RequestFacts,
        created: int,
    ) -> None:
        asked = msgspec.structs.replace(request, api=translation.upstream, message_hashes=[])
        self._inner = meter_for(
            translation.upstream,
            path=translation.path,
            status=status,
            headers=headers,
            request=asked,
            withhold_usage=False,
        )
        named = dict(headers)
        events = says_events(named.get(b"content-type", b"")) and status < 400
        self.content_type = b"text/event-stream" if events else b"application/json"
        self._outer = meter_for(
            translation.agent,
            path="",
            status=status,
            headers=[(b"content-type", self.content_type)],
            request=request,
            withhold_usage=False,
        )
        encoding = named.get(b"content-encoding", b"identity").strip().lower()
        self._decoder = None if encoding == b"identity" else Decoder(encoding.decode("latin-1"))
        self._translation = translation
        self._status = status
        self._created = created
        self._stream = (
            translation.stream(created=created, include_usage=request.include_usage) if events else None
        )
        self._body = bytearray()
        self.broken = False
        """The reply cannot be translated."""

    @property
    def first_content_seen(self) -> bool:
        """The model's first words (or arguments, or thoughts) have passed."""
        return self._inner.first_content_seen

    @property
    def output_text_bytes(self) -> int:
        """UTF-8 bytes that the model visibly wrote so far."""
        return self._inner.output_text_bytes

    @property
    def streaming(self) -> bool:
        """The reply turned out to be a stream."""
        return self._inner.streaming

    @property
    def whole(self) -> bool:
        """The reply turned out to be one JSON value, whose parts are of no use alone."""
        return self._inner.whole

    @property
    def ended(self) -> bool:
        """The reply is complete in its own terms."""
        return self._inner.ended

    def watch(self, told: Callable[[bytes], object]) -> None:
        """Have ``told`` called with all that the model visibly writes, as it is read."""
        self._inner.watch(told)

    def feed(self, data: bytes) -> bytes:
        """Read ``data``; what of it is ready, translated. A whole reply is ready when it has ended."""
        self._inner.feed(data)
        if self._decoder is not None:
            data = self._decoder.feed(data)
        if self._stream is None:
            if len(self._body) <= MOST_BODY:
                self._body += data
            return b""
        return self._outer.feed(self._translated(self._stream.feed, data))

    def lane(self) -> None:
        """None: each piece is wanted here."""

    def catch_up(self) -> None:
        """Nothing is behind."""

    def finish(self) -> bytes:
        """The reply has ended as it should; what is left, translated."""
        self._inner.finish()
        if self._stream is not None:
            stream = self._stream
            last = self._translated(lambda _: stream.finish(), b"")
            return self._outer.feed(last) + self._outer.finish()
        out = self._whole()
        self._outer.feed(out)
        self._outer.finish()
        return out

    def facts(self) -> ReplyFacts:
        """The facts as they stand: what was used in the provider's words, where it stands in the agent's."""
        inner, outer = self._inner.facts(), self._outer.facts()
        return msgspec.structs.replace(
            inner,
            response_id=outer.response_id or inner.response_id,
            tool_names=outer.tool_names or inner.tool_names,
            chunks=outer.chunks,
            complete=inner.complete and (outer.complete or not self.streaming),
            last_message_hash=outer.last_message_hash,
            place=outer.place,
        )

    def _translated(self, translate: Callable[[bytes], bytes], data: bytes) -> bytes:
        if self.broken:
            return b""
        try:
            return translate(data)
        except _NOT_ITS_DIALECT:
            # A provider that does not speak its own dialect: the agent is told in its own.
            self.broken = True
            return error_event(
                self._translation.agent,
                502,
                kind="api_error",
                code="untranslatable_reply",
                message="the upstream's reply is not what its dialect defines",
                facts=self._outer.facts(),
            )

    def _whole(self) -> bytes:
        raw = bytes(self._body).removeprefix(BOM)
        try:
            if self._status >= 400:
                return self._translation.error(raw, self._status)
            if len(raw) > MOST_BODY:
                raise ValueError
            return self._translation.body(raw, created=self._created)
        except _NOT_ITS_DIALECT:
            self.broken = True
            return b""

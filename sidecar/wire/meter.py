"""The meter of one reply: bytes in, the same bytes out, facts beside them.

Two kinds: a whole JSON reply of an API that we know is read once, when it has ended;
everything else is read as it passes.
"""

from collections.abc import Callable
from typing import Final, Protocol

from sidecar.wire.dialects import hides_thinking
from sidecar.wire.facts import ReplyFacts, RequestFacts
from sidecar.wire.ordinary import Lane
from sidecar.wire.passing import PassingMeter
from sidecar.wire.whole import WholeMeter
from sidecar.wire.whole_readers import WHOLE_READERS

HeaderList = list[tuple[bytes, bytes]]

_JSON: Final = frozenset(
    {
        b"application/json",
        b"application/json; charset=utf-8",
        b"application/json;charset=utf-8",
        b"application/json; charset=UTF-8",
        b"application/json;charset=UTF-8",
    }
)


class Meter(Protocol):
    """Reads one reply of one attempt. Made by :func:`meter_for`."""

    @property
    def first_content_seen(self) -> bool:
        """The model's first words (or arguments, or thoughts) have passed."""

    @property
    def output_text_bytes(self) -> int:
        """UTF-8 bytes that the model visibly wrote so far."""

    @property
    def streaming(self) -> bool:
        """The reply turned out to be a stream."""

    @property
    def whole(self) -> bool:
        """The reply turned out to be one JSON value, whose parts are of no use alone."""

    @property
    def ended(self) -> bool:
        """The reply is complete in its own terms: its terminal event has passed."""

    def watch(self, told: Callable[[bytes], object]) -> None:
        """Have ``told`` called with all that the model visibly writes, as it is read."""

    def feed(self, data: bytes) -> bytes:
        """Read ``data``; the bytes to forward now, ``data`` itself unless something is held back."""

    def lane(self) -> Lane | None:
        """What may read this stream's chunks in our stead from here on; None where nothing may."""

    def catch_up(self) -> None:
        """Take in what the lane has read."""

    def finish(self) -> bytes:
        """The reply has ended as it should; bytes still held back."""

    def facts(self) -> ReplyFacts:
        """The facts as they stand, also of a reply that was cut off."""


def meter_for(
    api: str, *, path: str, status: int, headers: HeaderList, request: RequestFacts, withhold_usage: bool
) -> Meter:
    """A meter for one reply.

    Args:
        api: one of ``APIS``.
        path: the path that was asked of the upstream, without the query.
        status: the reply's HTTP status.
        headers: the reply's headers, names in lower case.
        request: the facts of the request.
        withhold_usage: we asked for a usage chunk that the agent does not expect.
    """
    named = dict(headers)
    if (
        status == 200
        and api in WHOLE_READERS
        and named.get(b"content-type") in _JSON
        and b"content-encoding" not in named
        and not hides_thinking(path, "")
    ):
        return WholeMeter(api, path, named, request)
    return PassingMeter(api, path, status, named, request, withhold_usage and status < 400)

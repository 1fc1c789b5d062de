"""A whole reply of the ordinary shape: decoded once, by type, when it has ended.

A body that holds anything beyond the ordinary is handed to the meter that reads everything; where both can
read a body, the facts are the same.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sidecar.wire.facts import ReplyFacts, RequestFacts
from sidecar.wire.passing import PassingMeter
from sidecar.wire.whole_readers import WHOLE_READERS

MOST_BODY: Final = 1 << 20
"""Bytes of a body that are kept for reading it at its end."""


class WholeMeter:
    """Keeps a JSON reply until it has ended, then reads it once."""

    __slots__ = ("_api", "_facts", "_headers", "_passing", "_path", "_pieces", "_request", "_room")

    def __init__(self, api: str, path: str, headers: Mapping[bytes, bytes], request: RequestFacts) -> None:
        self._api = api
        self._path = path
        self._headers = headers
        self._request = request
        self._pieces: list[bytes] = []
        self._room = MOST_BODY
        self._facts: ReplyFacts | None = None
        self._passing: PassingMeter | None = None

    @property
    def ended(self) -> bool:
        """The reply is complete in its own terms; a body that is no stream says so by its length alone."""
        return False

    @property
    def first_content_seen(self) -> bool:
        """The model's first words (or arguments, or thoughts) have passed, and been read."""
        return self.output_text_bytes > 0

    @property
    def output_text_bytes(self) -> int:
        """UTF-8 bytes that the model visibly wrote, as far as they were read."""
        if self._facts is not None:
            return self._facts.output_text_bytes
        return self._passing.output_text_bytes if self._passing is not None else 0

    def watch(self, told: Callable[[bytes], object]) -> None:
        """A whole reply is read when all of it is here: there is nothing to watch."""

    @property
    def streaming(self) -> bool:
        """The reply turned out to be a stream."""
        return self._passing is not None and self._passing.streaming

    @property
    def whole(self) -> bool:
        """The reply turned out to be one JSON value, whose parts are of no use alone."""
        return self._passing is None or self._passing.whole

    def feed(self, data: bytes) -> bytes:
        """Keep ``data``, which is forwarded as it is."""
        if self._passing is not None:
            self._passing.feed(data)
            return data
        self._pieces.append(data)
        self._room -= len(data)
        if self._room < 0:
            self._hand_over()
        return data

    def lane(self) -> None:
        """None: each piece is wanted here."""

    def catch_up(self) -> None:
        """Nothing is behind."""

    def finish(self) -> bytes:
        """Read the reply, which has ended as it should; nothing is ever held back."""
        if self._passing is not None:
            self._passing.finish()
        elif self._facts is None:
            pieces = self._pieces
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            try:
                self._facts = WHOLE_READERS[self._api](body, self._request)
            except Exception:  # It is not ordinary, or more than the reader of ordinary ones can read.
                self._hand_over().finish()
        return b""

    def facts(self) -> ReplyFacts:
        """The facts as they stand, also of a reply that was cut off."""
        if self._facts is not None:
            return self._facts
        return (self._passing or self._hand_over()).facts()

    def _hand_over(self) -> PassingMeter:
        """Let the other meter read what has come, and what comes."""
        self._passing = PassingMeter(self._api, self._path, 200, self._headers, self._request, False)
        self._passing.feed(b"".join(self._pieces))
        self._pieces.clear()
        return self._passing

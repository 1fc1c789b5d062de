"""The body of one request, put together as it comes."""

from sidecar.http.chunked import ChunkedDecoder, ChunkError
from sidecar.http.head import HeadError


class IncomingBody:
    """Collects a body of known length, or a chunked one.

    Args:
        length: its bytes; None when it comes chunked.
        most: bytes that a chunked one may have.
    """

    __slots__ = ("_decoder", "_missing", "_most", "data", "rest")

    def __init__(self, length: int | None, most: int) -> None:
        self._most = most
        self._missing = length or 0
        self._decoder = ChunkedDecoder() if length is None else None
        self.data = bytearray()
        """What has come of it."""
        self.rest = b""
        """What came behind it, once it is whole."""

    def feed(self, data: bytes) -> bool:
        """Take bytes off the wire; whether the body is whole.

        Raises:
            HeadError: it is too long, or its chunked framing is broken.
        """
        decoder = self._decoder
        if decoder is not None:
            try:
                self.data += decoder.feed(data)
            except ChunkError as error:
                raise HeadError(400, str(error)) from None
            if len(self.data) > self._most:
                raise HeadError(413, f"the body is longer than {self._most} bytes")
            self.rest = decoder.rest
            return decoder.done
        missing = self._missing
        if len(data) > missing:
            self.rest = data[missing:]
            data = data[:missing]
        self.data += data
        self._missing = missing - len(data)
        return not self._missing

"""Message heads, read strictly (RFC 9112).

A head is split at its line ends and each line is matched against the grammar as a
whole, so nothing can hide between two lines; then a few rules look at the fields
together. A differential test holds this against h11 and llhttp: what we accept,
they read the same way.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from sidecar.http.exchange import Request
from sidecar.http.fields import FieldError, HeaderList, read_fields
from sidecar.http.target import TargetError, split_target
from sidecar.native import native

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++) ([\x21-\xff]++) HTTP/([0-9])\.([0-9])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*+)?")
_ILLEGAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
"""Never in a head, whole or begun: control bytes, a bare LF, a bare CR."""

_head_in_c: Callable[[bytes, int], tuple[int, HeaderList, int | None, bool, bool] | None] | None = (
    None if native is None else native.read_response_head
)

_MARK = ord("?")  # looking for a number in bytes is twenty times cheaper than for a byte string
_METHODS = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_REFUSED_METHODS = frozenset((b"TRACE", b"CONNECT"))
_HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_SAID_OF_CONNECTIONS = {b"close", b"keep-alive", b""}
_NOT_END_TO_END = _HOP_BY_HOP | {b"content-length"}
_ONCE_IN_REQUEST = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"expect")
)
_ONCE_IN_RESPONSE = frozenset((b"content-length", b"transfer-encoding"))
_DECISIVE = frozenset((b"transfer-encoding", b"connection", b"content-encoding", b"expect"))


_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)(?=\r\n|\Z)", re.IGNORECASE)
_LONGEST_PATH = 4096
"""Bytes of a refused head in which its path is looked for."""
_MOST_DIGITS = 18
"""Of a length; nineteen digits are more bytes than anyone has."""


class HeadError(Exception):
    """A head that is not answered as asked; ``status`` is what its sender gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def _request_line(line: bytes) -> tuple[str, str, str, bool]:
    """Method, path, query, and whether it is HTTP/1.1 and not 1.0."""
    # A query may hold a key, and is seldom seen twice.
    return _known_request_line(line) if _MARK not in line else _new_request_line(line)


def _new_request_line(line: bytes) -> tuple[str, str, str, bool]:
    match = _REQUEST_LINE.fullmatch(line)
    if match is None:
        raise HeadError(400, "malformed request line")
    raw_method, target, major, minor = match.groups()
    if major != b"1" or minor not in b"01":
        raise HeadError(505, "only HTTP/1.0 and HTTP/1.1 are served here")
    method = _METHODS.get(raw_method)
    if method is None:
        if raw_method in _REFUSED_METHODS:
            raise HeadError(405, f"{raw_method.decode()} is not served")
        raise HeadError(501, "unknown method")
    try:
        path, query = split_target(target)
    except TargetError as error:
        raise HeadError(400, str(error)) from None
    return method, path, query, minor == b"1"


_known_request_line = lru_cache(maxsize=1024)(_new_request_line)


@lru_cache(maxsize=256)
def _status_line(line: bytes) -> tuple[int, bool]:
    """Status, and whether it is HTTP/1.1 and not 1.0."""
    match = _STATUS_LINE.fullmatch(line)
    if match is None:
        raise HeadError(400, "malformed status line")
    return int(match[2]), match[1] == b"1"


def check_beginning(data: bytes, checked: int = 0) -> None:
    """Refuse an unfinished request head as soon as it cannot become a good one.

    Args:
        data: the head as far as it has come.
        checked: how many bytes of it passed before.

    Raises:
        HeadError: waiting for the rest would be waiting for nothing.
    """
    if _ILLEGAL.search(data, max(0, checked - 1)) is not None:
        raise HeadError(400, "the request head holds control characters or bare line ends")
    line_end = data.find(b"\r\n", max(0, checked - 1))
    if line_end >= 0 and data.find(b"\r\n", 0, line_end) < 0:
        _request_line(data[:line_end])


def requested_path(data: bytes) -> str:
    """The path that a refused head asks for, in whatever spelling of ASCII; "" where it cannot be told."""
    words = data[:_LONGEST_PATH].partition(b"\r\n")[0].split(b" ")
    path = words[1].partition(b"?")[0].decode("latin-1") if len(words) > 1 else ""
    return path if path.isascii() and path.isprintable() else ""


def read_request_head(head: bytes, max_fields: int) -> Request:
    """The request that ``head`` (without its blank line) begins; body and times are yet to come.

    Raises:
        HeadError: the head is malformed, ambiguous, or asks for what is not served.
    """
    lines = head.split(b"\r\n")
    method, path, query, is_http_11 = _request_line(lines[0])
    del lines[0]
    if len(lines) > max_fields:
        raise HeadError(431, f"more than {max_fields} header fields")
    try:
        headers = read_fields(lines)
    except FieldError as error:
        raise HeadError(400, str(error)) from None
    found = dict(headers)
    request = Request(method, path, query, headers)
    if len(found) != len(headers):
        _check_repeated(headers, found, _ONCE_IN_REQUEST)
    else:
        request.fields = found
    length = found.get(b"content-length")
    if length is not None:
        request.length = int(length)
    if not is_http_11:
        request.http_version = "1.0"
        request.keep_alive = False
    elif b"host" not in found:
        raise HeadError(400, "the Host field is missing")
    if not _DECISIVE.isdisjoint(found):
        _heed(request, found)
    return request


class LastHead:
    """The last head of one connection, for clients that send the same one with every request.

    Only the body's length may differ; where it stands, the old and the new head are compared
    byte by byte around it, so what is read the second time is what was read the first time.
    """

    __slots__ = ("_after", "_before", "_digits", "_place", "_request")

    def __init__(self) -> None:
        self._before = b""
        self._after = b""
        self._digits = b""
        self._place = -1
        self._request: Request | None = None

    def read(self, head: bytes, max_fields: int) -> Request:
        """As :func:`read_request_head`, with its errors."""
        old, before, after = self._request, self._before, self._after
        if old is not None and head.startswith(before) and head.endswith(after):
            digits = head[len(before) : len(head) - len(after)]
            if digits == self._digits and len(head) == len(before) + len(digits) + len(after):
                return self._again(old, old.headers, old.fields)
            if digits.isdigit() and self._digits and len(digits) <= _MOST_DIGITS:
                headers = old.headers.copy()
                headers[self._place] = (b"content-length", digits)
                request = self._again(old, headers, {**(old.fields or {}), b"content-length": digits})
                request.length = int(digits)
                return request
        request = read_request_head(head, max_fields)
        self._keep(head, request)
        return request

    def _again(self, old: Request, headers: HeaderList, fields: dict[bytes, bytes] | None) -> Request:
        request = Request(old.method, old.path, old.query, headers)
        request.fields = fields
        request.derived = old.derived
        request.length = old.length
        if old.expects_continue:
            request.expects_continue = True
        return request

    def _keep(self, head: bytes, request: Request) -> None:
        """Remember ``head``, unless something in it makes the next one unlikely to be the same."""
        self._request = None
        if request.fields is None or not request.keep_alive or request.length is None:
            return
        # One that never gets a body, which would be kept for as long as the connection.
        self._request = self._again(request, request.headers, request.fields)
        self._before, self._after, self._digits = head, b"", b""
        found = _CONTENT_LENGTH.search(head)
        if found is not None:
            self._before, self._digits, self._after = head[: found.start(1)], found[1], head[found.end() :]
            self._place = [name for name, _ in request.headers].index(b"content-length")


def _heed(request: Request, found: dict[bytes, bytes]) -> None:
    """Follow the rarer fields that decide how a request is read."""
    is_http_11 = request.http_version == "1.1"
    if b"transfer-encoding" in found:
        _check_chunked(found, is_http_11)
        request.length = None
    connection = found.get(b"connection")
    if connection is not None and _says_close(connection):
        request.keep_alive = False
    if found.get(b"content-encoding", b"identity").lower() != b"identity":
        raise HeadError(415, "compressed request bodies are not served")
    expect = found.get(b"expect")
    if expect is not None:
        if expect.lower() != b"100-continue":
            raise HeadError(417, "the only expectation served is 100-continue")
        request.expects_continue = is_http_11


def read_response_head(head: bytes, max_fields: int) -> tuple[int, HeaderList, int | None, bool, bool]:
    """What ``head`` (without its blank line) says of an upstream's reply.

    Returns:
        Status; the end-to-end fields; the body's bytes as announced (None: chunked, or up to
        the end of the connection); whether it is chunked; whether the connection stays open.

    Raises:
        HeadError: the head is malformed or ambiguous; the status in it means nothing.
    """
    if _head_in_c is not None:
        read = _head_in_c(head, max_fields)
        if read is not None:
            return read
    return read_response_head_in_python(head, max_fields)


def read_response_head_in_python(
    head: bytes, max_fields: int
) -> tuple[int, HeaderList, int | None, bool, bool]:
    """The same of any head; it also says what is wrong."""
    lines = head.split(b"\r\n")
    status, keep_alive = _status_line(lines[0])
    del lines[0]
    if len(lines) > max_fields:
        raise HeadError(400, f"the reply has more than {max_fields} header fields")
    try:
        headers = read_fields(lines)
    except FieldError as error:
        raise HeadError(400, f"in the reply: {error}") from None
    found = dict(headers)
    if len(found) != len(headers):
        _check_repeated(headers, found, _ONCE_IN_RESPONSE)
    announced = found.get(b"content-length")
    length = int(announced) if announced is not None else None
    chunked = b"transfer-encoding" in found
    if chunked:
        _check_chunked(found, keep_alive)
    if not _HOP_BY_HOP.isdisjoint(found):
        connection = found.get(b"connection")
        if connection is not None and _says_close(connection):
            keep_alive = False
        headers = end_to_end(headers)
    elif length is not None:
        headers = [field for field in headers if field[0] != b"content-length"]
    return status, headers, length, chunked, keep_alive


def _check_repeated(headers: HeaderList, found: dict[bytes, bytes], once: frozenset[bytes]) -> None:
    """Refuse a repeated field of ``once``; join repeated ``Connection`` fields in ``found``."""
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen:
            if name in once:
                raise HeadError(400, f"more than one {name.decode()} field")
            if name == b"connection":
                found[name] = b",".join([value for field, value in headers if field == name])
        seen.add(name)


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t") for token in value.lower().split(b",")]


def _says_close(connection: bytes) -> bool:
    return connection != b"keep-alive" and b"close" in _tokens(connection)


def _check_chunked(found: dict[bytes, bytes], is_http_11: bool) -> None:
    """RFC 9112 section 6.1: two framings at once, or one HTTP/1.0 does not know, is how smuggling starts."""
    if b"content-length" in found:
        raise HeadError(400, "Content-Length and Transfer-Encoding exclude each other")
    if not is_http_11:
        raise HeadError(400, "HTTP/1.0 has no Transfer-Encoding")


def end_to_end(headers: HeaderList) -> HeaderList:
    """``headers`` without those meant for one connection only, and without ``Content-Length``.

    These are the hop-by-hop fields of RFC 9110 section 7.6.1 and whatever a
    ``Connection`` field names.
    """
    kept = [field for field in headers if field[0] not in _NOT_END_TO_END]
    named = {token for name, value in headers if name == b"connection" for token in _tokens(value)}
    if named - _SAID_OF_CONNECTIONS:
        return [field for field in kept if field[0] not in named]
    return kept

"""Message heads, read strictly (RFC 9112).

llhttp (httptools) takes a head apart; a grammar stands before it and a few rules
behind it. llhttp alone lets through a head of a megabyte, a missing or second
``Host``, a request line without a version, HTTP/2.0, ``gzip, chunked``, blank
lines before the request, and an ``Upgrade`` that ends HTTP in mid-stream. Only
heads go through it: where a body begins and ends is decided here and nowhere else.
"""

import re
from collections.abc import Iterable

import httptools

from sidecar.http.exchange import HeaderList, Request
from sidecar.http.target import TargetError, is_host, split_target

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_FIELDS = rb"(?:" + _TOKEN + rb":[\t\x20-\x7e\x80-\xff]*+\r\n)*+"
_REQUEST = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]++) HTTP/1\.([01])\r\n" + _FIELDS + rb"\r\n")
_RESPONSE = re.compile(
    rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t\x20-\x7e\x80-\xff]*+)?\r\n" + _FIELDS + rb"\r\n"
)
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([^\s\x00]+) HTTP/([0-9])\.([0-9])\r\n")
_ILLEGAL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<!\r)\n|\r(?!\n|\Z)")
"""Never in a head, whole or begun: control bytes, a bare LF, a bare CR."""

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
_ONCE_IN_REQUEST = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"expect")
)
_ONCE_IN_RESPONSE = frozenset((b"content-length", b"transfer-encoding"))


class HeadError(Exception):
    """A head that is not answered as asked; ``status`` is what its sender gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Fields:
    """Collects what llhttp finds; names in lower case."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: HeaderList = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


class ResponseHead:
    """An upstream's status and fields, and how its body ends."""

    __slots__ = ("chunked", "headers", "keep_alive", "length", "status")

    def __init__(
        self, status: int, headers: HeaderList, length: int | None, chunked: bool, keep_alive: bool
    ) -> None:
        self.status = status
        self.headers = headers
        """End-to-end fields only: framing and hop-by-hop fields are ours to set."""
        self.length = length
        """The body's bytes as announced; None: chunked, or up to the end of the connection."""
        self.chunked = chunked
        self.keep_alive = keep_alive


def _stripped(headers: HeaderList, head: bytes, start: int, end: int) -> HeaderList:
    """``headers`` without white space behind their values, which llhttp leaves there."""
    if head.find(b" \r\n", start, end) < 0 and head.find(b"\t\r\n", start, end) < 0:
        return headers
    return [(name, value.rstrip(b" \t")) for name, value in headers]


def _single(headers: HeaderList, once: frozenset[bytes]) -> dict[bytes, bytes]:
    """The fields by name, after making sure that those of ``once`` do not come twice."""
    found = dict(headers)
    if len(found) != len(headers):
        seen: set[bytes] = set()
        for name, value in headers:
            if name == b"connection" and name in seen:
                found[name] = b",".join(v for n, v in headers if n == b"connection")
            elif name in once and name in seen:
                raise HeadError(400, f"more than one {name.decode()} field")
            seen.add(name)
            found.setdefault(name, value)
    return found


def _tokens(value: bytes) -> Iterable[bytes]:
    return (token.strip(b" \t") for token in value.lower().split(b","))


def _keep_alive(found: dict[bytes, bytes], minor: bytes) -> bool:
    """Whether more messages may follow on the connection. HTTP/1.0 peers get one each: few would use more."""
    if minor != b"1":
        return False
    value = found.get(b"connection")
    return value is None or value == b"keep-alive" or b"close" not in _tokens(value)


def _length(found: dict[bytes, bytes], minor: bytes) -> tuple[int | None, bool]:
    """The announced length, if any, and whether the body is chunked."""
    coding = found.get(b"transfer-encoding")
    length = found.get(b"content-length")
    if coding is None:
        if length is None:
            return None, False
        if not (length.isdigit() and len(length) < 19):
            raise HeadError(400, "Content-Length is not a number")
        return int(length), False
    if length is not None:
        raise HeadError(400, "Content-Length and Transfer-Encoding exclude each other")
    if coding.lower() != b"chunked":
        raise HeadError(400, "the only Transfer-Encoding served is chunked")
    if minor != b"1":
        raise HeadError(400, "HTTP/1.0 has no Transfer-Encoding")
    return None, True


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
        _check_request_line(data[: line_end + 2])


def requested_path(data: bytes) -> str:
    """The path that a refused head asks for, or "" where it cannot be told."""
    line = _REQUEST_LINE.match(data)
    if line is None:
        return ""
    try:
        return split_target(line[2])[0]
    except TargetError:
        return ""


def _check_request_line(data: bytes) -> None:
    line = _REQUEST_LINE.match(data)
    if line is None:
        raise HeadError(400, "malformed request line")
    if line[3] + line[4] not in (b"10", b"11"):
        raise HeadError(505, "only HTTP/1.0 and HTTP/1.1 are served here")


def read_request_head(head: bytes, max_fields: int) -> Request:
    """The request that ``head`` (ending with its blank line) begins; body and times are yet to come.

    Raises:
        HeadError: the head is malformed, ambiguous, or asks for what is not served.
    """
    match = _REQUEST.fullmatch(head)
    if match is None:
        check_beginning(head)
        raise HeadError(400, "malformed header field")
    raw_method, target, minor = match.groups()
    method = _METHODS.get(raw_method)
    if method is None:
        if raw_method in _REFUSED_METHODS:
            raise HeadError(405, f"{raw_method.decode()} is not served")
        raise HeadError(501, "unknown method")
    try:
        path, query = split_target(target)
    except TargetError as error:
        raise HeadError(400, str(error)) from None
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # We stay with HTTP/1.1, as a server may; the field goes no further.
    except httptools.HttpParserError as error:
        raise HeadError(400, f"malformed head: {error}") from None
    headers = _stripped(fields.headers, head, match.end(3), len(head))
    if len(headers) > max_fields:
        raise HeadError(431, f"more than {max_fields} header fields")
    found = _single(headers, _ONCE_IN_REQUEST)
    host = found.get(b"host")
    if host is None:
        if minor == b"1":
            raise HeadError(400, "the Host field is missing")
    elif not is_host(host):
        raise HeadError(400, "the Host field is malformed")
    length, chunked = _length(found, minor)
    if b"content-encoding" in found and found[b"content-encoding"].lower() != b"identity":
        raise HeadError(415, "compressed request bodies are not served")
    expect = found.get(b"expect")
    if expect is not None and expect.lower() != b"100-continue":
        raise HeadError(417, "the only expectation served is 100-continue")
    request = Request(method, path, query, headers, "1.1" if minor == b"1" else "1.0")
    request.length = None if chunked else length or 0
    request.keep_alive = _keep_alive(found, minor)
    request.expects_continue = expect is not None and minor == b"1"
    return request


def read_response_head(head: bytes, max_fields: int) -> ResponseHead:
    """What ``head`` (ending with its blank line) says of an upstream's reply.

    Raises:
        HeadError: the head is malformed or ambiguous; the status in it means nothing.
    """
    match = _RESPONSE.fullmatch(head)
    if match is None:
        raise HeadError(400, "the reply's head is malformed")
    minor, status = match.groups()
    fields = _Fields()
    try:
        httptools.HttpResponseParser(fields).feed_data(head)
    except httptools.HttpParserUpgrade:
        raise HeadError(400, "the upstream left HTTP") from None
    except httptools.HttpParserError as error:
        raise HeadError(400, f"the reply's head is malformed: {error}") from None
    headers = _stripped(fields.headers, head, match.end(2), len(head))
    if len(headers) > max_fields:
        raise HeadError(400, f"the reply has more than {max_fields} header fields")
    found = _single(headers, _ONCE_IN_RESPONSE)
    length, chunked = _length(found, minor)
    headers = end_to_end(headers)
    return ResponseHead(int(status), headers, length, chunked, _keep_alive(found, minor))


def end_to_end(headers: HeaderList) -> HeaderList:
    """``headers`` without those meant for one connection only, and without ``Content-Length``.

    These are the hop-by-hop fields of RFC 9110 section 7.6.1 and whatever a
    ``Connection`` field names.
    """
    kept: HeaderList = []
    named: set[bytes] = set()
    for field in headers:
        name = field[0]
        if name in _HOP_BY_HOP:
            if name == b"connection":
                named.update(_tokens(field[1]))
        elif name != b"content-length":
            kept.append(field)
    if named - {b"close", b"keep-alive", b""}:
        kept = [field for field in kept if field[0] not in named]
    return kept

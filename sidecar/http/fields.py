"""Header fields, read from the wire and written to it.

The same few fields come with every call, so a line that has been checked and
taken apart once is remembered, and so is a field that has been written. That makes
reading a head five times cheaper than a parser that starts afresh each time. What
is remembered is bounded, and never a secret.
"""

import re
from collections.abc import Callable
from typing import Final

from sidecar.http.target import is_host
from sidecar.native import native

HeaderField = tuple[bytes, bytes]
HeaderList = list[HeaderField]
"""Header fields in order, names in lower case."""

_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([\t\x20-\x7e\x80-\xff]*+)")
_SECRET = re.compile(rb"auth|cookie|key|secret|token|credential|session|password")
_FRAMING = frozenset((b"connection", b"content-length", b"host", b"transfer-encoding"))
_MOST_REMEMBERED = 4096
_LONGEST_REMEMBERED = 192
_read: dict[bytes, HeaderField] = {}
_written: dict[HeaderField, bytes] = {}
_lines_in_c: Final[Callable[[HeaderList], bytes | None] | None] = (
    None if native is None else native.field_lines
)


class FieldError(ValueError):
    """A line that is not a header field, or a field whose value cannot be."""


def read_fields(lines: list[bytes]) -> HeaderList:
    """The fields that ``lines`` (without their line ends) hold.

    Raises:
        FieldError: a line is malformed.
    """
    get = _read.get
    return [get(line) or _read_field(line) for line in lines]


def _read_field(line: bytes) -> HeaderField:
    match = _LINE.fullmatch(line)
    if match is None:
        raise FieldError("malformed header field")
    name = match[1].lower()
    value = match[2].rstrip(b" \t")
    # The two that frame a body may have nothing behind their value: parsers differ over white space there.
    if name == b"content-length":
        # Nineteen digits are more bytes than anyone has.
        if not match[2].isdigit() or len(value) > 18:
            raise FieldError("Content-Length is not a number")
    elif name == b"transfer-encoding":
        if match[2].lower() != b"chunked":
            raise FieldError("the only Transfer-Encoding served is chunked")
    elif name == b"host" and not is_host(value):
        raise FieldError("the Host field is malformed")
    field = (name, value)
    if len(line) <= _LONGEST_REMEMBERED and _SECRET.search(name) is None:
        if len(_read) >= _MOST_REMEMBERED:
            _read.clear()
        _read[line] = field
    return field


def field_lines(headers: HeaderList) -> bytes:
    """``headers`` as they stand on the wire, each line with its end.

    Raises:
        ValueError: a field would break the head apart, or decides the framing, which is ours.
    """
    if _lines_in_c is not None:
        lines = _lines_in_c(headers)
        if lines is not None:
            return lines
    return field_lines_in_python(headers)


def field_lines_in_python(headers: HeaderList) -> bytes:
    """The same, remembering what was written; it also says what is wrong."""
    get = _written.get
    return b"".join([get(field) or _field_line(field) for field in headers])


def _field_line(field: HeaderField) -> bytes:
    line = b"%b: %b" % field
    match = _LINE.fullmatch(line)
    if match is None or match[1] != field[0]:
        raise ValueError(f"not a header field: {field[0]!r}")
    if field[0].lower() in _FRAMING:
        raise ValueError(f"{field[0].decode()} is set here and not by the caller")
    line += b"\r\n"
    if len(line) <= _LONGEST_REMEMBERED and _SECRET.search(field[0].lower()) is None:
        if len(_written) >= _MOST_REMEMBERED:
            _written.clear()
        _written[field] = line
    return line

"""The two changes we make to a request's body: another model, and a wish for usage.

Every other value keeps its own bytes. Where the place is plain the body is spliced;
otherwise its top level is written anew from the values' own bytes.
"""

from typing import Final

import msgspec
from msgspec import Raw

_decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_OPTIONS: Final = "stream_options"
_WISH: Final = b'"stream_options":{"include_usage":true},'
_MODEL: Final = b'{"model":'


def with_include_usage(body: bytes) -> bytes:
    """``body`` with ``stream_options.include_usage`` true; unchanged when it is no JSON object."""
    try:
        fields = _decode_fields(body)
    except (msgspec.DecodeError, RecursionError):
        return body
    if not fields:
        return body
    if _OPTIONS not in fields:
        start = body.index(b"{") + 1
        return b"".join((body[:start], _WISH, body[start:]))
    options = msgspec.json.decode(fields[_OPTIONS])
    if options is not None and not isinstance(options, dict):
        return body
    fields[_OPTIONS] = Raw(_encode({**(options or {}), "include_usage": True}))
    return _encode(fields)


def with_model(body: bytes, model: str) -> bytes:
    """``body`` asking for ``model``; unchanged when it is no JSON object."""
    named = _encode(model)
    if body.startswith(_MODEL):
        try:
            end = _end_of_string(body, len(_MODEL))
        except ValueError:
            return body
        if end:
            return b"".join((_MODEL, named, body[end:]))
    try:
        fields = _decode_fields(body)
    except (msgspec.DecodeError, RecursionError):
        return body
    fields["model"] = Raw(named)
    return _encode(fields)


def _end_of_string(body: bytes, start: int) -> int:
    """Where the string that begins at ``start`` ends; 0 when it is none, or has escapes."""
    if body[start : start + 1] != b'"':
        return 0
    end = body.index(b'"', start + 1) + 1
    return 0 if b"\\" in body[start:end] else end

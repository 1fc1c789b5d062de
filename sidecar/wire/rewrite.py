"""The changes we make to a request's body: another model, a lower cap, and a wish for usage.

Every other value keeps its own bytes. Where the place is plain the body is spliced;
otherwise its top level is written anew from the values' own bytes.
"""

import re
from typing import Final

import msgspec
from msgspec import Raw

from sidecar.wire.members import MOST_MEMBERS, is_heavy
from sidecar.wire.sse import BOM

_decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
_OPTIONS: Final = "stream_options"
_WISH: Final = b'"stream_options":{"include_usage":true},'
_MODEL: Final = b'{"model":'
_ENDS: Final = re.compile(rb"\s*\}")


class _Options(msgspec.Struct, gc=False):
    stream_options: Raw = Raw(b"")


_decode_options: Final = msgspec.json.Decoder(_Options).decode


def with_include_usage(body: bytes) -> bytes:
    """``body`` with ``stream_options.include_usage`` true; unchanged when it is no JSON object."""
    try:
        wished = _decode_options(body.removeprefix(BOM)).stream_options
    except (msgspec.DecodeError, RecursionError):
        return body
    start = body.index(b"{") + 1
    if not memoryview(wished).nbytes:
        return body if _ENDS.match(body, start) else b"".join((body[:start], _WISH, body[start:]))
    if _may_have_many_fields(body):
        return body
    fields = _decode_fields(body.removeprefix(BOM))
    options = msgspec.json.decode(wished)
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
        fields = _decode_fields(body.removeprefix(BOM))
    except (msgspec.DecodeError, RecursionError):
        return body
    fields["model"] = Raw(named)
    return _encode(fields)


_CAPS: Final = {
    "openai.chat": ("max_completion_tokens", "max_tokens"),
    "openai.completions": ("max_tokens",),
    "openai.responses": ("max_output_tokens",),
    "anthropic.messages": ("max_tokens",),
}
"""Where each dialect caps a reply; the first name is added where a request has none."""


def with_output_cap(api: str, body: bytes, tokens: int) -> bytes:
    """``body`` with its reply capped at ``tokens`` for each choice; unchanged where ``api`` has no cap."""
    names = _CAPS.get(api)
    if names is None:
        return body
    if _may_have_many_fields(body):
        # Whoever reads a name twice takes what stands first, or last, or refuses it: ours stands at both.
        said = [name for name in names if b'"%b"' % name.encode() in body]
        caps = b",".join([b'"%b":%d' % (name.encode(), tokens) for name in said or names[:1]])
        start, end = body.find(b"{") + 1, body.rfind(b"}")
        said_twice = body[:start], caps, b",", body[start:end], b",", caps, body[end:]
        return b"".join(said_twice) if start else body
    try:
        fields = _decode_fields(body.removeprefix(BOM))
    except (msgspec.DecodeError, RecursionError):
        return body
    found = [name for name in names if name in fields and bytes(fields[name]) != b"null"]
    for name in found or names[:1]:
        fields[name] = Raw(b"%d" % tokens)
    return _encode(fields)


def _may_have_many_fields(body: bytes) -> bool:
    """Whether taking ``body`` apart could take long; only on pass-through does such a one come so far."""
    return is_heavy(body) and body.count(b":") > MOST_MEMBERS


def _end_of_string(body: bytes, start: int) -> int:
    """Where the string that begins at ``start`` ends; 0 when it is none, or has escapes."""
    if body[start : start + 1] != b'"':
        return 0
    end = body.index(b'"', start + 1) + 1
    return 0 if b"\\" in body[start:end] else end

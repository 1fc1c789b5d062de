"""Which request targets we serve: one spelling for each resource.

A proxy that decides by path and an upstream that normalises the path first can
be played against each other (``/v1/../admin``, ``/v1/%2e%2e/admin``, ``/v1;x/models``).
So a path that anyone might normalise is refused, and what is left means the same
to everybody: RFC 3986 section 6.2.2 leaves nothing to do.
"""

import re
from functools import lru_cache

_SAFE_ESCAPES = "|".join(
    f"{ord(c):02X}"
    # An encoded letter, dot or slash is another spelling of something plain. An encoded "%", ";", "?" or "#"
    # turns into syntax where a second server decodes once more.
    for c in " !\"$&'()*+,:<=>@[]^`{|}"
)
# Angle brackets are no URI characters, but recorded calls carry them, and nobody gives them a meaning.
_PATH = re.compile(rf"(?:/(?!\.\.?(?:/|\Z))(?:[A-Za-z0-9\-._~!$&'()*+,=:@<>]|%(?i:{_SAFE_ESCAPES}))+)*/?")
_QUERY = re.compile(r"[!\"$-~]*")
_HOST = re.compile(rb"(?:[A-Za-z0-9._\-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")


class TargetError(ValueError):
    """Not a target in origin-form, or one with more than one reading."""


@lru_cache(maxsize=1024)
def _path(raw: bytes) -> str:
    try:
        path = raw.decode("ascii")
    except UnicodeDecodeError:
        raise TargetError("the path holds bytes outside ASCII") from None
    if not path.startswith("/"):
        raise TargetError("the target must be a path that begins with /")
    if _PATH.fullmatch(path) is None:
        raise TargetError("the path has more than one spelling; send its plain form")
    return path


def split_target(target: bytes) -> tuple[str, str]:
    """The path and the query (without its ``?``) of a request target.

    Raises:
        TargetError: the target is not in origin-form or not in its plain form.
    """
    raw_path, mark, raw_query = target.partition(b"?")
    path = _path(raw_path)
    if not mark:
        return path, ""
    query = raw_query.decode("latin-1")
    if _QUERY.fullmatch(query) is None:
        raise TargetError("the query holds characters that must be escaped")
    return path, query


@lru_cache(maxsize=1024)
def is_host(value: bytes) -> bool:
    """Whether ``value`` is a host name or address, with or without a port (``Host`` field)."""
    return _HOST.fullmatch(value) is not None

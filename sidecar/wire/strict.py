"""Strict reading of a request body: one JSON object, without traps.

What two parsers could read differently is refused (A09): invalid UTF-8, lone
surrogates, ``NaN``, duplicate keys, nesting deeper than 64. The ordinary body pays
one msgspec pass: duplicates are excluded because the distinct keys and their
values account for every byte, depth by size (a value nested d deep takes
at least 2 d bytes). Only a body that these cannot clear is walked.
"""

import json
from functools import lru_cache
from operator import add
from typing import Any, Final

import msgspec
from msgspec import Raw

from sidecar.wire.facts import InvalidRequest
from sidecar.wire.sse import BOM

MAX_DEPTH: Final = 64
MAX_FIELDS: Final = 1_000


class SaidTwice(InvalidRequest):
    """A key stands twice in one object, and two parsers may take two values for it."""


Fields = dict[str, Raw]
"""The top level of a body: each key with its value's own bytes."""

_decode_fields: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode
decode_value: Final = msgspec.json.Decoder().decode
"""Any JSON value as plain Python objects."""


def top_level(body: bytes) -> Fields:
    """The fields of ``body``.

    Raises:
        InvalidRequest: it is not one unambiguous JSON object in UTF-8, or has more than 1,000 fields.
    """
    try:
        if not body.isascii():
            body.decode()
        fields = _decode_fields(body)
    except UnicodeDecodeError as problem:
        raise InvalidRequest(f"The body is not valid UTF-8: byte {problem.start} is not.") from None
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.") from None
    except msgspec.DecodeError as problem:
        marked = body.startswith(BOM)
        reason = "it begins with a byte order mark" if marked else _reason(problem)
        raise InvalidRequest(f"The body is not valid JSON: {reason}.") from None
    except RecursionError:
        raise _too_deep() from None
    if len(fields) > MAX_FIELDS:
        raise InvalidRequest(f"The body has {len(fields)} fields; at most {MAX_FIELDS} are taken.")
    if not _accounts_for(fields, body):
        refuse_duplicates(body)
    return fields


def value(fields: Fields, name: str) -> Any:
    """The value of ``name`` as plain Python objects, ``None`` when absent.

    Raises:
        InvalidRequest: it is nested too deeply, or holds a number out of range.
    """
    raw = fields.get(name)
    if raw is None:
        return None
    return checked(raw, name)


def checked(raw: Raw | bytes, name: str) -> Any:
    """``raw`` decoded, its depth checked.

    Raises:
        InvalidRequest: it is nested too deeply, or holds a number out of range.
    """
    try:
        decoded = decode_value(raw)
    except RecursionError:
        raise _too_deep(name) from None
    except msgspec.DecodeError as problem:
        raise InvalidRequest(f"{name} is not valid JSON: {_reason(problem)}.", name) from None
    if memoryview(raw).nbytes >= 2 * (MAX_DEPTH - 1) and is_deep(decoded, MAX_DEPTH - 1):
        raise _too_deep(name)
    return decoded


_sound: dict[tuple[int, int], None] = {}
"""Hash and length of values found sound: agents send the same tools with every call."""
_MOST_SOUND: Final = 512


def check_depth(raw: Raw, name: str) -> None:
    """Check the depth of a value that nobody decodes; one that was sound before is not walked again.

    Raises:
        InvalidRequest: it is nested too deeply.
    """
    view = memoryview(raw)
    key = (hash(bytes(view)), view.nbytes)
    if key not in _sound:
        checked(raw, name)
        if len(_sound) >= _MOST_SOUND:
            _sound.clear()
        _sound[key] = None


def is_deep(decoded: Any, limit: int) -> bool:
    """Whether containers nest deeper than ``limit`` in ``decoded``."""
    level = [decoded] if isinstance(decoded, dict | list) else []
    for _ in range(limit):
        if not level:
            return False
        below: list[Any] = []
        for container in level:
            members = container.values() if isinstance(container, dict) else container
            below += [member for member in members if isinstance(member, dict | list)]
        level = below
    return bool(level)


def _accounts_for(fields: Fields, body: bytes) -> bool:
    """Whether distinct keys and their values fill ``body``, so that no key can be there twice.

    Knows the two ways in which clients write: compact, and with one space after each
    comma and colon. Anything else is for the careful check.
    """
    written = len(_encode(fields))
    if len(body) == written:
        return True
    if len(body) != written + 2 * len(fields) - 1:
        return False
    spaced = b", ".join(map(add, _labels(tuple(fields)), fields.values()))
    return body.startswith(spaced, 1)  # One brace before it, and, by the length, one after.


@lru_cache(maxsize=256)
def _labels(names: tuple[str, ...]) -> tuple[bytes, ...]:
    """Names as they stand before their values in a body with spaces; clients send the same every time."""
    return tuple([b'"%b": ' % name.encode() for name in names])


def place_of(fields: Fields, body: bytes, name: str) -> int:
    """Where the value of ``name`` begins in ``body``; -1 unless ``body`` is written compactly or with spaces.

    Labels that stand where they have to, and values as long as they are: nothing else has room in it.
    """
    for comma, colon in ((b", ", b": "), (b",", b":")):
        place, found = 1, -1
        for key, raw in fields.items():
            label = b'%b"%b"%b' % (comma if place > 1 else b"", key.encode(), colon)
            if not body.startswith(label, place):
                break
            place += len(label)
            if key == name:
                found = place
            place += memoryview(raw).nbytes
        else:
            if place == len(body) - 1:
                return found
    return -1


def refuse_duplicates(body: bytes) -> None:
    """Walk all of ``body``.

    Raises:
        SaidTwice: a key stands twice in one object.
        InvalidRequest: it is no JSON, or is nested too deeply.
    """

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            seen: set[str] = set()
            name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise SaidTwice(f"The key {name[:64]!r} appears twice in one object.", name[:64])
        return members

    try:
        json.loads(body, object_pairs_hook=distinct)
    except RecursionError:
        raise _too_deep() from None
    except InvalidRequest:
        raise
    except ValueError as problem:
        raise InvalidRequest(f"The body is not valid JSON: {problem}.") from None


def _too_deep(name: str = "") -> InvalidRequest:
    where = name or "The body"
    return InvalidRequest(f"{where} is nested deeper than {MAX_DEPTH} levels.", name)


def _reason(problem: Exception) -> str:
    return str(problem).removeprefix("JSON is malformed: ").rstrip(".")

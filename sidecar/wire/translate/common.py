"""What all translations share: how something is refused, read and written."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from sidecar.wire.facts import InvalidRequest
from sidecar.wire.sse import Splitter, event_bytes

Json = dict[str, Any]
DONE: Final = b"data: [DONE]\n\n"
DEFAULT_MAX_TOKENS: Final = 4096
"""Anthropic wants a cap; OpenAI's callers seldom give one. Budgets hold as much for a call without."""

CACHE_HINTS: Final = ("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options")
"""OpenAI's, the same in its chat and in its responses."""
NOTHING_USUAL: Final[Mapping[str, object]] = MappingProxyType({})

encode: Final = msgspec.json.Encoder().encode
decode: Final = msgspec.json.Decoder().decode


def cannot(field: str, target: str, why: str = "") -> InvalidRequest:
    """The refusal of something that ``target`` has no words for."""
    return InvalidRequest(f"{field} cannot be carried over to {target}{': ' + why if why else ''}.", field)


class Asked:
    """The fields of a request; whatever is left when all known ones were taken is refused."""

    def __init__(self, fields: Mapping[str, Any], target: str) -> None:
        self._left = {name: value for name, value in fields.items() if value is not None}
        self.target = target

    def take(self, name: str, default: Any = None) -> Any:
        """The value of a field, which is then dealt with."""
        return self._left.pop(name, default)

    def ignore(self, *names: str) -> None:
        """Fields that ask nothing of the model, or that we have dealt with ourselves."""
        for name in names:
            self._left.pop(name, None)

    def only(self, name: str, *allowed: object) -> None:
        """A field that can be carried over only where it says what holds anyway.

        Raises:
            InvalidRequest: it says something else.
        """
        value = self._left.pop(name, None)
        if value is not None and value not in allowed:
            raise cannot(name, self.target)

    def rest(self) -> None:
        """There must be none left.

        Raises:
            InvalidRequest: there is; names the first.
        """
        for name in self._left:
            raise cannot(name, self.target)


def only_keys(
    member: Mapping[str, Any],
    place: str,
    target: str,
    known: Iterable[str],
    usual: Mapping[str, object] = NOTHING_USUAL,
) -> None:
    """Refuse what ``member`` has beside ``known``; null says nothing, nor what is ``usual``.

    Raises:
        InvalidRequest: it has.
    """
    for name, value in member.items():
        if value is not None and name not in known and (name not in usual or value != usual[name]):
            raise cannot(f"{place}.{name}", target)


def listed(value: Any, place: str) -> list[Json]:
    """``value`` as a list of objects.

    Raises:
        InvalidRequest: it is not.
    """
    if not isinstance(value, list) or not all(isinstance(member, dict) for member in value):
        raise InvalidRequest(f"{place} must be a list of objects.", place)
    return value


def text_of(value: Any, place: str) -> str:
    """``value`` as text.

    Raises:
        InvalidRequest: it is not.
    """
    if not isinstance(value, str):
        raise InvalidRequest(f"{place} must be a string.", place)
    return value


def arguments_of(text: Any, place: str) -> Json:
    """A tool call's arguments, which OpenAI writes as JSON in a string, as an object.

    Raises:
        InvalidRequest: they are not.
    """
    try:
        arguments = decode(text) if text else {}
    except (msgspec.DecodeError, TypeError, RecursionError):
        arguments = None
    if not isinstance(arguments, dict):
        raise InvalidRequest(f"{place} must be a JSON object in a string.", place)
    return arguments


def split_data_url(url: str) -> tuple[str, str] | None:
    """Media type and base64 data of a ``data:`` address; None when it is another."""
    head, comma, data = url.partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        return None
    return head[5:-7], data


def said(**fields: Any) -> Json:
    """Those of ``fields`` that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


class StreamTranslator:
    """One stream's events, as they come, in another dialect. Any split of the bytes gives the same events."""

    def __init__(self) -> None:
        self._splitter = Splitter()
        self._out: list[bytes] = []
        self.over = False
        """The last event was written."""

    def feed(self, data: bytes) -> bytes:
        """What ``data`` completes, translated."""
        for event in self._splitter.feed(data):
            self._take(event.name, event.data)
        return self._written()

    def finish(self) -> bytes:
        """The stream has ended; what is still to be said."""
        for event in self._splitter.finish():
            self._take(event.name, event.data)
        if not self.over:
            self.ended()
        return self._written()

    def write(self, body: Json, name: str = "") -> None:
        """One event."""
        self._out.append(event_bytes(encode(body), name))

    def write_raw(self, data: bytes) -> None:
        """Bytes that are events already."""
        self._out.append(data)

    def event(self, name: str, body: Json) -> None:
        """Translate one event."""
        raise NotImplementedError

    def done(self) -> None:
        """OpenAI's ``[DONE]`` has come."""

    def ended(self) -> None:
        """The stream has ended, whether or not it said so."""

    def _take(self, name: str, data: bytes) -> None:
        if self.over:
            return
        if data.strip() == b"[DONE]":
            self.done()
            return
        try:
            body = decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if isinstance(body, dict):
            self.event(name, body)

    def _written(self) -> bytes:
        out = b"".join(self._out)
        self._out.clear()
        return out

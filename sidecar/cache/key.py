"""Which requests are the same one: a key over the whole request, for one tenant.

The body is compared as what it says, not as it is written: white space, the order of members, escapes
and ``1.0`` for ``1`` make no difference. Everything that may change the answer is in the key; who asks
(``user``, ``metadata``) is not, and neither is whether a stream ends with its usage. What two parsers
could read differently has no key: a member that comes twice, a number that a float cannot hold.
"""

import hashlib
import json
from typing import Any, Final, NamedTuple

import msgspec

from sidecar.call import Call
from sidecar.stages.identify import credentials_of
from sidecar.wire import RequestFacts
from sidecar.wire.members import is_heavy

REUSABLE: Final = frozenset(
    {"openai.chat", "openai.completions", "openai.responses", "openai.embeddings", "anthropic.messages"}
)
"""Dialects whose answers can be given again."""

_NOT_IN_KEY: Final = ("user", "metadata", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")
"""Who asks, and what is meant for the provider's own cache: the answer does not depend on them."""
_LIVE: Final = ("search", "fetch", "interpreter", "execution", "mcp", "browser", "image_generation")
"""In the type of a tool that the provider itself runs: its result is another one tomorrow."""
_HEADERS: Final = frozenset(
    {b"anthropic-version", b"anthropic-beta", b"openai-beta", b"openai-organization", b"openai-project"}
)
"""Of the agent's headers, those that may change what is answered, or whose account is asked."""
_EXACT_FLOATS: Final = float(1 << 53)

_decode: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder(order="sorted").encode
_plain: Final = msgspec.json.Encoder().encode


class Key(NamedTuple):
    """What an answer is kept under."""

    scope: bytes
    """Names who may share it: 16 bytes, nothing can be read from them."""
    digest: bytes
    """The request: 20 bytes, likewise."""

    @property
    def name(self) -> str:
        """Both, as text."""
        return f"{self.scope.hex()}:{self.digest.hex()}"


def repeats_itself(facts: RequestFacts) -> bool:
    """Whether asking the same again is meant to give the same: temperature 0, or embeddings.

    A seed alone is not enough: providers promise their best effort with it, and whoever samples with one
    may want every stream as it comes, not the first one's when that has ended.
    """
    return facts.attributes.get("temperature") == 0 or facts.api == "openai.embeddings"


class Asked(NamedTuple):
    """A request as it counts: what it says, and who may share its answer."""

    call: Call
    scope: bytes
    body: dict[str, Any]
    secret: bytes

    def digest(self, body: dict[str, Any], purpose: bytes = b"") -> bytes:
        """20 bytes that stand for the request with ``body``; nothing can be read from them."""
        request, facts = self.call.request, self.call.facts
        assert facts is not None
        headers = sorted(field for field in request.headers if field[0] in _HEADERS)
        asked = _encode(
            [request.path, request.query, facts.model, [[a.hex(), b.hex()] for a, b in headers], body]
        )
        return hashlib.blake2b(
            asked, digest_size=20, key=self.scope + self.secret[:32], person=purpose
        ).digest()

    @property
    def key(self) -> Key:
        """What its answer is kept under."""
        return Key(self.scope, self.digest(self.body))


def asked_by(call: Call, share: str, secret: bytes) -> Asked | None:
    """What ``call`` asks; None when its answer depends on more than the request, or may be read twice."""
    facts = call.facts
    if (
        facts is None
        or facts.background
        or facts.has_remote_media
        or "previous_response_id" in facts.attributes
    ):
        return None
    body = canonical(call.request.body)
    if body is None or _is_live(body) or (facts.api == "openai.chat" and body.get("store") is True):
        return None
    for name in _NOT_IN_KEY:
        body.pop(name, None)
    options = body.pop("stream_options", None)
    if isinstance(options, dict) and (others := {k: v for k, v in options.items() if k != "include_usage"}):
        body["stream_options"] = others
    body["stream"] = facts.stream
    return Asked(call, scope_of(call, share, secret), body, secret)


def scope_of(call: Call, share: str, secret: bytes) -> bytes:
    """Names those who may be given each other's answers.

    A tenant is believed only of a key that fixes it: anybody else may write any tenant into a header.
    Without virtual keys the provider's key that came along says whose account it is.
    """
    caller = call.caller
    parts = [share, caller.tenant]
    if not caller.key_id:
        parts.append("/".join(sorted(credentials_of(call.request.headers))))
    elif not caller.owns_tenant or share == "key":
        parts.append(caller.key_id)
    if share in ("team", "user"):
        parts.append(caller.team)
    if share == "user":
        parts.append(caller.user)
    said = _plain(parts)
    return hashlib.blake2b(said, digest_size=16, key=secret[:64]).digest()


def canonical(body: bytes) -> dict[str, Any] | None:
    """What ``body`` says, however it is written; None when it could be read in two ways, or is heavy."""
    if is_heavy(body):  # Whoever asks so much at once hardly asks it again, and here all of it is decoded.
        return None
    try:
        said = _decode(body)
        if not isinstance(said, dict) or not _is_unambiguous(said, body):
            return None
        return {name: _numbers(value) for name, value in said.items() if value is not None}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _is_unambiguous(said: dict[str, Any], body: bytes) -> bool:
    """Whether no member comes twice, at any depth.

    A body that is as long as what was read from it, written in one of the two usual ways, has no room
    for a second one. Any other is walked.
    """
    compact = _plain(said)
    if len(compact) == len(body) or len(msgspec.json.format(compact, indent=0)) == len(body):
        return True

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            raise ValueError("a member comes twice")
        return members

    json.loads(body, object_pairs_hook=once)
    return True


def _numbers(value: Any) -> Any:
    """``value`` with whole numbers as integers.

    Raises:
        ValueError: a number is not the one that was written.
    """
    if isinstance(value, float):
        if abs(value) >= _EXACT_FLOATS:
            raise ValueError("a float cannot hold this number")
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        return [_numbers(member) if isinstance(member, float | list | dict) else member for member in value]
    if isinstance(value, dict):
        return {
            name: _numbers(member) if isinstance(member, float | list | dict) else member
            for name, member in value.items()
        }
    return value


def _is_live(body: dict[str, Any]) -> bool:
    """Whether the provider looks things up, or keeps a conversation, for its answer."""
    if body.get("web_search_options") is not None or body.get("conversation") or body.get("container"):
        return True
    if body.get("mcp_servers") or "search" in str(body.get("model", "")):
        return True
    tools = body.get("tools")
    for tool in tools if isinstance(tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and any(mark in kind for mark in _LIVE):
            return True
    return False

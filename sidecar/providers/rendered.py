"""The beginning of a conversation in the order that a model reads it, from any dialect's body."""

import re
from typing import Final

import msgspec

from inference.pool.affinity import BYTES_PER_TOKEN, affinity_key
from sidecar.native import native
from sidecar.providers.pool_settings import PrefixConfig
from sidecar.wire import RequestFacts

_KEPT: Final = 4096
_SHORT: Final = 4096
"""Bytes of a body that is sooner read in C than remembered."""
_BEGINS: Final = re.compile(rb'"(?:messages|input|prompt)"\s*:')
_BEGINS_WITHIN: Final = 512


class _Body(msgspec.Struct):
    tools: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")


_read = msgspec.json.Decoder(_Body).decode


def beginning_of(body: bytes, most: int, *, alone: bool = False) -> bytes:
    """At most ``most`` bytes: tools and system prompt, which templates put first, then the messages.

    As JSON, not as text: what matters is that calls that begin alike give the same bytes.

    Args:
        body: of a request, as JSON.
        most: bytes of the beginning.
        alone: nothing but messages is in the prompt.
    """
    try:
        found = _read(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return b""
    parts: list[bytes] = []
    left = most
    wanted = (found.tools, found.system, found.instructions, found.messages, found.input, found.prompt)
    for part in (found.messages,) if alone else wanted:
        text = bytes(memoryview(part)[:left])
        if text:
            parts.append(text)
            left -= len(text)
            if left <= 0:
                break
    return b"".join(parts)


def prefix_key_in_python(
    body: bytes, tenant: str, model: str, blocks: int, block_bytes: int, alone: bool
) -> int | None:
    """The place on the ring for a body of that tenant for that model; None without a whole block."""
    rendered = beginning_of(body, blocks * block_bytes, alone=alone)
    scope = f"{tenant}\x1f{model}".encode("utf-8", "replace")
    return affinity_key(scope, rendered, blocks=blocks, block_bytes=block_bytes)


class PrefixKeys:
    """Places on the ring of the calls of one upstream.

    The whole of a long body has to be read to know where its tools are. But an agent says the same
    beginning again and again: where the first bytes of a body, its tools and its system prompt are those
    of a call before, so is its key.
    """

    def __init__(self, config: PrefixConfig) -> None:
        self._blocks = config.blocks
        self._block_bytes = config.block_tokens * BYTES_PER_TOKEN
        self._most = self._blocks * self._block_bytes
        self._known: dict[tuple[object, ...], int | None] = {}

    def of(self, body: bytes, facts: RequestFacts, tenant: str) -> int | None:
        """The key of a call; None where its prompt has no whole block to share."""
        alone = facts.api == "openai.chat" and not facts.has_tools
        if native is not None and (alone or len(body) <= _SHORT):
            return self._read(body, facts, tenant, alone)
        if not _BEGINS.search(body, 0, _BEGINS_WITHIN):
            return self._read(body, facts, tenant, alone)
        head = hash(body[: self._most + _BEGINS_WITHIN])
        mark = (head, facts.tools_hash, facts.system_hash, facts.model, tenant)
        known = self._known
        if mark in known:
            return known[mark]
        if len(known) >= _KEPT:
            known.clear()
        key = known[mark] = self._read(body, facts, tenant, alone)
        return key

    def _read(self, body: bytes, facts: RequestFacts, tenant: str, alone: bool) -> int | None:
        if native is not None:
            key: int | None = native.prefix_key(
                body, tenant, facts.model, self._blocks, self._block_bytes, alone
            )
            if key is not None:
                return key or None
        return prefix_key_in_python(body, tenant, facts.model, self._blocks, self._block_bytes, alone)

"""The beginning of a conversation in the order that a model reads it, from any dialect's body."""

import re
from typing import Final

import msgspec

from inference.pool.affinity import BYTES_PER_TOKEN, affinity_key
from sidecar.providers.pool_settings import PrefixConfig
from sidecar.wire import RequestFacts

_KEPT: Final = 4096
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


def beginning_of(body: bytes, most: int) -> bytes:
    """At most ``most`` bytes: tools and system prompt, which templates put first, then the messages.

    As JSON, not as text: what matters is that calls that begin alike give the same bytes.
    """
    try:
        found = _read(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return b""
    parts: list[bytes] = []
    left = most
    for part in (
        found.tools, found.system, found.instructions, found.messages, found.input, found.prompt,
    ):  # fmt: skip
        text = bytes(memoryview(part)[:left])
        if text:
            parts.append(text)
            left -= len(text)
            if left <= 0:
                break
    return b"".join(parts)


class PrefixKeys:
    """Places on the ring of the calls of one upstream.

    The whole of a long body has to be read to know where its tools are. But an agent says the same
    beginning again and again: where the first bytes of a body, its tools and its system prompt are those
    of a call before, so is its key.
    """

    def __init__(self, config: PrefixConfig) -> None:
        self._blocks = config.blocks
        self._block_tokens = config.block_tokens
        self._most = config.blocks * config.block_tokens * BYTES_PER_TOKEN
        self._known: dict[tuple[object, ...], int | None] = {}

    def of(self, body: bytes, facts: RequestFacts, tenant: str) -> int | None:
        """The key of a call; None where its prompt has no whole block to share."""
        if not _BEGINS.search(body, 0, _BEGINS_WITHIN):
            return self._read(body, facts, tenant)
        head = hash(body[: self._most + _BEGINS_WITHIN])
        mark = (head, facts.tools_hash, facts.system_hash, facts.model, tenant)
        known = self._known
        if mark in known:
            return known[mark]
        if len(known) >= _KEPT:
            known.clear()
        key = known[mark] = self._read(body, facts, tenant)
        return key

    def _read(self, body: bytes, facts: RequestFacts, tenant: str) -> int | None:
        rendered = beginning_of(body, self._most)
        scope = f"{tenant}\x1f{facts.model}".encode()
        return affinity_key(scope, rendered, blocks=self._blocks, block_tokens=self._block_tokens)

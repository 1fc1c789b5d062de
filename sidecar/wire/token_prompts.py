"""Prompts of tokens, which run to millions of numbers: counted by their commas, and never decoded.

What is left of a request when they are taken out is read like any other.
"""

import re
from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from sidecar.wire.facts import RequestFacts
from sidecar.wire.hashing import fold
from sidecar.wire.members import MOST_MEMBERS, is_heavy

_PROMPT_IN: Final = {"openai.embeddings": "input", "openai.completions": "prompt"}
_IN_NUMBERS: Final = b"0123456789 \t\r\n"
_TOKENS: Final = re.compile(rb"\[,*+\]|\[\[,*+\](?:,\[,*+\])*+\]")
"""A list of whole numbers, or a list of such lists, without the digits."""
_TELLING: Final = 64
_NOTHING: Final = Raw(b"null")


class _Prompts(msgspec.Struct, gc=False):
    input: Raw = _NOTHING
    prompt: Raw = _NOTHING


_decode_prompts: Final = msgspec.json.Decoder(_Prompts).decode


class Parted(NamedTuple):
    """A request whose prompt is tokens, in two."""

    rest: bytes
    """The body with an empty list in their place."""
    tokens: bytes
    """As they were written."""
    number: int
    prompts: int

    def add_to(self, facts: RequestFacts) -> None:
        """Have ``facts`` of the rest be those of the whole."""
        facts.text_bytes += 4 * self.number  # About four bytes of text each.
        facts.message_hashes = [fold(0, "user", self.tokens)]
        if facts.api == "openai.completions":  # Each prompt is answered.
            facts.choice_count *= self.prompts


def part_tokens(api: str, body: bytes) -> Parted | None:
    """``body`` and its tokens; None where it is not for these alone that it is heavy."""
    name = _PROMPT_IN.get(api)
    if name is None:
        return None
    try:
        tokens = bytes(memoryview(getattr(_decode_prompts(body), name)))
    except (msgspec.DecodeError, RecursionError):
        return None
    shape = tokens.translate(None, _IN_NUMBERS)
    prompts = max(1, shape.count(b"[") - 1)
    if prompts > MOST_MEMBERS or not _TOKENS.fullmatch(shape):
        return None
    place = body.find(tokens[:_TELLING])  # Twenty times cheaper than looking for all of them.
    if not body.startswith(tokens, place):
        place = body.find(tokens)
    # Should the same stand elsewhere too, in a string or under the same name, what is left is heavy still.
    rest = b"[]".join((body[:place], body[place + len(tokens) :]))
    if is_heavy(rest):
        return None
    return Parted(rest, tokens, shape.count(b",") + 1, prompts)

"""Beginnings of requests that were read before: of a long conversation only what is new is read again.

An agent sends its whole history with every call: the next body begins with the bytes of the one before, up
to its last message. Where a body begins so, the messages of that beginning are known already; what is left
when they are taken out of the list is the same JSON with fewer members, and is checked and read like any
other body. Comparing bytes is twenty times cheaper than reading them.

Only whole messages of bodies that were found sound count as a beginning, and only to requests of the same
scope. Memory is bounded by ``MOST_BYTES``.
"""

from typing import Final, NamedTuple

from sidecar.wire.facts import RequestFacts

WORTH_BYTES: Final = 8 << 10
"""Shorter bodies are read as quickly as they are looked up."""
MOST_BYTES: Final = 2 << 20
"""Of all beginnings together; a longer one is not kept."""
MOST: Final = 32
_TAIL: Final = 64


class Beginning(NamedTuple):
    """What is known after the first messages of a chat."""

    scope: str
    text: bytes
    """The body up to the end of the last of these messages."""
    tail: bytes
    """The last bytes of ``text``: where they do not fit, nothing else has to be compared."""
    list_at: int
    """Where the list of messages begins, behind its bracket."""
    facts: RequestFacts
    """Of the request that it was."""


class Beginnings:
    """The latest beginnings, the last used first."""

    def __init__(self) -> None:
        self._kept: list[Beginning] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def find(self, scope: str, body: bytes) -> tuple[Beginning, bytes] | None:
        """How ``body`` begins, and what it is without the messages that are known."""
        for number, known in enumerate(self._kept):
            end = len(known.text)
            if (
                known.scope == scope
                and body.startswith(known.tail, end - len(known.tail))
                and body.startswith(known.text)
            ):
                following = body[end : end + 3].replace(b" ", b"")
                if following.startswith(b"]"):
                    rest = body[end:]
                elif following.startswith(b",{"):
                    rest = body[end + 1 :]
                else:
                    continue
                if number:
                    self._kept.insert(0, self._kept.pop(number))
                return known, body[: known.list_at] + rest
        return None

    def keep(self, scope: str, body: bytes, place: int, end: int, facts: RequestFacts) -> None:
        """Remember how ``body``, which says ``facts``, begins.

        Its list of messages begins at ``place`` and ends before ``end``; -1 where that is not known.
        """
        end -= 1
        if place < 0 or end > MOST_BYTES or body[place : place + 2] != b"[{" or body[end - 1 : end] != b"}":
            return
        self._put(Beginning(scope, body[:end], body[end - _TAIL : end], place + 1, facts), None)

    def extend(self, before: Beginning, body: bytes, list_bytes: int, facts: RequestFacts) -> None:
        """``body`` goes on from ``before``; the list of its messages without those takes ``list_bytes``."""
        added = list_bytes - 1  # with its first bracket in the place of the comma
        end = len(before.text) + added
        if added < 2 or end > MOST_BYTES or body[end - 1 : end + 1] != b"}]":
            return
        self._put(Beginning(before.scope, body[:end], body[end - _TAIL : end], before.list_at, facts), before)

    def _put(self, new: Beginning, instead_of: Beginning | None) -> None:
        kept = self._kept
        if instead_of is not None:
            kept.remove(instead_of)
            self._bytes -= len(instead_of.text)
        kept.insert(0, new)
        self._bytes += len(new.text)
        while len(kept) > MOST or self._bytes > MOST_BYTES:
            self._bytes -= len(kept.pop().text)

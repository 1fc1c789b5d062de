"""Which conversation a call belongs to, told by its messages alone.

An agent sends its whole history with every call, so a call whose messages go on from an
earlier call's belongs with it. All that is kept of a message is the rolling hash after it
(`sidecar/wire/hashing.py`), which stands for everything up to there.

A *state* is a place where a call stood: the end of its request, the end of its reply. A new
call is looked up from its last message backwards; the first state found is where it goes on
from. What is enough to join, and what is not:

* Beyond an opening (the messages of a conversation's first call) a history holds a reply of a
  model, so a state there is the conversation's own.
* At the end of an opening of one or two messages only a call that carries our reply to it
  joins. The same system prompt and question are often sent by many; whoever sends them again
  begins a conversation of their own.
* A state that two conversations have stood at belongs to neither any more. It is joined only
  by way of a conversation that still stands there, if there is exactly one.
* Shared messages of fewer than `MIN_EVIDENCE_BYTES`, such as "hi" and "Hello!", prove nothing.
* Where the beginning was changed (another system prompt, old turns dropped) the rolling hashes
  say nothing. Then two or more longer messages that only one conversation has had join it.

What goes on from a state that its conversation has left is a *branch* of it. When in doubt a
call begins a new conversation: two halves are a smaller harm than two strangers in one.

Memory is bounded by `StitchingLimits`; the conversation least lately heard of is forgotten
first. Scopes (tenant, key, user) share nothing. Nothing here knows a clock.

A sidecar places its calls in C where that is built (``sidecar/native/stitching*.c``), by these
rules and with the same results: what is changed here is to be changed there.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

from collector.domain.stitching_rules import (
    BITS,
    CHAIN,
    LONG_OPENING,
    MOST_SHARING,
    PROBES,
    STRONG_BYTES,
    TOP,
    WORD,
    Branch,
    Conversation,
    Entry,
    Scope,
    Via,
    answering,
    line_at,
    lookup,
    response_key,
)

__all__ = ["STITCHED_APIS", "Known", "Placement", "Stitcher", "StitchingLimits", "Via", "recall"]

STITCHED_APIS: Final = frozenset({"openai.chat", "openai.responses", "anthropic.messages"})
"""The dialects whose calls are turns of a conversation; prompts and embeddings are not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchingLimits:
    """What may be remembered."""

    conversations: int = 2_500
    hashes: int = 16_000
    """States and messages together; about 150 bytes each."""
    hashes_per_conversation: int = 64
    """The newest. A fork from further back begins a new conversation."""


_NEW: Final = Via.NEW
_tuple: Final = tuple.__new__


class Placement(NamedTuple):
    """Where a call belongs. Hand it back to `Stitcher.settle` when the call has ended."""

    conversation_id: str
    branch: int
    """Counts from 0 in the order in which the lines of a conversation were seen."""
    via: Via
    line: Branch
    state: int
    """Where its request ends; 0 when the request does not hold its history."""


class Placed(Protocol):
    """A placement, whoever made it: `Placement`, or its like in C."""

    @property
    def conversation_id(self) -> str:
        """The conversation that it belongs to."""

    @property
    def via(self) -> Via:
        """What told."""

    @property
    def line(self) -> Any:
        """The line of the conversation."""

    @property
    def state(self) -> int:
        """Where its request ends; 0 when the request does not hold its history."""


class Known(NamedTuple):
    """A call that the ledger remembers, for `recall`."""

    scope: tuple[str, ...]
    conversation_id: str
    message_hashes: Sequence[int]
    last_message_hash: int
    response_id: str = ""


class Stitcher:
    """Places calls in conversations. For one thread.

    Args:
        limits: what may be remembered.
    """

    def __init__(self, limits: StitchingLimits | None = None) -> None:
        limits = limits or StitchingLimits()
        self._most_conversations = limits.conversations
        self._most_hashes = limits.hashes
        self._most_each = limits.hashes_per_conversation
        self._scopes: dict[tuple[str, ...], Scope] = {}
        # In a plain dictionary the oldest is found behind the places of all that were forgotten before it.
        self._recent: OrderedDict[Conversation, None] = OrderedDict()
        """Least lately heard of first."""
        self.hashes = 0
        """How many are remembered."""
        self.forgotten = 0
        """Conversations that were dropped to stay within the limits."""

    @property
    def conversations(self) -> int:
        """How many are remembered."""
        return len(self._recent)

    @property
    def scopes(self) -> int:
        """How many conversations are remembered of."""
        return len(self._scopes)

    def place(
        self,
        scope: tuple[str, ...],
        hashes: Sequence[int],
        fresh_id: str,
        *,
        explicit_id: str = "",
        previous_response_id: str = "",
        run: str = "",
        instructions_apart: bool = False,
    ) -> Placement:
        """The conversation of a call that is about to be made.

        Args:
            scope: tenant, key, user: calls of different scopes are never joined.
            hashes: the rolling hash after each message of the request.
            fresh_id: the id of the conversation, should the call begin one.
            explicit_id: the conversation that the caller named; it wins.
            previous_response_id: the response that the request says it goes on from.
            run: under this name everything is known to be one piece of work; only asked where
                the messages say nothing.
            instructions_apart: the system prompt, which many share, is not among the messages.
        """
        known = self._scopes.get(scope)
        if known is None:
            known = self._scopes[scope] = Scope(scope)
        if previous_response_id:
            # The provider keeps the history; these messages are the last turn alone.
            hashes = ()
        line, via, shared = None, _NEW, 0
        if explicit_id:
            line, shared = self._named(known, hashes, explicit_id)
            via = Via.EXPLICIT
        elif previous_response_id:
            line, via = answering(known.index, response_key(previous_response_id))
        else:
            line, via, shared = lookup(known.index, hashes, 0 if instructions_apart else 1)
        if line is None and run and run in known.runs:
            line, via = Branch(known.runs[run]), Via.RUN
        state = hashes[-1] if hashes else 0
        if line is None:
            line, shared = Branch(self._begin(known, fresh_id, state)), len(hashes)
        conversation = line.conversation
        if via is not _NEW:
            conversation.failed = False
            self._recent.move_to_end(conversation)
        if run and not conversation.run and run not in known.runs:
            known.runs[run] = conversation
            conversation.run = run
        if state:
            self._learn(line, hashes, shared, known.index)
        line.head = state
        if self.hashes > self._most_hashes or len(self._recent) > self._most_conversations:
            self._forget(conversation)
        return _tuple(Placement, (conversation.id, line.number, via, line, state))

    def settle(self, placement: Placed, last_message_hash: int, response_id: str = "") -> None:
        """A call has ended; ``last_message_hash`` is 0 when no reply of it is known."""
        line, state = placement.line, placement.state
        conversation = line.conversation
        if conversation not in self._recent:
            return
        if state:
            if last_message_hash:
                self._note(line, last_message_hash)
                if line.head == state:
                    line.head = last_message_hash
            elif state == conversation.opening and line.head == state:
                conversation.failed = True
        if response_id:
            line.response = response_key(response_id)
            self._note(line, line.response)

    # -- finding

    def _named(self, scope: Scope, hashes: Sequence[int], name: str) -> tuple[Branch | None, int]:
        """The line of the conversation called ``name`` that ``hashes`` go on."""
        conversation = scope.by_id.get(name)
        if conversation is None:
            conversation = self._begin(scope, name, hashes[-1] if hashes else 0)
            return Branch(conversation), len(hashes)
        for position in range(len(hashes) - 1, max(-1, len(hashes) - 1 - PROBES), -1):
            entry = scope.index.get(hashes[position])
            for line in (entry if isinstance(entry, tuple) else (entry,)) if entry is not None else ():
                if line.conversation is conversation:
                    return line_at(line, hashes[position]), position + 1
        return Branch(conversation), 0

    def _begin(self, scope: Scope, name: str, opening: int) -> Conversation:
        conversation = Conversation(scope, name, opening)
        scope.by_id[name] = conversation
        self._recent[conversation] = None
        return conversation

    # -- remembering

    def _learn(self, line: Branch, hashes: Sequence[int], shared: int, index: dict[int, Entry]) -> None:
        """Remember the end of a request, and the longer ones of the messages it has gained last."""
        count = len(hashes)
        line.tail = 0
        last = hashes[-1]
        if shared == count:  # An opening, or a request that is known.
            if count >= LONG_OPENING:
                line.tail = hashes[-2]
                self._note(line, line.tail)
        else:
            before = hashes[-2] if count > 1 else 0
            if count - 1 > shared:
                line.tail = before
                self._note(line, before)
                earlier = hashes[-3] if count > 2 else 0
                digest = before - earlier * CHAIN & BITS
                if digest % WORD >= STRONG_BYTES <= (digest + TOP) % WORD:
                    self._note(line, ~digest)
            digest = last - before * CHAIN & BITS
            if digest % WORD >= STRONG_BYTES <= (digest + TOP) % WORD:
                self._note(line, ~digest)
        self._note(line, last)

    def _note(self, line: Branch, key: int) -> None:
        conversation = line.conversation
        index, kept = conversation.scope.index, conversation.hashes
        entry = index.get(key)
        if entry is None:
            index[key] = line
        elif isinstance(entry, tuple):
            for other in entry if kept else ():
                if other.conversation is conversation:
                    index[key] = (*[one for one in entry if one is not other], line)
                    return
            index[key] = (*entry[1 - MOST_SHARING :], line)
        elif entry.conversation is conversation:
            index[key] = line
            return
        else:
            index[key] = (entry, line)
        kept.append(key)
        self.hashes += 1
        if len(kept) > self._most_each:
            self._drop(conversation, kept.pop(0))

    def _drop(self, conversation: Conversation, key: int) -> None:
        self.hashes -= 1
        index = conversation.scope.index
        entry = index.get(key)
        if isinstance(entry, tuple):
            for other in entry:
                if other.conversation is conversation:
                    break
            else:
                return
            left = tuple([line for line in entry if line is not other])
            if left:
                index[key] = left
                return
        elif entry is None or entry.conversation is not conversation:
            return
        del index[key]

    def _forget(self, spared: Conversation) -> None:
        while self.hashes > self._most_hashes or len(self._recent) > self._most_conversations:
            oldest, _ = self._recent.popitem(last=False)
            if oldest is spared:
                self._recent[oldest] = None
                self._recent.move_to_end(oldest, last=False)
                return
            self.forgotten += 1
            for key in oldest.hashes:
                self._drop(oldest, key)
            scope = oldest.scope
            if scope.by_id.get(oldest.id) is oldest:
                del scope.by_id[oldest.id]
            if oldest.run:
                del scope.runs[oldest.run]
            if not scope.by_id and self._scopes.get(scope.name) is scope:
                del self._scopes[scope.name]


def recall(stitcher: Stitcher, calls: Iterable[Known]) -> None:
    """Learn from calls that were placed before, oldest first: after a restart."""
    for call in calls:
        placement = stitcher.place(
            call.scope, call.message_hashes, call.conversation_id, explicit_id=call.conversation_id
        )
        stitcher.settle(placement, call.last_message_hash, call.response_id)

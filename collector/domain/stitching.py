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
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

STITCHED_APIS: Final = frozenset({"openai.chat", "openai.responses", "anthropic.messages"})
"""The dialects whose calls are turns of a conversation; prompts and embeddings are not."""

MIN_EVIDENCE_BYTES: Final = 40
"""Text beyond the first message that must be shared, where an opening is all there is. "hi" and
"Hello! How can I assist you today?" are 36."""

_STRONG_BYTES: Final = 64
"""A message this long is remembered by itself."""
_MOVED_MESSAGES: Final = 2
_MOVED_BYTES: Final = 256
"""How many remembered messages, of how many bytes, join a history whose beginning was changed."""
_LOOKED_AT: Final = 16
"""Messages at the end of a request that are looked for one by one."""
_PROBES: Final = 1024
"""Messages that a request may have gained since the state it goes on from."""
_LONG_OPENING: Final = 32
"""An opening of so many messages is told from others by the rest of it, should its last be changed."""
_OPENING: Final = 2
"""A system prompt and a question: the opening that others may well have sent unseen. Agents that
put their own words in place of our replies are followed from the next call on."""
_SHORT: Final = 4
"""Messages up to which it is asked whether they are evidence enough."""
_MOST_SHARING: Final = 4

# As in `sidecar.wire.hashing.fold`: after = before * CHAIN + crc * WORD + length, in 63 bits.
_BITS: Final = (1 << 63) - 1
_TOP: Final = 1 << 63
_CHAIN: Final = 2_654_435_761
_WORD: Final = 2_246_822_519


class Via(StrEnum):
    """Why a call is in the conversation it is in."""

    EXPLICIT = "explicit"
    """It says so itself."""
    RESPONSE = "response"
    """It names a response of ours that it goes on from."""
    REPLY = "reply"
    """It carries our last reply."""
    REQUEST = "request"
    """It goes on from an earlier request, by way of another reply than ours or an unknown one."""
    REPEAT = "repeat"
    """It is an earlier request again."""
    MOVED = "moved"
    """It holds messages of the conversation behind another beginning."""
    RUN = "run"
    """It belongs to the same run, and nothing else is known of it."""
    NEW = "new"


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchingLimits:
    """What may be remembered."""

    conversations: int = 20_000
    hashes: int = 60_000
    """States and messages together; about 150 bytes each."""
    hashes_per_conversation: int = 64
    """The newest. A fork from further back begins a new conversation."""


_NEW: Final = Via.NEW
_REPLY: Final = Via.REPLY
_tuple: Final = tuple.__new__


class Conversation:
    """One conversation; how far it has come is in its branches."""

    __slots__ = ("branches", "failed", "hashes", "id", "opening", "run", "scope")

    def __init__(self, scope: "_Scope", conversation_id: str, opening: int) -> None:
        self.scope = scope
        self.id = conversation_id
        self.opening = opening
        """The state at the end of its first request; 0 when that is not known."""
        self.failed = False
        """The last try of its first request had no reply, and nothing has come since."""
        self.run = ""
        self.branches = 0
        self.hashes: list[int] = []
        """What the scope's index has of it, oldest first."""


class Branch:
    """One line of a conversation."""

    __slots__ = ("conversation", "head", "number", "response", "tail")

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.number = conversation.branches
        conversation.branches += 1
        self.head = 0
        """The state it stands at."""
        self.tail = 0
        """Before the last message of its last request, where that was new as well: agents change or
        drop the very last message when they send a history again."""
        self.response = 0
        """The key of its last response's id."""


_Entry: TypeAlias = "Branch | tuple[Branch, ...]"
"""Whose a hash is; a tuple once two conversations have had it, and for ever after."""


class _Scope:
    """What is known of one tenant's key and user."""

    __slots__ = ("by_id", "index", "name", "runs")

    def __init__(self, name: tuple[str, ...]) -> None:
        self.name = name
        self.index: dict[int, _Entry] = {}
        """States by rolling hash, messages by the complement of their digest, responses by the
        negative of their id's hash less all of those."""
        self.by_id: dict[str, Conversation] = {}
        self.runs: dict[str, Conversation] = {}


class Placement(NamedTuple):
    """Where a call belongs. Hand it back to `Stitcher.settle` when the call has ended."""

    conversation_id: str
    branch: int
    """Counts from 0 in the order in which the lines of a conversation were seen."""
    via: Via
    line: Branch
    state: int
    """Where its request ends; 0 when the request does not hold its history."""


class Known(NamedTuple):
    """A call that the ledger remembers, for `Stitcher.recall`."""

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
        self._scopes: dict[tuple[str, ...], _Scope] = {}
        self._recent: dict[Conversation, None] = {}
        """Least lately heard of first."""
        self.hashes = 0
        """How many are remembered."""
        self.forgotten = 0
        """Conversations that were dropped to stay within the limits."""

    @property
    def conversations(self) -> int:
        """How many are remembered."""
        return len(self._recent)

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
            known = self._scopes[scope] = _Scope(scope)
        if previous_response_id:
            # The provider keeps the history; these messages are the last turn alone.
            hashes = ()
        line, via, shared = None, _NEW, 0
        if explicit_id:
            line, shared = self._named(known, hashes, explicit_id)
            via = Via.EXPLICIT
        elif previous_response_id:
            line, via = _answering(known.index, _response_key(previous_response_id))
        else:
            line, via, shared = _lookup(known.index, hashes, 0 if instructions_apart else 1)
        if line is None and run and run in known.runs:
            line, via = Branch(known.runs[run]), Via.RUN
        state = hashes[-1] if hashes else 0
        if line is None:
            line, shared = Branch(self._begin(known, fresh_id, state)), len(hashes)
        conversation = line.conversation
        if via is not _NEW:
            conversation.failed = False
            recent = self._recent
            del recent[conversation]
            recent[conversation] = None
        if run and not conversation.run and run not in known.runs:
            known.runs[run] = conversation
            conversation.run = run
        if state:
            self._learn(line, hashes, shared, known.index)
        line.head = state
        if self.hashes > self._most_hashes or len(self._recent) > self._most_conversations:
            self._forget(conversation)
        return _tuple(Placement, (conversation.id, line.number, via, line, state))

    def settle(self, placement: Placement, last_message_hash: int, response_id: str = "") -> None:
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
            line.response = _response_key(response_id)
            self._note(line, line.response)

    def recall(self, calls: Iterable[Known]) -> None:
        """Learn from calls that were placed before, oldest first: after a restart."""
        for call in calls:
            placement = self.place(
                call.scope, call.message_hashes, call.conversation_id, explicit_id=call.conversation_id
            )
            self.settle(placement, call.last_message_hash, call.response_id)

    # -- finding

    def _named(self, scope: _Scope, hashes: Sequence[int], name: str) -> tuple[Branch | None, int]:
        """The line of the conversation called ``name`` that ``hashes`` go on."""
        conversation = scope.by_id.get(name)
        if conversation is None:
            conversation = self._begin(scope, name, hashes[-1] if hashes else 0)
            return Branch(conversation), len(hashes)
        for position in range(len(hashes) - 1, max(-1, len(hashes) - 1 - _PROBES), -1):
            entry = scope.index.get(hashes[position])
            for line in (entry if isinstance(entry, tuple) else (entry,)) if entry is not None else ():
                if line.conversation is conversation:
                    return _line_at(line, hashes[position]), position + 1
        return Branch(conversation), 0

    def _begin(self, scope: _Scope, name: str, opening: int) -> Conversation:
        conversation = Conversation(scope, name, opening)
        scope.by_id[name] = conversation
        self._recent[conversation] = None
        return conversation

    # -- remembering

    def _learn(self, line: Branch, hashes: Sequence[int], shared: int, index: dict[int, _Entry]) -> None:
        """Remember the end of a request, and the longer ones of the messages it has gained last."""
        count = len(hashes)
        line.tail = 0
        last = hashes[-1]
        if shared == count:  # An opening, or a request that is known.
            if count >= _LONG_OPENING:
                line.tail = hashes[-2]
                self._note(line, line.tail)
        else:
            before = hashes[-2] if count > 1 else 0
            if count - 1 > shared:
                line.tail = before
                self._note(line, before)
                earlier = hashes[-3] if count > 2 else 0
                digest = before - earlier * _CHAIN & _BITS
                if digest % _WORD >= _STRONG_BYTES <= (digest + _TOP) % _WORD:
                    self._note(line, ~digest)
            digest = last - before * _CHAIN & _BITS
            if digest % _WORD >= _STRONG_BYTES <= (digest + _TOP) % _WORD:
                self._note(line, ~digest)
        if last in index:
            self._note(line, last)
        else:
            index[last] = line
            self._keep(line.conversation, last)

    def _note(self, line: Branch, key: int) -> None:
        conversation = line.conversation
        index = conversation.scope.index
        entry = index.get(key)
        if entry is None:
            index[key] = line
        elif isinstance(entry, tuple):
            others = [other for other in entry if other.conversation is not conversation]
            index[key] = (*others[1 - _MOST_SHARING :], line)
            if len(others) < len(entry):
                return
        elif entry.conversation is conversation:
            index[key] = line
            return
        else:
            index[key] = (entry, line)
        self._keep(conversation, key)

    def _keep(self, conversation: Conversation, key: int) -> None:
        kept = conversation.hashes
        kept.append(key)
        self.hashes += 1
        if len(kept) > self._most_each:
            self._drop(conversation, kept.pop(0))

    def _drop(self, conversation: Conversation, key: int) -> None:
        self.hashes -= 1
        index = conversation.scope.index
        entry = index.get(key)
        if isinstance(entry, tuple):
            left = tuple(line for line in entry if line.conversation is not conversation)
            if left:
                index[key] = left
                return
        elif entry is None or entry.conversation is not conversation:
            return
        del index[key]

    def _forget(self, spared: Conversation) -> None:
        while self.hashes > self._most_hashes or len(self._recent) > self._most_conversations:
            oldest = next(iter(self._recent))
            if oldest is spared:
                return
            del self._recent[oldest]
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


# -- deciding: from the index and the hashes of a request to the line that it goes on


def _answering(index: dict[int, _Entry], key: int) -> tuple[Branch | None, Via]:
    """The line that a response belongs to, and a new branch where others have answered it before."""
    entry = index.get(key)
    if entry is None or isinstance(entry, tuple):
        return None, Via.NEW
    return (entry if entry.response == key else Branch(entry.conversation)), Via.RESPONSE


def _lookup(
    index: dict[int, _Entry], hashes: Sequence[int], shared_by_all: int
) -> tuple[Branch | None, Via, int]:
    """The line that a request goes on, why, and how many of its messages were known."""
    count = len(hashes)
    for position in range(count - 1, max(-1, count - 1 - _PROBES), -1):
        state = hashes[position]
        entry = index.get(state)
        if entry is None:
            continue
        known = position + 1
        if known == count:
            line = _advancing(index, hashes, shared_by_all)
            if line is not None:
                return line, _REPLY, known
            line = _repeated(hashes, entry)
        else:
            line = _still_there(entry, state) if isinstance(entry, tuple) else entry
        if line is None or not _may_join(line, hashes, known, shared_by_all):
            break
        if line.head == state and known < count:
            return line, _REPLY, known
        return _line_at(line, state), Via.REQUEST if known < count else Via.REPEAT, known
    if count > _MOVED_MESSAGES:
        moved = _moved(index, hashes)
        if moved is not None:
            return Branch(moved), Via.MOVED, 0
    return None, _NEW, 0


def _still_there(lines: tuple[Branch, ...], state: int) -> Branch | None:
    """The only line that stands at a state which several conversations have stood at."""
    there = [line for line in lines if line.head == state]
    return there[0] if len(there) == 1 else None


def _advancing(index: dict[int, _Entry], hashes: Sequence[int], shared_by_all: int) -> Branch | None:
    """A conversation that a known request takes further, though it is another's request as well.

    Runs of one script over and over say the same; each new one walks in the steps of the last.
    """
    last = len(hashes) - 1
    for position in range(last - 1, max(-1, last - 9), -1):
        entry = index.get(hashes[position])
        if entry is not None:
            line = _still_there(entry, hashes[position]) if isinstance(entry, tuple) else None
            may = line is not None and _may_join(line, hashes, position + 1, shared_by_all)
            return line if may else None
    return None


def _repeated(hashes: Sequence[int], entry: _Entry) -> Branch | None:
    """Whose a request is that one conversation has made before."""
    if isinstance(entry, tuple):
        return None
    conversation = entry.conversation
    if conversation.opening == hashes[-1]:
        # The same opening again: a retry of a call that failed, else a conversation like it.
        return entry if conversation.failed else None
    return entry


def _may_join(line: Branch, hashes: Sequence[int], known: int, shared_by_all: int) -> bool:
    if known <= _OPENING and known < len(hashes) and line.conversation.opening == hashes[known - 1]:
        return False  # Our reply is not what follows: it may be somebody else's run of the same opening.
    return known > _SHORT or _enough(hashes, known, shared_by_all)


def _enough(hashes: Sequence[int], known: int, shared_by_all: int) -> bool:
    """Whether the first ``known`` messages are more than an opening that anybody may have."""
    total = 0
    for position in range(min(shared_by_all, known - 1), known):
        before = hashes[position - 1] if position else 0
        # A message without text is a tool call; its mark is the call's id.
        total += _length((hashes[position] - before * _CHAIN) & _BITS) or MIN_EVIDENCE_BYTES
        if total >= MIN_EVIDENCE_BYTES:
            return True
    return False


def _moved(index: dict[int, _Entry], hashes: Sequence[int]) -> Conversation | None:
    """The one conversation whose longer messages stand at the end of a request."""
    found: Conversation | None = None
    messages = total = 0
    for position in range(len(hashes) - 1, max(0, len(hashes) - 1 - _LOOKED_AT), -1):
        digest = (hashes[position] - hashes[position - 1] * _CHAIN) & _BITS
        entry = index.get(~digest)
        if entry is None or isinstance(entry, tuple):
            continue
        conversation = entry.conversation
        if found is not None and conversation is not found:
            return None
        found = conversation
        messages += 1
        total += _length(digest)
    return found if messages >= _MOVED_MESSAGES and total >= _MOVED_BYTES else None


def _line_at(line: Branch, state: int) -> Branch:
    """``line``, or a new branch where it has left ``state``."""
    return line if state in (line.head, line.tail) else Branch(line.conversation)


def _length(digest: int) -> int:
    """Bytes of the text of a message, from its digest: ``crc * WORD + length`` in 63 bits.

    The product has 64; of the two values that the lost bit allows, the shorter text is the one.
    """
    return min(digest % _WORD, (digest + _TOP) % _WORD)


def _response_key(response_id: str) -> int:
    return -1 - _BITS - (hash(response_id) & _BITS) - 1

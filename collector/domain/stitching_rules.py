"""From the hashes of a request to the line of a conversation that it goes on; see `stitching`."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, TypeAlias

MIN_EVIDENCE_BYTES: Final = 40
"""Text beyond the first message that must be shared, where an opening is all there is. "hi" and
"Hello! How can I assist you today?" are 36."""

STRONG_BYTES: Final = 64
"""A message this long is remembered by itself."""
_MOVED_MESSAGES: Final = 2
_MOVED_BYTES: Final = 256
"""How many remembered messages, of how many bytes, join a history whose beginning was changed."""
_LOOKED_AT: Final = 16
"""Messages at the end of a request that are looked for one by one."""
PROBES: Final = 1024
"""Messages that a request may have gained since the state it goes on from."""
LONG_OPENING: Final = 32
"""An opening of so many messages is told from others by the rest of it, should its last be changed."""
_OPENING: Final = 2
"""A system prompt and a question: the opening that others may well have sent unseen. Agents that
put their own words in place of our replies are followed from the next call on."""
_SHORT: Final = 4
"""Messages up to which it is asked whether they are evidence enough."""
MOST_SHARING: Final = 4

# As in `sidecar.wire.hashing.fold`: after = before * CHAIN + crc * WORD + length, in 63 bits.
BITS: Final = (1 << 63) - 1
TOP: Final = 1 << 63
CHAIN: Final = 2_654_435_761
WORD: Final = 2_246_822_519


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


NEW: Final = Via.NEW
REPLY: Final = Via.REPLY


class Conversation:
    """One conversation; how far it has come is in its branches."""

    __slots__ = ("branches", "failed", "hashes", "id", "opening", "run", "scope")

    def __init__(self, scope: "Scope", conversation_id: str, opening: int) -> None:
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


Entry: TypeAlias = "Branch | tuple[Branch, ...]"
"""Whose a hash is; a tuple once two conversations have had it, and for ever after."""


class Scope:
    """What is known of one tenant's key and user."""

    __slots__ = ("by_id", "index", "name", "runs")

    def __init__(self, name: tuple[str, ...]) -> None:
        self.name = name
        self.index: dict[int, Entry] = {}
        """States by rolling hash, messages by the complement of their digest, responses by the
        negative of their id's hash less all of those."""
        self.by_id: dict[str, Conversation] = {}
        self.runs: dict[str, Conversation] = {}


def answering(index: dict[int, Entry], key: int) -> tuple[Branch | None, Via]:
    """The line that a response belongs to, and a new branch where others have answered it before."""
    entry = index.get(key)
    if entry is None or isinstance(entry, tuple):
        return None, Via.NEW
    return (entry if entry.response == key else Branch(entry.conversation)), Via.RESPONSE


def lookup(
    index: dict[int, Entry], hashes: Sequence[int], shared_by_all: int
) -> tuple[Branch | None, Via, int]:
    """The line that a request goes on, why, and how many of its messages were known."""
    count = len(hashes)
    for position in range(count - 1, max(-1, count - 1 - PROBES), -1):
        state = hashes[position]
        entry = index.get(state)
        if entry is None:
            continue
        known = position + 1
        if known == count:
            line = _advancing(index, hashes, shared_by_all)
            if line is not None:
                return line, REPLY, known
            line = _repeated(hashes, entry)
        else:
            line = _still_there(entry, state) if isinstance(entry, tuple) else entry
        if line is None or not _may_join(line, hashes, known, shared_by_all):
            break
        if line.head == state and known < count:
            return line, REPLY, known
        return line_at(line, state), Via.REQUEST if known < count else Via.REPEAT, known
    if count > _MOVED_MESSAGES:
        moved = _moved(index, hashes)
        if moved is not None:
            return Branch(moved), Via.MOVED, 0
    return None, NEW, 0


def _still_there(lines: tuple[Branch, ...], state: int) -> Branch | None:
    """The only line that stands at a state which several conversations have stood at."""
    there = [line for line in lines if line.head == state]
    return there[0] if len(there) == 1 else None


def _advancing(index: dict[int, Entry], hashes: Sequence[int], shared_by_all: int) -> Branch | None:
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


def _repeated(hashes: Sequence[int], entry: Entry) -> Branch | None:
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
        total += text_length((hashes[position] - before * CHAIN) & BITS) or MIN_EVIDENCE_BYTES
        if total >= MIN_EVIDENCE_BYTES:
            return True
    return False


def _moved(index: dict[int, Entry], hashes: Sequence[int]) -> Conversation | None:
    """The one conversation whose longer messages stand at the end of a request."""
    found: Conversation | None = None
    messages = total = 0
    for position in range(len(hashes) - 1, max(0, len(hashes) - 1 - _LOOKED_AT), -1):
        digest = (hashes[position] - hashes[position - 1] * CHAIN) & BITS
        entry = index.get(~digest)
        if entry is None or isinstance(entry, tuple):
            continue
        conversation = entry.conversation
        if found is not None and conversation is not found:
            return None
        found = conversation
        messages += 1
        total += text_length(digest)
    return found if messages >= _MOVED_MESSAGES and total >= _MOVED_BYTES else None


def line_at(line: Branch, state: int) -> Branch:
    """``line``, or a new branch where it has left ``state``."""
    return line if state in (line.head, line.tail) else Branch(line.conversation)


def text_length(digest: int) -> int:
    """Bytes of the text of a message, from its digest: ``crc * WORD + length`` in 63 bits.

    The product has 64; of the two values that the lost bit allows, the shorter text is the one.
    """
    return min(digest % WORD, (digest + TOP) % WORD)


def response_key(response_id: str) -> int:
    """What a response's id is remembered by: below all messages, which are below all states."""
    return -1 - BITS - (hash(response_id) & BITS) - 1

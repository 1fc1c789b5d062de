"""Which conversation a call belongs to, for agents that do not say (:mod:`collector.domain.stitching`)."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from heapq import merge, nlargest
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

from collector.conversations.memory import MOST_CALLS, from_records, scope_of
from collector.domain.record import CallRecord, ConversationSource
from collector.domain.stitching import STITCHED_APIS, Stitcher, StitchingLimits, Via, recall
from collector.journal import FrameKind, Segment, segments
from collector.journal_reading import Unreadable, frames_in, told
from collector.logs import get
from sidecar.call import Call, Caller
from sidecar.native import native

log = get("bursar.sidecar")

_CONVERSATION: Final = Caller._fields.index("conversation")  # followed by its source
_STITCHED: Final = ConversationSource.STITCHED

_AT_ONCE: Final = 200
"""Calls taken up again in one turn of the loop."""

Fields = TypeVar("Fields", bound=tuple[Any, ...])


def replaced_in_python(fields: Fields, at: int, *values: object) -> Fields:
    """A named tuple like ``fields``, with ``values`` from the place ``at`` on."""
    return tuple.__new__(type(fields), (*fields[:at], *values, *fields[at + len(values) :]))


replaced: Final[Callable[..., Any]] = replaced_in_python if native is None else native.replaced


def stitcher_of(limits: StitchingLimits | None = None, parts: ModuleType | None = native) -> Stitcher:
    """A stitcher; in C, with the same results, where that is built."""
    if parts is None:
        return Stitcher(limits)
    limits = limits or StitchingLimits()
    in_c: Stitcher = parts.Stitcher(
        limits.conversations, limits.hashes, limits.hashes_per_conversation, tuple(Via)
    )
    return in_c


class Stitching:
    """Places calls as they come, and learns from how they end."""

    def __init__(self) -> None:
        self._stitcher = stitcher_of()

    def place(self, call: Call) -> None:
        """Give ``call`` its conversation."""
        facts, caller = call.facts, call.caller
        if facts is None or call.api not in STITCHED_APIS:
            return
        named = caller.conversation
        call.placement = placed = self._stitcher.place(
            scope_of(caller.tenant, caller.key_id, caller.user),
            facts.message_hashes,
            call.call_id,
            explicit_id=named,
            previous_response_id=str(facts.attributes.get("previous_response_id", "")),
            instructions_apart=call.api != "openai.chat",
        )
        if not named:
            call.caller = replaced(caller, _CONVERSATION, placed.conversation_id, _STITCHED)

    def settle(self, call: Call) -> None:
        """``call`` has ended: the next may go on from its reply."""
        if call.placement is not None:
            reply = call.reply_facts
            if reply is None:
                self._stitcher.settle(call.placement, 0)
                return
            # Only the Responses API lets a request name the response that it goes on from.
            response = reply.response_id if call.api == "openai.responses" else ""
            self._stitcher.settle(call.placement, reply.last_message_hash, response)

    async def recall(self, journal: Path, also: Callable[[Sequence[CallRecord]], None] | None = None) -> None:
        """Take up again what the journal knows of the latest calls; calls are placed meanwhile.

        ``also`` is handed the same calls, oldest first, some at a time.
        """
        records = await asyncio.to_thread(latest_records, journal)
        known = list(from_records(records))
        for start in range(0, len(known), _AT_ONCE):
            recall(self._stitcher, known[start : start + _AT_ONCE])
            await asyncio.sleep(0)
        for start in range(0, len(records) if also is not None else 0, _AT_ONCE):
            assert also is not None
            also(records[start : start + _AT_ONCE])
            await asyncio.sleep(0)


def latest_records(journal: Path, most: int = MOST_CALLS) -> list[CallRecord]:
    """The last ``most`` records in a journal's folder, of all its sources, oldest first."""
    found: dict[str, deque[list[CallRecord]]] = {}
    ends: list[int] = []
    for written_us, segment in _newest_first(journal):
        # Workers write side by side: one's newest segment may be full, and another's as new.
        if len(ends) >= most and written_us < nlargest(most, ends)[-1]:
            break
        records: list[CallRecord] = []
        try:
            records.extend(
                record
                for frame in frames_in(segment.path)
                if frame.kind == FrameKind.RECORD and isinstance(record := told(frame), CallRecord)
            )
        except Unreadable as error:
            log.warning("a segment tells nothing of past conversations", reason=str(error))
        found.setdefault(segment.source, deque()).appendleft(records)
        ends += map(_ended_us, records)
    # A source's own order holds, whatever its clock did meanwhile.
    sources = [chain.from_iterable(parts) for parts in found.values()]
    return list(merge(*sources, key=_ended_us))[-most:]


def _ended_us(record: CallRecord) -> int:
    return record.started_at_us + record.duration_us


def _newest_first(journal: Path) -> list[tuple[int, Segment]]:
    """Segments, and when each was written to last, in microseconds."""
    known = []
    for segment in segments(journal):
        with suppress(OSError):  # Booked, and let go of meanwhile.
            known.append((segment.path.stat().st_mtime_ns // 1000, segment))
    # Of one source, the later segment is the newer one, also where both were written to in the same instant.
    return sorted(known, reverse=True)

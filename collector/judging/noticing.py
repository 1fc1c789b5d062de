"""Which conversations have to be judged (again): told by records as they are booked, in bounded memory."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from collector.domain.record import CallRecord, Outcome
from collector.domain.waste import LEFT_ALONE_US, REASONING_FREE
from collector.store.packed import Facts, PackedRecords, facts_of

QUIET_US: Final = 10_000_000
"""A conversation is judged when it has been quiet for so long,"""
LATEST_US: Final = 60_000_000
"""or at least so often."""
MOST_DUE: Final = 50_000
"""Conversations that wait, and of which it is known what they repeat: the latest."""
KEPT_REPEATS: Final = 8_000
"""Of conversations that were judged, and may go on: the latest; one takes half a kB."""
MOST_ANSWERED: Final = 8_000
MOST_BEGUN: Final = 20_000
MOST_REPEATS: Final = 2_000
"""Of one conversation, the newest."""
SAME_WITHIN_US: Final = 3_600_000_000
"""How long an answer could have been used again."""
LOOK_BACK_US: Final = 24 * 3_600_000_000
"""Where a conversation began that was known before this process was."""

Key = tuple[str, str, str]
"""Tenant and conversation. A call without one is one by itself, and has its id in the third place."""


_SERVED: Final = Outcome.SERVED.value
_QUIET_OUTCOMES: Final = frozenset({Outcome.SERVED.value, Outcome.REFUSED.value, Outcome.REUSED.value})
_NOT_YET: Final = 1 << 62


class Due(NamedTuple):
    """A conversation that is to be judged."""

    key: Key
    since_us: int
    """No call of it started earlier."""
    call_id: str = ""
    """The one call of it that was heard of since it was judged last; empty for several, or none."""
    fresh: bool = False
    """Nothing was ever said of that call: it was booked a moment ago, and waited for this."""
    repeats: tuple[str, ...] = ()
    """Calls of it that repeat one of another conversation, each followed by the one that was answered."""

    @property
    def answered(self) -> dict[str, str]:
        """The same, by call."""
        return dict(zip(self.repeats[::2], self.repeats[1::2], strict=True))


class _Waiting:
    """What is known of a conversation that waits."""

    __slots__ = ("at_us", "call_id", "first_us", "fresh", "queued_us", "since_us")

    def __init__(
        self, first_us: int, at_us: int, since_us: int, call_id: str = "", fresh: bool = False
    ) -> None:
        self.first_us = first_us
        """When it was first heard of since it was judged."""
        self.at_us = self.queued_us = at_us
        """When it is to be judged; it stands in the queue for that time or an earlier one."""
        self.since_us = since_us
        """Its first call; 0 where that is not known."""
        self.call_id = call_id
        self.fresh = fresh


class Notices:
    """What the writer of the books tells, and the judge takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: OrderedDict[Key, _Waiting] = OrderedDict()
        self._queue: list[tuple[int, Key]] = []
        """A heap of times, and who waits for them; who does so no more is passed over."""
        self._looked_us = _NOT_YET
        """When somebody took what was due."""
        self._begun: OrderedDict[Key, int] = OrderedDict()
        self._answered: OrderedDict[int, tuple[str, Key, int]] = OrderedDict()
        self._repeats: OrderedDict[Key, list[str]] = OrderedDict()
        """Calls that another conversation had answered before, each followed by the one that was answered."""
        self.forgotten = 0
        """Conversations that were not judged because too many were waiting."""

    def offer(self, records: Sequence[CallRecord]) -> None:
        """Take notice of records that are being booked."""
        known = records.facts if isinstance(records, PackedRecords) else map(facts_of, records)
        with self._lock:
            for facts in known:
                self._notice(facts)

    def _notice(self, facts: Facts) -> None:
        (
            call_id, start, duration, tenant, conversation, outcome, cost, reasoning, hashes, tool_calls,
            key_id, user_id, model, tools, system, attempts,
        ) = facts  # fmt: skip
        key = (tenant, conversation, "" if conversation else call_id)
        doubled = False
        if hashes and cost and outcome == _SERVED:
            same = hash((hashes[-1], tenant, key_id, user_id, model, tools, system))
            doubled = self._look_for_double(same, key, call_id, start, duration)
        if (
            not doubled
            and len(hashes) <= 2
            and outcome in _QUIET_OUTCOMES
            and attempts <= 1
            and not tool_calls
            and reasoning <= REASONING_FREE
            and key not in self._due
        ):
            return
        since = self._begun.get(key, 0)
        if len(hashes) <= 2 or not conversation:
            since = self._begun[key] = min(start, since or start)
            if len(self._begun) > MOST_BEGUN:
                self._begun.popitem(last=False)
        self._wants(key, call_id, start + duration, since)

    def _wants(self, key: Key, call_id: str, ended_us: int, since_us: int) -> None:
        waiting = self._due.get(key)
        if waiting is None:
            # What should have been judged before it was heard of may stand in the ledger already, presumed.
            fresh = ended_us + QUIET_US > self._looked_us
            self._enqueue(key, _Waiting(ended_us, ended_us + QUIET_US, since_us, call_id, fresh))
            if len(self._due) > MOST_DUE:
                self._due.popitem(last=False)
                self.forgotten += 1
            return
        if waiting.call_id != call_id:
            waiting.call_id = ""
        waiting.since_us = min(waiting.since_us or since_us, since_us or waiting.since_us)
        # One that was left open waits for half an hour: should it go on, a minute or two are enough.
        first = waiting.first_us = min(waiting.first_us, ended_us + LATEST_US - QUIET_US)
        waiting.at_us = min(max(first, ended_us) + QUIET_US, first + LATEST_US)
        if waiting.at_us < waiting.queued_us:
            waiting.queued_us = waiting.at_us
            heappush(self._queue, (waiting.at_us, key))
        self._due.move_to_end(key)

    def _enqueue(self, key: Key, waiting: _Waiting) -> None:
        self._due[key] = waiting
        heappush(self._queue, (waiting.queued_us, key))
        if len(self._queue) > 2 * MOST_DUE:
            # Those who were forgotten, or wait for another time by now, go.
            self._queue = [(known.queued_us, each) for each, known in self._due.items()]
            heapify(self._queue)

    def _look_for_double(self, same: int, key: Key, call_id: str, start_us: int, duration_us: int) -> bool:
        """Whether another conversation had this very request, of which ``same`` is told, answered lately."""
        known = self._answered.get(same)
        if known is not None and 0 <= start_us - known[2] <= SAME_WITHIN_US:
            if known[1] == key:
                return False  # Its own conversation tells.
            repeats = self._repeats.get(key)
            if repeats is None:
                self._repeats[key] = [call_id, known[0]]
                if len(self._repeats) > MOST_DUE:
                    self._repeats.popitem(last=False)
            else:
                repeats += (call_id, known[0])
                if len(repeats) > 2 * MOST_REPEATS:
                    del repeats[:2]
            return True
        self._answered[same] = (call_id, key, start_us + duration_us)
        if len(self._answered) > MOST_ANSWERED:
            self._answered.popitem(last=False)
        return False

    def again(self, key: Key, at_us: int) -> None:
        """Judge a conversation once more at ``at_us``, should nothing be heard of it before."""
        with self._lock:
            if key not in self._due and len(self._due) < MOST_DUE:
                self._enqueue(key, _Waiting(at_us, at_us, self._begun.get(key, 0)))

    def left_open(self, key: Key, ended_us: int) -> None:
        """The last reply of a conversation asked for tools: see later whether anybody came back."""
        self.again(key, ended_us + LEFT_ALONE_US + QUIET_US)

    def take(self, now_us: int, most: int) -> list[Due]:
        """Conversations whose time has come, those first that waited longest."""
        ripe: list[Due] = []
        with self._lock:
            self._looked_us = now_us
            while self._queue and self._queue[0][0] <= now_us and len(ripe) < most:
                at, key = heappop(self._queue)
                waiting = self._due.get(key)
                if waiting is None or waiting.queued_us != at:
                    continue
                if waiting.at_us > now_us:
                    waiting.queued_us = waiting.at_us
                    heappush(self._queue, (waiting.at_us, key))
                    continue
                del self._due[key]
                since = waiting.since_us or now_us - LOOK_BACK_US
                ripe.append(
                    Due(key, since, waiting.call_id, waiting.fresh, tuple(self._repeats.get(key, ())))
                )
            self._forget_repeats()
        return ripe

    def _forget_repeats(self) -> None:
        repeats, due = self._repeats, self._due
        while len(repeats) > KEPT_REPEATS and next(iter(repeats)) not in due:
            repeats.popitem(last=False)

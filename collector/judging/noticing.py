"""Which conversations have to be judged (again): told by records as they are booked, in bounded memory."""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from collector.domain.record import CallRecord, Outcome
from collector.domain.waste import LEFT_ALONE_US, REASONING_FREE
from collector.store.packed import Facts, PackedRecords, facts_of

QUIET_US: Final = 10_000_000
"""A conversation is judged when it has been quiet for so long,"""
LATEST_US: Final = 60_000_000
"""or at least so often."""
MOST_DUE: Final = 50_000
MOST_ANSWERED: Final = 8_000
MOST_BEGUN: Final = 20_000
SAME_WITHIN_US: Final = 3_600_000_000
"""How long an answer could have been used again."""
LOOK_BACK_US: Final = 24 * 3_600_000_000
"""Where a conversation began that was known before this process was."""

Key = tuple[str, str]
"""Tenant and conversation."""


_SERVED: Final = Outcome.SERVED.value
_QUIET_OUTCOMES: Final = frozenset({Outcome.SERVED.value, Outcome.REFUSED.value, Outcome.REUSED.value})


class Due(NamedTuple):
    """A conversation that is to be judged."""

    key: Key
    since_us: int
    """No call of it started earlier."""


class Notices:
    """What the writer of the books tells, and the judge takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: OrderedDict[Key, tuple[int, int]] = OrderedDict()
        """When it was first heard of since it was judged, and when it is to be judged."""
        self._begun: OrderedDict[Key, int] = OrderedDict()
        self._answered: OrderedDict[int, tuple[str, str, int]] = OrderedDict()
        self._duplicates: OrderedDict[Key, dict[str, str]] = OrderedDict()
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
        key = (tenant, conversation or call_id)
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
        begins = len(hashes) <= 2 or not conversation
        if begins:
            self._begun[key] = min(start, self._begun.get(key, start))
            if len(self._begun) > MOST_BEGUN:
                self._begun.popitem(last=False)
        self._wants(key, start + duration)

    def _wants(self, key: Key, ended_us: int) -> None:
        first, _ = self._due.get(key, (ended_us, 0))
        self._due[key] = (first, min(max(first, ended_us) + QUIET_US, first + LATEST_US))
        self._due.move_to_end(key)
        if len(self._due) > MOST_DUE:
            self._due.popitem(last=False)
            self.forgotten += 1

    def _look_for_double(self, same: int, key: Key, call_id: str, start_us: int, duration_us: int) -> bool:
        """Whether another conversation had this very request, of which ``same`` is told, answered lately."""
        known = self._answered.get(same)
        if known is not None and 0 <= start_us - known[2] <= SAME_WITHIN_US:
            if known[1] == key[1]:
                return False  # Its own conversation tells.
            self._duplicates.setdefault(key, {})[call_id] = known[0]
            if len(self._duplicates) > MOST_BEGUN:
                self._duplicates.popitem(last=False)
            return True
        self._answered[same] = (call_id, key[1], start_us + duration_us)
        if len(self._answered) > MOST_ANSWERED:
            self._answered.popitem(last=False)
        return False

    def again(self, key: Key, at_us: int) -> None:
        """Judge a conversation once more at ``at_us``, should nothing be heard of it before."""
        with self._lock:
            if key not in self._due and len(self._due) < MOST_DUE:
                self._due[key] = (at_us, at_us)

    def left_open(self, key: Key, ended_us: int) -> None:
        """The last reply of a conversation asked for tools: see later whether anybody came back."""
        self.again(key, ended_us + LEFT_ALONE_US + QUIET_US)

    def take(self, now_us: int, most: int) -> list[Due]:
        """Conversations whose time has come."""
        with self._lock:
            ripe = [key for key, (_, at) in self._due.items() if at <= now_us][:most]
            for key in ripe:
                del self._due[key]
            return [Due(key, self._begun.get(key, now_us - LOOK_BACK_US)) for key in ripe]

    def duplicates(self, key: Key) -> dict[str, str]:
        """Calls of a conversation that another had answered before, with those."""
        with self._lock:
            return dict(self._duplicates.get(key, {}))

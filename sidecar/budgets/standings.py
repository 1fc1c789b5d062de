"""How budgets stand, for agents, for operators and as gauges."""

from collections.abc import Callable, Sequence
from typing import Any

from collector.domain.credit import Unit
from collector.domain.policy import Ask, Slot, State
from collector.export.prometheus import CallMetrics
from sidecar.budgets.store import CreditStore
from sidecar.budgets.telling import plain_standing
from sidecar.call import Caller

_FOREVER = 2**63
"""Later than any window's end."""


class Standings:
    """Reads the store, and what this process knows.

    Args:
        state: which counters there are.
        store: what they stand at.
        metrics: where gauges are set.
        now_us: since the Unix epoch.
    """

    def __init__(
        self, state: State, store: CreditStore, metrics: CallMetrics, now_us: Callable[[], int]
    ) -> None:
        self._state = state
        self._store = store
        self._metrics = metrics
        self._now_us = now_us

    async def of_caller(self, caller: Caller) -> list[dict[str, Any]]:
        """The budgets that every call of ``caller`` touches, as they are shown to an agent."""
        ask = Ask(
            call_id="",
            model="",
            tenant=caller.tenant,
            team=caller.team,
            user=caller.user,
            agent=caller.agent,
            conversation=caller.conversation,
            task=caller.task,
            key=caller.key_id,
            tags=caller.tags,
        )
        return await self._plain(self._state.slots_of(ask, self._now_us()))

    async def all(self) -> list[dict[str, Any]]:
        """Every counter that this process knows."""
        return await self._plain(self._state.slots())

    async def _plain(self, slots: Sequence[Slot]) -> list[dict[str, Any]]:
        asked = self._store.standings([slot.counter for slot in slots])
        found = asked if isinstance(asked, list) else await asked
        now = self._now_us()
        return [
            plain_standing(one, self._state.full_at(slot, now))
            for one, slot in zip(found, slots, strict=True)
        ]

    def gauge(self) -> None:
        """Set the gauges of every budget; what ``each`` tells apart is added up."""
        sums: dict[str, list[int]] = {}
        now = self._now_us()
        for slot in self._state.slots():
            if slot.counter.unit is Unit.USD and (slot.counter.ends_us or _FOREVER) > now:
                found = sums.setdefault(slot.budget.name, [0, 0, 0])
                for place, amount in enumerate((self._state.full_at(slot, now), slot.spent, slot.held)):
                    found[place] += amount
        for name, figures in sums.items():
            for what, amount in zip(("limit", "spent", "held"), figures, strict=True):
                self._metrics.set_gauge(f"bursar_budget_{what}_usd", {"budget": name}, amount / 1e9)

"""The stage that asks the budgets: a call goes on once all that it may cost is held."""

from collections.abc import Awaitable

from sidecar.budgets.credit import CreditControl
from sidecar.budgets.runaway import RunawayBreaker
from sidecar.call import Call, Onward, Reply
from sidecar.routing import Routing


class Admit:
    """Holds what a call may cost, and lets it go on; the hold is settled when the call is recorded."""

    def __init__(
        self, control: CreditControl, routing: Routing, runaways: RunawayBreaker | None = None
    ) -> None:
        self._control = control
        self._routing = routing
        self._runaways = runaways

    def __call__(self, call: Call, onward: Onward) -> Awaitable[Reply]:
        """Go onward if every budget has room, perhaps for a cheaper model."""
        if self._runaways is not None and call.placement is not None:
            self._runaways.check(call)
        if self._control.in_force and call.metered and call.facts is not None:
            return self._ask(call, onward)
        return onward(call)

    async def _ask(self, call: Call, onward: Onward) -> Reply:
        await self._control.admit(call, self._routing)
        return await onward(call)

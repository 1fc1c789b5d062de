"""The control plane for people: what somebody who signed in to the dashboard may see of budgets, and do.

Programs of the operator's do not come here (`sidecar.operators`). A person sees the counters of the tenants
of their role; where the role lets them operate, they raise and pause those, under their own name.
"""

from typing import Any

import msgspec

from collector.domain.access import Viewer
from collector.domain.policy import Budget, Directive, DirectiveKind, Raise
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.telling import plain_budget, plain_raise
from sidecar.clock import now_us
from sidecar.http import HeaderList, Request, Responder
from sidecar.operators import BUDGETS, DIRECTIVES, RAISES, read_directive, read_raise

_JSON: HeaderList = [(b"content-type", b"application/json")]


class NotForThem(Exception):
    """The person's role does not reach that far."""


class ViewerPages:
    """Answers one person's requests about budgets."""

    def __init__(self, control: CreditControl) -> None:
        self._control = control

    async def answer(self, viewer: Viewer, request: Request, responder: Responder) -> None:
        """Answer one request that the dashboard makes for somebody."""
        try:
            status, said = await self._answer(viewer, request)
        except NotForThem as error:
            status, said = 403, {"error": str(error)}
        except (ValueError, msgspec.MsgspecError) as error:
            status, said = 400, {"error": str(error)}
        responder.send(status, _JSON, msgspec.json.encode(said))

    async def _answer(self, viewer: Viewer, request: Request) -> tuple[int, dict[str, Any]]:
        method, path = request.method, request.path
        kind, _, name = path.removeprefix("/bursar/v1/").partition("/")
        if method == "GET" and path in (BUDGETS, DIRECTIVES, RAISES):
            return 200, await self._seen(viewer, path)
        if not viewer.operate:
            raise NotForThem(f"{viewer.name!r} may look at budgets, and change nothing")
        if method == "POST" and path in (DIRECTIVES, RAISES):
            return 200, self._ordered(viewer, path, request.body)
        if method == "DELETE" and name and kind in ("directives", "raises"):
            return self._taken_back(viewer, name)
        raise NotForThem(f"{viewer.name!r} may not do this through the dashboard")

    async def _seen(self, viewer: Viewer, path: str) -> dict[str, Any]:
        state, now = self._control.state, now_us()
        if path == DIRECTIVES:
            found = [one for one in state.directives(now) if self._sees_order(viewer, one)]
            return {"directives": [one.plain() for one in found]}
        if path == RAISES:
            raises = [one for one in state.raises(now) if self._sees_order(viewer, one)]
            return {"raises": [plain_raise(one) for one in raises]}
        budgets = self._control.policy.budgets
        return {
            "budgets": [
                row
                for row in await self._control.standings.all()
                if self._sees(viewer, str(row["name"]), str(row["subject"]))
            ],
            "configured": [
                plain_budget(one)
                for one in budgets
                if one.each == "tenant" or viewer.sees(tenant_of(one, ""))
            ],
            "may_operate": viewer.operate,
        }

    def _ordered(self, viewer: Viewer, path: str, body: bytes) -> dict[str, Any]:
        said = msgspec.json.decode(body, type=dict[str, Any])
        budget, subject = str(said.get("budget", "")), str(said.get("subject", ""))
        if not self._sees(viewer, budget, subject):
            raise NotForThem(f"{viewer.name!r} may not change the budget {budget[:100]!r}")
        # Whoever signed in stands in the record, whatever the request says of its source.
        asked = msgspec.json.encode({**said, "source": f"{viewer.name} (dashboard)"})
        now, orders = now_us(), self._control.orders
        if path == RAISES:
            more = read_raise(asked, now, self._control)
            orders.add_raise(more)
            return {"id": more.id, "until_us": more.until_us}
        if said.get("action") != DirectiveKind.PAUSE.value or said.get("match"):
            raise NotForThem("through the dashboard a budget is raised or paused, and nothing else")
        directive, _ = read_directive(asked, now, self._control.policy)
        orders.add_directive(directive, budget=budget)
        return {"id": directive.id, "expires_us": directive.expires_us}

    def _taken_back(self, viewer: Viewer, name: str) -> tuple[int, dict[str, Any]]:
        state, now = self._control.state, now_us()
        orders: list[Directive | Raise] = [*state.directives(now), *state.raises(now)]
        theirs = any(one.id == name and self._sees_order(viewer, one) for one in orders)
        if not theirs or not self._control.orders.remove(name, by=viewer.name):
            return 404, {"error": "there is none with this id"}
        return 200, {"removed": True}

    def _sees_order(self, viewer: Viewer, one: Directive | Raise) -> bool:
        if isinstance(one, Raise):
            return self._sees(viewer, one.budget, one.subject)
        return viewer.sees(one.match.only("tenant"))

    def _sees(self, viewer: Viewer, name: str, subject: str) -> bool:
        """Whether a counter is of a tenant of theirs; one of no single tenant is for those who see all."""
        budget = self._control.policy.by_name.get(name)
        return viewer.sees_all or (budget is not None and viewer.sees(tenant_of(budget, subject)))


def tenant_of(budget: Budget, subject: str) -> str:
    """Whose counter it is; empty where it counts calls of several tenants."""
    return subject if budget.each == "tenant" else budget.match.only("tenant")

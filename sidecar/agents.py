"""What an agent may ask of the sidecar itself: its budgets, and to note how its task ended.

The same key identifies it as for a call; without virtual keys, whoever reaches us may ask.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs

import msgspec

from collector.domain.record import Event, EventKind
from collector.journal import JournalWriter
from collector.outcomes import BadOutcome, read_outcome
from sidecar.budgets.runaway import RESUME, RunawayBreaker
from sidecar.call import Caller
from sidecar.errors import InvalidCall, NotAllowed, SidecarError, WrongMethod
from sidecar.http import HeaderList, Request, Responder
from sidecar.stages.identify import Identify
from sidecar.wire import error_body

BUDGETS = "/bursar/v1/budgets"
OUTCOMES = "/bursar/v1/outcomes"
_HTML: HeaderList = [(b"content-type", b"text/html; charset=utf-8"), (b"cache-control", b"no-store")]

_JSON: HeaderList = [(b"content-type", b"application/json")]

Standings = Callable[[Caller], Awaitable[list[dict[str, Any]]]]
"""A caller's own budgets, as they are shown to it."""


class AgentPages:
    """Answers ``/bursar/v1/...`` on the agents' port."""

    def __init__(
        self, identify: Identify, journal: JournalWriter, standings: Standings, runaways: RunawayBreaker
    ) -> None:
        self._identify = identify
        self._journal = journal
        self._standings = standings
        self._runaways = runaways

    async def answer(self, request: Request, responder: Responder) -> bool:
        """Answer, if the path is one of ours."""
        if request.path == RESUME:
            self._resume(request, responder)
            return True
        if request.path not in (BUDGETS, OUTCOMES):
            return False
        try:
            caller = self._identify.caller_without_call(request)
            if request.path == BUDGETS:
                said: dict[str, Any] = await self._budgets(request, caller)
            else:
                said = self._outcome(request, caller)
        except SidecarError as error:
            body = error_body(
                "openai.chat", error.status, kind=error.kind, code=error.code, message=str(error)
            )
            extra = (
                [(b"allow", b"GET" if request.path == BUDGETS else b"POST")] if error.status == 405 else []
            )
            responder.send(error.status, _JSON + extra, body)
        else:
            responder.send(200, _JSON, msgspec.json.encode(said))
        return True

    def _resume(self, request: Request, responder: Responder) -> None:
        """The signed link of a refusal: shows what is stopped; the button behind it lets it go on."""
        said = {name: values[-1] for name, values in parse_qs(request.query).items()}
        name = said.get("id", "")
        if not self._runaways.holds(name, said.get("until", ""), said.get("sig", "")):
            responder.send(403, _HTML, b"This link is not valid, or no longer.\n")
            return
        if request.method == "POST":
            self._runaways.resume(name, "its link")
        responder.send(200, _HTML, self._runaways.page(name))

    async def _budgets(self, request: Request, caller: Caller) -> dict[str, Any]:
        if request.method not in ("GET", "HEAD"):
            raise WrongMethod("budgets are read with GET", code="method_not_allowed")
        return {"budgets": await self._standings(caller)}

    def _outcome(self, request: Request, caller: Caller) -> dict[str, Any]:
        if request.method != "POST":
            raise WrongMethod("an outcome is sent with POST", code="method_not_allowed")
        try:
            outcome = read_outcome(request.body)
        except BadOutcome as error:
            raise InvalidCall(str(error), code="invalid_outcome") from error
        if caller.key_id and outcome.tenant not in ("", caller.tenant):
            raise NotAllowed("this key speaks for another tenant", code="tenant_not_allowed")
        self._journal.event(
            Event(
                EventKind.OUTCOME,
                time.time_ns() // 1000,
                outcome.tenant or caller.tenant,
                "",
                outcome.fields(),
            )
        )
        return {"recorded": True}

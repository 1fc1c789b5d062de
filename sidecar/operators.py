"""What operators, alerts and tools ask of a sidecar: directives, raises, and how every budget stands.

    GET    /bursar/v1/directives            those in force
    POST   /bursar/v1/directives            {action, match, expires_in_s, reason, source, ...} -> {id}
    DELETE /bursar/v1/directives/ID
    GET    /bursar/v1/raises                those in force
    POST   /bursar/v1/raises                {budget, amount, for_s, subject, reason, source} -> {id}
    DELETE /bursar/v1/raises/ID
    POST   /bursar/v1/corrections           {budget, amount, reason, charge, ...} -> {spent}
    GET    /bursar/v1/budgets               every counter that is known, and what is configured
    GET    /bursar/v1/runaways              conversations that the runaway breaker has stopped
    POST   /bursar/v1/resume                {conversation, by} -> {resumed}: let one go on
    GET    /bursar/v1/cache                 and POST /bursar/v1/cache/purge: :mod:`sidecar.cache.pages`
    GET    /bursar/v1/upstreams             every replica (:mod:`sidecar.providers.pages`: drain, undrain)
    POST   /bursar/v1/simulate              {model, agent, ...} -> what would be decided

On the control port, with the control key.
"""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec

from collector.domain.money import usd_text
from collector.domain.policy import (
    Allow,
    Ask,
    Budget,
    Directive,
    DirectiveKind,
    Downgrade,
    Match,
    Policy,
    Raise,
)
from collector.domain.policy.wording import amount_text
from collector.pricing.regions import region_name
from sidecar.budgets.amounts import Amount, Money
from sidecar.budgets.corrections import Correction
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.runaway import RESUME, RunawayBreaker
from sidecar.budgets.telling import plain_budget, plain_raise
from sidecar.cache import pages as cache_pages
from sidecar.cache.answers import Answers
from sidecar.clock import now_us
from sidecar.http import HeaderList, Request, Responder
from sidecar.providers.pages import UpstreamPages

DIRECTIVES = "/bursar/v1/directives"
RAISES = "/bursar/v1/raises"
CORRECTIONS = "/bursar/v1/corrections"
BUDGETS = "/bursar/v1/budgets"
SIMULATE = "/bursar/v1/simulate"
RUNAWAYS = "/bursar/v1/runaways"

MOST_SECONDS = 40 * 86_400
"""How long a directive or a raise may hold: what is meant to last belongs into the configuration."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_JSON: HeaderList = [(b"content-type", b"application/json")]

Count = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class _DirectiveBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    action: DirectiveKind
    match: dict[str, str | list[str]] = {}
    expires_in_s: float = 3600
    reason: str = ""
    source: str = "operator"
    to: list[str] = []
    per_minute: str | None = None
    """Money a minute, such as ``0.50 USD``; for a throttle."""
    share: float = 1.0
    """Part of the calls that a downgrade is for."""
    id: str = ""
    budget: str = ""
    """Which budget this is about, for its history; without a ``match``, its calls are meant."""
    subject: str = ""
    """Of a budget with ``each``: only what this counter counts."""


class _RaiseBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    budget: str
    amount: str
    """``5 USD``, ``100k tokens``, ``50 calls``: on top of the limit."""
    for_s: float
    subject: str = ""
    reason: str = ""
    source: str = "operator"
    id: str = ""


class _CorrectionBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    budget: str
    amount: str
    """``5 USD``, ``100k tokens``, ``50 calls``: given back, unless ``charge``."""
    reason: str
    charge: bool = False
    """Whether the amount is added to what is spent instead."""
    subject: str = ""
    lifetime: str = ""
    """Of a budget of one conversation or task: which."""
    at: datetime | None = None
    """When it was spent; of a rolling window it must be said, else the present window is meant."""
    source: str = "operator"


class _ResumeBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    conversation: str
    by: str = "operator"


class SimulatedCall(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A call that nobody makes: what would be decided of it?"""

    model: str
    provider: str = ""
    """As in the price book; empty for the one that the model's name suggests."""
    api: str = "openai.chat"
    upstream: str = ""
    region: str = ""
    """Where it is asked for, as an upstream's ``region:``."""
    tenant: str = ""
    team: str = ""
    user: str = ""
    agent: str = ""
    conversation: str = ""
    task: str = ""
    key: str = ""
    tags: dict[str, str] = {}
    stream: bool = False
    input_tokens: Count = 1000
    max_tokens: Count = 1000


class BadRequest(ValueError):
    """The message says what is wrong, for the one who asked."""


class OperatorPages:
    """Answers the paths above."""

    def __init__(
        self,
        control: CreditControl,
        clock: Callable[[], int] = now_us,
        runaways: RunawayBreaker | None = None,
        answers: Answers | None = None,
        upstreams: UpstreamPages | None = None,
    ) -> None:
        self._answers = answers
        self._control = control
        self._upstreams = upstreams
        self._runaways = runaways
        self._clock = clock

    def serves(self, path: str) -> bool:
        """Whether ``path`` is answered here."""
        return path.startswith("/bursar/v1/")

    async def answer(self, request: Request, responder: Responder) -> None:
        """Answer one request, of somebody who may ask."""
        try:
            status, said = await self._answer(request)
        except (BadRequest, ValueError, msgspec.MsgspecError) as error:
            status, said = 400, {"error": str(error)}
        responder.send(status, _JSON, msgspec.json.encode(said))

    async def _answer(self, request: Request) -> tuple[int, dict[str, Any]]:
        method, path = request.method, request.path
        control, now = self._control, self._clock()
        if path == DIRECTIVES and method == "GET":
            return 200, {"directives": [one.plain() for one in control.state.directives(now)]}
        if path == DIRECTIVES and method == "POST":
            directive, budget = read_directive(request.body, now, control.policy)
            control.orders.add_directive(directive, budget=budget)
            return 200, {"id": directive.id, "expires_us": directive.expires_us}
        if path.startswith(DIRECTIVES + "/") and method == "DELETE":
            return _gone(control.orders.remove(path.removeprefix(DIRECTIVES + "/")))
        if path == RAISES and method == "GET":
            return 200, {"raises": [plain_raise(one) for one in control.state.raises(now)]}
        if path == RAISES and method == "POST":
            more = read_raise(request.body, now, control)
            control.orders.add_raise(more)
            return 200, {"id": more.id, "until_us": more.until_us}
        if path.startswith(RAISES + "/") and method == "DELETE":
            return _gone(control.orders.remove(path.removeprefix(RAISES + "/")))
        if path == CORRECTIONS and method == "POST":
            made = await control.corrections.make(read_correction(request.body, control.policy))
            return 200, {"window": made.counter.window, "spent": amount_text(made.counter.unit, made.spent)}
        if path == BUDGETS and method == "GET":
            configured = [plain_budget(budget) for budget in control.policy.budgets]
            standings = await control.standings.all()
            return 200, {"budgets": standings, "configured": configured, "may_operate": True}
        if path == RUNAWAYS and method == "GET" and self._runaways is not None:
            return 200, {"stopped": self._runaways.stopped()}
        if path == RESUME and method == "POST" and self._runaways is not None:
            wanted = msgspec.json.decode(request.body, type=_ResumeBody)
            return 200, {"resumed": self._runaways.resume(wanted.conversation, wanted.by[:200])}
        if path == SIMULATE and method == "POST":
            said = msgspec.json.decode(request.body, type=SimulatedCall)
            return 200, simulate(control, said, now)
        if self._answers is not None and path.startswith(cache_pages.CACHE):
            page = await cache_pages.answer(self._answers, method, path, request.body)
            if page is not None:
                return page
        if self._upstreams is not None and (found := self._upstreams.answer(method, path)) is not None:
            return found
        return 404, {"error": f"nothing is served at {method} {path[:200]}"}


def _gone(found: bool) -> tuple[int, dict[str, Any]]:
    return (200, {"removed": True}) if found else (404, {"error": "there is none with this id"})


def read_directive(body: bytes, now: int, policy: Policy) -> tuple[Directive, str]:
    """The directive in a JSON body, and the budget that it is about; empty for none.

    Raises:
        ValueError, msgspec.MsgspecError: it is none; the message says why.
    """
    said = msgspec.json.decode(body, type=_DirectiveBody)
    per_minute = 0
    if said.per_minute is not None:
        per_minute = int(Money.parse(said.per_minute))
    match = Match.of(said.match)
    if said.budget and not said.match:
        match = counted_by(_budget_called(said.budget, policy), said.subject)
    directive = Directive(
        id=said.id or f"d_{uuid.uuid4().hex[:16]}",
        kind=said.action,
        match=match,
        expires_us=now + _micros(said.expires_in_s, "expires_in_s"),
        reason=said.reason[:500],
        source=said.source[:200],
        created_us=now,
        to=tuple(said.to),
        per_minute=per_minute,
        share=round(said.share * 10_000),
    )
    return directive, said.budget


def counted_by(budget: Budget, subject: str) -> Match:
    """The calls that a budget counts; with a ``subject``, those of that counter alone.

    Raises:
        ValueError: the budget tells no subjects apart.
    """
    if not subject:
        return budget.match
    if not budget.each:
        raise BadRequest(f"subject: budget {budget.name!r} has one counter in all")
    wanted = {name: values for name, values in budget.match.wanted if name != budget.each}
    # A subject is one value, not a pattern: one that holds an asterisk would pause others as well.
    if "*" in subject:
        raise BadRequest("subject: a value with an asterisk would be taken for a pattern")
    return Match.of({**wanted, budget.each: subject})


def _budget_called(name: str, policy: Policy) -> Budget:
    budget = policy.by_name.get(name)
    if budget is None:
        names = ", ".join(policy.by_name) or "none"
        raise BadRequest(f"budget: {name!r} is not one of those configured: {names}")
    return budget


def read_raise(body: bytes, now: int, control: CreditControl) -> Raise:
    """The raise in a JSON body.

    Raises:
        ValueError, msgspec.MsgspecError: it is none; the message says why.
    """
    said = msgspec.json.decode(body, type=_RaiseBody)
    budget = _budget_called(said.budget, control.policy)
    return Raise(
        id=said.id or f"r_{uuid.uuid4().hex[:16]}",
        budget=said.budget,
        amount=_in_unit(said.amount, budget),
        until_us=now + _micros(said.for_s, "for_s"),
        subject=said.subject,
        from_us=now,
        reason=said.reason[:500],
        source=said.source[:200],
    )


def read_correction(body: bytes, policy: Policy) -> Correction:
    """The correction in a JSON body.

    Raises:
        ValueError, msgspec.MsgspecError: it is none; the message says why.
    """
    said = msgspec.json.decode(body, type=_CorrectionBody)
    budget = _budget_called(said.budget, policy)
    amount = _in_unit(said.amount, budget)
    if not amount or not said.reason.strip():
        raise BadRequest("a correction needs an amount, and a reason for the record")
    at = said.at
    if at is not None and at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return Correction(
        budget=budget,
        amount=amount if said.charge else -amount,
        subject=said.subject,
        lifetime=said.lifetime,
        at_us=None if at is None else (at - _EPOCH) // _MICROSECOND,
        reason=said.reason.strip()[:500],
        source=said.source[:200],
    )


def _in_unit(text: str, budget: Budget) -> int:
    amount = Amount.parse(text)
    if amount.unit is not budget.unit:
        raise BadRequest(
            f"amount: budget {budget.name!r} counts {budget.unit.value}, not {amount.unit.value}"
        )
    return amount.amount


def simulate(control: CreditControl, said: SimulatedCall, now: int) -> dict[str, Any]:
    """What would be decided of a call now; nothing is held."""
    quote = control.books.prices.quote(said.provider, said.model, now, region_name(said.region))
    price = quote.price
    ask = Ask(
        call_id="",
        model=said.model,
        api=said.api,
        upstream=said.upstream,
        tenant=said.tenant,
        team=said.team,
        user=said.user,
        agent=said.agent,
        conversation=said.conversation,
        task=said.task,
        key=said.key,
        tags=said.tags,
        stream=said.stream,
        input_tokens=said.input_tokens,
        input_pico=said.input_tokens * price.input + price.per_request,
        output_cap=said.max_tokens,
        output_pico=price.output,
        priced=quote.grade != "prior",
    )
    decision = control.decide(ask, now)
    shown: dict[str, Any] = {
        "decision": type(decision).__name__.lower(),
        "most_usd": usd_text(ask.input_pico + ask.output_cap * ask.output_pico),
        "price": {"model": quote.model, "grade": str(quote.grade), "source": quote.source},
    }
    if isinstance(decision, Allow):
        shown["holds"] = [
            {
                "budget": claim.counter.budget,
                "subject": claim.counter.subject,
                "amount": amount_text(claim.counter.unit, claim.amount),
                "room": amount_text(claim.counter.unit, max(0, slot.room)),
            }
            for claim, slot in zip(decision.claims, decision.slots, strict=True)
        ]
        shown["max_tokens"] = decision.max_tokens
    elif isinstance(decision, Downgrade):
        shown |= {"to": list(decision.to), "reason": decision.reason, "rule": decision.rule}
    else:
        shown |= {"reason": decision.reason, "rule": decision.rule, "message": decision.message}
    return shown


def _micros(seconds: float, name: str) -> int:
    if not 0 < seconds <= MOST_SECONDS:
        raise BadRequest(f"{name}: must lie between 0 and {MOST_SECONDS} seconds")
    return int(seconds * 1_000_000)

"""Credit control of one sidecar: asks the policy, holds in the store, watches streams, settles.

What may be spent is decided by :mod:`collector.domain.policy`, which knows no clock and no store; this
is where its decisions meet both. The store answers at once where it can, so that an ordinary call
waits for nothing.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from collector.domain.credit import Answer, Claim, Granted, Refused
from collector.domain.policy import (
    Action,
    Allow,
    Ask,
    Crossed,
    Decision,
    Directive,
    Downgrade,
    Policy,
    Refuse,
    State,
    Throttled,
    decide,
    store_lost,
)
from collector.domain.record import Event, EventKind
from collector.export.prometheus import CallMetrics
from collector.journal import JournalWriter
from collector.logs import get
from sidecar.books import Books
from sidecar.budgets.asks import Asks
from sidecar.budgets.bounds import MARGIN
from sidecar.budgets.capabilities import Catalogue
from sidecar.budgets.corrections import Corrections
from sidecar.budgets.directives import Directives
from sidecar.budgets.hearing import Hearing
from sidecar.budgets.hold import Hold
from sidecar.budgets.memories import Memories
from sidecar.budgets.orders import Orders
from sidecar.budgets.standings import Standings
from sidecar.budgets.store import PATIENCE_S, CreditStore
from sidecar.budgets.telling import ask_by
from sidecar.call import Call
from sidecar.clock import now_us
from sidecar.errors import OutOfBudget, SlowedDown
from sidecar.routing import Routing, Target
from sidecar.wire import with_output_cap

log = get("bursar.budgets")

REMEMBER_S = 60.0
"""How often what was learned is written down."""
_OWN_RULES = frozenset({"off_track", "runaway"})
"""Rules that are not budgets and have a name of their own in the metrics."""
_NOTHING_ASKED = Granted(())
_ANSWERS = (Granted, Refused)
_tuple = tuple.__new__
_MOST_TRIES = 4
"""How often a call is decided anew because the store knew better than we did."""
_LEASE_SLACK_S = 30.0


class CreditControl:
    """All budgets of one sidecar."""

    def __init__(
        self,
        state: State,
        store: CreditStore,
        books: Books,
        *,
        catalogue: Catalogue | None = None,
        longest_call_s: float,
        board: Directives | None = None,
        folder: Path | None = None,
    ) -> None:
        """Begin with what is handed in.

        Args:
            state: the policy, and what is known.
            store: where budgets are counted.
            books: prices, ratios and the journal.
            catalogue: what models can do.
            longest_call_s: how long a call may take at most.
            board: directives and raises, perhaps shared.
            folder: remembers them, and what was learned, over a restart; None to forget.
        """
        self.state = state
        self.store = store
        self.books = books
        self.ttl_s = longest_call_s + _LEASE_SLACK_S
        self.asks = Asks(books, state, catalogue or Catalogue())
        self._running: dict[str, Hold] = {}
        self.hearing = Hearing(state, store, self._heard)
        self.corrections = Corrections(
            state, store, books.journal, now_us=now_us, on_crossed=lambda crossed: self._crossed(crossed)
        )
        self._memories = Memories(folder)
        self.orders = Orders(
            state,
            board or Directives(),
            self._memories,
            now_us=now_us,
            said=self._said,
            on_cut=self._cut_by,
        )
        self._remember_at = 0.0
        self.standings = Standings(state, store, books.metrics, now_us)
        self.calls: Callable[[], Iterable[Call]] = tuple
        """The calls that run."""

    @property
    def _journal(self) -> JournalWriter:
        return self.books.journal

    @property
    def _metrics(self) -> CallMetrics:
        return self.books.metrics

    @property
    def in_force(self) -> bool:
        """Whether there is anything to ask the policy about."""
        if self.orders.changed:
            self.orders.follow()
        policy = self.state.policy
        return bool(policy.budgets or policy.throttles or policy.caps or self.orders.directed)

    @property
    def policy(self) -> Policy:
        """The rules in force."""
        return self.state.policy

    def bytes_per_token(self, model: str) -> float:
        """A lower bound of the bytes that a token of output shows."""
        return self.books.output_ratio(model) / MARGIN

    # -- living

    async def start(self) -> None:
        """Become ready to decide."""
        await self.store.start()
        self._memories.recall_experience(self.state.experience)
        await self.orders.start()

    async def close(self) -> None:
        """Send what the store has still to be told."""
        self._memories.keep_experience(self.state.experience)
        await self.orders.close()
        await self.store.close()

    # -- before

    async def admit(self, call: Call, routing: Routing) -> None:
        """Let ``call`` in: hold what it may cost on every budget, perhaps for a cheaper model.

        Raises:
            OutOfBudget: a budget has no room, or the call is paused.
            SlowedDown: it may be tried again later.
            NoRoute: no upstream serves it.
        """
        target = routing.target_of(call)
        facts = call.facts
        assert facts is not None
        ask = self.asks.of(call, target, facts.model)
        now = call.started_at_us
        until, is_late = 0.0, False
        for _ in range(_MOST_TRIES):
            decision = self.decide(ask, now)
            if isinstance(decision, Allow):
                answer: Answer | Awaitable[Answer] = _NOTHING_ASKED
                claims = decision.claims
                if claims:
                    answer = self.store.reserve(call.call_id, claims, self.ttl_s, until)
                if not isinstance(answer, _ANSWERS):
                    # All tries of one decision share the time that a call may wait.
                    loop = asyncio.get_running_loop()
                    until = until or loop.time() + PATIENCE_S
                    answer = await self._answer_for(call, answer)
                    is_late = loop.time() >= until
                if isinstance(answer, Granted):
                    self._begin(call, ask, target, decision, answer)
                    return
                if answer.reason == "store_lost":
                    raise self._refused(store_lost(answer.counter))
                self.state.refused(answer.counter, answer.room, now)
                refused = answer
                if is_late:
                    break
            elif isinstance(decision, Downgrade):
                found = self.asks.cheaper(call, routing, ask, target, decision)
                if found is None:
                    ask.may_downgrade = False
                else:
                    ask, target = found
                    self._act(decision.rule, "downgrade", call, f"{decision.reason}: to {ask.model}")
            elif isinstance(decision, Throttled):
                self._act(decision.rule, "throttle", call, decision.reason)
                raise SlowedDown(
                    decision.message,
                    code=decision.reason,
                    retry_after_s=-(-decision.retry_after_us // 1_000_000),
                )
            else:
                raise self._refused(decision)
        raise OutOfBudget(
            f"budget {refused.counter.budget!r} has no room for this call", code="budget_exceeded"
        )

    def decide(self, ask: Ask, now: int) -> Decision:
        """What the policy says of a call, by all that is known here."""
        state = self.state
        self.hearing.meet(state.plan(ask, now).slots, now)
        return decide(state.policy, state, ask, now)

    async def _answer_for(self, call: Call, asked: Awaitable[Answer]) -> Answer:
        try:
            return await asked
        except asyncio.CancelledError:
            # The agent has left; whatever the store says now, nothing will be spent.
            self.store.release(call.call_id)
            raise

    def _begin(self, call: Call, ask: Ask, target: Target, allow: Allow, granted: Granted) -> None:
        facts = call.facts
        assert facts is not None
        self.state.claimed(allow, call.started_at_us)
        hold = Hold(self, call, ask, allow, granted, target)
        self._running[call.call_id] = hold
        _, max_tokens, _, output, growing, _, _, _ = allow
        call.target = target
        call.room_nano = hold.room_nano
        call.hold = ask.input_tokens, output, ask.input_pico + output * ask.output_pico
        if growing and facts.stream:
            call.watch = hold.look
        if ask.model != facts.model:
            call.downgraded_from, facts.model = facts.model, ask.model
        if max_tokens is not None:
            call.request.body = with_output_cap(call.api, call.request.body, max_tokens)
            facts.max_output_tokens = max_tokens
        call.settle_credit = self.settle

    def _refused(self, decision: Refuse) -> OutOfBudget:
        self._act(decision.rule, "refuse", None, decision.reason)
        return OutOfBudget(decision.message, code=decision.reason)

    def hold_for(self, call: Call) -> Hold | None:
        """What ``call`` holds; None where nothing was asked of the budgets."""
        return self._running.get(call.call_id)

    def go_on_with(self, call: Call, hold: Hold) -> None:
        """``call`` holds this from now on."""
        self._running[call.call_id] = hold

    # -- after

    def settle(self, call: Call, sequence: int) -> None:
        """The call has ended, and its record has this sequence in the journal; 0 when it left none."""
        hold = self._running.pop(call.call_id, None)
        if hold is None:
            return
        charges, lease = hold.charges(), hold.lease
        allow, claims = hold.allow, lease.claims
        if claims:
            if sequence:
                actuals, place = [], 0
                for charge in charges:  # counting is faster here than zip
                    actuals.append(_tuple(Claim, (claims[place][0], charge)))
                    place += 1  # noqa: SIM113
                self.store.settle(call.call_id, actuals, sequence)
            else:
                self.store.release(call.call_id)
        cost = now = 0
        if allow.pours:
            cost, now = sum([attempt.cost_pico for attempt in call.attempts]), now_us()
        crossed = self.state.settled(allow, lease.amounts, charges, -(-cost // 1000), now)
        if crossed:
            self._crossed(crossed)
        self._learn(call, hold)

    def _learn(self, call: Call, hold: Hold) -> None:
        last = call.attempts[-1] if call.attempts else None
        if last is None or last.grade != "reported" or call.outcome != "served":
            return
        ask, usage = hold.ask, last.usage
        permille = None
        if ask.input_pico and len(call.attempts) == 1:
            output = usage.output_tokens * last.quote.owed.output
            permille = max(0, last.cost_pico - output) * 1000 // ask.input_pico
        self.state.experience.learn(
            ask.model, ask.agent, ask.api, ask.continues, usage.output_tokens, permille
        )

    def _crossed(self, crossed: Iterable[Crossed], *, tell: bool = True) -> None:
        for one in crossed:
            if tell:
                self._tell(one)
            if one.threshold.action is Action.CUT:
                for hold in list(self._running.values()):
                    if any(claim.counter.key == one.counter.key for claim in hold.lease.claims):
                        self.cut(hold.call, one.counter.budget, "budget_exceeded")

    def _heard(self, crossed: Iterable[Crossed], is_news: bool) -> None:
        self._crossed(crossed, tell=is_news)

    def _tell(self, one: Crossed) -> None:
        action = one.threshold.action.value
        self._metrics.add("bursar_budget_actions_total", {"budget": one.counter.budget, "action": action})
        self._event(
            one.counter.tenant,
            "",
            budget=one.counter.budget,
            counter=f"{one.counter.subject} {one.counter.window}".strip(),
            action=action,
            limit_nano=one.limit,
            spent_nano=one.spent,
            detail=f"{one.threshold.share / 100:g}% reached",
        )

    # -- while calls run

    def cut(self, call: Call, rule: str, reason: str) -> None:
        """End a running stream, in its dialect, and note it; one whose last bytes are here ends as it is."""
        if call.cut is not None and not call.recorded and call.cut(f"{reason}: {rule}"):
            self._act(rule, "cut", call, reason)

    def note(self, call: Call | None, rule: str, action: str, detail: str) -> None:
        """Count and write down what a rule did to a running call."""
        self._act(rule, action, call, detail)

    def tend(self) -> None:
        """What is done a few times a second: gauges, what others asked for, what was learned."""
        self.orders.follow()
        self.hearing.listen(now_us())
        self.standings.gauge()
        if time.monotonic() >= self._remember_at:
            self._remember_at = time.monotonic() + REMEMBER_S
            self._memories.keep_experience(self.state.experience)

    def _cut_by(self, directive: Directive) -> None:
        # Also calls that hold nothing, because no budget is for them.
        for call in list(self.calls()):
            if call.facts is not None and directive.match.accepts(ask_by(call)):
                self.cut(call, directive.id, "directive")

    def _said(self, rule: str, action: str, detail: str) -> None:
        self._event("", "", budget=rule, action=action, detail=detail)

    def _act(self, rule: str, action: str, call: Call | None, detail: str) -> None:
        name = rule if rule in self.policy.by_name or rule in _OWN_RULES else "directive"
        self._metrics.add("bursar_budget_actions_total", {"budget": name, "action": action})
        # What befalls a call at its start stands in its own record.
        if rule == "runaway" or (call is not None and action in ("cut", "flag")):
            tenant, call_id = (call.caller.tenant, call.call_id) if call is not None else ("", "")
            self._event(tenant, call_id, budget=rule, action=action, detail=detail)

    def _event(self, tenant: str, call_id: str, **fields: object) -> None:
        self._journal.event(Event(EventKind.BUDGET, now_us(), tenant, call_id, fields))

"""Admitting another attempt of a call: its budgets must hold what the earlier ones may have cost, too."""

from collections.abc import Sequence

from collector.domain.credit import Claim, Granted, Refused, Unit
from collector.domain.policy import Allow, Ask
from sidecar.accounting import hold_of, tier_of
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.hold import Hold
from sidecar.call import Call
from sidecar.clock import now_us
from sidecar.routing import Target


class Readmission:
    """Asks the budgets of running calls once more."""

    def __init__(self, control: CreditControl) -> None:
        self._control = control

    def watch(self, call: Call) -> None:
        """Watch the next reply of ``call`` from its beginning."""
        hold = self._control.hold_for(call)
        growing = hold is not None and hold.allow.growing and call.facts is not None and call.facts.stream
        call.watch = hold.look if hold is not None and growing else None
        call.watch_room = None

    async def admit(self, call: Call, target: Target) -> bool:
        """Hold what an attempt at ``target`` may cost on top of what was spent; false without room."""
        control = self._control
        hold = control.hold_for(call)
        if hold is None:
            return True
        cost, tokens = spent_by(call)
        elsewhere = (target.upstream, target.model) != (hold.target.upstream, hold.target.model)
        if not cost and not tokens and not elsewhere:
            return True
        facts = call.facts
        assert facts is not None
        ask = control.asks.of(call, target, facts.model)
        ask.may_downgrade = False
        now = now_us()
        lease, state = hold.lease, control.state
        spent = lease.settlement(cost, tokens, 1)
        # What the call itself holds is no reason to refuse it; only what it has spent stays.
        for slot, held, charge in zip(hold.allow.slots, lease.amounts, spent, strict=True):
            slot.held = max(0, slot.held - held) + charge
        state.leave_seats(hold.allow)
        decision = control.decide(ask, now)
        for slot, held, charge in zip(hold.allow.slots, lease.amounts, spent, strict=True):
            slot.held = max(0, slot.held - charge) + held
        state.take_seats(hold.allow)
        if not isinstance(decision, Allow):
            return False
        return await self._extend(call, hold, target, ask, decision, Spent(cost, tokens))

    async def _extend(
        self, call: Call, hold: Hold, target: Target, ask: Ask, allow: Allow, spent: "Spent"
    ) -> bool:
        control, lease = self._control, hold.lease
        had = {claim.counter.key: amount for claim, amount in zip(lease.claims, lease.amounts, strict=True)}
        wanted = [Claim(counter, amount + spent.of(counter.unit)) for counter, amount in allow.claims]
        more = [
            Claim(counter, amount - had.get(counter.key, 0))
            for counter, amount in wanted
            if amount > had.get(counter.key, 0)
        ]
        if more:
            answer = control.store.extend(call.call_id, more, control.ttl_s)
            if not isinstance(answer, Granted | Refused):
                answer = await answer
            if isinstance(answer, Refused):
                return False
        self._go_on(call, hold, target, ask, allow, wanted, spent)
        return True

    def _go_on(
        self,
        call: Call,
        hold: Hold,
        target: Target,
        ask: Ask,
        allow: Allow,
        wanted: Sequence[Claim],
        spent: "Spent",
    ) -> None:
        """Put what the call holds now in place of what it held before."""
        before = {
            claim.counter.key: (claim, slot, amount)
            for claim, slot, amount in zip(
                hold.lease.claims, hold.allow.slots, hold.lease.amounts, strict=True
            )
        }
        claims, slots, amounts = [], [], []
        started = len(call.attempts)
        spans = dict(hold.spans)
        for claim, slot in zip(wanted, allow.slots, strict=True):
            _, _, had = before.pop(claim.counter.key, (None, None, None))
            if had is None:
                spans[claim.counter.key] = (started, None)
            amount = max(claim.amount, had or 0)
            slot.held += amount - (had or 0)
            claims.append(Claim(claim.counter, amount))
            slots.append(slot)
            amounts.append(amount)
        for key, (claim, slot, amount) in before.items():
            # It is not for the new upstream: it is charged for the attempts before.
            since, until = spans.get(key, (0, None))
            spans[key] = (since, started if until is None else until)
            claims.append(claim)
            slots.append(slot)
            amounts.append(amount)
        places = {claim.counter.key: place for place, claim in enumerate(claims)}
        pours = tuple(
            pour if pour.claim < 0 else pour._replace(claim=places[hold.lease.claims[pour.claim].counter.key])
            for pour in hold.allow.pours
        )
        both = allow._replace(claims=tuple(claims), slots=tuple(slots), pours=pours, seats=hold.allow.seats)
        ask.input_pico += spent.cost_pico
        ask.input_tokens += spent.tokens
        again = Hold(self._control, call, ask, both, Granted((0,) * len(claims)), target)
        again.lease.amounts = amounts
        again.spans = spans
        self._control.go_on_with(call, again)
        call.hold = (
            ask.input_tokens,
            allow.output_tokens,
            ask.input_pico + allow.output_tokens * ask.output_pico,
        )


class Spent:
    """What the attempts of a call have cost, or may have."""

    __slots__ = ("cost_pico", "tokens")

    def __init__(self, cost_pico: int, tokens: int) -> None:
        self.cost_pico = cost_pico
        self.tokens = tokens

    def of(self, unit: Unit) -> int:
        """In the unit of a counter; the call itself is counted once."""
        if unit is Unit.USD:
            return -(-self.cost_pico // 1000)
        return self.tokens if unit is Unit.TOKENS else 0


def spent_by(call: Call) -> tuple[int, int]:
    """Pico-USD and tokens of all attempts; one that still runs counts with all that it may take."""
    cost = tokens = 0
    tier = tier_of(call.facts) if call.facts is not None else ""
    for attempt in call.attempts:
        if attempt.ended_ns:
            cost += attempt.cost_pico
            tokens += attempt.usage.input_tokens + attempt.usage.output_tokens
        else:
            cost += hold_of(attempt.hold_input, attempt.hold_output, attempt.quote, tier)
            tokens += attempt.hold_input + attempt.hold_output
    return cost, tokens

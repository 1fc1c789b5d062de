"""What one running call holds, and how a stream asks for more."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING

from collector.domain.credit import Answer, Granted, Refused
from collector.domain.policy import Allow, Ask, Extension, Lease
from collector.domain.policy.plans import MONEY
from sidecar.call import Attempt, Call

if TYPE_CHECKING:
    from sidecar.budgets.credit import CreditControl
    from sidecar.routing import Target


class Hold:
    """What one running call holds, from its admission to its record.

    Without slots, since one is made for every call, and Python makes those without faster.
    """

    def __init__(
        self,
        control: "CreditControl",
        call: Call,
        ask: Ask,
        allow: Allow,
        granted: Granted,
        target: "Target",
    ) -> None:
        self._control = control
        self.target = target
        """Where the attempt goes that it was made for."""
        self.spans: dict[str, tuple[int, int | None]] = {}
        """Counters that are not for every attempt of the call, by key: from which on, and up to which."""
        self.call = call
        self.ask = ask
        self.allow = allow
        claims, _, cap, output, growing, slots, _, _ = allow
        self.lease = Lease(ask, claims, growing, output, cap)
        self._asking: asyncio.Task[None] | None = None
        self.room_nano: int | None = None
        """What the tightest budget in money has left, in nano-USD; None when none is in money."""
        tightest = None
        place = 0
        for room in granted[0]:  # counting is faster here than zip
            if slots[place].unit == MONEY and (tightest is None or room < tightest):
                tightest = room
            place += 1  # noqa: SIM113
        self.room_nano = tightest
        # What does not grow is not looked at while it runs.
        self._look_at = self._bytes_of(self.lease.extend_at) if growing else 0
        self._seen = self._largest = 0

    def charges(self) -> tuple[int, ...]:
        """What the attempts of the call come to, in the order of the claims."""
        attempts, lease = self.call.attempts, self.lease
        cost, tokens, sent = sum_of(attempts)
        charges = lease.settlement(cost, tokens, sent)
        if not self.spans:
            return charges
        return tuple(
            lease.settlement(*sum_of(attempts[span[0] : span[1]]))[place] if span else charge
            for place, (claim, charge) in enumerate(zip(lease.claims, charges, strict=True))
            for span in [self.spans.get(claim.counter.key)]
        )

    # -- while a stream runs

    def look(self) -> bool:
        """Whether what has been read of the stream may be forwarded (:meth:`sidecar.relay.Relay.run`)."""
        meter = self.call.meter
        if meter is None:
            return True
        seen = meter.output_text_bytes
        step, self._seen = seen - self._seen, seen
        if step > self._largest:
            # The more comes at once, the more may be under way, and has to be held.
            self._largest = step
            if self._tokens(step) > self.lease.quantum:
                self._look_at = 0
        if seen < self._look_at:
            return True
        if self._asking is not None:
            return not self.lease.must_end(self._produced())
        more = self.lease.extension(self._produced(), self._tokens(self._largest))
        if more is None:
            self._look_at = self._bytes_of(self.lease.extend_at)
            return True
        answer = self._control.store.extend(self.call.call_id, more.claims, self._control.ttl_s)
        if not isinstance(answer, Granted | Refused):
            self._asking = asyncio.ensure_future(self._wait_for(more, answer))
            return not self.lease.must_end(self._produced())
        return self._answered(more, answer)

    async def _wait_for(self, more: Extension, asked: Awaitable[Answer]) -> None:
        answer = await asked
        self._asking = None
        if self.call.recorded:
            if isinstance(answer, Granted):
                # It came after the settlement: nobody else would give it back.
                self._control.store.release(self.call.call_id)
            return
        if self._answered(more, answer) and self.call.go_on is not None:
            self.call.go_on()

    def _answered(self, more: Extension, answer: Answer) -> bool:
        if isinstance(answer, Granted):
            self.lease.extended(more)
            self._control.state.extended(self.allow, more)
            cost = self.ask.input_pico + more.output_tokens * self.ask.output_pico
            self._control.books.hold_more(self.call, more.output_tokens, cost)
            self._look_at = self._bytes_of(self.lease.extend_at)
            return True
        if self.lease.must_end(self._produced()):
            self._control.cut(self.call, answer.counter.budget, "budget_exceeded")
            return False
        # What is held is used up to the last quantum: somebody may settle until then.
        self._look_at = max(self._bytes_of(self.lease.end_at), self._look_at + 1)
        return True

    def _produced(self) -> int:
        """Output tokens so far, by an upper estimate."""
        meter = self.call.meter
        return 0 if meter is None else self._tokens(meter.output_text_bytes)

    def _tokens(self, text_bytes: int) -> int:
        return int(text_bytes / self._control.bytes_per_token(self.ask.model))

    def _bytes_of(self, tokens: int) -> int:
        return int(tokens * self._control.bytes_per_token(self.ask.model))


def sum_of(attempts: Sequence[Attempt]) -> tuple[int, int, int]:
    """Pico-USD and tokens of attempts, and 1 if any of them left for a provider."""
    cost = tokens = sent = 0
    for attempt in attempts:
        cost += attempt.cost_pico
        usage = attempt.usage
        tokens += usage.input_tokens + usage.output_tokens
        if attempt.sent_ns > 0:
            sent = 1
    return cost, tokens, sent

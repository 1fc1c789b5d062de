"""How much to hold: amounts for each unit, the first hold of a stream, and when to ask for more.

A stream's hold always contains what is under way: tokens that the provider has made and we have not
seen, which are owed even if we hang up at once. While one quantum is under way, the decision to go on is a
decision to take it, and another will be under way by then: so a stream ends when less than two quanta are
left beyond what was seen, and asks for more one quantum earlier. With 200 streams at once, a look-ahead of
one overspent by 141 to 169 chunks in total, one of two by none.
"""

from typing import NamedTuple

from collector.domain.credit import Claim, Unit
from collector.domain.policy.asking import Ask

QUANTUM = 256
"""Tokens that may be under way, and that a stream's hold grows by; more when one chunk may bring more."""
LOOK_AHEAD = 2
"""Quanta that a stream must hold beyond what was seen of it, to go on."""
_ASK_AHEAD = 1
"""Quanta above that at which more is asked for, so that the answer has time to come."""
_PICO_PER_NANO = 1000
_USD, _TOKENS = Unit.USD, Unit.TOKENS


def amount_of(unit: Unit, ask: Ask, output_tokens: int, input_pico: int) -> int:
    """What a call with so much output takes of a counter; money is rounded up, once."""
    if unit is Unit.USD:
        return -(-(input_pico + output_tokens * ask.output_pico) // _PICO_PER_NANO)
    if unit is Unit.TOKENS:
        return ask.input_tokens + output_tokens
    return 1


def affordable_output(unit: Unit, ask: Ask, room: int) -> int:
    """Output tokens that ``room`` pays for, after the input; below 0 when not even that."""
    if unit is Unit.USD:
        left = room * _PICO_PER_NANO - ask.input_pico
        return left // ask.output_pico if ask.output_pico else (ask.output_cap if left >= 0 else -1)
    if unit is Unit.TOKENS:
        return room - ask.input_tokens
    return ask.output_cap if room >= 1 else -1


def least_hold(cap: int, quantum: int = QUANTUM) -> int:
    """Output tokens that a stream must hold to start: it need not ask for more at once."""
    return min(cap, (LOOK_AHEAD + _ASK_AHEAD) * quantum)


def initial_hold(cap: int, typical: int, quantum: int = QUANTUM) -> int:
    """Output tokens that a stream holds at first: as long as half of its like are, so that few need more."""
    wanted = typical + LOOK_AHEAD * quantum
    least = (LOOK_AHEAD + _ASK_AHEAD) * quantum
    wanted = wanted if wanted > least else least
    return wanted if wanted < cap else cap


def extension(produced: int, held: int, cap: int, quantum: int = QUANTUM) -> int | None:
    """Output tokens to hold from now on; None while the hold still suffices.

    Args:
        produced: tokens seen so far, by an upper estimate.
        held: tokens held now.
        cap: tokens that the provider may produce at most.
        quantum: at least as many tokens as one chunk may bring.
    """
    if held >= cap or held - produced >= (LOOK_AHEAD + _ASK_AHEAD) * quantum:
        return None
    wanted = produced + (LOOK_AHEAD + _ASK_AHEAD) * quantum
    return min(cap, held + -(-(wanted - held) // quantum) * quantum)


def must_end(produced: int, held: int, cap: int, quantum: int = QUANTUM) -> bool:
    """Whether a stream that got no extension has to end now, so that what is under way is still held."""
    return held < cap and held - produced < LOOK_AHEAD * quantum


class Extension(NamedTuple):
    """More, for a stream that runs."""

    claims: tuple[Claim, ...]
    output_tokens: int
    """Held once the claims are granted."""


class Lease:
    """What one running call holds. Changed by nobody but the call's own task.

    Without slots, since one is made for every call, and Python makes those without faster.
    """

    def __init__(
        self,
        ask: Ask,
        claims: tuple[Claim, ...],
        growing: tuple[int, ...],
        output_tokens: int,
        cap: int,
        quantum: int = QUANTUM,
    ) -> None:
        self.claims = claims
        self.amounts = [claim[1] for claim in claims]
        """Held now, of each claim's counter."""
        self.growing = growing
        """Which of the claims grow with the stream."""
        self.input_pico = ask.input_pico
        self.input_tokens = ask.input_tokens
        self.output_pico = ask.output_pico
        self.output_tokens = output_tokens
        """Output that the growing claims cover."""
        self.cap = cap
        self.quantum = quantum
        self._look()

    def _look(self) -> None:
        ahead = self.output_tokens - LOOK_AHEAD * self.quantum + 1
        endless = not self.growing or self.output_tokens >= self.cap
        self.extend_at = self.cap + 1 if endless else ahead - _ASK_AHEAD * self.quantum
        """Once so many tokens were produced, ask :meth:`extension`: one comparison for each chunk."""
        self.end_at = self.cap + 1 if endless else ahead
        """Once so many tokens were produced and no extension was granted, the stream has to end."""

    def extension(self, produced: int, chunk: int = 0) -> Extension | None:
        """What to claim so that the stream may go on; None while it holds enough.

        Args:
            produced: output tokens seen so far, by an upper estimate.
            chunk: tokens that one chunk was seen to bring at most.
        """
        if chunk > self.quantum:
            self.quantum = chunk
            self._look()
        if not self.growing:
            return None
        tokens = extension(produced, self.output_tokens, self.cap, self.quantum)
        if tokens is None:
            return None
        claims = []
        for index in self.growing:
            counter = self.claims[index].counter
            claims.append(Claim(counter, self._amount(counter.unit, tokens) - self.amounts[index]))
        return Extension(tuple(claims), tokens)

    def extended(self, more: Extension) -> None:
        """The extension was granted."""
        for index, claim in zip(self.growing, more.claims, strict=True):
            self.amounts[index] += claim.amount
        self.output_tokens = more.output_tokens
        self._look()

    def must_end(self, produced: int) -> bool:
        """Whether the stream has to end now, no extension having been granted."""
        return bool(self.growing) and must_end(produced, self.output_tokens, self.cap, self.quantum)

    def settlement(self, cost_pico: int, tokens: int, calls: int = 1) -> tuple[int, ...]:
        """What to charge instead of what is held, in the order of the claims.

        Args:
            cost_pico: of all attempts; 0 when nothing was consumed.
            tokens: input and output of all attempts.
            calls: 0 when nothing ever left for a provider.
        """
        nano = -(-cost_pico // _PICO_PER_NANO)
        charges = []
        for claim in self.claims:
            unit = claim[0].unit
            charges.append(nano if unit is _USD else tokens if unit is _TOKENS else calls)
        return tuple(charges)

    def _amount(self, unit: Unit, output_tokens: int) -> int:
        if unit is Unit.USD:
            return -(-(self.input_pico + output_tokens * self.output_pico) // _PICO_PER_NANO)
        return self.input_tokens + output_tokens

"""A desk that does what a process with its own memory does, so that a test reads as what happens to calls."""

from typing import Any

from collector.domain.policy import (
    Allow,
    Ask,
    Budget,
    Crossed,
    Lease,
    Policy,
    State,
    Threshold,
    Window,
    decide,
)
from collector.domain.policy.budget import Action
from collector.domain.policy.deciding import Decision

USD = 10**9
NOON_US = 1_795_348_800_000_000
"""2026-11-22T12:00:00Z, a Sunday."""
MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US


def budget(limit_usd: float = 10, **said: Any) -> Budget:
    """A budget over everything, for a day; ``at`` as in the configuration."""
    at = said.pop("at", {})
    window = said.pop("window", "day")
    return Budget(
        name=said.pop("name", "all"),
        limit=said.pop("limit", round(limit_usd * USD)),
        window=Window.parse(window, said.pop("zone", "UTC")),
        at=tuple(Threshold(round(float(share) * 100), Action(action)) for share, action in at.items()),
        **said,
    )


def ask(usd: float = 1.0, **said: Any) -> Ask:
    """A call that is not streamed and may cost so much at most, all of it for 1000 tokens of output."""
    said = {"call_id": "0192", "model": "large", "output_cap": 1000} | said
    return Ask(output_pico=round(usd * 10**12) // said["output_cap"], **said)


class Desk:
    """Policy and state of one process, at a time that the test sets."""

    def __init__(self, *budgets: Budget, **rules: Any) -> None:
        self.policy = Policy(budgets=budgets, **rules)
        self.state = State(self.policy)
        self.now_us = NOON_US

    def decide(self, call: Ask) -> Decision:
        return decide(self.policy, self.state, call, self.now_us)

    def begin(self, call: Ask) -> tuple[Allow, Lease]:
        allow = self.decide(call)
        assert isinstance(allow, Allow), allow
        self.state.claimed(allow, self.now_us)
        return allow, Lease(call, allow.claims, allow.growing, allow.output_tokens, allow.output_cap)

    def end(self, running: tuple[Allow, Lease], usd: float = 0.0, tokens: int = 0) -> tuple[Crossed, ...]:
        allow, lease = running
        pico = round(usd * 10**12)
        charges = lease.settlement(pico, tokens)
        return self.state.settled(allow, lease.amounts, charges, -(-pico // 1000), self.now_us)

    def spend(self, usd: float, **said: Any) -> tuple[Crossed, ...]:
        """One call that costs so much, and the thresholds it reached."""
        return self.end(self.begin(ask(usd, **said)), usd)


__all__ = ["HOUR_US", "MINUTE_US", "NOON_US", "USD", "Desk", "ask", "budget"]

"""A circuit breaker: a replica that fails again and again is left alone, then tried with one call.

CLOSED --failures in a row--> OPEN --time--> one call on trial --it succeeds--> CLOSED
                                ^--------------- it fails, twice as long -----'
"""

from typing import NamedTuple


class BreakerPolicy(NamedTuple):
    """When a breaker opens, and for how long."""

    failures: int = 5
    """In a row; 0 for a breaker that never opens."""
    open_s: float = 5.0
    """The first time; twice as long after each trial that failed."""
    longest_s: float = 60.0


class Breaker(NamedTuple):
    """What is known of one replica's failures."""

    failures: int = 0
    """In a row."""
    opened: int = 0
    """How often it opened since the last success."""
    open_until: float = 0.0
    """Seconds on the caller's clock; 0 while closed."""
    on_trial: bool = False
    """A call is finding out whether it works again."""


CLOSED = Breaker()


def lets_pass(breaker: Breaker, now: float) -> bool:
    """Whether a call may go there: always while closed; one at a time once the pause is over."""
    return not breaker.open_until or (now >= breaker.open_until and not breaker.on_trial)


def started(breaker: Breaker, now: float) -> Breaker:
    """A call goes there."""
    return breaker._replace(on_trial=True) if breaker.open_until and now >= breaker.open_until else breaker


def succeeded() -> Breaker:
    """A call was answered."""
    return CLOSED


def failed(breaker: Breaker, now: float, policy: BreakerPolicy) -> Breaker:
    """A call was not answered, or with the server's own failure."""
    failures = breaker.failures + 1
    if not policy.failures or (failures < policy.failures and not breaker.open_until):
        return breaker._replace(failures=failures)
    if breaker.open_until and not breaker.on_trial:
        # One of those that were under way when it opened: nothing new.
        return breaker._replace(failures=failures)
    pause = min(policy.open_s * 2**breaker.opened, policy.longest_s)
    return Breaker(failures, breaker.opened + 1, now + pause, on_trial=False)


def gave_up(breaker: Breaker) -> Breaker:
    """The agent of the call on trial left: nobody knows more than before, so another may try."""
    return breaker._replace(on_trial=False) if breaker.on_trial else breaker


def state_of(breaker: Breaker, now: float) -> str:
    """``closed``, ``open`` or ``half_open``."""
    if not breaker.open_until:
        return "closed"
    return "open" if now < breaker.open_until else "half_open"

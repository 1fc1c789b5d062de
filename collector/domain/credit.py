"""What credit control speaks of: counters, claims on them, and the answers of a credit store.

A *counter* is one budget in one window for one subject. A call *claims* an amount of every counter it
touches, all or nothing; the claims of one call are its *lease*. Amounts are integers in the counter's
own unit: nano-USD, tokens or calls. The words are those of online charging (RFC 8506).
"""

from enum import StrEnum
from typing import NamedTuple


class Unit(StrEnum):
    """What a budget counts."""

    USD = "usd"
    """Nano-USD, rounded up once for each hold and each settlement."""
    TOKENS = "tokens"
    CALLS = "calls"


class Counter(NamedTuple):
    """One budget, in one window, for one subject."""

    budget: str
    """The budget's name."""
    subject: str
    """The value of its ``each``; empty when the budget has one counter."""
    tenant: str
    """Whose counter it is: counters of one tenant live together in a shared store; empty for none."""
    window: str
    """Names the window, such as ``day:2026-11-22``: a new window is a new counter, nothing is reset."""
    unit: Unit
    limit: int
    starts_us: int
    """Since the Unix epoch."""
    ends_us: int | None
    """When the next window begins; None when none does (``total``, a conversation's or task's lifetime)."""
    bucket_us: int = 0
    """Width of a rolling window's buckets; 0 when the window is fixed."""
    hard: bool = True
    """Whether the budget closes when its store is lost; a soft one stays open and is journalled."""
    fades: bool = False
    """Whether it is of one conversation or task, and may be forgotten once nobody goes on with that."""

    @property
    def key(self) -> str:
        """Names the counter in any store."""
        return f"{self.budget}\x1f{self.subject}\x1f{self.window}"


class Claim(NamedTuple):
    """An amount of one counter."""

    counter: Counter
    amount: int


class Granted(NamedTuple):
    """All claims of a lease were taken."""

    rooms: tuple[int, ...]
    """What each counter has left after the claim, in the order of the claims; may be a lower bound."""


class Refused(NamedTuple):
    """One counter had no room, so nothing was claimed."""

    counter: Counter
    """The tightest one."""
    room: int
    """What it has left."""
    reason: str = "budget_exceeded"
    """``budget_exceeded``, or ``store_lost`` when the store cannot be asked and the budget is hard."""


Answer = Granted | Refused


class Standing(NamedTuple):
    """How one counter stands."""

    counter: Counter
    spent: int
    held: int
    """Claimed by leases that are not settled."""
    exact: bool = True
    """False when the store could not be asked and this is what this process knows."""

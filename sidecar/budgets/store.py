"""What a credit store does, whatever its home: this process's memory, or a Redis that many sidecars share.

A call reserves before it may spend, extends while it streams, and is settled by its record. The
state machine of one lease is the same in both homes (:mod:`sidecar.budgets.ledger` in memory,
``scripts/*.lua`` in Redis):

    (none) --reserve--> held --settle--> (none), the actual amount is spent
                        held --release-> (none), nothing is spent
                        held --expire--> unsettled: the hold is spent, and flagged
                        unsettled --extend-> held
                        unsettled --settle-> (none), the actual amount takes the place of the hold
    (none) --settle--> (none), the actual amount is spent: the store had lost the lease

At every instant ``spent + held <= limit``, except where a provider charged more than was held.
Settlements carry the sequence of their record in the journal of their source. The store keeps
one mark for each source, so a settlement counts once however often it arrives; one that comes
too early is refused with the mark, and its sender goes back to there.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from collector.domain.credit import Answer, Claim, Counter, Standing, Unit

MAX_LIMIT = 9_000_000 * 10**9
"""Largest limit: Lua counts in doubles, which are exact up to 2**53."""
PATIENCE_S = 0.05
"""How long a decision waits for a store, however often it asks."""
BUCKETS = 24
"""A rolling window is this many buckets; the sum over the last ones is what it spent."""
KEEP_S = 40 * 86_400
"""How long a window is kept after its end, for late corrections and for whoever asks."""
IDLE_S = 40 * 86_400
"""How long a conversation or task is remembered that nobody goes on with: there are ever more of them, none
says that it is over, and hardly any is taken up again after weeks."""
ENDED = 2**53 - 1
"""The mark of a source that is over, all of it counted: nothing it may still send counts again."""


CORRECTION = "!"
"""In place of a lease: the settlement corrects what is spent, and nothing was held for it."""


class UnusableLimit(ValueError):
    """A counter's limit that no store can keep exactly."""

    def __init__(self, counter: Counter) -> None:
        unit = "9,000,000 USD" if counter.unit == Unit.USD else f"{MAX_LIMIT:,} {counter.unit}"
        super().__init__(
            f"budget {counter.budget!r}: a limit of {counter.limit:,} is above {unit}, "
            "the largest that shared counters hold exactly"
        )


def check_limit(counter: Counter) -> None:
    """Refuse a limit that doubles do not count exactly.

    Raises:
        UnusableLimit: it is above ``MAX_LIMIT``.
    """
    if counter.limit > MAX_LIMIT:
        raise UnusableLimit(counter)


def bucket_of(counter: Counter) -> int:
    """Which bucket of a rolling window is the current one; 0 for a fixed window.

    Windows are compared with each other only, so it is enough that ``starts_us`` moves on by
    ``bucket_us`` from bucket to bucket, whichever end of the window it names.
    """
    return counter.starts_us // counter.bucket_us + BUCKETS if counter.bucket_us else 0


def expiry_ms(counter: Counter) -> int:
    """When a shared store may forget the counter, in milliseconds since the Unix epoch.

    Below 0: so long after its last use. 0: never, for what is meant to last.
    """
    if counter.bucket_us:
        return (counter.starts_us + (2 * BUCKETS + 1) * counter.bucket_us) // 1000 + KEEP_S * 1000
    if counter.ends_us is not None:
        return counter.ends_us // 1000 + KEEP_S * 1000
    return -IDLE_S * 1000 if counter.fades else 0


class Settlement(NamedTuple):
    """What became of one lease, from the record with this sequence; or a ``CORRECTION``, from its event."""

    sequence: int
    lease: str
    actuals: tuple[Claim, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the books say a shared store must hold after it lost its data."""

    sums: Mapping[Counter, int] = field(default_factory=dict)
    """Spent of each counter, from records up to the marks."""
    marks: Mapping[str, int] = field(default_factory=dict)
    """How far each source is in ``sums``, by journal sequence; ``ENDED`` for one that is over and whose
    open intents are in ``sums`` too."""


TruthOf = Callable[[], Awaitable[Truth]]


class CreditStore(Protocol):
    """Counters, and leases on them."""

    def reserve(
        self, lease: str, claims: Sequence[Claim], ttl_s: float, until: float = 0.0
    ) -> Answer | Awaitable[Answer]:
        """Claim all of ``claims`` or nothing; the same lease gets the same answer.

        Decided at once where this process can, otherwise within ``PATIENCE_S`` whatever the store's state,
        or by ``until`` (of the loop's clock) where a decision asks more than once.
        ``ttl_s`` bounds how long the lease holds without ``extend`` or ``keep``; then it is charged.

        Raises:
            UnusableLimit: a limit is above ``MAX_LIMIT``.
            ValueError: an amount is negative, or a counter is named twice.
        """
        ...

    def extend(self, lease: str, deltas: Sequence[Claim], ttl_s: float) -> Answer | Awaitable[Answer]:
        """Claim ``deltas`` more, all or nothing; counters that the lease did not touch may join it."""
        ...

    def keep(self, lease: str, ttl_s: float) -> None:
        """Let the lease hold for ``ttl_s`` from now."""
        ...

    def settle(self, lease: str, actuals: Sequence[Claim], sequence: int) -> None:
        """Spend ``actuals`` in place of what the lease held; never waits.

        Those of a ``CORRECTION`` may be below 0.
        ``sequence`` is that of the call's record in this source's journal; it only ever grows.
        """
        ...

    def release(self, lease: str) -> None:
        """Give back what the lease held: its call was never sent and leaves no record of a cost."""
        ...

    def glance(self, counters: Sequence[Counter]) -> list[Standing]:
        """What this process knows of ``counters``, at once; for decisions that only steer."""
        ...

    def standings(self, counters: Sequence[Counter]) -> list[Standing] | Awaitable[list[Standing]]:
        """How ``counters`` stand in the store."""
        ...

    async def start(self) -> None:
        """Become ready, or degraded, within a few seconds."""
        ...

    async def close(self) -> None:
        """Send what waits, give back what is held in advance, and stop."""
        ...

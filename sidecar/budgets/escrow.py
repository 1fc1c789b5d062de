"""Slices of shared counters that this process holds in advance, so that most calls need no Redis.

In Redis, all slices of one source (and tenant) are one lease of its own; here, each is a number
that calls take from and give back to. A slice's ``capacity`` is what Redis is known to hold for
it. ``used`` is what calls took, what settlements spent that Redis has not confirmed, and what
messages on their way may take: always ``used <= capacity`` for what was admitted, so that every
admitted amount is held in Redis too. An answer of Redis says the capacity outright; answers come
in order, so the last one is right.

A process that dies leaves its slices held. When they run out they are charged, for nobody knows
which part was spent, and its journal, replayed at the next start, gives back the rest.
"""

import math
from collections.abc import Sequence

from collector.domain.credit import Claim, Counter, Granted, Standing
from sidecar.budgets.ledger import Identity

SHARE = 20
"""A slice is at most one part in so many of the room."""
AHEAD_S = 30.0
"""It is meant to last so long at this process's own rate."""
SCARCE = 5
"""No slices when the room is less than one part in so many of the limit, ..."""
FEW_HOLDS = 20
"""... or less than so many holds of the usual size."""
BURST_HOLDS = 8
"""A slice is at least so many holds, where the share allows, lest a burst after a pause go to Redis."""
COLD_S = 60.0
"""A slice that nobody took from for so long is given back."""
MAX_VIEWS = 20_000
"""Counters looked at; those idle longest are forgotten first."""


class View:
    """What this process knows of one shared counter, and its slice of it."""

    __slots__ = (
        "capacity", "counter", "held", "hold", "rate", "refilling", "seen_at", "spent", "taken", "tenant",
        "touched", "used",
    )  # fmt: skip

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.tenant = counter.tenant
        self.spent = 0
        """As Redis last said."""
        self.held = 0
        """As Redis last said; all slices, ours too, are part of it."""
        self.capacity = 0
        self.used = 0
        self.hold = 0.0
        """Usual size of a hold."""
        self.taken = 0
        """Since the last look at the rate."""
        self.rate = 0.0
        """Taken per second."""
        self.touched = 0.0
        self.seen_at = -math.inf
        """When Redis last said how the counter stands."""
        self.refilling = False

    @property
    def room(self) -> int:
        """Left in Redis beside our slice."""
        return self.counter.limit - self.spent - self.held

    @property
    def free(self) -> int:
        """Left of our slice."""
        return self.capacity - self.used

    def target(self) -> int:
        """How much the slice should be."""
        limit, room = self.counter.limit, self.room
        beside = room + max(0, self.free)
        if beside * SCARCE < limit or beside < FEW_HOLDS * self.hold or beside <= 0:
            return self.used
        wanted = max(self.rate * AHEAD_S, BURST_HOLDS * self.hold)
        return self.used + min(beside // SHARE, int(wanted) + 1)

    def standing(self, *, exact: bool = False) -> Standing:
        """The counter without what our slice holds for nobody yet."""
        return Standing(self.counter, self.spent, max(0, self.held - max(0, self.free)), exact)


class Escrow:
    """All views of this process."""

    def __init__(self) -> None:
        self.views: dict[Identity, View] = {}

    def view(self, counter: Counter) -> View:
        """The view of ``counter``, with the limit it has now."""
        view = self.views.get(counter[:4])
        if view is None:
            view = self.views[counter[:4]] = View(counter)
        elif view.counter is not counter:
            view.counter = counter
        return view

    def take(self, claims: Sequence[Claim], now: float) -> list[View] | None:
        """Take all of ``claims`` from slices; None, and nothing taken, when one has too little."""
        views = self.views
        found = []
        for counter, amount in claims:
            view = views.get(counter[:4])
            if view is None or view.capacity - view.used < amount or not view.capacity:
                return None
            known = view.counter
            if known is not counter:
                if known.limit != counter.limit:
                    return None
                # Another bucket of a rolling window is the same counter: the room only grew since.
                view.counter = counter
            found.append(view)
        for view, (_, amount) in zip(found, claims, strict=True):
            view.used += amount
            view.taken += amount
            view.hold += (amount - view.hold) * 0.1
            view.touched = now
        return found

    def rooms(self, views: Sequence[View]) -> Granted:
        """What is left of each counter, as far as is known here."""
        return Granted(
            tuple([view.counter.limit - view.spent - view.held + view.capacity - view.used for view in views])
        )

    def measure(self, elapsed_s: float) -> None:
        """Learn how fast each counter is taken from."""
        weight = min(1.0, elapsed_s / 5.0)
        for view in self.views.values():
            view.rate += (view.taken / elapsed_s - view.rate) * weight
            view.taken = 0

    def forget(self, now: float) -> None:
        """Drop views that hold nothing and that nobody looks at."""
        if len(self.views) <= MAX_VIEWS // 2:
            return
        idle = sorted(
            (view.touched, identity)
            for identity, view in self.views.items()
            if not view.capacity and not view.used and not view.refilling
        )
        excess = len(self.views) - MAX_VIEWS // 2
        for touched, identity in idle[:excess]:
            if now - touched > COLD_S or len(self.views) > MAX_VIEWS:
                del self.views[identity]

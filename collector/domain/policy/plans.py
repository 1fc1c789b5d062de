"""The rules in force, and what they come to for one kind of call: slots, plans, and the answer ``Allow``."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from collector.domain.credit import Claim, Counter, Standing, Unit
from collector.domain.policy.asking import Ask
from collector.domain.policy.budget import (
    LARGEST,
    WHOLE,
    Action,
    Budget,
    ConcurrencyCap,
    Directive,
    HoldSize,
    Ladder,
    Threshold,
    Throttle,
)
from collector.domain.policy.matching import TAG, value_of
from collector.domain.policy.windows import BUCKETS

FOREVER = 2**63
DOWNGRADING = 1
THROTTLING = 2
ACTIVE = {Action.DOWNGRADE: DOWNGRADING, Action.THROTTLE: THROTTLING}

MOST, FIRST, HIGH, FINISHING, FIRST_LIKELY = range(5)
"""How a budget sizes a call's hold: by what it may cost at most; by the first hold of a stream; by what 99 in
100 cost; the same with less care; by the first hold of a stream with what 99 in 100 pay for their input."""
MONEY, TOKENS, CALLS = range(3)
"""Units, as numbers that compare faster."""
_UNITS = {Unit.USD: MONEY, Unit.TOKENS: TOKENS, Unit.CALLS: CALLS}
SIZES = 5
ONE_CALL = 2 * SIZES
"""What a call needs of a counter is told by a number: how a hold is sized, for money; ``SIZES`` more than
that for tokens; and this for calls."""


class Policy:
    """All configured rules; never changed. A new configuration is a new policy."""

    __slots__ = ("budgets", "by_name", "caps", "ladders", "names", "throttles")

    def __init__(
        self,
        *,
        budgets: Iterable[Budget] = (),
        ladders: Iterable[Ladder] = (),
        throttles: Iterable[Throttle] = (),
        caps: Iterable[ConcurrencyCap] = (),
    ) -> None:
        """Take the rules in their order: where two say the same, the first is named.

        Raises:
            ValueError: two budgets have one name.
        """
        self.budgets = tuple(budgets)
        self.ladders = tuple(ladders)
        self.throttles = tuple(throttles)
        self.caps = tuple(caps)
        self.by_name = {budget.name: budget for budget in self.budgets}
        if len(self.by_name) < len(self.budgets):
            raise ValueError("two budgets have the same name")
        names = {"model"}
        for budget in self.budgets:
            names.update(budget.match.names, *(match.names for match in budget.never_for))
            names.update({budget.window.kind.value} & {"conversation", "task"}, {budget.each} - {""})
        for ladder in self.ladders:
            names.update(ladder.source.names, *(match.names for match in ladder.never_for))
        for match, each in [
            *((one.match, one.each) for one in self.throttles),
            *((one.match, one.each) for one in self.caps),
        ]:
            names.update(match.names, {each} - {""})
        self.names = frozenset(names)
        """The dimensions and tags that any rule asks about."""


class Slot:
    """One counter, as far as this process knows."""

    __slots__ = (
        "active",
        "buckets",
        "budget",
        "counter",
        "entry",
        "exact_until_us",
        "finishes",
        "full",
        "grows",
        "heard",
        "held",
        "level",
        "spent",
        "stream_size",
        "told",
        "unit",
        "whole_size",
    )

    def __init__(self, budget: Budget, counter: Counter) -> None:
        self.spent = 0
        self.held = 0
        self.heard = 0
        """What a shared store last said was spent."""
        self.level = 0
        """Thresholds reached."""
        self.active = 0
        """What the reached thresholds ask for: ``DOWNGRADING``, ``THROTTLING``."""
        self.exact_until_us = FOREVER
        """Until when what is known here may refuse a call; later the store must be asked."""
        self.buckets: dict[int, int] | None = {} if counter.bucket_us else None
        """Of a rolling window: what was spent by calls let in during each of its buckets."""
        self.follow(budget, counter)

    def follow(self, budget: Budget, counter: Counter) -> None:
        """Take up the rules of a budget, at its own limit."""
        self.budget = budget
        self.grows = budget.grows
        self.finishes = budget.finishes
        self.told = bool(budget.at)
        """Whether reaching a share of it means anything."""
        self.unit = _UNITS[budget.unit]
        self.whole_size = MOST
        if budget.size is HoldSize.LEARNED:
            self.whole_size = FINISHING if budget.finishes else HIGH
        self.stream_size = self.whole_size
        if budget.grows:
            self.stream_size = FIRST_LIKELY if self.whole_size == FINISHING else FIRST
        self.limit_to(counter, budget.limit)

    def limit_to(self, counter: Counter, full: int) -> None:
        """Put a limit in force."""
        budget = self.budget
        stop = min(full * budget.stop_share // WHOLE, LARGEST) if budget.enforced else LARGEST
        self.counter = counter if counter.limit == stop else counter._replace(limit=stop)
        self.full = full
        """The limit with its raises."""
        self.entry = min(full * budget.entry_share // WHOLE, LARGEST) if budget.enforced else LARGEST
        """What may be spent and held before new calls are refused."""

    def roll(self, counter: Counter) -> bool:
        """Move a rolling window on to where ``counter`` has it; whether spending left it by that."""
        if self.buckets is None or counter.starts_us == self.counter.starts_us:
            return False
        self.counter = counter._replace(limit=self.counter.limit)
        first = counter.starts_us // counter.bucket_us
        left = [bucket for bucket in self.buckets if bucket < first]
        for bucket in left:
            self.spent -= self.buckets.pop(bucket)
        return bool(left)

    def charge(self, counter: Counter, amount: int) -> None:
        """Add to what was spent; of a rolling window, ``counter`` is as it was when the call was let in."""
        if self.buckets is None:
            self.spent += amount
            return
        bucket = counter.starts_us // counter.bucket_us + BUCKETS - 1
        if bucket >= self.counter.starts_us // counter.bucket_us:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + amount
            self.spent += amount

    @property
    def bucket_ends_us(self) -> int:
        """When a rolling window moves on; never for others."""
        counter = self.counter
        return counter.starts_us + BUCKETS * counter.bucket_us if counter.bucket_us else FOREVER

    @property
    def room(self) -> int:
        """What a new call may take; below 0 when overdrawn."""
        return self.entry - self.spent - self.held

    @property
    def standing(self) -> Standing:
        """How the counter stands."""
        return Standing(self.counter, self.spent, self.held)


class Crossed(NamedTuple):
    """A threshold that was just reached."""

    counter: Counter
    threshold: Threshold
    spent: int
    limit: int
    """With raises."""


class Plan:
    """Which rules one kind of call meets."""

    __slots__ = (
        "caps",
        "directives",
        "from_us",
        "growing",
        "guarded",
        "ladder",
        "learns",
        "lowers",
        "paced",
        "slots",
        "spared",
        "streamed",
        "throttles",
        "until_us",
        "whole",
    )

    def __init__(self, slots: tuple[Slot, ...], spared: tuple[bool, ...], ladder: tuple[str, ...]) -> None:
        self.slots = slots
        self.spared = spared
        """Whether the budget of the same place never downgrades this call."""
        self.ladder = ladder
        self.streamed = tuple([(slot, _need(slot.unit, slot.stream_size)) for slot in slots])
        """The slots, each with what a stream needs of it ..."""
        self.whole = tuple([(slot, _need(slot.unit, slot.whole_size)) for slot in slots])
        """... and a call that is answered at once."""
        self.growing = tuple([place for place, slot in enumerate(slots) if slot.grows])
        """Which of them grow with a stream."""
        self.throttles: tuple[tuple[Throttle, Hashable], ...] = ()
        self.caps: tuple[tuple[ConcurrencyCap, Hashable], ...] = ()
        self.directives: tuple[Directive, ...] = ()
        self.learns = any(slot.stream_size for slot in slots)
        self.lowers = any(slot.budget.lower_max_tokens for slot in slots)
        self.paced = any(slot.budget.pace for slot in slots)
        self.guarded = True
        self.from_us = 0
        self.until_us = FOREVER


def _need(unit: int, size: int) -> int:
    return ONE_CALL if unit == CALLS else unit * SIZES + size


class Pour(NamedTuple):
    """What a call took of a throttle."""

    key: Hashable
    per_minute: int
    amount: int
    claim: int
    """Of the claim whose unit it is in; -1 for nano-USD."""


class Allow(NamedTuple):
    """The call may go once every claim is granted."""

    claims: tuple[Claim, ...]
    max_tokens: int | None
    """What the call's own cap must be lowered to, for each choice; None to leave it as it is."""
    output_cap: int
    """Output tokens that the provider may produce at most, over all choices, with that cap."""
    output_tokens: int
    """Output that the growing claims cover."""
    growing: tuple[int, ...]
    """Which claims grow as the stream runs."""
    slots: tuple[Slot, ...]
    pours: tuple[Pour, ...] = ()
    seats: tuple[Hashable, ...] = ()
    """Concurrency caps that it counts against."""


def key_by(names: Sequence[str]) -> Callable[[Ask], Any]:
    """A function that tells kinds of calls apart by what they say of ``names``."""
    plain = [name for name in names if not name.startswith(TAG)]
    read = attrgetter(*plain)
    tags = [name for name in names if name.startswith(TAG)]
    if not tags:
        return read
    return lambda ask: (read(ask), tuple(value_of(ask, name) for name in tags))


def ladder_for(ladders: Sequence[Ladder], ask: Ask) -> tuple[str, ...]:
    """The models that may stand in for the one asked for: those of the first ladder for it."""
    for ladder in ladders:
        if ladder.source.accepts(ask):
            if any(match.accepts(ask) for match in ladder.never_for):
                return ()
            return tuple(model for model in ladder.to if model != ask.model)
    return ()

"""The figures of the budgets page: how far each counter is used up, how fast, and when it runs out.

A counter is what one budget counts for one subject in one window. How it stands comes from the
sidecar; how fast it is used up, and by whom, from the ledger's calls that the budget is for.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from dashboards import display
from dashboards.scope import DIMENSIONS, Scope, Window, filters_from

RATE_OVER = timedelta(hours=1)
RATE_OVER_LONG = timedelta(hours=24)
"""For windows of more than two days: a busy hour says little about a month."""
LONG = timedelta(days=2)
FOREVER = timedelta(days=366)

LEDGER_NAMES: Mapping[str, str] = {
    "user": "user_id",
    "conversation": "conversation_id",
    "task": "task_id",
    "key": "key_id",
    "model": "request_model",
}
"""What the ledger calls a dimension of a budget, where the names differ."""

TAG = "tag:"

Wanted = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What is configured of one budget."""

    name: str
    limit: Decimal
    unit: str
    """``usd``, ``tokens`` or ``calls``."""
    window: str
    match: Wanted
    each: str
    mode: str
    at: tuple[tuple[Decimal, str], ...]
    """Shares of the limit, between 0 and 1, and what happens there; in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counter:
    """How one budget stands for one subject; amounts in its unit, USD for money."""

    budget: str
    subject: str
    window: str
    unit: str
    limit: Decimal
    """Raises included."""
    spent: Decimal
    held: Decimal
    """Of calls that run."""
    remaining: Decimal
    starts_at: datetime | None
    resets_at: datetime | None
    exact: bool
    """Whether the shared store says so itself, at this moment."""

    @property
    def share(self) -> Decimal:
        """Of the limit, how much is spent or held; 1 where nothing may be spent."""
        return (self.spent + self.held) / self.limit if self.limit else Decimal(1)

    @property
    def is_used_up(self) -> bool:
        """Whether nothing is left."""
        return self.remaining <= 0

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from the others of its moment."""
        return self.budget, self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A raise or a directive in force."""

    id: str
    kind: str
    """``raise``, or what a directive asks for: ``pause``, ``downgrade``, ``throttle``, ``cut``."""
    until_at: datetime
    by: str
    reason: str
    budget: str = ""
    subject: str = ""
    amount: int = 0
    """Of a raise; nano-USD, tokens or calls."""
    match: Wanted = field(default_factory=dict)
    """Of a directive: which calls it is for; none for all."""

    def concerns(self, counter: Counter, budget: Budget | None) -> bool:
        """Whether it is for the calls that ``counter`` counts, or makes its limit."""
        if self.kind == "raise":
            return self.budget == counter.budget and self.subject in ("", counter.subject)
        counted = counted_by(budget, counter.subject) if budget else {}
        return all(
            name in counted and all(any(_like(value, text) for text in accepted) for value in counted[name])
            for name, accepted in self.match.items()
        )


def counted_by(budget: Budget, subject: str) -> dict[str, tuple[str, ...]]:
    """What a call must be for a counter to count it: dimension and accepted values.

    A budget with a counter for each agent has one, without a subject, for the calls that name none.
    """
    return {**budget.match, budget.each: (subject,)} if budget.each else dict(budget.match)


def rate_window(counter: Counter, now: datetime) -> Window:
    """The stretch just past that tells how fast a counter is used up, ending with this minute.

    It begins no earlier than the counter does: what was spent before is another window's.
    """
    until = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    lasts = counter.resets_at - counter.starts_at if counter.resets_at and counter.starts_at else FOREVER
    since = until - (RATE_OVER_LONG if lasts > LONG else RATE_OVER)
    if counter.starts_at and counter.starts_at > since:
        since = min(counter.starts_at, until - timedelta(minutes=5))
    return Window(since=since, until=until, name="rate")


def spent_window(counter: Counter, now: datetime) -> Window:
    """The stretch that a counter has counted so far; a month for one that never ends."""
    until = now.replace(second=0, microsecond=0) + timedelta(minutes=1)
    since = counter.starts_at or until - timedelta(days=30)
    return Window(since=min(since, until - timedelta(minutes=1)), until=until, name="budget")


def scope_of(
    wanted: Wanted, window: Window, known: Mapping[str, Sequence[str]], zone_name: str
) -> Scope | None:
    """The ledger's calls that a counter counts; ``None`` when there can be none.

    Args:
        wanted: as :func:`counted_by` says.
        window: which stretch of time.
        known: for each ledger dimension of :func:`patterns`, the values that were met.
        zone_name: the reader's.
    """
    chosen: dict[str, list[str]] = {}
    for name, accepted in wanted.items():
        if name.startswith(TAG) and "" in accepted:
            return None  # The ledger cannot be asked for calls without a tag.
        if name.startswith(TAG):
            chosen.setdefault("tag", []).extend(f"{name[len(TAG) :]}={value}" for value in accepted)
            continue
        dimension = LEDGER_NAMES.get(name, name)
        values = [value for value in accepted if "*" not in value]
        for text in accepted:
            if "*" in text:
                values += [value for value in known.get(dimension, ()) if value and _like(value, text)]
        if not values:
            return None
        chosen[dimension] = list(dict.fromkeys(values))
    return Scope(window=window, filters=filters_from(chosen), zone_name=zone_name)


def patterns(wanted: Wanted) -> list[str]:
    """The ledger dimensions whose accepted values hold patterns: their values must be known."""
    return [
        LEDGER_NAMES.get(name, name)
        for name, accepted in wanted.items()
        if not name.startswith(TAG) and any("*" in value for value in accepted)
    ]


def split_by(each: str) -> tuple[str, str]:
    """How the ledger tells the subjects of a budget apart: its ``by``, and the column of the answer."""
    if each.startswith(TAG):
        return each, "tag"
    dimension = LEDGER_NAMES.get(each, each)
    return (dimension, dimension) if dimension in DIMENSIONS else ("", "")


def used(row: Mapping[str, object], unit: str) -> Decimal:
    """What the calls of one row of sums use up, in a budget's unit."""
    names = {"usd": ("effective_cost_usd",), "tokens": ("input_tokens", "output_tokens")}.get(
        unit, ("calls",)
    )
    return sum((Decimal(str(row.get(name) or 0)) for name in names), Decimal(0))


def runs_out(counter: Counter, per_hour: Decimal, now: datetime) -> datetime | None:
    """When nothing is left if it goes on like this; ``None`` when it lasts until it resets."""
    if counter.is_used_up:
        return now
    if per_hour <= 0:
        return None
    hours = counter.remaining / per_hour
    if hours > FOREVER / timedelta(hours=1):
        return None
    at = now + timedelta(hours=float(hours))
    return None if counter.resets_at and counter.resets_at <= at else at


def reached(counter: Counter, budget: Budget | None) -> str:
    """What happens at this share of the limit: the last threshold it has passed; empty for none."""
    passed = [action for share, action in budget.at if counter.share >= share] if budget else []
    if passed:
        return passed[-1]
    return "used up" if counter.is_used_up else ""


def amount_text(amount: Decimal, unit: str) -> str:
    """An amount at a glance: ``$1.25``, ``12.3 k tokens``, ``5 calls``."""
    return display.usd(amount) if unit == "usd" else f"{display.count(int(amount))} {unit}"


def _like(value: str, text: str) -> bool:
    return (
        value == text
        or re.fullmatch(".*".join(map(re.escape, text.split("*"))), value, re.DOTALL) is not None
    )

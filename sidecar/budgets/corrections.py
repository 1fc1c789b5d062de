"""Corrections of what budgets count as spent, where a price was wrong or a provider gave money back.

Nothing that was written is changed: a correction is an event in the journal, and its amount, below zero
where spending is taken back, is one more settlement of this source. So it counts once wherever budgets are
shared, is replayed with everything else, and stands in ``budget_events`` with who asked for it and why.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import msgspec

from collector.domain.credit import Claim, Counter, Unit
from collector.domain.policy import Budget, Crossed, State, WindowKind, counter_of
from collector.domain.policy.wording import amount_text
from collector.domain.record import Event, EventKind
from collector.journal import JournalWriter, decode_event
from collector.journal_reading import UNDECODABLE
from sidecar.budgets.charges import ask_with
from sidecar.budgets.store import CORRECTION, CreditStore

ACTION = "correct"


class WrongCorrection(ValueError):
    """It cannot be made; the message says why."""


class Correction(NamedTuple):
    """What somebody wants corrected."""

    budget: Budget
    amount: int
    """Added to what is spent, in the budget's unit; below 0 to give back."""
    subject: str
    """Of a budget with ``each``, whose counter."""
    lifetime: str
    """Of a budget of one conversation or task, which."""
    at_us: int | None
    """When it was spent, since the Unix epoch; None for the present window."""
    reason: str
    source: str


class Corrected(NamedTuple):
    """What came of it."""

    counter: Counter
    spent: int
    """With the correction."""


class Corrections:
    """Makes corrections.

    Args:
        state: what decisions are made by.
        store: where budgets are counted.
        journal: where they are written down.
        now_us: since the Unix epoch.
        on_crossed: told of thresholds that a correction reaches.
    """

    def __init__(
        self,
        state: State,
        store: CreditStore,
        journal: JournalWriter,
        *,
        now_us: Callable[[], int],
        on_crossed: Callable[[Iterable[Crossed]], None],
    ) -> None:
        self._state = state
        self._store = store
        self._journal = journal
        self._now_us = now_us
        self._on_crossed = on_crossed

    async def make(self, wanted: Correction) -> Corrected:
        """Write it down, and count it.

        Raises:
            WrongCorrection: it names no counter, takes back more than was spent, or cannot be checked now.
        """
        counter = counter_named(wanted, self._now_us())
        asked = self._store.standings([counter])
        [standing] = asked if isinstance(asked, list) else await asked
        if not standing.exact:
            raise WrongCorrection("what is spent cannot be looked up in the shared store now; try again")
        spent = standing.spent + wanted.amount
        if spent < 0:
            only = amount_text(counter.unit, standing.spent)
            raise WrongCorrection(f"amount: budget {counter.budget!r} counts only {only} as spent")
        before = self._journal.sequence
        self._journal.event(event_of(wanted, counter, spent, self._now_us()))
        if self._journal.sequence == before:
            raise WrongCorrection("the journal takes nothing now, so this would be forgotten; try again")
        self._store.settle(CORRECTION, [Claim(counter, wanted.amount)], self._journal.sequence)
        self._on_crossed(self._state.corrected(counter, wanted.amount))
        return Corrected(counter, spent)


def counter_named(wanted: Correction, now_us: int) -> Counter:
    """The counter that a correction is for.

    Raises:
        WrongCorrection: it does not say which one.
    """
    budget = wanted.budget
    kind = budget.window.kind
    if kind is WindowKind.ROLLING and wanted.at_us is None:
        # Given back now, it would be missed when the spending itself has left the window.
        raise WrongCorrection("at: a rolling window forgets by the hour of spending; say when it was spent")
    if wanted.subject and not budget.each:
        raise WrongCorrection(f"subject: budget {budget.name!r} has one counter in all")
    who = {budget.each: wanted.subject} if budget.each else {}
    if kind in (WindowKind.CONVERSATION, WindowKind.TASK):
        who[kind.value] = wanted.lifetime
    at_us = now_us if wanted.at_us is None else wanted.at_us
    counter = counter_of(budget, ask_with(who), at_us)
    if counter is None:
        which = kind.value if kind in (WindowKind.CONVERSATION, WindowKind.TASK) else budget.each
        raise WrongCorrection(f"budget {budget.name!r} has a counter for each {which}; say for which one")
    return counter


def event_of(wanted: Correction, counter: Counter, spent: int, now_us: int) -> Event:
    """The correction as the journal tells it."""
    said: dict[str, Any] = {
        "amount": amount_text(counter.unit, wanted.amount),
        "by": wanted.source,
        "reason": wanted.reason,
        "claim": [*counter, wanted.amount],
    }
    fields: dict[str, object] = {
        "budget": counter.budget,
        "counter": f"{counter.subject} {counter.window}".strip(),
        "action": ACTION,
        "detail": msgspec.json.encode(said).decode(),
    }
    if counter.unit is Unit.USD:
        fields |= {"spent_nano": spent, "limit_nano": counter.limit}
    return Event(EventKind.BUDGET, now_us, counter.tenant, "", fields)


def corrections_in(payload: bytes) -> tuple[Claim, ...]:
    """What an event's frame adds to a counter; empty when it tells of something else."""
    try:
        event = Event(*decode_event(payload))
        if event.kind != EventKind.BUDGET or event.fields.get("action") != ACTION:
            return ()
        return (claim_in(str(event.fields["detail"])),)
    except UNDECODABLE:
        return ()


def claim_in(detail: str) -> Claim:
    """The claim that a correction's detail ends with.

    Raises:
        ValueError, TypeError, KeyError: there is none.
    """
    *values, amount = msgspec.json.decode(detail)["claim"]
    counter = Counter(*values)
    return Claim(counter._replace(unit=Unit(counter.unit)), int(amount))

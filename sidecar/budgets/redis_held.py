"""What one of our calls holds of a shared store: how much of each counter, and what of it a slice covers."""

from collections.abc import Sequence

from collector.domain.credit import Claim, Counter
from sidecar.budgets.escrow import View
from sidecar.budgets.ledger import Identity
from sidecar.budgets.redis_tag import Row
from sidecar.budgets.store import check_limit


class Held:
    """What one of our calls holds, and where."""

    __slots__ = ("asking", "deadline", "direct", "doubtful", "ended", "parts")

    def __init__(self, parts: list["Part"], deadline: float, *, direct: bool) -> None:
        self.parts = parts
        self.deadline = deadline
        self.direct = direct
        """Whether Redis knows the lease."""
        self.doubtful = False
        """Whether a message about it went unanswered."""
        self.asking: frozenset[Identity] = frozenset()
        """Counters that an extension is under way for."""
        self.ended: dict[Identity, tuple[int, list[tuple[View, int]]]] = {}
        """Of these, when the call ended meanwhile: what it spent, and where to note what waits for that."""


class Part:
    """One counter of a lease."""

    __slots__ = ("counter", "local", "total", "view")

    def __init__(self, counter: Counter, total: int, view: View | None, local: int) -> None:
        self.counter = counter
        self.total = total
        self.view = view
        self.local = local
        """The part of the total that our slice covers."""


def check(claims: Sequence[Claim]) -> None:
    """Refuse claims that make no sense.

    Raises:
        UnusableLimit: a limit is above ``MAX_LIMIT``.
        ValueError: an amount is negative, or a counter is named twice.
    """
    for counter, amount in claims:
        check_limit(counter)
        if amount < 0:
            raise ValueError(f"budget {counter.budget!r}: a claim of {amount} is negative")
    if len({counter[:4] for counter, _ in claims}) != len(claims):
        raise ValueError("a call claims one counter twice")


def grow(held: Held, counter: Counter, amount: int, view: View | None, local: int) -> None:
    """Add to what ``held`` has of ``counter``."""
    for part in held.parts:
        if part.counter[:4] == counter[:4]:
            part.total += amount
            part.local += local
            part.view = part.view or view
            return
    held.parts.append(Part(counter, amount, view, local))


def let_go(part: Part, waits: int, waiting: list[tuple[View, int]]) -> None:
    """The call has ended: of what its slice covers, ``waits`` stays taken until Redis has counted it."""
    view = part.view
    if view is not None:
        view.used += waits - part.local
        if waits:
            waiting.append((view, waits))


def moved_to_redis(held: Held, row: Row) -> None:
    """What ``held`` has of the row's counter is known to Redis now, all of it."""
    for part in held.parts:
        if part.counter[:4] == row.counter[:4]:
            part.total, part.local, part.view = row.total, 0, None
            return
    held.parts.append(Part(row.counter, row.total, None, 0))

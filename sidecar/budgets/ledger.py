"""The state machine of counters and leases, in memory: no clock, no client, no journal.

Its twin is ``scripts/*.lua``; the same random histories are driven against both and against a
plain model. All amounts are integers in their counter's unit.
"""

from collections.abc import Iterable, Sequence
from types import ModuleType

from collector.domain.credit import Answer, Claim, Counter, Granted, Refused, Standing
from sidecar.budgets.store import BUCKETS, IDLE_S, MAX_LIMIT, UnusableLimit, bucket_of
from sidecar.native import native

Identity = tuple[str, str, str, str]
"""The first four fields of a counter: budget, subject, tenant, window."""

KEEP_US = 2 * 86_400_000_000
"""How long this process remembers a window after its end; corrections come sooner."""
IDLE_US = IDLE_S * 1_000_000
MAX_ACCOUNTS = 500_000
"""More than these are not remembered: past windows go first, then what was idle longest."""


class Account:
    """One counter's sums."""

    __slots__ = ("buckets", "counter", "held", "spent", "touched", "touched_us", "unsettled")

    def __init__(self, counter: Counter) -> None:
        self.counter = counter
        self.spent = 0
        """In the whole window; for a rolling window, in ``buckets`` instead."""
        self.held = 0
        self.unsettled = 0
        """The part of what is spent that is a hold nobody settled."""
        self.buckets: dict[int, int] | None = {} if counter.bucket_us else None
        self.touched = True
        """Since memory was last cleaned up, ..."""
        self.touched_us = 0
        """... and when that was, by the wall clock."""

    def spend(self, amount: int, bucket: int) -> None:
        """Add ``amount``; ``bucket`` is that of the admission."""
        if self.buckets is None:
            self.spent += amount
        else:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + amount

    def spent_at(self, bucket: int) -> int:
        """Spent in the window that ends with ``bucket``.

        Later buckets count too: where one machine's clock runs ahead, others must not spend twice.
        """
        if self.buckets is None:
            return self.spent
        first = bucket - BUCKETS
        return sum([amount for number, amount in self.buckets.items() if number > first])


class Lease:
    """What one call holds. Without slots: Python makes it faster."""

    def __init__(self, holds: dict[Account, tuple[int, int]], expires_us: int) -> None:
        self.holds = holds
        """Amount, and bucket of the admission."""
        self.expires_us = expires_us
        self.expired = False


if native is not None:
    native.credit_of(Account)


class Ledger:
    """Counters, leases and marks.

    Args:
        parts: the ordinary claims and charges in C, which change nothing where one is out of the ordinary.
    """

    def __init__(self, parts: ModuleType | None = native) -> None:
        self._claimed = None if parts is None else parts.claimed
        self._charged = None if parts is None else parts.charged
        self.accounts: dict[Identity, Account] = {}
        self.leases: dict[str, Lease] = {}
        self.marks: dict[str, int] = {}
        self.evicted = 0
        """Counters that may have been needed but were too many to remember."""

    # -- before and while a call runs

    def reserve(self, lease: str, claims: Sequence[Claim], now_us: int, ttl_us: int) -> Answer:
        """Claim all of ``claims``, or nothing; a lease that exists already keeps what it has."""
        if lease in self.leases:
            return self.raise_to(lease, claims, now_us, ttl_us)
        accounts = self.accounts
        if self._claimed is not None:
            done = self._claimed(accounts, claims)
            if done is not None:
                self.leases[lease] = Lease(done[0], now_us + ttl_us)
                return tuple.__new__(Granted, (done[1],))
        taken: dict[Account, tuple[int, int]] = {}
        rooms = []
        refused: Refused | None = None
        for claim in claims:
            counter, amount = claim[0], claim[1]
            limit = counter.limit
            account = accounts.get(counter[:4])
            if account is None or (account.counter is not counter and account.counter.limit != limit):
                account = self.account(counter)
            bucket, spent = 0, account.spent
            if account.buckets is not None:
                bucket = bucket_of(counter)
                spent = account.spent_at(bucket)
            left = limit - spent - account.held - amount
            if left < 0 < amount:
                refused = tighter(refused, counter, left + amount)
            elif amount < 0:
                raise ValueError(f"budget {counter.budget!r}: a claim of {amount} is negative")
            account.touched = True
            taken[account] = (amount, bucket)
            rooms.append(left)
        if len(taken) != len(claims):
            raise ValueError("a call claims one counter twice")
        if refused is not None:
            return refused
        for account, hold in taken.items():
            account.held += hold[0]
        self.leases[lease] = Lease(taken, now_us + ttl_us)
        return tuple.__new__(Granted, (tuple(rooms),))

    def raise_to(
        self, lease: str, totals: Sequence[Claim], now_us: int, ttl_us: int, *, force: bool = False
    ) -> Answer:
        """Let the lease hold at least ``totals`` in all, or change nothing; said twice, it counts once.

        ``force`` passes over the limits: a lease that runs already is being made known again.
        """
        known = self.leases.get(lease)
        holds = known.holds if known is not None else {}
        raised: dict[Account, tuple[int, int]] = {}
        more: list[tuple[Account, int]] = []
        rooms = []
        refused: Refused | None = None
        for counter, total in totals:
            account = self.account(counter)
            had, bucket = holds.get(account, (0, bucket_of(counter)))
            delta = max(0, total - had)
            left = counter.limit - account.spent_at(bucket_of(counter)) - account.held - delta
            if left < 0 < delta and not force:
                refused = tighter(refused, counter, left + delta)
            account.touched = True
            raised[account] = (had + delta, bucket)
            more.append((account, delta))
            rooms.append(left)
        if len(raised) != len(totals):
            raise ValueError("a call claims one counter twice")
        if refused is not None:
            return refused
        if known is None:
            known = self.leases[lease] = Lease({}, 0)
        elif known.expired:
            self._uncharge(known)
        for account, delta in more:
            account.held += delta
        known.holds.update(raised)
        known.expires_us = now_us + ttl_us
        return Granted(tuple(rooms))

    def extend(self, lease: str, deltas: Sequence[Claim], now_us: int, ttl_us: int) -> Answer:
        """Claim ``deltas`` more."""
        known = self.leases.get(lease)
        if known is None:
            return self.reserve(lease, deltas, now_us, ttl_us)
        totals = []
        for counter, delta in deltas:
            if delta < 0:
                raise ValueError(f"budget {counter.budget!r}: an extension by {delta} is negative")
            account = self.accounts.get(counter[:4])
            had = known.holds.get(account, (0, 0))[0] if account is not None else 0
            totals.append(Claim(counter, had + delta))
        return self.raise_to(lease, totals, now_us, ttl_us)

    def keep(self, lease: str, now_us: int, ttl_us: int) -> None:
        """Let the lease hold for ``ttl_us`` from now, even if it had expired."""
        known = self.leases.get(lease)
        if known is None:
            return
        if known.expired:
            self._uncharge(known)
        known.expires_us = now_us + ttl_us

    # -- after

    def settle(self, source: str, after: int, sequence: int, lease: str, actuals: Iterable[Claim]) -> int:
        """Spend ``actuals`` in place of what the lease held.

        ``after`` is the sequence of the settlement before this one. Answers the mark of ``source``:
        below ``sequence`` when something is missing before it, and then nothing changed.
        """
        mark = self.marks.get(source, 0)
        if sequence <= mark or after != mark:
            return mark
        self.marks[source] = sequence
        self.finish(lease, actuals)
        return sequence

    def finish(self, lease: str, actuals: Iterable[Claim]) -> None:
        """End the lease, whatever became of it, and spend ``actuals``."""
        known = self.leases.pop(lease, None)
        held: list[Account | None] = []
        if known is not None:
            if self._charged is not None and not known.expired and self._charged(known.holds, actuals):
                return
            self._give_back(known)
            held += known.holds
        accounts = self.accounts
        place, places = 0, len(held)
        for claim in actuals:
            counter, amount = claim[0], claim[1]
            # What a call spends is most often what it held, in the same order.
            account = held[place] if place < places else None
            place += 1  # noqa: SIM113 - counting is faster here than enumerate
            if account is None or account.counter is not counter:
                account = accounts.get(counter[:4]) or self.account(counter)
            if account.buckets is None:
                account.spent += amount
            else:
                account.spend(amount, bucket_of(counter))

    def release(self, lease: str) -> None:
        """Give back what the lease held, or was charged for when it expired."""
        known = self.leases.pop(lease, None)
        if known is not None:
            self._give_back(known)

    def reap(self, now_us: int) -> int:
        """Charge the leases that ran out; they stay known until they are settled. How many they were."""
        found = 0
        for known in self.leases.values():
            if known.expires_us <= now_us and not known.expired:
                self._charge(known)
                found += 1
        return found

    def standing(self, counter: Counter) -> Standing:
        """How one counter stands."""
        account = self.accounts.get(counter[:4])
        if account is None:
            return Standing(counter, 0, 0)
        return Standing(counter, account.spent_at(bucket_of(counter)), account.held)

    # -- keeping memory bounded

    def forget(self, now_us: int) -> None:
        """Drop windows that are long over, lifetimes long idle, and what is too much to remember."""
        idle: list[tuple[int, Identity]] = []
        for lease, known in list(self.leases.items()):
            if known.expired and known.expires_us + KEEP_US <= now_us:
                del self.leases[lease]  # What it was charged stands.
        held = {account for known in self.leases.values() for account in known.holds}
        for identity, account in list(self.accounts.items()):
            if account.touched or account in held:
                account.touched, account.touched_us = False, now_us
                continue
            counter = account.counter
            ends = counter.ends_us
            if counter.bucket_us:
                newest = max(account.buckets or {0: 0})
                # Buckets are numbered from the epoch, at most a window ahead.
                ends = newest * counter.bucket_us + BUCKETS * counter.bucket_us
                # A clock that ran ahead for a while must not take the present's buckets with it.
                self._forget_buckets(account, min(newest, now_us // counter.bucket_us + BUCKETS))
            if ends is not None:
                over = ends + KEEP_US <= now_us
            else:
                over = counter.fades and account.touched_us + IDLE_US <= now_us
            if over:
                del self.accounts[identity]
            else:
                idle.append((account.touched_us, identity))
        excess = len(self.accounts) - MAX_ACCOUNTS
        if excess > 0:
            idle.sort()
            for _, identity in idle[:excess]:
                del self.accounts[identity]
            self.evicted += excess

    def _forget_buckets(self, account: Account, newest: int) -> None:
        buckets = account.buckets
        if buckets is not None and len(buckets) > 6 * BUCKETS:
            account.buckets = {at: n for at, n in buckets.items() if at > newest - 4 * BUCKETS}

    # -- parts

    def account(self, counter: Counter) -> Account:
        """The counter's account, with the limit and end that it has now."""
        if counter.limit > MAX_LIMIT:
            raise UnusableLimit(counter)
        account = self.accounts.get(counter[:4])
        if account is None:
            account = self.accounts[counter[:4]] = Account(counter)
        elif account.counter != counter:
            account.counter = counter
        return account

    def _charge(self, lease: Lease) -> None:
        for account, (amount, bucket) in lease.holds.items():
            account.held -= amount
            account.spend(amount, bucket)
            account.unsettled += amount
        lease.expired = True

    def _uncharge(self, lease: Lease) -> None:
        for account, (amount, bucket) in lease.holds.items():
            account.held += amount
            account.spend(-amount, bucket)
            account.unsettled -= amount
        lease.expired = False

    def _give_back(self, lease: Lease) -> None:
        if lease.expired:
            self._uncharge(lease)
        for account, taken in lease.holds.items():
            account.held -= taken[0]


def tighter(found: Refused | None, counter: Counter, room: int) -> Refused:
    """The one of two refusals that leaves the least room; the earlier one when they are equal."""
    room = max(0, room)
    if found is not None and found.room <= room:
        return found
    return Refused(counter, room)

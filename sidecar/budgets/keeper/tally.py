"""What was spent, from the journals of all workers: the truth that a keeper begins with.

The sums are those of :mod:`sidecar.budgets.memory`, in the same file, so a sidecar may go from one worker
to several and back. While workers live, what they wrote is added now and then, so that a start has little
to read; what they hold and have not written they make known again themselves.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from collector.domain.credit import Claim
from collector.domain.record import Intent
from collector.journal import FrameKind
from collector.journal_reading import Unreadable, told
from sidecar.budgets import checkpoint
from sidecar.budgets.corrections import corrections_in
from sidecar.budgets.keeper.values import Values
from sidecar.budgets.ledger import Account, Ledger
from sidecar.budgets.redis_keys import TagKeys, tag_of
from sidecar.budgets.replay import Charges, JournalReader
from sidecar.budgets.store import CORRECTION, ENDED, Settlement, expiry_ms

QUIET_MS = 300
"""How long a living worker may take to notice that the keeper is a new one, where it is not known to have
anything of a tenant's counters: its connection breaks at once, and it tries again every few milliseconds."""
PATIENT_MS = 3_000
"""How long one that was alive may take to come again before the others go on without it."""


class Tally:
    """Counts journals; blocking, so a thread does it. Used by one thread at a time.

    Args:
        directory: of the journals; the sums lie in it, too.
        charges: what a record or an intent costs each counter.
    """

    def __init__(self, directory: Path, charges: Charges) -> None:
        self.ledger = Ledger()
        self._file = directory / checkpoint.FILE
        self._reader = JournalReader(directory, charges)
        self._open: dict[str, dict[str, Settlement | None]] = {}
        """For each source, its intents without a record; None for one that was read before this start."""
        self._tenants: dict[str, set[str]] = {}
        """Whose counters each living source has touched."""

    def restore(self) -> None:
        """Begin with what was written down."""
        known = checkpoint.read(self._file)
        if known is None:
            return
        checkpoint.restore(self.ledger, known)
        self._tenants = {source: set(tenants) for source, tenants in known.tenants.items()}
        for source in self.ledger.marks:
            # Whose each of them is, nobody wrote down; only their own source's record ends them.
            self._open[source] = dict.fromkeys(known.open)

    def count(self) -> int:
        """Add what the journals have since. How many records that were."""
        found = 0
        reader = self._reader
        sources = reader.sources()
        gone = set(reader.dead())
        for source in sources:
            mark = self.ledger.marks.get(source, 0)
            if mark < ENDED:
                try:
                    found += self._count(source, mark)
                    if source in gone:
                        self._end(source)
                except Unreadable as error:
                    reader.complain(source, error)
        self.ledger.marks = {source: self.ledger.marks.get(source, 0) for source in sources}
        return found

    def _count(self, source: str, mark: int) -> int:
        ledger, charges = self.ledger, self._reader.charges
        open_ = self._open.setdefault(source, {})
        tenants = self._tenants.setdefault(source, set())
        found = 0
        for frame in self._reader.frames(source, mark):
            ledger.marks[source] = frame.sequence
            if frame.kind == FrameKind.EVENT:
                actuals: Sequence[Claim] = corrections_in(frame.payload)
                ledger.finish(CORRECTION, actuals)
                found += bool(actuals)
            elif (item := told(frame)) is None:
                continue
            elif isinstance(item, Intent):
                actuals = charges(item)
                open_[item.call_id] = Settlement(frame.sequence, item.call_id, tuple(actuals))
            else:
                open_.pop(item.call_id, None)
                actuals = charges(item)
                ledger.finish("", actuals)
                found += 1
            tenants.update([claim.counter.tenant for claim in actuals])
        return found

    def _end(self, source: str) -> None:
        """The process is gone: what it left open is charged at its hold, for nobody will settle it."""
        ledger = self.ledger
        open_ = self._open.get(source, {})
        if None in open_.values():
            left = {item.lease: item for item in self._reader.ended(source).open}
            open_ = {lease: item or left.get(lease) for lease, item in open_.items()}
        for item in open_.values():
            if item is not None:
                ledger.finish("", item.actuals)
                for counter, amount in item.actuals:
                    ledger.account(counter).unsettled += amount
        ledger.marks[source] = ENDED
        self._open.pop(source, None)
        self._tenants.pop(source, None)

    def write(self) -> None:
        """Write the sums down."""
        taken = checkpoint.taken(self.ledger, dict(self.ledger.marks))
        running = list(dict.fromkeys(lease for open_ in self._open.values() for lease in open_))
        tenants = {source: sorted(tenants) for source, tenants in self._tenants.items()}
        checkpoint.write(self._file, taken._replace(open=running, tenants=tenants))

    def living(self, tenant: str) -> list[str]:
        """Sources that may hold something of a tenant's counters."""
        return [source for source, tenants in self._tenants.items() if not tenant or tenant in tenants]


def fill(values: Values, tally: Tally, run_id: str) -> None:
    """Put what ``tally`` knows into an empty store, as an epoch of its own."""
    now = values.wall_ms()
    accounts: dict[str, list[Account]] = {"": []}
    for account in tally.ledger.accounts.values():
        accounts.setdefault(account.counter.tenant, []).append(account)
    root = TagKeys(tag_of(""))
    for tenant, mine in accounts.items():
        keys = TagKeys(tag_of(tenant))
        living = tally.living(tenant)
        everyone = tally.living("")
        state = "joining" if everyone else "open"
        quiet = now if len(living) == len(everyone) else now + QUIET_MS
        epoch: list[Any] = ["id", run_id, "run", run_id, "state", state, "n", 0]
        epoch += ["quiet", quiet, "until", now + PATIENT_MS]
        for source in living:
            epoch += [f"w:{source}", 1]
        _do(values, "HSET", keys.epoch, *epoch)
        for source, mark in tally.ledger.marks.items():
            _do(values, "HSET", keys.marks, source, mark)
        if tenant:
            _do(values, "HSET", root.tags, keys.tag, "keeper")
        for account in mine:
            name = keys.counter(account.counter)
            _do(values, "HSET", name, *_fields(account, run_id))
            expiry = expiry_ms(account.counter)
            if expiry:
                at = now - expiry if expiry < 0 else max(expiry, now + 86_400_000)
                _do(values, "PEXPIREAT", name, at)


def _fields(account: Account, epoch: str) -> Iterable[str | int]:
    yield from ("e", epoch, "u", account.unsettled)
    if account.buckets is None:
        yield from ("s", account.spent)
    else:
        for bucket, amount in account.buckets.items():
            yield from (f"b{bucket}", amount)


def _do(values: Values, name: str, *words: str | int) -> None:
    values.do(name.encode(), [str(word).encode() for word in words])

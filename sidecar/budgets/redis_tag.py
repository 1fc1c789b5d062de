"""One hash tag of the shared store: its counters, this source's leases and slices on them.

Messages go out pipelined. A reply that says the server lost writes, or that the epoch is another,
ends admission from Redis; ``redis_epoch`` brings it back.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import hiredis

from collector.domain.credit import Claim, Counter
from sidecar.budgets.escrow import Escrow, View
from sidecar.budgets.outbox import Entry, History, Outbox, combined
from sidecar.budgets.redis_connection import RedisLost, Reply
from sidecar.budgets.redis_keys import TagKeys, tag_of
from sidecar.budgets.redis_link import BACKGROUND_S, Link, Links
from sidecar.budgets.store import CORRECTION, bucket_of, expiry_ms

SLICE_TTL_MS = 30_000
"""How long slices hold without a sign of life."""
TOMBSTONE_MS = 120_000
"""How long a late message still finds that its lease has ended."""
FLUSH_S = 0.005
"""How long a settlement waits for company."""
ODD = (LookupError, TypeError, ValueError)
"""What an answer of another shape than ours raises where it is read; whoever goes on for ever outlives it."""


class Row(NamedTuple):
    """What a lease shall hold of one counter in all."""

    counter: Counter
    total: int
    moved: int = 0
    """The part of it that comes out of our slice."""
    taken: int = 0
    """The part of ``moved`` that was free until now."""


class ReplyOff(Exception):
    """The store answered, but not as one that can be trusted now."""


class Tag:
    """This source's dealings with one hash tag."""

    def __init__(
        self, tenant: str, links: Links, source: str, escrow: Escrow, history: History | None
    ) -> None:
        self.tenant = tenant
        self.keys = TagKeys(tag_of(tenant))
        self.links = links
        self.source = source
        self.escrow = escrow
        self.outbox = Outbox(source, tenant, history)
        self.epoch = ""
        self.run = ""
        self.seen = 0
        """Highest number of writes that the store told us."""
        self.ready = False
        """Whether the store may admit: it has all that this source and the others know."""
        self.opened = asyncio.Event()
        self.joining: asyncio.Task[None] | None = None
        self.on_astray: Callable[[Tag], None] = lambda _: None
        self.to_release: dict[str, bool] = {}
        """Leases whose release Redis has not confirmed; whether a late message about them may come."""
        self.to_keep: dict[str, float] = {}
        self.stuck: list[tuple[View, int]] = []
        """Moves out of our slices whose answers never came; right again once the slices are read."""
        self.peers: frozenset[str] = frozenset()
        self.touched = asyncio.get_running_loop().time()
        self._messages = itertools.count(1)
        self._flushing = False
        self._slices_key = self.keys.slices(source)

    @property
    def link(self) -> Link:
        """Where this tag's keys live."""
        return self.links.of(self.keys.tag)

    # -- leases

    def hold(
        self,
        lease: str,
        rows: Sequence[Row],
        ttl_ms: int,
        on_reply: Callable[[Reply], None],
        timeout_s: float,
        *,
        force: bool = False,
        late: Callable[[Reply], None] | None = None,
    ) -> None:
        """Let ``lease`` hold ``rows``; an empty name is our slices."""
        self.touched = asyncio.get_running_loop().time()
        keys = self.keys
        own = self._slices_key
        names = [keys.epoch, keys.marks, keys.due, keys.lease(lease) if lease else own, own]
        message = next(self._messages)
        arguments: list[str | int] = [self.epoch, self.seen, ttl_ms, "force" if force else "", message]
        for counter, total, moved, _ in rows:
            names.append(keys.counter(counter))
            arguments += (total, moved, counter.limit, bucket_of(counter), counter.bucket_us or 1)
            arguments.append(expiry_ms(counter))
        whole = 2 + 4 * len(rows)

        def replied(reply: Reply) -> None:
            on_reply(None if _is_short(reply, whole) else reply)

        def replied_late(reply: Reply) -> None:
            if late is not None:
                late(None if _is_short(reply, whole) else reply)

        self.link.run(self.link.scripts["hold"], names, arguments, replied, timeout_s, replied_late)

    def trusted(self, reply: Reply) -> list[Any]:
        """``reply`` as a list, if it is one that can be acted on.

        Raises:
            ReplyOff: it is none; where the store lost something, joining it again has begun.
        """
        if isinstance(reply, list) and len(reply) >= 2 and all(type(item) is int for item in reply[:2]):
            code, n = reply[0], reply[1]
            if code >= 0:
                if n > self.seen:
                    self.seen = n
                return reply
            if code in (-1, -2):
                self.astray()
            raise ReplyOff(f"code {code}")
        if isinstance(reply, hiredis.ReplyError):
            if self.links.moved(reply) is not None:
                self.astray()
        elif not isinstance(reply, RedisLost):
            self.link.complain(f"unexpected reply of type {type(reply).__name__}")
        raise ReplyOff(str(reply)[:200])

    def astray(self) -> None:
        """Stop asking the store for admission, and join it again."""
        self.ready = False
        self.opened.clear()
        self.on_astray(self)

    def learn_slices(self, rows: Sequence[Row], reply: Sequence[int]) -> None:
        """Take over what a hold's answer says of counters and slices."""
        now = asyncio.get_running_loop().time()
        for at, row in enumerate(rows):
            spent, held, _, capacity = reply[2 + 4 * at : 6 + 4 * at]
            view = self.escrow.view(row.counter)
            view.spent, view.held, view.seen_at = spent, held, now
            if capacity >= 0:
                view.capacity = capacity

    def release(self, lease: str, *, doubtful: bool = False) -> None:
        """Give a lease back; repeated until Redis has confirmed it."""
        self.to_release[lease] = doubtful or self.to_release.get(lease, False)
        self._send_releases([lease])

    def resend_releases(self) -> None:
        """Send what is not confirmed."""
        if self.to_release:
            self._send_releases(list(self.to_release))

    def _send_releases(self, leases: list[str]) -> None:
        keys = self.keys

        def replied(reply: Reply) -> None:
            try:
                self.trusted(reply)
            except ReplyOff:
                return
            for lease in leases:
                self.to_release.pop(lease, None)

        if not self.epoch:
            return
        names = [keys.epoch, keys.marks, keys.due, *map(keys.lease, leases)]
        doubtful = any(self.to_release.get(lease) for lease in leases)
        tombstone = TOMBSTONE_MS if doubtful else 0
        arguments: list[str | int] = [self.epoch, self.seen, tombstone, next(self._messages)]
        self.link.run(self.link.scripts["release"], names, arguments, replied, BACKGROUND_S)

    async def read(self, counters: Sequence[Counter], timeout_s: float) -> list[tuple[int, int]]:
        """What is spent and held of each counter; views of them learn it.

        Raises:
            ReplyOff: the store cannot say now.
        """
        if not self.ready:
            raise ReplyOff("not joined")
        keys, link = self.keys, self.link
        names = [keys.epoch, keys.marks, keys.due, *[keys.counter(counter) for counter in counters]]
        arguments: list[str | int] = [self.epoch, self.seen, *[bucket_of(counter) for counter in counters]]
        try:
            reply = await link.ask(link.scripts["standings"], names, arguments, timeout_s)
        except (RedisLost, hiredis.ReplyError) as error:
            reply = error
        answer = self.trusted(reply)
        now = asyncio.get_running_loop().time()
        found = []
        for at, counter in enumerate(counters):
            spent, held = answer[2 + 3 * at], answer[3 + 3 * at]
            found.append((spent, held))
            view = self.escrow.views.get(counter[:4])
            if view is not None:
                view.spent, view.held, view.seen_at = spent, held, now
        return found

    # -- settlements

    def settle(self, entry: Entry) -> None:
        """Send ``entry`` soon."""
        self.touched = asyncio.get_running_loop().time()
        self.outbox.push(entry)
        if not self._flushing and self.ready:
            self._flushing = True
            asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        if not self.ready or not self.outbox:
            self._flushing = False
        elif self.outbox.from_journal:
            self._flushing = False
            self.astray()
        else:
            self.send_batch(self._flushed)

    def _flushed(self, reply: Reply) -> None:
        try:
            complete = self.counted(self.trusted(reply))
        except ReplyOff:
            complete = False
        if not complete:
            # Joining again finds out how far the store has come, and sends the rest.
            self._flushing = False
            self.astray()
            return
        self._flush()

    def send_batch(self, on_reply: Callable[[Reply], None]) -> None:
        """Send the next settlements that are ready."""
        keys = self.keys
        names = [keys.epoch, keys.marks, keys.due, self._slices_key]
        index = {name: at for at, name in enumerate(names, 1)}

        def named(name: str) -> int:
            at = index.get(name)
            if at is None:
                names.append(name)
                at = index[name] = len(names)
            return at

        outbox = self.outbox
        self._sent: list[tuple[int, Counter]] = []
        batch = outbox.batch()
        arguments: list[str | int] = [self.epoch, self.seen, self.source, outbox.mark]
        arguments.append(outbox.batch_end(batch))
        drawn: list[Claim] = []
        items: list[tuple[int, int, Sequence[Claim]]] = []
        for entry in batch:
            if entry.lease == CORRECTION:
                items.append((-1, 0, entry.actuals))
            elif entry.lease:
                tombstone = TOMBSTONE_MS if entry.tombstone else 0
                items.append((named(keys.lease(entry.lease)), tombstone, entry.actuals))
            else:
                drawn += entry.actuals
        if drawn:
            items.append((0, 0, combined(drawn)))
        for lease, tombstone, actuals in items:
            arguments += (lease, tombstone, next(self._messages) if tombstone else 0, len(actuals))
            for counter, amount in actuals:
                at = named(keys.counter(counter))
                self._sent.append((at, counter))
                arguments += (at, amount, bucket_of(counter), expiry_ms(counter))
        self.link.run(self.link.scripts["settle"], names, arguments, on_reply, BACKGROUND_S)

    def counted(self, reply: list[Any]) -> bool:
        """Take over the answer to a batch; False when the store wants to be told from its mark on."""
        if reply[0] == 0:
            self.outbox.rewind(reply[2])
            return False
        slices = dict(zip(reply[3::2], reply[4::2], strict=True))
        for at, counter in self._sent:
            if at in slices and (view := self.escrow.views.get(counter[:4])) is not None:
                view.capacity = slices[at]
        self.outbox.confirm(reply[2])
        return True

    # -- slices

    def refill(self, view: View) -> None:
        """Ask for as large a slice as the counter allows."""
        target = view.target()
        if view.refilling or not self.ready or target <= view.capacity:
            return
        view.refilling = True
        rows = [Row(view.counter, target)]

        def replied(reply: Reply) -> None:
            view.refilling = False
            try:
                answer = self.trusted(reply)
            except ReplyOff:
                return
            if answer[0] == 1:
                self.learn_slices(rows, answer)
                # Of the lease that is our slices, the total is the capacity.
                view.capacity = answer[4]
            else:
                view.spent, view.held = answer[4], answer[5]

        self.hold("", rows, SLICE_TTL_MS, replied, BACKGROUND_S)

    def shrink(self, views: Sequence[View], *, to: Callable[[View], int]) -> None:
        """Give back what the slices of ``views`` have above ``to``."""
        kept: list[tuple[View, int]] = []
        amounts: list[int] = []
        for view in views:
            amount = max(view.used, to(view))
            back = view.capacity - amount
            if back > 0 and not view.refilling:
                # In use until the answer comes, so that no call takes it meanwhile.
                view.used += back
                view.refilling = True
                kept.append((view, back))
                amounts.append(amount)
        if not kept:
            return

        def finished(reply: Reply) -> None:
            for view, _ in kept:
                view.refilling = False
            try:
                answer = self.trusted(reply)
            except ReplyOff:
                self.stuck += kept
                return
            for (view, back), capacity in zip(kept, answer[2:], strict=True):
                view.used -= back
                view.held += capacity - view.capacity
                view.capacity = capacity

        keys = self.keys
        names = [keys.epoch, keys.marks, keys.due, self._slices_key]
        names += [keys.counter(view.counter) for view, _ in kept]
        self.link.run(
            self.link.scripts["shrink"], names, [self.epoch, self.seen, *amounts], finished, BACKGROUND_S
        )


def _is_short(reply: Reply, whole: int) -> bool:
    """Whether an answer to a hold lacks something: then it is as good as none."""
    if not isinstance(reply, list) or not reply:
        return False
    return len(reply) < (whole if reply[0] == 1 else 6 if reply[0] == 0 else 0)

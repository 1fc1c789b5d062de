"""The credit store that many sidecars share through Redis.

Most calls are decided from slices held in advance (:mod:`sidecar.budgets.escrow`), at once and without
Redis. The others ask Redis, one script for all counters of a tenant. When Redis does not answer in
50 ms, or cannot be trusted, slices are all that hard budgets have; soft ones stay open, and the journal
knows. A call that touches counters of several tenants asks for each tenant's, and gives everything
back when one says no.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from collector.domain.credit import Answer, Claim, Counter, Granted, Refused, Standing
from sidecar.budgets.escrow import Escrow, View
from sidecar.budgets.ledger import tighter
from sidecar.budgets.outbox import Entry, History
from sidecar.budgets.redis_asking import Asking, refusal_of
from sidecar.budgets.redis_connection import parse_address
from sidecar.budgets.redis_epoch import Joiner
from sidecar.budgets.redis_held import Held, Part, check, grow, let_go, moved_to_redis
from sidecar.budgets.redis_link import Link, Links, UnsuitableRedis
from sidecar.budgets.redis_tag import ReplyOff, Row, Tag
from sidecar.budgets.redis_tending import Tending
from sidecar.budgets.store import PATIENCE_S, TruthOf

START_S = 3.0
"""How long a start waits for Redis before it goes on without."""


class RedisStore:
    """A ``CreditStore`` over one Redis or Cluster; belongs to one event loop.

    Args:
        url: see ``parse_address``.
        source: this run of this sidecar, as its journal calls itself.
        truth: what the books say, for a Redis that lost its data.
        history: reads settlements from the journal, for a Redis that lost some or was long away.
    """

    def __init__(
        self,
        url: str,
        source: str,
        *,
        truth: TruthOf | None = None,
        history: History | None = None,
        escrow: bool = True,
    ) -> None:
        self.links = Links(parse_address(url), self._link_is_up)
        self.source = source
        self.truth = truth
        self.escrow = Escrow()
        self.tags: dict[str, Tag] = {}
        self.leases: dict[str, Held] = {}
        self.offline_grants = 0
        """Calls let through without a hold, because the store was lost and their budgets are soft."""
        self._with_slices = escrow
        self._history = history
        self._joiner = Joiner(source, truth, self._running, lambda: self.tag(""))
        self._asking = Asking(self.escrow, self.tag)
        self._tending = Tending(source, self.escrow, self.tags, self.leases, slices=escrow)
        self._ticker: asyncio.Task[None] | None = None
        self._extending: set[asyncio.Future[Answer]] = set()

    # -- living

    async def start(self) -> None:
        """Connect and join; go on degraded when that takes longer than a few seconds.

        Raises:
            UnsuitableRedis: the server drops keys when its memory is full.
        """
        self.links.seed.start()
        root = self.tag("")
        self._ticker = asyncio.create_task(self._tending.run(), name="budgets")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while not root.opened.is_set():
                    if self.links.seed.unsuitable is not None:
                        await self.close()
                        raise UnsuitableRedis(str(self.links.seed.unsuitable))
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.05):
                            await root.opened.wait()

    async def close(self) -> None:
        """Send what waits, as far as Redis takes it, give slices back, and stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                await drained(lambda: any(tag.outbox and tag.ready for tag in self.tags.values()))
                for tag in self.tags.values():
                    if tag.ready:
                        tag.to_release[f"~{self.source}"] = False
                        tag.resend_releases()
                await drained(lambda: any(tag.to_release and tag.ready for tag in self.tags.values()))
        tasks = [tag.joining for tag in self.tags.values() if tag.joining] + (
            [self._ticker] if self._ticker else []
        )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.links.close()

    @property
    def healthy(self) -> bool:
        """Whether Redis decides, where slices do not."""
        return all(tag.ready and tag.link.quick for tag in self.tags.values())

    def tag(self, tenant: str) -> Tag:
        """The dealings with one tenant's counters; begins them when there were none."""
        tag = self.tags.get(tenant)
        if tag is None:
            tag = self.tags[tenant] = Tag(tenant, self.links, self.source, self.escrow, self._history)
            tag.on_astray = self._join
            self._join(tag)
        return tag

    def _join(self, tag: Tag) -> None:
        if tag.joining is None or tag.joining.done():
            tag.joining = asyncio.create_task(self._joiner.join(tag), name=f"budgets-join-{tag.tenant}")

    def _link_is_up(self, link: Link) -> None:
        for tag in self.tags.values():
            if tag.link is link:
                tag.astray()

    # -- before and while a call runs

    def reserve(
        self, lease: str, claims: Sequence[Claim], ttl_s: float, until: float = 0.0
    ) -> Answer | Awaitable[Answer]:
        """Claim all of ``claims`` or nothing; at once where our slices suffice."""
        held = self.leases.get(lease)
        if held is not None:
            return self._again(claims)
        now = asyncio.get_running_loop().time()
        views = self.escrow.take(claims, now)
        if views is not None:
            parts = [
                Part(counter, amount, view, amount)
                for (counter, amount), view in zip(claims, views, strict=True)
            ]
            self.leases[lease] = Held(parts, now + ttl_s, direct=False)
            for view in views:
                # Half used up: ask for more before it runs dry.
                if view.capacity < 2 * view.used and not view.refilling:
                    self.tag(view.tenant).refill(view)
            return self.escrow.rooms(views)
        check(claims)
        if self._reachable(claims):
            return self._reserve(lease, claims, ttl_s, until or now + PATIENCE_S)
        return self._offline(lease, claims, ttl_s)

    def extend(self, lease: str, deltas: Sequence[Claim], ttl_s: float) -> Answer | Awaitable[Answer]:
        """Claim ``deltas`` more, all or nothing; at once where our slices suffice."""
        held = self.leases.get(lease)
        if held is None:
            return self.reserve(lease, deltas, ttl_s)
        now = asyncio.get_running_loop().time()
        views = self.escrow.take(deltas, now)
        if views is None:
            check(deltas)
            if self._reachable(deltas) and not held.asking:
                # Whoever asks may go away; what the answer moves must be booked all the same.
                task = asyncio.ensure_future(self._extend(lease, held, deltas, ttl_s))
                self._extending.add(task)
                task.add_done_callback(self._extending.discard)
                return asyncio.shield(task)
            return self._offline(lease, deltas, ttl_s)
        for (counter, delta), view in zip(deltas, views, strict=True):
            grow(held, counter, delta, view, delta)
            if view.capacity < 2 * view.used and not view.refilling:
                self.tag(view.tenant).refill(view)
        self._keep_from(held, lease, now, ttl_s)
        return self.escrow.rooms(views)

    def keep(self, lease: str, ttl_s: float) -> None:
        """Let the lease hold for ``ttl_s`` from now; Redis is told with the next beat."""
        held = self.leases.get(lease)
        if held is not None:
            self._keep_from(held, lease, asyncio.get_running_loop().time(), ttl_s)

    def _keep_from(self, held: Held, lease: str, now: float, ttl_s: float) -> None:
        held.deadline = now + ttl_s
        if held.direct:
            for part in held.parts:
                self.tag(part.counter.tenant).to_keep[lease] = ttl_s

    # -- after

    def settle(self, lease: str, actuals: Sequence[Claim], sequence: int) -> None:
        """Spend ``actuals`` in place of what the lease held; sent in order from the background."""
        held = self.leases.pop(lease, None)
        tenants = {counter.tenant for counter, _ in actuals}
        pending: dict[str, list[tuple[View, int]]] = {tenant: [] for tenant in tenants}
        known, tombstone = lease, False
        if held is not None:
            tombstone = held.doubtful or bool(held.asking)
            if held.direct or tombstone:
                tenants.update(part.counter.tenant for part in held.parts)
            else:
                known = ""
            spent = {} if held.direct else {counter[:4]: amount for counter, amount in actuals}
            for part in held.parts:
                waiting = pending.setdefault(part.counter.tenant, [])
                identity = part.counter[:4]
                # Until Redis has drawn it from the slice, what was spent stays taken.
                waits = part.local if held.direct else spent.get(identity, 0)
                if identity in held.asking:
                    held.ended[identity] = (waits, waiting)
                else:
                    let_go(part, waits, waiting)
        for tenant in tenants:
            mine = actuals
            if len(tenants) > 1:
                mine = [claim for claim in actuals if claim.counter.tenant == tenant]
            self.tag(tenant).settle(Entry(sequence, known, tombstone, mine, pending[tenant]))

    def release(self, lease: str) -> None:
        """Give back what the lease held."""
        held = self.leases.pop(lease, None)
        if held is None:
            return
        doubtful = held.doubtful or bool(held.asking)
        for part in held.parts:
            if part.counter[:4] in held.asking:
                held.ended[part.counter[:4]] = (0, [])
            else:
                let_go(part, 0, [])
        if held.direct or doubtful:
            for tenant in {part.counter.tenant for part in held.parts}:
                self.tag(tenant).release(lease, doubtful=doubtful)

    # -- looking

    def glance(self, counters: Sequence[Counter]) -> list[Standing]:
        """What this process knows of ``counters``."""
        found = []
        for counter in counters:
            view = self.escrow.views.get(counter[:4])
            found.append(
                Standing(counter, 0, 0, False) if view is None else view.standing()._replace(counter=counter)
            )
        return found

    async def standings(self, counters: Sequence[Counter]) -> list[Standing]:
        """How ``counters`` stand in Redis, or what is known of them here."""
        found = {standing.counter[:4]: standing for standing in self.glance(counters)}
        for tenant in {counter.tenant for counter in counters}:
            mine = [counter for counter in counters if counter.tenant == tenant]
            with contextlib.suppress(ReplyOff):
                for counter, (spent, held) in zip(
                    mine, await self.tag(tenant).read(mine, PATIENCE_S), strict=True
                ):
                    view = self.escrow.views.get(counter[:4])
                    standing = Standing(counter, spent, held) if view is None else view.standing(exact=True)
                    found[counter[:4]] = standing._replace(counter=counter)
        return [found[counter[:4]] for counter in counters]

    # -- asking Redis

    def _reachable(self, claims: Sequence[Claim]) -> bool:
        """Whether asking Redis makes sense: it may answer, is just being joined, or may be back at once."""
        for counter, _ in claims:
            tag = self.tag(counter.tenant)
            link = tag.link
            if (not link.quick or (tag.epoch and not tag.ready)) and not link.returning:
                return False
        return True

    async def _reserve(self, lease: str, claims: Sequence[Claim], ttl_s: float, until: float) -> Answer:
        rows = self._asking.rows(claims, ())
        asked = await self._asking.ask(lease, rows, ttl_s, until)
        refusal = refusal_of(asked)
        if refusal is None and all(item.answer for item in asked):
            now = asyncio.get_running_loop().time()
            parts = [Part(counter, amount, None, 0) for counter, amount in claims]
            self.leases[lease] = Held(parts, now + ttl_s, direct=True)
            return self._granted(claims, now)
        for item in asked:
            if item.answer is None and item.doubtful:
                item.tag.release(lease, doubtful=True)
            elif item.answer is not None and item.answer[0] == 1:
                item.tag.release(lease)
        return refusal or self._offline(lease, claims, ttl_s)

    async def _extend(self, lease: str, held: Held, deltas: Sequence[Claim], ttl_s: float) -> Answer:
        rows = self._asking.rows(deltas, held.parts)
        held.asking = frozenset(counter[:4] for counter, _ in deltas)
        until = asyncio.get_running_loop().time() + PATIENCE_S
        asked = await self._asking.ask(lease, rows, ttl_s, until, running=True)
        held.asking = frozenset()
        now = asyncio.get_running_loop().time()
        for item in asked:
            granted = item.answer is not None and item.answer[0] == 1
            held.direct = held.direct or granted
            held.doubtful = held.doubtful or item.doubtful
            for row in item.rows:
                if granted:
                    moved_to_redis(held, row)
                elif (ended := held.ended.get(row.counter[:4])) is not None:
                    for part in held.parts:
                        if part.counter[:4] == row.counter[:4]:
                            let_go(part, *ended)
        if held.direct:
            held.deadline = now + ttl_s
        refusal = refusal_of(asked)
        if refusal is None and all(item.answer for item in asked):
            return self._granted(deltas, now)
        if held.ended:
            return Granted(())
        return refusal or self._offline(lease, deltas, ttl_s)

    def _granted(self, claims: Sequence[Claim], now: float) -> Granted:
        views = []
        for counter, amount in claims:
            view = self.escrow.view(counter)
            view.taken += amount
            view.hold = view.hold + (amount - view.hold) * 0.1 if view.hold else float(amount)
            view.touched = now
            views.append(view)
            if self._with_slices:
                self.tag(counter.tenant).refill(view)
        return self.escrow.rooms(views)

    def _again(self, claims: Sequence[Claim]) -> Granted:
        return self.escrow.rooms([self.escrow.view(counter) for counter, _ in claims])

    def _offline(self, lease: str, claims: Sequence[Claim], ttl_s: float) -> Answer:
        """Decide without Redis: from slices, and open where a budget is soft."""
        taken: list[tuple[Claim, View | None]] = []
        refused: Refused | None = None
        for counter, amount in claims:
            view = self.escrow.views.get(counter[:4])
            if (
                view is not None
                and view.capacity
                and view.free >= amount
                and counter.limit >= view.counter.limit
            ):
                taken.append((Claim(counter, amount), view))
            elif counter.hard:
                refused = tighter(refused, counter, view.free if view is not None else 0)
            else:
                taken.append((Claim(counter, amount), None))
        if refused is not None:
            return refused._replace(reason="store_lost")
        now = asyncio.get_running_loop().time()
        held = self.leases.get(lease)
        if held is None:
            held = self.leases[lease] = Held([], now + ttl_s, direct=False)
        rooms = []
        for (counter, amount), view in taken:
            if view is not None:
                view.used += amount
                view.touched = now
            grow(held, counter, amount, view, amount if view is not None else 0)
            rooms.append(view.free if view is not None else 0)
        self.offline_grants += any(view is None for _, view in taken)
        return Granted(tuple(rooms))

    def _running(self, tag: Tag) -> list[tuple[str, list[Row], int]]:
        """Leases that a new epoch must know of ``tag``: what slices do not cover of them."""
        now = asyncio.get_running_loop().time()
        found = []
        for lease, held in self.leases.items():
            rows = [
                Row(part.counter, part.total - part.local)
                for part in held.parts
                if part.counter.tenant == tag.tenant and part.total > part.local
            ]
            if rows:
                held.direct = True
                found.append((lease, rows, max(1000, int((held.deadline - now) * 1000))))
        return found


async def drained(busy: Callable[[], bool]) -> None:
    """Until nothing waits any more; at the end of a process, so looking now and then is enough."""
    while busy():  # noqa: ASYNC110
        await asyncio.sleep(0.005)

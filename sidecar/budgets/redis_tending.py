"""What goes on in the background of a shared store: signs of life, slices, leases that ran out."""

import asyncio

from collector.logs import get
from sidecar.budgets.escrow import COLD_S, Escrow, View
from sidecar.budgets.redis_connection import RedisLost, Reply
from sidecar.budgets.redis_epoch import BEAT_S
from sidecar.budgets.redis_held import Held
from sidecar.budgets.redis_link import BACKGROUND_S
from sidecar.budgets.redis_tag import ODD, SLICE_TTL_MS, ReplyOff, Row, Tag

log = get("bursar.budgets")

LIVING_MS = 5_000
"""How long a source that says nothing counts as living."""
REAP_AT_ONCE = 50
CLOCK_EACH = 10
"""Beats between two looks at what time it is there."""
REAP_EACH = 2
"""Beats between two looks at leases that ran out."""
READ_AT_ONCE = 200
"""Counters looked at in one message."""
IDLE_S = 300.0
"""A tenant that had no call of ours for so long is not looked after any more."""
FRESH_S = 5.0
"""Counters that were used so recently are looked at with every beat."""


class Tending:
    """Beats twice a second for as long as it runs."""

    def __init__(
        self, source: str, escrow: Escrow, tags: dict[str, Tag], leases: dict[str, Held], *, slices: bool
    ) -> None:
        self._source = source
        self._escrow = escrow
        self._tags = tags
        self._leases = leases
        self._slices = slices

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        beats, last = 0, loop.time()
        while True:
            await asyncio.sleep(BEAT_S)
            beats += 1
            now = loop.time()
            self._escrow.measure(max(now - last, 0.001))
            last = now
            self._expire(now)
            for tag in list(self._tags.values()):
                if tag.ready:
                    try:
                        await self._beat(tag, now, reap=beats % REAP_EACH == 0)
                        if not tag.tenant and beats % CLOCK_EACH == 0:
                            await tag.link.compare_clocks()
                    except (RedisLost, ReplyOff, *ODD) as error:
                        log.debug("a beat failed", reason=str(error)[:200])
            self._escrow.forget(now)
            self._retire(now)

    async def _beat(self, tag: Tag, now: float, *, reap: bool) -> None:
        keys, link = tag.keys, tag.link
        kept = dict(tag.to_keep)
        tag.to_keep.clear()
        groups: dict[int, list[str]] = {SLICE_TTL_MS: [keys.slices(self._source)]}
        for lease, ttl_s in kept.items():
            groups.setdefault(int(ttl_s * 1000), []).append(keys.lease(lease))
        for ttl_ms, leases in groups.items():
            names = [keys.epoch, keys.marks, keys.due, keys.peers, *leases]
            arguments: list[str | int] = [tag.epoch, tag.seen, self._source, ttl_ms, LIVING_MS]
            answer = tag.trusted(await link.ask(link.scripts["keep"], names, arguments))
            tag.peers = frozenset(peer.decode() for peer in answer[3:])
        if reap:
            names = [keys.epoch, keys.marks, keys.due]
            tag.trusted(await link.ask(link.scripts["reap"], names, [tag.epoch, tag.seen, REAP_AT_ONCE]))
        tag.resend_releases()
        if self._slices:
            await self._tend_slices(tag, now)

    async def _tend_slices(self, tag: Tag, now: float) -> None:
        views = [
            view
            for view in self._escrow.views.values()
            if view.tenant == tag.tenant and (view.capacity or now - view.touched < FRESH_S)
        ]
        for at in range(0, len(views), READ_AT_ONCE):
            await tag.read([view.counter for view in views[at : at + READ_AT_ONCE]], BACKGROUND_S)
        fall: list[View] = []
        for view in views:
            target = 0 if now - view.touched > COLD_S else view.target()
            if view.capacity > 2 * target or (target <= view.used < view.capacity):
                fall.append(view)
            elif target > 1.5 * view.capacity:
                tag.refill(view)
        tag.shrink(fall, to=lambda view: 0 if now - view.touched > COLD_S else view.target())

    def _retire(self, now: float) -> None:
        """Let go of tenants that are idle; their next call joins them again."""
        idle = {tenant for tenant, tag in self._tags.items() if tenant and now - tag.touched > IDLE_S}
        if not idle:
            return
        idle -= {view.tenant for view in self._escrow.views.values() if view.capacity or view.used}
        idle -= {part.counter.tenant for held in self._leases.values() for part in held.parts}
        for tenant in idle:
            tag = self._tags[tenant]
            if not tag.outbox and not tag.to_release:
                if tag.joining is not None:
                    tag.joining.cancel()
                del self._tags[tenant]

    # -- leases that nobody kept

    def _expire(self, now: float) -> None:
        for lease, held in list(self._leases.items()):
            if held.deadline > now:
                continue
            covered = [part for part in held.parts if part.view is not None and part.local]
            tags = {part.counter.tenant: self._tags[part.counter.tenant] for part in covered}
            if any(not tag.ready for tag in tags.values()):
                continue
            del self._leases[lease]
            # Redis charges what it holds; what our slice covers is handed to it to be charged too.
            for tag in tags.values():
                self._hand_over(tag, lease, held)

    def _hand_over(self, tag: Tag, lease: str, held: Held) -> None:
        parts = [
            part for part in held.parts if part.counter.tenant == tag.tenant and part.view and part.local
        ]
        rows = [Row(part.counter, part.total, part.local) for part in parts]
        given = [(part.view, part.local) for part in parts if part.view]

        def replied(reply: Reply) -> None:
            try:
                answer = tag.trusted(reply)
            except ReplyOff:
                # Not charged there; the slice stays smaller by it, which is as safe, until it is read again.
                tag.stuck += given
                return
            if answer[0] == 1:
                tag.learn_slices(rows, answer)
            for view, amount in given:
                view.used -= amount

        tag.hold(lease, rows, 1, replied, BACKGROUND_S, force=True)

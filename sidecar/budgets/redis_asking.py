"""Asking Redis for one call: every tenant's counters at once, and within the time that a call can wait."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from collector.domain.credit import Claim, Refused
from sidecar.budgets.escrow import Escrow
from sidecar.budgets.ledger import tighter
from sidecar.budgets.redis_connection import RedisLost, RedisRefused, RedisTimeout, Reply
from sidecar.budgets.redis_held import Part
from sidecar.budgets.redis_tag import ReplyOff, Row, Tag


class Asked(NamedTuple):
    """What one tenant's counters answered."""

    tag: Tag
    rows: list[Row]
    answer: list[Any] | None
    """None when there is none to go by."""
    doubtful: bool
    """Whether the claim may still be carried out."""


class Asking:
    """Sends holds, and puts back what of our slices they did not take."""

    def __init__(self, escrow: Escrow, tag_of: Callable[[str], Tag]) -> None:
        self._escrow = escrow
        self._tag = tag_of

    def rows(self, claims: Sequence[Claim], parts: Sequence[Part]) -> dict[str, list[Row]]:
        """What a lease that has ``parts`` shall hold in all, by tenant.

        What our slices cover of it, or have free, comes out of them: near the limit they hold room.
        """
        had = {part.counter[:4]: part for part in parts}
        rows: dict[str, list[Row]] = {}
        for counter, amount in claims:
            total, moved, taken = amount, 0, 0
            part = had.get(counter[:4])
            if part is not None:
                total += part.total
                moved = part.local
            view = self._escrow.views.get(counter[:4])
            if view is not None and view.free > 0:
                # Taken until the answer comes, so that no other call takes it meanwhile.
                taken = min(view.free, amount)
                view.used += taken
            rows.setdefault(counter.tenant, []).append(Row(counter, total, moved + taken, taken))
        return rows

    async def ask(
        self, lease: str, rows: dict[str, list[Row]], ttl_s: float, until: float, *, running: bool = False
    ) -> list[Asked]:
        """What Redis says by ``until``. A caller that leaves has nothing held, unless it is ``running``."""
        loop = asyncio.get_running_loop()
        tags = [self._tag(tenant) for tenant in rows]
        sent: list[Tag] = []
        futures: list[asyncio.Future[Asked]] = []
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(until):
                    for tag in tags:
                        # For the first call of a tenant; where Redis is lost, nobody gets here.
                        await tag.opened.wait()
            for tag in tags:
                future: asyncio.Future[Asked] = loop.create_future()
                futures.append(future)
                left_s = max(0.001, until - loop.time())
                sent.append(tag)
                self._send(tag, lease, rows[tag.tenant], ttl_s, left_s, future)
            return [await future for future in futures]
        except asyncio.CancelledError:
            for tag in tags:
                if tag not in sent:
                    self._put_back(rows[tag.tenant], moved=False)
                elif not running:
                    tag.release(lease, doubtful=True)
            raise

    def _put_back(self, rows: Sequence[Row], *, moved: bool) -> None:
        for row in rows:
            amount = row.moved if moved else row.taken
            if amount and (view := self._escrow.views.get(row.counter[:4])) is not None:
                view.used -= amount

    def _send(
        self,
        tag: Tag,
        lease: str,
        rows: list[Row],
        ttl_s: float,
        left_s: float,
        future: asyncio.Future[Asked],
    ) -> None:
        def stuck() -> None:
            # How much the slices still hold is known when they are read again.
            for row in rows:
                if row.taken and (view := self._escrow.views.get(row.counter[:4])) is not None:
                    tag.stuck.append((view, row.taken))

        def replied(reply: Reply) -> None:
            answer, doubtful = None, False
            try:
                answer = tag.trusted(reply)
            except ReplyOff:
                if isinstance(reply, RedisTimeout):
                    doubtful = True
                elif isinstance(reply, RedisLost) and not isinstance(reply, RedisRefused):
                    doubtful = True
                    stuck()
                else:
                    self._put_back(rows, moved=False)
            else:
                granted = answer[0] == 1
                if granted:
                    tag.learn_slices(rows, answer)
                self._put_back(rows, moved=granted)
            if not future.done():
                future.set_result(Asked(tag, rows, answer, doubtful))

        def late(reply: Reply) -> None:
            # The call was decided without this answer; what it moved out of the slices goes with the lease.
            try:
                answer = tag.trusted(reply)
            except ReplyOff:
                if isinstance(reply, RedisLost):
                    stuck()
                    return
            else:
                if answer[0] == 1:
                    tag.learn_slices(rows, answer)
            self._put_back(rows, moved=False)

        if not tag.ready:
            self._put_back(rows, moved=False)
            future.set_result(Asked(tag, rows, None, False))
            return
        tag.hold(lease, rows, int(ttl_s * 1000), replied, left_s, late=late)


def refusal_of(asked: Sequence[Asked]) -> Refused | None:
    """The tightest refusal among the answers."""
    refused: Refused | None = None
    for item in asked:
        if item.answer is not None and item.answer[0] == 0:
            refused = tighter(refused, item.rows[item.answer[2] - 1].counter, item.answer[3])
    return refused

"""Coming to a shared store, and coming back to one that lost its data.

The data of a tag belong to an *epoch*, which names the run of the server it was made in. No epoch, one
of another run, or a count of writes that went backwards: the store has lost something (it was flushed,
failed over to a replica, restored from an old snapshot). Then nobody is admitted from it, only from
slices, until

1. one source, the holder of the *fence*, has written what the books say (absolute sums, and how far
   each source is counted in them) into a new epoch;
2. every source that is known to live has made its running leases and slices known again, past the
   limits, and sent the settlements that are missing after its mark;
3. those that live have had time to notice.

After that the sums are exact again. A source that was not known to live and comes later does the same.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import hiredis

from collector.logs import get
from sidecar.budgets.redis_connection import RedisLost
from sidecar.budgets.redis_keys import tag_of
from sidecar.budgets.redis_link import Link
from sidecar.budgets.redis_tag import ODD, SLICE_TTL_MS, ReplyOff, Row, Tag
from sidecar.budgets.store import ENDED, Truth, TruthOf, bucket_of, expiry_ms

log = get("bursar.budgets")

FENCE_MS = 10_000
"""How long one source has for step 1 before another may try."""
QUIET_MS = 1_100
"""Two beats: so long a living source may take to notice."""
PATIENT_MS = 5_000
"""How long a source that was alive may take to come again before the others go on without it."""
FILL_AT_ONCE = 200
"""Counters of one message."""
BEAT_S = 0.5
POLL_S = (0.005, 0.005, 0.01, 0.02, 0.05)
"""Waits for others; the last one repeats. A tenant's first call waits for these."""

FIRST_TRIES = 4
"""Looks at a tenant that another source is just beginning, before it is taken for lost."""

Running = Callable[[Tag], Sequence[tuple[str, Sequence[Row], int]]]
"""Leases of this process that the store knew: name, what they hold, and for how many ms yet."""


class Joiner:
    """Brings tags of one source to readiness."""

    def __init__(self, source: str, truth: TruthOf | None, running: Running, root: Callable[[], Tag]) -> None:
        self._source = source
        self._truth_of = truth
        self._running = running
        self._root = root
        self._complained = ""

    async def join(self, tag: Tag) -> None:
        """Until ``tag`` may admit."""
        tries = 0
        while not tag.ready:
            link = tag.link
            await link.connected.wait()
            try:
                await self._join(tag, link, tries)
                if not tag.ready:
                    await asyncio.sleep(POLL_S[min(tries, len(POLL_S) - 1)])
                tries += 1
            except (RedisLost, ReplyOff, hiredis.ReplyError, *ODD) as error:
                if isinstance(error, hiredis.ReplyError):
                    tag.links.moved(error)
                self._say(f"{type(error).__name__}: {error}")
                await asyncio.sleep(BEAT_S / 10)
        self._complained = ""

    async def _join(self, tag: Tag, link: Link, tries: int) -> None:
        keys = tag.keys
        found: list[Any] = await link.ask(
            link.scripts["enter"],
            [keys.epoch, keys.marks, keys.due, keys.peers, keys.slices(self._source)],
            ["", 0, self._source],
        )
        if not isinstance(found, list) or len(found) < 5:
            raise ReplyOff("an answer of another kind")
        epoch, run, n = _text(found[0]), _text(found[1]), found[3]
        lost = epoch == tag.epoch and n < tag.seen
        if not epoch or run != link.run_id or lost:
            await self._recover(tag, link, nothing=not epoch, tries=tries)
            return
        capacities = {_text(key): amount for key, amount in zip(found[5::2], found[6::2], strict=True)}
        if epoch != tag.epoch:
            tag.epoch, tag.seen = epoch, n
            await self._register(tag)
        else:
            self._learn_capacities(tag, capacities)
        tag.seen = max(tag.seen, n)
        tag.run = run
        # Nothing that was sent before is under way on this connection: its answers came before this one.
        for view, amount in tag.stuck:
            view.used -= amount
        tag.stuck.clear()
        tag.resend_releases()
        tag.outbox.rewind(found[4])
        await self.drain(tag)
        polls = 0
        while True:
            answer = tag.trusted(
                await link.ask(
                    link.scripts["joined"],
                    [keys.epoch, keys.marks, keys.due],
                    [epoch, tag.seen, self._source],
                )
            )
            if answer[2] == b"open":
                break
            await asyncio.sleep(POLL_S[min(polls, len(POLL_S) - 1)])
            polls += 1
            # The others may take a while; what ended meanwhile is sent meanwhile.
            await self.drain(tag)
        await self.drain(tag)
        tag.ready = True
        tag.opened.set()

    def _learn_capacities(self, tag: Tag, capacities: dict[str, int]) -> None:
        for view in tag.escrow.views.values():
            if view.tenant == tag.tenant:
                view.capacity = capacities.get(tag.keys.counter(view.counter), 0)

    async def _register(self, tag: Tag) -> None:
        """Make everything known that this process holds, past the limits: it is in use already."""
        held = [view for view in tag.escrow.views.values() if view.tenant == tag.tenant and view.capacity > 0]
        leases = [
            ("", [Row(view.counter, view.capacity) for view in held[at : at + FILL_AT_ONCE]], SLICE_TTL_MS)
            for at in range(0, len(held), FILL_AT_ONCE)
        ]
        for lease, rows, ttl_ms in [*leases, *self._running(tag)]:
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

            def replied(reply: Any, future: asyncio.Future[Any] = future) -> None:
                if not future.done():
                    future.set_result(reply)

            tag.hold(lease, rows, ttl_ms, replied, 2.0, force=True)
            try:
                answer = tag.trusted(await future)
            except ReplyOff:
                # Half of it is known there: the next try must say it all again.
                tag.epoch = ""
                raise
            if lease == "":
                for at, row in enumerate(rows):
                    view = tag.escrow.view(row.counter)
                    view.capacity = answer[4 + 4 * at]

    async def drain(self, tag: Tag) -> None:
        """Send all settlements that the store lacks."""
        outbox = tag.outbox
        while outbox:
            await outbox.read_page()
            if outbox.from_journal and outbox.batch_end(()) <= outbox.mark:
                continue
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

            def replied(reply: Any, future: asyncio.Future[Any] = future) -> None:
                if not future.done():
                    future.set_result(reply)

            tag.send_batch(replied)
            tag.counted(tag.trusted(await future))

    # -- a new epoch

    async def _recover(self, tag: Tag, link: Link, *, nothing: bool, tries: int) -> None:
        """Write a new epoch, or let whoever holds the fence do it."""
        keys = tag.keys
        root = self._root()
        fresh = False
        if nothing and tag is not root:
            await root.opened.wait()
            # A tenant that was never here has nothing to lose, so nobody waits for the books.
            names = [root.keys.epoch, root.keys.marks, root.keys.due, root.keys.tags]
            arguments: list[str | int] = [root.epoch, root.seen, keys.tag, self._source]
            try:
                answer = root.trusted(await root.link.ask(root.link.scripts["adopt"], names, arguments))
            except ReplyOff:
                # What was lost here was lost there, too; it goes first, for it knows who was here.
                root.astray()
                raise
            fresh = answer[2] == 1
            if not fresh and tries < FIRST_TRIES:
                # Somebody else has just found it new, or else it was lost.
                return
        holder = f"{self._source}:{uuid.uuid4().hex}"
        if await link.command("SET", keys.fence, holder, "NX", "PX", FENCE_MS) is None:
            return
        try:
            truth = Truth() if fresh or self._truth_of is None else await self._truth_of()
        except Exception as error:  # Whatever the books are kept in: they are not to be had now.
            await link.command("DEL", keys.fence)
            self._say(f"the books cannot be read: {error}")
            await asyncio.sleep(BEAT_S)
            return
        epoch = uuid.uuid4().hex
        mine = [(c, amount) for c, amount in truth.sums.items() if tag_of(c.tenant) == keys.tag and amount]
        for at in range(0, len(mine), FILL_AT_ONCE):
            names = [keys.epoch, keys.marks, keys.due, keys.fence]
            arguments = [epoch, 0, holder]
            for counter, amount in mine[at : at + FILL_AT_ONCE]:
                names.append(keys.counter(counter))
                arguments += (amount, bucket_of(counter), expiry_ms(counter))
            if not await link.ask(link.scripts["fill"], names, arguments):
                return
        if tag is root:
            # Their data went with ours, or went before: whoever comes must not take them for new.
            tags = {tag_of(counter.tenant) for counter in truth.sums}
            for other in sorted(tags):
                await link.command("HSET", keys.tags, other, self._source)
        peers = sorted(tag.peers | {self._source})
        others = {source for source, mark in truth.marks.items() if mark < ENDED} - {self._source}
        alone = len(peers) == 1 and not others
        arguments = [
            epoch,
            0,
            holder,
            link.run_id,
            0 if fresh or alone else QUIET_MS,
            PATIENT_MS,
            len(peers),
            *peers,
        ]
        for source, mark in truth.marks.items():
            arguments += (source, mark)
        await link.ask(link.scripts["commit"], [keys.epoch, keys.marks, keys.due, keys.fence], arguments)
        if not fresh:
            log.warning("budgets rewritten from the books", tenant=tag.tenant, count=len(mine))

    def _say(self, what: str) -> None:
        if what != self._complained:
            self._complained = what
            log.warning("budgets not joined yet", reason=what[:200])


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)

"""What a sidecar that died left in a shared store is settled by the next one on its machine.

Its records that were not sent are sent, each of its intents without a record is charged at its hold, and
what it held in advance and had not spent goes back to the pool. Its mark then says that it is over, so
doing this twice, or on two machines, changes nothing.
"""

import asyncio
from collections.abc import Sequence

from collector.journal_reading import Unreadable
from collector.logs import get
from sidecar.budgets.escrow import Escrow
from sidecar.budgets.outbox import Entry
from sidecar.budgets.redis_epoch import BEAT_S, Joiner
from sidecar.budgets.redis_store import RedisStore
from sidecar.budgets.redis_tag import Tag
from sidecar.budgets.replay import JournalReader
from sidecar.budgets.store import ENDED, Settlement, TruthOf

log = get("bursar.budgets")


async def inherit(store: RedisStore, reader: JournalReader, truth: TruthOf | None = None) -> int:
    """Settle for every source in the journal folder that is over. How many needed it.

    Runs beside traffic, as long as it takes Redis to be there; cancel it to stop.
    """
    settled = 0
    for source in await asyncio.to_thread(reader.dead):
        if source == store.source:
            continue
        root = await _joined(store, reader, source, "", truth)
        if root.outbox.mark >= ENDED:
            continue
        try:
            left = await asyncio.to_thread(reader.ended, source)
        except Unreadable as error:
            reader.complain(source, error)  # The next sidecar to start settles for it.
            continue
        for tenant in sorted(left.tenants):
            tag = root if not tenant else await _joined(store, reader, source, tenant, truth)
            if tag.outbox.mark < ENDED:
                await _settle(tag, left.last, left.open)
        if "" not in left.tenants:
            # Told last: a source whose root says so needs no second look.
            await _settle(root, left.last, ())
        settled += 1
        log.info("a source that ended is settled", source=source, count=len(left.open))
    return settled


async def inherit_always(store: RedisStore, reader: JournalReader) -> None:
    """Inherit now, and again whenever the store had lost its data; cancel it to stop."""
    settled_in = ""
    while True:
        root = store.tag("")
        await root.opened.wait()
        if root.epoch != settled_in:
            settled_in = root.epoch
            await inherit(store, reader, store.truth)
        await asyncio.sleep(BEAT_S)


async def _joined(
    store: RedisStore, reader: JournalReader, source: str, tenant: str, truth: TruthOf | None
) -> Tag:
    """The dealings of ``source`` with one tenant's counters, as the store has them."""
    await store.tag(tenant).opened.wait()
    tag = Tag(tenant, store.links, source, Escrow(), reader.history)
    await Joiner(source, truth, lambda _: (), lambda: store.tag("")).join(tag)
    return tag


async def _settle(tag: Tag, last: int, open_: Sequence[Settlement]) -> None:
    outbox = tag.outbox
    outbox.catch_up(last)
    joiner = Joiner(tag.source, None, lambda _: (), lambda: tag)
    await joiner.drain(tag)
    sequence = max(last, outbox.mark)
    for item in open_:
        mine = [claim for claim in item.actuals if claim.counter.tenant == tag.tenant]
        if mine:
            sequence += 1
            outbox.push(Entry(sequence, item.lease, False, tuple(mine), ()))
    outbox.push(Entry(ENDED, f"~{tag.source}", False, (), ()))
    await joiner.drain(tag)

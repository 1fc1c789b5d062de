"""A second replica is asked when the first has sent nothing for a while; whoever answers first is taken."""

import asyncio
from typing import TYPE_CHECKING

from sidecar.budgets.again import Readmission
from sidecar.call import Call
from sidecar.errors import SidecarError
from sidecar.providers.replicas import Replica
from sidecar.routing import Target

if TYPE_CHECKING:
    from sidecar.stages.forward import Asked, Forward


async def hedged(
    forward: "Forward", again: Readmission, call: Call, target: Target, replica: Replica
) -> "Asked":
    """The first answer of one replica or two.

    The one that is not taken is left at once, and booked at what it may have cost.

    Raises:
        SidecarError: neither answered.
    """
    upstream, pool = target.upstream, target.upstream.pool
    first = asyncio.ensure_future(forward.ask(call, upstream, target.model, replica))
    running = {first}
    asked: Asked | None = None
    failed: SidecarError | None = None
    try:
        done, _ = await asyncio.wait(running, timeout=pool.hedge_s)
        if not done:
            second = pool.pick(upstream.replicas, call, [replica])
            if (
                second is not None
                and second is not replica
                and pool.may_retry()
                and await again.admit(call, target)
            ):
                forward.books.metrics.add("bursar_upstream_hedges_total", {"upstream": upstream.name}, 1)
                running.add(asyncio.ensure_future(forward.ask(call, upstream, target.model, second)))
        while running and asked is None:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                try:
                    found = task.result()
                except SidecarError as error:
                    failed = error
                    continue
                if asked is not None or (found.answer.status >= 500 and running):
                    forward.leave(call, found)
                else:
                    asked = found
    finally:
        for task in running:
            task.cancel()
        for result in await asyncio.gather(*running, return_exceptions=True):
            if not isinstance(result, BaseException):
                forward.leave(call, result)
    if asked is None:
        assert failed is not None
        raise failed
    # The call is told by its last attempt.
    call.attempts.remove(asked.attempt)
    call.attempts.append(asked.attempt)
    return asked

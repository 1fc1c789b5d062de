"""More than one attempt: other replicas, the same one later, other models elsewhere.

A call that was not answered is tried again while all of this holds: nothing of a reply has reached the
agent; the failure may pass or is one replica's own; the upstream's retry budget has one left; and the
budgets have room for another attempt beside what the earlier ones may have cost. Then, for the reasons
that the configuration names, its fallbacks are asked in turn. Each attempt is booked for itself, and the
call is recorded once, as its last attempt left it.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from collector.domain.record import Outcome
from sidecar.budgets.again import Readmission
from sidecar.call import Call, Reply
from sidecar.errors import InvalidCall, NoReplica, NoRoute, SidecarError, UpstreamFailed
from sidecar.providers.native import Upstream
from sidecar.providers.pool_settings import FallbackConfig
from sidecar.providers.replicas import Replica
from sidecar.routing import Target
from sidecar.stages.failures import Begun, Failure, failure_of, never_sent, turned_away

if TYPE_CHECKING:
    from sidecar.stages.forward import Asked, Forward

_RESTARTED: Final = frozenset({"connect", "reset"})


class _Left(NamedTuple):
    """How an attempt left its call."""

    result: Reply | SidecarError
    state: tuple[object, ...]


_STATE: Final = ("meter", "reply_facts", "captured_output", "outcome", "outcome_reason", "error_type")


class Persist:
    """Tries again, by what is configured."""

    def __init__(self, forward: "Forward", fallbacks: Sequence[FallbackConfig], again: Readmission) -> None:
        self._forward = forward
        self._fallbacks = fallbacks
        self._again = again

    async def answer(self, call: Call, first: Target, begun: "Asked | None" = None) -> Reply:
        """The first reply that is one; else the last failure.

        Args:
            call: who asks.
            first: where it is to go.
            begun: an attempt made there already, whose answer nobody has read.

        Raises:
            SidecarError: nobody answered, or nobody could be asked.
        """
        upstream, replica, result = first.upstream, None, None
        pool = upstream.pool
        # The first attempt, nearly always the only one.
        if begun is not None:
            replica = begun.replica
            result = await self._attempt(call, first, replica, pool.clock(), begun)
        elif not upstream.starts_late:
            replica = pool.pick(upstream.replicas, call)
            if replica is not None:
                pool.calls += 1
                result = await self._attempt(call, first, replica, pool.picked_at)
        if isinstance(result, Reply) and failure_of(call, upstream, result) is None:
            return result
        left, failure = await self._ask_at(call, first, None, replica, result)
        for target, wanted in self._others(call, first, failure):
            if failure is None or failure.reason not in wanted.on:
                break
            if not await self._again.admit(call, target):
                continue
            self._count("bursar_upstream_fallbacks_total", first.upstream, to=target.upstream.name)
            left, failure = await self._ask_at(call, target, left)
        if left is None:
            raise UpstreamFailed(
                f"upstream {first.upstream.name!r} was not asked", code="upstream_unavailable"
            )
        for name, value in zip(_STATE, left.state, strict=True):
            setattr(call, name, value)
        if isinstance(left.result, SidecarError):
            raise left.result
        return left.result

    def _others(
        self, call: Call, first: Target, failure: Failure | None
    ) -> Iterator[tuple[Target, FallbackConfig]]:
        """Whom else to ask: of the first fallbacks that are for this model and this reason."""
        facts = call.facts
        if facts is None or failure is None or call.route.upstream or not self._fallbacks:
            return
        allowed = call.caller.models
        for wanted in self._fallbacks:
            if failure.reason not in wanted.on:
                continue
            if not any(fnmatchcase(facts.model, pattern) for pattern in wanted.from_):
                continue
            for model in wanted.to:
                if allowed is not None and model not in allowed:
                    continue
                try:
                    target = self._forward.routing.target_of(call, model)
                except NoRoute:
                    continue
                if target != first:
                    yield target, wanted
            return

    # -- at one upstream

    async def _ask_at(
        self,
        call: Call,
        target: Target,
        before: _Left | None,
        replica: Replica | None = None,
        result: Reply | SidecarError | None = None,
    ) -> tuple[_Left | None, Failure | None]:
        """Ask one upstream, as often as it takes; how that ended, and no failure when it was answered.

        Args:
            call: who asks.
            target: where it is to go.
            before: how the last attempt elsewhere left it.
            replica: where the first attempt here was made already.
            result: what came of that.
        """
        upstream, pool = target.upstream, target.upstream.pool
        if result is None:
            pool.calls += 1
        left, failure = before, None
        tried: list[Replica] = []
        for retry in range(pool.retries + 1):
            if retry or replica is None or result is None:
                try:
                    await upstream.ready()
                    replica = await self._replica_for(call, upstream, tried)
                except SidecarError as error:
                    if tried and left is not None:
                        # What a provider said tells more than that nobody is left to ask.
                        return left, failure
                    failure = failure_of(call, upstream, error)
                    return _Left(error, state_of(call)), failure
                if tried:
                    assert failure is not None
                    if not await self._may_go_again(call, target, replica, tried, retry - 1, failure):
                        return left, failure
                clean_slate(call, self._again)
                try:
                    result = await self._attempt(call, target, replica, pool.clock())
                except InvalidCall:
                    if before is None:
                        raise
                    # It cannot be said there: as if nobody had been asked.
                    return before, Failure("invalid_request", False, False)
            tried.append(replica)
            failure = failure_of(call, upstream, result)
            self._note(upstream, replica, result, failure)
            left = _Left(result, state_of(call))
            if failure is None or not failure.may_pass:
                return left, failure
            if upstream.is_plain and not turned_away(call):
                return left, failure
            if upstream.is_plain and before is None and self._stands_in(call, target, failure):
                return left, failure
        return left, failure

    def _stands_in(self, call: Call, target: Target, failure: Failure) -> bool:
        """Whether another model is to be asked next, which is better than to wait for this one."""
        return next(self._others(call, target, failure), None) is not None

    async def _attempt(
        self, call: Call, target: Target, replica: Replica, began: float, begun: "Asked | None" = None
    ) -> Reply | SidecarError:
        forward, pool = self._forward, target.upstream.pool
        tokens = pool.began(replica, call)
        try:
            if begun is not None:
                asked = begun
            elif not pool.hedge_s or call.route.api == "raw":
                asked = await forward.ask(call, target.upstream, target.model, replica)
            else:
                from sidecar.stages.hedge import hedged

                asked = await hedged(forward, self._again, call, target, replica)
            answered = pool.clock()
            reply = await forward.reply(call, asked, opening=True)
        except (InvalidCall, asyncio.CancelledError):
            pool.gave_up(replica)
            raise
        except SidecarError as error:
            return error
        finally:
            if tokens:
                pool.over(replica, tokens)
        stream = cast("Begun | None", reply.stream)
        if stream is not None and stream.failed:
            stream.seal()
        elif reply.status < 500:
            asked.replica.answered(answered - began, answered)
            if asked.replica is not replica:
                pool.gave_up(replica)
        return reply

    async def _replica_for(self, call: Call, upstream: Upstream, tried: Sequence[Replica]) -> Replica:
        """The replica to ask, after a wait where all have asked for one.

        Raises:
            NoReplica: none may be asked in time.
        """
        pool = upstream.pool
        most_s = upstream.replicas[0].pool.deadlines.queue_s
        until = pool.clock() + most_s
        while True:
            found = pool.pick(upstream.replicas, call, tried)
            if found is not None:
                return found
            wait_s = pool.held_for_s(upstream.replicas)
            if wait_s is None or pool.clock() + wait_s > until or pool.holding >= upstream.queue:
                raise NoReplica(
                    f"upstream {upstream.name!r} "
                    + ("has no replica that can be asked" if wait_s is None else "asks us to wait"),
                    code="upstream_unavailable",
                    retry_after_s=1 if wait_s is None else int(wait_s) + 1,
                )
            pool.holding += 1
            try:
                if not await pause(call, wait_s + pool.pause_s(0, None, elsewhere=False)):
                    raise NoReplica("the call was ended while it waited", code="upstream_unavailable")
            finally:
                pool.holding -= 1

    async def _may_go_again(
        self,
        call: Call,
        target: Target,
        replica: Replica,
        tried: Sequence[Replica],
        retry: int,
        failure: Failure,
    ) -> bool:
        upstream, pool = target.upstream, target.upstream.pool
        if not failure.may_pass or (call.route.api == "raw" and not never_sent(call)):
            return False
        elsewhere = replica not in tried
        pause_s = pool.pause_s(retry, failure.asked_s, elsewhere=elsewhere)
        if pause_s > upstream.replicas[0].pool.deadlines.queue_s:
            return False
        # A server that is gone does no work: what it had, moved once, is no more load than there was.
        moved = elsewhere and failure.reason == "unreachable" and len(tried) == 1
        if not moved and not pool.may_retry():
            self._count("bursar_upstream_retries_refused_total", upstream)
            return False
        if pause_s and not await pause(call, pause_s):
            return False
        if not await self._again.admit(call, target):
            return False
        self._count("bursar_upstream_retries_total", upstream, reason=failure.reason)
        return True

    def _note(
        self, upstream: Upstream, replica: Replica, result: Reply | SidecarError, failure: Failure | None
    ) -> None:
        if failure is None:
            return
        code = result.code.removeprefix("upstream_") if isinstance(result, SidecarError) else ""
        if failure.elsewhere and code != "pool_full":
            upstream.pool.failed(replica, restarted=code in _RESTARTED)
        else:
            # Whether it is well is still not known: where this was its trial, another call may try.
            upstream.pool.gave_up(replica)
        ours = upstream.tells_limits or upstream.kind == "vllm"
        if failure.asked_s and ours and failure.reason in ("rate_limit", "overloaded"):
            upstream.hold_back(replica, failure.asked_s)

    def _count(self, name: str, upstream: Upstream, **labels: str) -> None:
        self._forward.books.metrics.add(name, {"upstream": upstream.name, **labels}, 1)


def clean_slate(call: Call, again: Readmission) -> None:
    """Forget how the attempt before ended: it is booked."""
    call.meter = call.reply_facts = call.captured_output = None
    call.outcome, call.outcome_reason, call.error_type = Outcome.FAILED, "", ""
    if call.attempts:
        again.watch(call)


def state_of(call: Call) -> tuple[object, ...]:
    """How an attempt left ``call``."""
    return tuple([getattr(call, name) for name in _STATE])


async def pause(call: Call, for_s: float) -> bool:
    """Wait; false as soon as somebody ends the call meanwhile."""
    began = time.monotonic_ns()
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(reason: str) -> bool:
        if ended.done():
            return False
        ended.set_result(None)
        return True

    call.cut = end
    try:
        await asyncio.wait({ended}, timeout=for_s)
        return not ended.done()
    finally:
        call.cut = None
        call.paused_ns += time.monotonic_ns() - began

"""The replicas of one upstream, as they stand: who may be asked now, and who is.

The decisions are those of :mod:`inference.pool`; here they meet the clock and the calls.
"""

import asyncio
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

from collector.logs import get
from inference.pool import breaker, choice, retrying
from inference.pool.affinity import BYTES_PER_TOKEN
from inference.pool.breaker import CLOSED, Breaker, BreakerPolicy
from inference.pool.retrying import RetryBudget
from inference.pool.ring import Ring
from sidecar.call import Call
from sidecar.config import UpstreamConfig
from sidecar.http import UpstreamError, UpstreamPool
from sidecar.providers.limits_told import Told
from sidecar.providers.rendered import PrefixKeys

log = get("bursar.pools")

Clock = Callable[[], float]

REMEMBERED = 4096
"""Conversations that are known to be cached at a replica, at most."""
LOOK_BACK = 8
"""Messages by which a conversation may have grown since it was last seen."""
HEALTH_FAILURES = 2
"""So many health checks in a row have to fail."""
HEALTH_WITHIN_S = 5.0
_draw = random.Random().random  # noqa: S311  (spreads retries; nothing secret)


class Replica:
    """One server of an upstream."""

    __slots__ = (
        "_answered_at", "_failures", "base_path", "breaker", "draining", "healthy", "held_until", "index",
        "latency_s", "load", "name", "pool", "prefixes", "told", "warm", "weight",
    )  # fmt: skip

    def __init__(
        self, name: str, base_path: str, pool: UpstreamPool, *, index: int = 0, weight: int = 1
    ) -> None:
        self.name = name
        """``host:port``."""
        self.base_path = base_path
        self.pool = pool
        self.index = index
        self.weight = weight
        self.load = 0
        """Tokens of prompts under way that it does not have cached."""
        self.latency_s = 0.0
        """Until the head of a reply, by :func:`inference.pool.choice.peak_ewma`."""
        self.breaker: Breaker = CLOSED
        self.held_until = 0.0
        """It asked us to wait until then."""
        self.draining = False
        """An operator wants it to get no more calls."""
        self.healthy = True
        """By its own word, where it is asked for one."""
        self.told: dict[str, Told] = {}
        """What the provider said is left, by what it counts."""
        self.warm: OrderedDict[int, int] = OrderedDict()
        """Bytes of prompt that it has cached, by conversation."""
        self.prefixes: OrderedDict[int, None] = OrderedDict()
        """Keys of the beginnings that it has cached; the last asked for at the end."""
        self._answered_at = 0.0
        self._failures = 0

    @property
    def inflight(self) -> int:
        """Calls under way."""
        return self.pool.inflight

    def may_be_asked(self, now: float) -> bool:
        """Whether nothing speaks against a call."""
        if self.draining or not self.healthy or self.held_until > now:
            return False
        found = self.breaker
        return not found.open_until or breaker.lets_pass(found, now)

    def answered(self, took_s: float, now: float) -> None:
        """The head of a reply came, and it is no failure of the server's."""
        self.latency_s = choice.peak_ewma(self.latency_s, took_s, now - self._answered_at)
        self._answered_at = now
        if self.breaker is not CLOSED:
            self.breaker = breaker.succeeded()

    def forget_cached(self) -> None:
        """It was started anew, or may have been: its cache is empty."""
        self.warm.clear()
        self.prefixes.clear()

    def adopt(self, other: "Replica", *, same_neighbours: bool) -> None:
        """Go on with what is known of the same server from before.

        Where its neighbours are others than before, which beginnings belong to it is found out anew.
        """
        for name in ("breaker", "draining", "healthy", "held_until", "latency_s", "told", "warm"):
            setattr(self, name, getattr(other, name))
        if same_neighbours:
            self.prefixes = other.prefixes

    async def look(self, path: str) -> None:
        """Ask it whether it is well."""
        try:
            async with asyncio.timeout(HEALTH_WITHIN_S):
                reply = await self.pool.request(b"GET", path.encode(), [], b"")
                await reply.read(1 << 16)
            well = reply.status < 500
        except (UpstreamError, TimeoutError):
            well = False
        if well:
            if not self.healthy:
                self.forget_cached()
                self.breaker = CLOSED
                log.info("replica is well again", name=self.name)
            self._failures, self.healthy = 0, True
            return
        self._failures += 1
        if self._failures >= HEALTH_FAILURES and self.healthy:
            self.healthy = False
            log.warning("replica is not well; it gets no calls", name=self.name)

    def plain(self, now: float) -> dict[str, Any]:
        """As it is shown to operators."""
        return {
            "replica": self.name,
            "weight": self.weight,
            "may_be_asked": self.may_be_asked(now),
            "draining": self.draining,
            "healthy": self.healthy,
            "breaker": breaker.state_of(self.breaker, now),
            "held_for_s": round(max(0.0, self.held_until - now), 3),
            "inflight": self.inflight,
            "waiting": self.pool.waiting,
            "connections_opened": self.pool.opened_total,
            "uncached_tokens_inflight": self.load,
            "latency_ms": round(self.latency_s * 1000, 3),
            "told": {name: told.plain() for name, told in self.told.items()},
        }


class Pool:
    """How the replicas of one upstream share its calls."""

    def __init__(self, name: str, config: UpstreamConfig, *, clock: Clock = time.monotonic) -> None:
        self.name = name
        self.clock = clock
        self._config = config
        # With one replica there is nothing to choose, and so nothing to remember for it.
        self._balance = config.balance if len(config.urls) > 1 else "least"
        self._policy = BreakerPolicy(config.breaker.failures, config.breaker.open)
        self._retry_share = float(config.retry_budget)
        self._budget = RetryBudget()
        self._ring: Ring | None = None
        self._last_key: tuple[str, int | None] = ("", None)
        self._keys = PrefixKeys(config.prefix)
        self._turn = 0
        self.holding = 0
        """Calls that wait because all replicas have asked for it."""
        self._look_at = 0.0
        self._looking: set[asyncio.Task[None]] = set()
        self.picked_at = 0.0
        """When a replica was last picked."""
        self.calls = 0
        """Made since the retry budget was last asked."""
        self.retries = config.retry_limit
        self.hedge_s = float(config.hedge) if config.hedge else 0.0
        self.health = config.health_path

    # -- whom to ask

    def pick(self, replicas: Sequence[Replica], call: Call, tried: Sequence[Replica] = ()) -> Replica | None:
        """The replica for ``call``; None while none may be asked.

        One that has been tried for this call is asked again only when there is no other.
        """
        now = self.picked_at = self.clock()
        able = replicas
        for replica in replicas:
            if (
                replica.breaker is not CLOSED
                or not replica.healthy
                or replica.draining
                or replica.held_until > now
            ):
                # Not the ordinary case: something was once said against one of them.
                able = [one for one in replicas if one.may_be_asked(now)]
                break
        if tried and len(able) > 1:
            able = [replica for replica in able if replica not in tried] or able
        if len(able) < 2:
            return able[0] if able else None
        self._turn += 1
        chosen = self._choose(replicas, able, call)
        if not chosen.pool.has_room:
            roomy = [replica for replica in able if replica.pool.has_room]
            if roomy:
                return self._choose(replicas, roomy, call)
        return chosen

    def _choose(self, replicas: Sequence[Replica], able: Sequence[Replica], call: Call) -> Replica:
        balance = self._balance
        if balance == "prefix":
            index = self._by_prefix(replicas, able, call)
        elif balance == "round_robin":
            index = choice.in_turn(able, self._turn)
        elif balance == "ewma":
            index = choice.fastest(able, self._turn)
        else:
            index = choice.least(able, self._turn)
        return replicas[index]

    def _by_prefix(self, replicas: Sequence[Replica], able: Sequence[Replica], call: Call) -> int:
        key = self._key_of(call)
        if key is None:
            return choice.least(able, self._turn)
        if self._ring is None:
            self._ring = Ring([one.name for one in replicas], [one.weight for one in replicas])
        assert call.facts is not None
        tokens = call.facts.text_bytes // BYTES_PER_TOKEN
        prefix = self._config.prefix
        return choice.by_prefix(
            able, self._ring, key, tokens, load_factor=float(prefix.load_factor), floor=prefix.floor
        )

    def _key_of(self, call: Call) -> int | None:
        """The call's place on the ring; asked for twice for each call, and worked out once."""
        facts = call.facts
        if facts is None:
            return None
        if self._last_key[0] != call.call_id:
            self._last_key = (call.call_id, self._keys.of(call.request.body, facts, call.caller.tenant))
        return self._last_key[1]

    def held_for_s(self, replicas: Sequence[Replica]) -> float | None:
        """How long until a replica that only asked us to wait may be asked; None where that helps nothing."""
        now = self.clock()
        waits = [
            replica.held_until - now
            for replica in replicas
            if replica.held_until > now
            and not replica.draining
            and replica.healthy
            and breaker.lets_pass(replica.breaker, now)
        ]
        return min(waits, default=None)

    # -- what became of it

    def began(self, replica: Replica, call: Call) -> int:
        """A call goes to ``replica``; the uncached tokens that it brings, for :meth:`over`."""
        if replica.breaker is not CLOSED:
            replica.breaker = breaker.started(replica.breaker, self.clock())
        if self._balance != "prefix" or call.facts is None:
            return 0
        facts, warm = call.facts, replica.warm
        cached = 0
        for mark in facts.message_hashes[-LOOK_BACK:]:
            if mark in warm and warm[mark] > cached:
                cached = warm[mark]
        key, prefixes = self._key_of(call), replica.prefixes
        if key is not None:
            prefix = self._config.prefix
            if not cached and key in prefixes:
                cached = min(facts.text_bytes, prefix.blocks * prefix.block_tokens * BYTES_PER_TOKEN)
            prefixes[key] = None
            prefixes.move_to_end(key)
            if len(prefixes) > REMEMBERED:
                prefixes.popitem(last=False)
        if facts.message_hashes:
            warm[facts.message_hashes[-1]] = facts.text_bytes
            if len(warm) > REMEMBERED:
                warm.popitem(last=False)
        tokens = max(1, (facts.text_bytes - cached) // BYTES_PER_TOKEN)
        replica.load += tokens
        return tokens

    def over(self, replica: Replica, tokens: int) -> None:
        """The prompt of a call has been read, or will not be."""
        replica.load = max(0, replica.load - tokens)

    def failed(self, replica: Replica, *, restarted: bool) -> None:
        """It did not answer, or with its own failure; ``restarted``: perhaps because it is being started."""
        replica.breaker = breaker.failed(replica.breaker, self.clock(), self._policy)
        if restarted:
            replica.forget_cached()

    def gave_up(self, replica: Replica) -> None:
        """The call was given up before anything was known."""
        replica.breaker = breaker.gave_up(replica.breaker)

    # -- retries

    def may_retry(self) -> bool:
        """Take one retry from the budget; false when it is used up."""
        calls, self.calls = self.calls, 0
        self._budget = retrying.deposited(self._budget, share=self._retry_share * calls, most=100.0)
        left = retrying.withdrawn(self._budget)
        if left is None:
            return False
        self._budget = left
        return True

    def pause_s(self, retry: int, asked_s: float | None, *, elsewhere: bool) -> float:
        """How long to wait before the next attempt."""
        return retrying.pause_s(retry, _draw(), asked_s, elsewhere=elsewhere)

    # -- a few times a second

    def tend(self, replicas: Sequence[Replica]) -> None:
        """Ask replicas whether they are well, and keep connections to them open."""
        now = self.clock()
        if now < self._look_at:
            return
        self._look_at = now + float(self._config.health_every)
        for replica in replicas:
            if self.health:
                self._do(replica.look(self.health))
            if self._config.warm_connections and replica.healthy:
                self._do(replica.pool.warm(self._config.warm_connections))

    def _do(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    async def close(self) -> None:
        """Stop looking."""
        for task in list(self._looking):
            task.cancel()
        await asyncio.gather(*self._looking, return_exceptions=True)

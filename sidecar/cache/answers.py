"""All that reuse keeps from one configuration to the next: answers, flights, and the secret of its keys."""

import time
from collections.abc import Callable
from decimal import Decimal
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from collector.domain.money import usd
from collector.domain.usage import Usage
from collector.export.prometheus import CallMetrics
from collector.journal import JournalWriter
from collector.pricing.book import Quote
from sidecar.accounting import cost_of
from sidecar.cache.entry import Entry
from sidecar.cache.flights import Flights
from sidecar.cache.key import Key
from sidecar.cache.memory import MemoryStore
from sidecar.cache.names import digest_of
from sidecar.cache.settings import CacheConfig
from sidecar.keys import read_pepper

if TYPE_CHECKING:
    from sidecar.cache.redis_store import RedisStore
    from sidecar.cache.resemblance import Resemblance

_MOST_ASKED = 4096
ROUTED = "bursar_cache_route_requests_total"


class Which(NamedTuple):
    """Answers to forget; what is None is not looked at."""

    tenant: str | None = None
    model: str | None = None
    tag: tuple[str, str] | None = None

    def fits(self, entry: Entry) -> bool:
        """Whether ``entry`` is one of them."""
        return (
            (self.tenant is None or entry.tenant == self.tenant)
            and (self.model is None or entry.request_model == self.model)
            and (self.tag is None or entry.tags.get(self.tag[0]) == self.tag[1])
        )


class Answers:
    """Looks answers up and keeps them, in this process or in Redis.

    Args:
        data_dir: where the server's pepper is.
        clock: seconds since the epoch.
        worker: which of this machine's processes this is.
        journal: told how similar answers compared with the model's.
        quote: what a model of a provider costs at a time (:meth:`collector.pricing.book.PriceBook.quote`).
    """

    def __init__(
        self,
        config: CacheConfig,
        data_dir: Path,
        metrics: CallMetrics,
        clock: Callable[[], float] = time.time,
        worker: int = 0,
        journal: JournalWriter | None = None,
        quote: Callable[[str, str, int], Quote] | None = None,
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._metrics = metrics
        self.clock = clock
        self.flights = Flights()
        self.memory = MemoryStore(config.memory, by_value=config.retention == "value")
        self.redis: RedisStore | None = None
        self.similar: Resemblance | None = None
        """None where no route asks for similar answers."""
        self._journal = journal
        self._quote = quote
        self._worker = worker
        self.embedding_usd = Decimal(0)
        """What an embeddings endpoint has cost since the start."""
        self.purges = 0
        """How often answers were taken away; answers asked for before the last time are not kept."""
        self._asked: dict[Key, float] = {}

    @cached_property
    def secret(self) -> bytes:
        """The server's pepper."""
        return read_pepper(self._data_dir)

    def start(self) -> None:
        """Connect to Redis, where one is set.

        Raises:
            EncryptionMissing: answers shall be encrypted, and cannot be.
        """
        self._show_targets()
        if self._config.redis is not None:
            self._connect(self._config.redis)
        if self._config.any_semantic:
            self._resemble()

    def _connect(self, redis: str) -> None:
        from sidecar.budgets.redis_connection import parse_address
        from sidecar.cache.redis_store import RedisStore
        from sidecar.cache.sealing import Sealer

        self.redis = RedisStore(
            parse_address(redis),
            Sealer(self.secret, encrypt=self._config.encrypt),
            lambda: self._edited(1),
            self._dropped,
        )
        self.redis.start()

    def _resemble(self) -> None:
        from sidecar.cache.noting import note_comparison
        from sidecar.cache.resemblance import Resemblance

        config, journal = self._config, self._journal
        more = {"redis": config.redis, "secret": self.secret, "encrypt": config.encrypt}
        self.similar = Resemblance(
            config.similar,
            self._data_dir,
            str(self._worker),
            self._metrics,
            more=more if config.redis is not None else None,
            redis=self.redis,
            on_compared=partial(note_comparison, journal) if journal is not None else None,
            on_used=self._embedded,
            on_edited=self._edited,
        )
        self.similar.start()

    def _edited(self, count: int) -> None:
        """Count what somebody edited in Redis; ``CacheTampered`` fires."""
        self._metrics.add("bursar_cache_tampered_total", {}, count)

    def _embedded(self, tokens: int) -> None:
        """Count what an embeddings endpoint has read for us, and what that costs at its model's price."""
        labels = {"model": self._config.similar.embedding.model}
        self._metrics.add("bursar_cache_embedding_tokens_total", labels, tokens)
        if self._quote is not None:
            quote = self._quote("", labels["model"], int(self.clock() * 1e6))
            cost = usd(cost_of(Usage(input_tokens=tokens), quote, "").effective_pico)
            self._metrics.add("bursar_cache_embedding_cost_usd_total", labels, cost)
            self.embedding_usd += cost

    async def follow(self, config: CacheConfig) -> None:
        """Look for similar answers as ``config`` says; where answers lie does not change before a restart."""
        before, self._config = self._config, config
        self._show_targets()
        if (
            before.any_semantic == config.any_semantic
            and before.similar.embedding == config.similar.embedding
        ):
            return
        similar, self.similar = self.similar, None
        if similar is not None:
            await similar.close()
        if config.any_semantic:
            self._resemble()

    def _show_targets(self) -> None:
        self._metrics.clear_gauge("bursar_cache_route_hit_target_ratio")
        for name, route in self._config.named_routes:
            for result in ("hit", "miss"):
                self._metrics.add(ROUTED, {"route": name, "result": result}, 0)  # No hit is a rate, too.
            if route.hit_target is not None:
                self._metrics.set_gauge(
                    "bursar_cache_route_hit_target_ratio", {"route": name}, float(route.hit_target)
                )

    def count(self, route: str, result: str) -> None:
        """Note what reuse had to say to a call of ``route``."""
        self._metrics.add(ROUTED, {"route": route, "result": result}, 1)

    async def close(self) -> None:
        """Give up the connection."""
        if self.similar is not None:
            await self.similar.close()
        if self.redis is not None:
            await self.redis.close()

    async def get(self, key: Key, tenant: str, model: str, max_age_s: float) -> Entry | None:
        """The answer kept under ``key``, not older than ``max_age_s``."""
        now = self.clock()
        if self.redis is None:
            entry = self.memory.get(key, now)
        else:
            entry = await self.redis.get(key, tenant, model, now)
        if entry is None or now - entry.stored_at > max_age_s:
            return None
        return entry

    @property
    def is_certain(self) -> bool:
        """Whether an answer that is not found is not there."""
        return self.redis is None or self.redis.quick

    def put(self, key: Key, entry: Entry) -> None:
        """Keep ``entry``."""
        if self.redis is None:
            self.memory.put(key, entry)
        else:
            self.redis.put(key, entry)

    def asked_again(self, key: Key, entry: Entry) -> float:
        """Note that ``entry`` answers a call; seconds since it was last asked for."""
        now = self.clock()
        if self.redis is None:
            since = now - entry.last_asked_at
            entry.last_asked_at = now
            entry.hits += 1
            return since
        asked = self._asked
        since = now - asked.pop(key, entry.stored_at)
        if len(asked) >= _MOST_ASKED:
            del asked[next(iter(asked))]
        asked[key] = now
        return since

    async def purge(self, which: Which) -> int:
        """Forget answers; how many there were. Those under way now are not kept either.

        Raises:
            RedisLost: Redis does not answer.
        """
        self.purges += 1
        digests = [key.digest for key in self.memory.purge(which.fits)]
        gone = len(digests)
        if self.redis is not None:
            taken = await self.redis.purge(which.tenant, which.model, which.tag)
            gone, digests = gone + taken.answers, digests + taken.digests
        if self.similar is not None:
            finder = self.similar.finder
            if which.tag is None:
                owner = (None if name is None else digest_of(name) for name in (which.tenant, which.model))
                finder.forget(*owner)
            else:
                finder.lose(digests)  # Which questions have a tag is not known there.
        return gone

    def stats(self) -> dict[str, object]:
        """What is kept, for people."""
        kept = self._stored()
        if self.similar is not None:
            kept["similar"] = self.similar.stats() | {"embedding_cost_usd": f"{self.embedding_usd:f}"}
        return kept

    def _stored(self) -> dict[str, object]:
        if self.redis is not None:
            return {"store": "redis", "reachable": self.redis.quick, "full": self.redis.full}
        memory = self.memory
        return {
            "store": "memory",
            "answers": len(memory),
            "bytes": memory.size,
            "room_bytes": int(memory.room),
            "evicted": memory.evicted,
            "in_the_air": len(self.flights),
        }

    def _dropped(self, reason: str) -> None:
        self._metrics.add("bursar_dropped_total", {"stage": "cache", "reason": reason}, 1)

"""What ``bursar.yaml`` says of the reuse of answers."""

from dataclasses import dataclass, field
from typing import Literal

from collector.settings import Duration, Size
from sidecar.budgets.configured import MatchConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRouteConfig:
    """Some of the calls, treated in their own way; the first route that fits a call is its route."""

    match: MatchConfig = field(default_factory=MatchConfig)
    """Which calls it is for."""
    exact: Literal["on", "off", "always"] = "on"
    """``on`` for requests that repeat themselves, ``always`` for all, also those that draw lots."""
    ttl: Duration | None = None
    """How long an answer may be given again; ``cache.ttl`` when left out."""

    @property
    def is_for_all(self) -> bool:
        """Whether it names no call in particular."""
        return self.match == MatchConfig()


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Reuse of answers."""

    exact: bool = True
    """Answer identical requests again where they repeat themselves: temperature 0, or embeddings."""
    semantic: bool = False
    """Answer similar requests."""
    ttl: Duration = Duration(3600)
    """How long an answer may be given again."""
    share: Literal["tenant", "team", "user", "key"] = "tenant"
    """Whose calls may be answered by each other's answers; nobody's answers ever leave the tenant."""
    memory: Size = Size(8 << 20)
    """Room for answers in this process, where no Redis is set."""
    retention: Literal["value", "lru"] = "value"
    """Which answers leave when the room is full: those expected to save least, or those not used longest."""
    largest: Size = Size(512 << 10)
    """Longest answer that is kept."""
    wait: Duration = Duration(60)
    """How long a call waits for the answer to an identical one that is under way."""
    redis: str | None = None
    """Address of a Redis for answers that many sidecars share; it may evict, so never the budgets' own."""
    encrypt: bool = False
    """Encrypt answers in Redis (AES-256-GCM); needs the ``encryption`` extra."""
    routes: list[CacheRouteConfig] = field(default_factory=list)
    """Calls that are treated otherwise."""

    def __post_init__(self) -> None:
        if self.redis is not None:
            from sidecar.budgets.redis_connection import parse_address

            parse_address(self.redis)

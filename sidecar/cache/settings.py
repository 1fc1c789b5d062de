"""What ``bursar.yaml`` says of the reuse of answers."""

from dataclasses import field
from typing import Literal

from collector.frozen import dataclass
from collector.settings import Duration, Size
from sidecar.budgets.configured import MatchConfig
from sidecar.cache.similar.settings import EmbeddingConfig, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarConfig:
    """Answers to questions that ask for the same in other words, where a route allows them."""

    distance: float = 0.05
    """Cosine distance up to which two questions may share an answer; 0.10 is what is usual, at more errors.

    Guards for numbers, opposites, names, units, languages and the order of words decide besides.
    """
    max_error: Share = Share(0.01)
    """Share of similar answers served that may be wrong; none is served until so much has been shown."""
    verify: Share = Share(0.05)
    """Part of the similar answers that could be served, but are compared with what the model says."""
    rephrased: bool = True
    """Whether questions in altogether other words count, or only those in almost the same."""
    multi_turn: bool = False
    """Whether conversations count; what was said before must be the same to the letter."""
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    """What finds similar questions."""

    def __post_init__(self) -> None:
        check_distance(self.distance)
        if not 0 < self.max_error <= 0.5 or self.verify <= 0:
            raise ValueError("max_error must be more than 0 and at most 50%, and verify more than 0")


def check_distance(distance: float) -> None:
    """Refuse what is no useful distance.

    Raises:
        ValueError: it is not between 0 and 0.3.
    """
    if not 0 < distance <= 0.3:
        raise ValueError(f"distance: {distance} is not more than 0 and at most 0.3")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheRouteConfig:
    """Some of the calls, treated in their own way; the first route that fits a call is its route."""

    match: MatchConfig = field(default_factory=MatchConfig)
    """Which calls it is for."""
    name: str = ""
    """What metrics call it; its place in the list, from 1, when left out."""
    hit_target: Share | None = None
    """Share of its calls meant to be answered from the cache; ``CacheHitRateLow`` fires below it."""
    exact: Literal["on", "off", "always"] = "on"
    """``on`` for requests that repeat themselves, ``always`` for all, also those that draw lots."""
    ttl: Duration | None = None
    """How long an answer may be given again; ``cache.ttl`` when left out."""
    semantic: bool | None = None
    """Whether similar requests are answered, too; ``cache.semantic`` when left out."""
    distance: float | None = None
    """In place of ``cache.similar.distance``."""
    max_error: Share | None = None
    """In place of ``cache.similar.max_error``."""

    def __post_init__(self) -> None:
        if self.distance is not None:
            check_distance(self.distance)
        if self.max_error is not None and not 0 < self.max_error <= 0.5:
            raise ValueError("max_error: must be more than 0 and at most 50%")
        if self.hit_target is not None and self.hit_target <= 0:
            raise ValueError("hit_target: must be more than 0, such as 70%")
        if self.semantic and self.exact == "off":
            raise ValueError("semantic: similar answers are given where identical ones are; set exact")

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
    """Answer similar requests wherever identical ones are answered; better set for a route."""
    similar: SimilarConfig = field(default_factory=SimilarConfig)
    """How similar answers are found, and how right they must be."""
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

    @property
    def any_semantic(self) -> bool:
        """Whether some calls may be answered by similar answers."""
        return (self.semantic and (self.exact or bool(self.routes))) or any(
            route.semantic for route in self.routes
        )

    @property
    def named_routes(self) -> list[tuple[str, CacheRouteConfig]]:
        """The routes with their names in metrics."""
        return [(route.name or str(place), route) for place, route in enumerate(self.routes, 1)]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.named_routes]
        if len(set(names)) < len(names):
            raise ValueError("routes: two of them have one name")
        if self.redis is not None:
            from sidecar.budgets.redis_connection import parse_address

            parse_address(self.redis)

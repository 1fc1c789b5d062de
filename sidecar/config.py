"""Everything that ``bursar.yaml`` can say, in one place.

Each field's help stands below it; ``bursar check`` prints what is in force.
"""

import os
from collections.abc import Mapping
from dataclasses import field
from decimal import Decimal
from pathlib import Path
from typing import Literal
from urllib.parse import quote, urlsplit

from alerts.settings import AlertsConfig
from collector.domain.names import provider_name
from collector.frozen import dataclass
from collector.pricing.configured import InvalidPrices, configured_prices
from collector.pricing.regions import region_name, region_of_address
from collector.probes.capacity import CapacityConfig, Pool
from collector.settings import (
    Address,
    CollectorConfig,
    Duration,
    InvalidSettings,
    Problem,
    Secret,
    Size,
    load,
)
from inference.settings import InferenceConfig
from sidecar.access import AccessConfig
from sidecar.budgets.configured import (
    BudgetConfig,
    ConcurrencyConfig,
    DowngradeConfig,
    OffTrackConfig,
    RunawayConfig,
    ThrottleConfig,
    policy_of,
)
from sidecar.cache.settings import CacheConfig
from sidecar.providers.litellm_settings import LitellmConfig, LitellmWorkerConfig
from sidecar.providers.pool_settings import BreakerConfig, FallbackConfig, PrefixConfig

DEFAULT_FILE = Path("bursar.yaml")
OTHER_VARIABLES = frozenset(
    {
        "BURSAR_AGENT_KEY",
        "BURSAR_COLLECTOR_URL",
        "BURSAR_CONTROL_URL",
        "BURSAR_CONFIG",
        "BURSAR_DASHBOARD_PROXIES",
        "BURSAR_DASHBOARD_SIGN_IN",
        "BURSAR_KEY_PEPPER",
        "BURSAR_LOG_LEVEL",
        "BURSAR_NATIVE",
        "BURSAR_SHARED",
        "BURSAR_URL",
    }
)
"""Variables with our prefix that are not overrides of a setting."""

Dialect = Literal["chat", "completions", "responses", "embeddings", "messages"]
UpstreamKind = Literal["openai", "anthropic", "vllm", "litellm", "azure", "google", "bedrock", "cohere"]

DEFAULT_BASE_URLS = {
    "openai": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com",
    "google": "https://generativelanguage.googleapis.com",
    "cohere": "https://api.cohere.com",
}
DEFAULT_RETRIES = 2
DEFAULT_CONNECTIONS = {"openai": 100, "anthropic": 50}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineConfig:
    """How long we wait for others, in seconds."""

    connect: Duration = Duration(10)
    """For a connection to an upstream, TLS included."""
    queue: Duration = Duration(10)
    """For a free connection to an upstream that has all of them in use."""
    first_byte: Duration = Duration(600)
    """For the first byte of an upstream's reply."""
    idle: Duration = Duration(120)
    """Between two bytes of a running stream, on either side."""
    total: Duration = Duration(1800)
    """For one call."""
    header: Duration = Duration(10)
    """For the head of a request."""
    body: Duration = Duration(30)
    """For the body of a request that comes slower than 1 kB a second."""
    keep_alive: Duration = Duration(75)
    """For the next request on an idle connection."""
    drain: Duration = Duration(25)
    """For running calls after SIGTERM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitConfig:
    """What one client may send or hold."""

    body: Size = Size(20 << 20)
    """Largest request body."""
    header: Size = Size(32 << 10)
    """Largest request head."""
    header_fields: int = 100
    """Most fields in a request head."""
    streams: int = 2048
    """Calls running at once; the next is answered 503."""
    streams_per_key: int = 64
    """Calls of one virtual key running at once."""
    connections: int = 4096
    """Client connections open at once."""
    cost_header_body: Size = Size(256 << 10)
    """A whole reply up to this size is read before its head is sent, so that the head can say its cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamConfig:
    """A provider account, or a pool of vLLM replicas."""

    kind: UpstreamKind = "openai"
    """Which wire format and price family it has."""
    base_url: str | None = None
    """Where it is; the provider's own address where the kind has one."""
    replicas: tuple[str, ...] = ()
    """Servers of a pool, instead of ``base_url``."""
    api_key: Secret | None = None
    """Our key there. Without one, and without virtual keys, the agent's own key is passed on."""
    dialects: tuple[Dialect, ...] = ()
    """What it speaks, where that is not all or only what its kind does. Calls in others are translated."""
    provider: str = ""
    """``gen_ai.provider.name``; derived from the kind and the host when empty."""
    region: str = ""
    """Where it processes calls, such as ``eu`` or ``us-east5``; derived from the address when empty. Some
    providers charge more for a region. What a reply says of it goes before."""
    connections: int | None = None
    """Connections to each replica; 100 for openai, 50 for anthropic, else 100."""
    queue: int = 1024
    """Calls that may wait for a connection to a replica; the next is refused at once."""
    warm_connections: int = 0
    """Connections to each replica that are kept open though nobody uses them."""
    balance: Literal["least", "round_robin", "ewma", "prefix"] = "least"
    """Which replica gets a call: the one with the fewest under way, each in turn, the one that answers
    soonest, or the one that has the beginning of the conversation cached."""
    weights: tuple[int, ...] = ()
    """Shares of the replicas, in their order; all the same where nothing is said."""
    prefix: PrefixConfig = field(default_factory=PrefixConfig)
    """For ``balance: prefix``."""
    retries: int | None = None
    """How often a call is tried again (429, 500, 502, 503, 504, 529, no answer, an error inside a stream
    before any of its content); 2 where nothing is said. A server without replicas is then asked again only
    after 429, 503 and 529, as it has not begun what it turned away, and where no fallback stands in."""
    retry_budget: Decimal = Decimal("0.2")
    """Retries for each call, over time: 0.2 lets a failing upstream see a fifth more than its usual load."""
    hedge: Duration | None = None
    """Ask a second replica when the first has sent nothing for so long; whoever answers first is taken. Both
    may cost money."""
    breaker: BreakerConfig = field(default_factory=BreakerConfig)
    """When a replica that fails is left alone."""
    health: str | None = None
    """Path that says whether a replica is well; ``/health`` for several replicas of vllm, else none."""
    health_every: Duration = Duration(2)
    """How often replicas are asked, and connections kept warm."""
    inject_usage: bool = True
    """Ask for usage in streams of agents that did not."""
    forward_trace: bool | None = None
    """Send ``traceparent`` there; by default to vllm alone."""
    unmetered_paths: tuple[str, ...] = ()
    """Paths that may spend money without telling us how much; all others of that sort are refused."""
    headers: dict[str, str] = field(default_factory=dict)
    """Fixed headers to send, such as an organisation or an API version."""
    ca_file: Path | None = None
    """Certificates to trust instead of the system's."""
    litellm: LitellmConfig = field(default_factory=LitellmConfig)
    """For kind litellm: which provider, and what litellm needs to know to reach it."""
    gpu_hour_usd: Decimal | None = None
    """What one GPU of this pool costs an hour."""
    energy_kwh_usd: Decimal | None = None
    """What a kilowatt-hour costs; leave it out where the price of an hour includes it."""
    capacity: CapacityConfig = field(default_factory=CapacityConfig)
    """More of the GPUs under this pool, for the true cost of its tokens."""

    def __post_init__(self) -> None:
        for url in self.urls:
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
                raise ValueError(f"{url!r} is not an http(s) address without user, password and query")
        if self.kind == "litellm" and self.replicas:
            raise ValueError("an upstream of kind litellm has no replicas; base_url may say where it is")
        if self.kind != "litellm" and self.litellm != LitellmConfig():
            raise ValueError(f"litellm: is for kind litellm, not {self.kind}")
        if self.weights and (
            len(self.weights) != len(self.urls) or not all(1 <= w <= 100 for w in self.weights)
        ):
            raise ValueError(f"weights: needs {len(self.urls)} numbers from 1 to 100, one for each replica")
        if not 0 <= self.retry_limit <= 10:
            raise ValueError(f"retries: {self.retries} is not between 0 and 10")
        if not 0 <= self.retry_budget <= 10:
            raise ValueError(f"retry_budget: {self.retry_budget} is not between 0 and 10")
        if self.queue < 1 or (self.connections is not None and self.connections < 1):
            raise ValueError("queue and connections are at least 1")
        if self.health and not self.health.startswith("/"):
            raise ValueError(f"health: {self.health!r} is not a path; write /health")
        if len(set(self.urls)) != len(self.urls):
            raise ValueError("replicas: one is named twice; weights may give it a larger share")
        if not self.urls and self.kind != "litellm":
            raise ValueError(f"an upstream of kind {self.kind} needs base_url or replicas")

    @property
    def urls(self) -> tuple[str, ...]:
        """Base addresses of all replicas."""
        if self.replicas:
            return self.replicas
        base = self.base_url or DEFAULT_BASE_URLS.get(self.kind)
        return (base,) if base else ()

    @property
    def where(self) -> str:
        """The region that it processes calls in, as far as that is known; else empty."""
        said = self.region or self.litellm.vertex_location or self.litellm.aws_region_name
        return region_name(said) or next(filter(None, map(region_of_address, self.urls)), "")

    def provider_of(self, name: str, host: str = "") -> str:
        """``gen_ai.provider.name`` of this upstream, whose own name is ``name``."""
        return self.provider or provider_name(self.kind, host, self.litellm.provider or name)

    @property
    def connection_limit(self) -> int:
        """Connections that may be open to each replica."""
        return self.connections or DEFAULT_CONNECTIONS.get(self.kind, 100)

    @property
    def retry_limit(self) -> int:
        """How often a call is tried again at most."""
        return DEFAULT_RETRIES if self.retries is None else self.retries

    @property
    def health_path(self) -> str:
        """Path that says whether a replica is well; empty for none."""
        if self.health is not None:
            return self.health
        return "/health" if self.kind == "vllm" and len(self.urls) > 1 else ""

    @property
    def is_plain(self) -> bool:
        """One server, asked again only when it turns a call away: nothing to decide before that."""
        return len(self.urls) <= 1 and not self.retries


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """Where calls for one model go."""

    upstream: str
    """Name of an upstream."""
    model: str = ""
    """What the upstream calls it, where that differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlConfig:
    """The operator's side: metrics, directives, administration."""

    listen: Address = Address("127.0.0.1", 4001)
    """Where it answers."""
    key: Secret | None = None
    """Bearer key; required off loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardConfig:
    """The Streamlit dashboard."""

    listen: Address = Address("127.0.0.1", 8501)
    """Where it answers."""
    trace_url: str = ""
    """Where a call's trace is looked at, such as ``https://tempo.example/trace/{trace_id}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSettings:
    """The sidecar's own disk."""

    cap: Size = Size(1 << 30)
    """Disk that the journal may take."""
    reserve: Size = Size(64 << 20)
    """The last part of it, kept for cost records alone."""
    sync: Literal["interval", "always"] = "interval"
    """``always`` syncs each record before its call ends: for audits."""
    sync_interval: Duration = Duration(0.1)
    """What a power cut may take."""
    on_full: Literal["continue", "refuse"] = "continue"
    """Whether calls go on, unrecorded and counted, when nothing more can be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureConfig:
    """Prompts and answers in the ledger; off, and opt-in for each key."""

    content: bool = False
    """Capture for callers without a virtual key. A key says for itself."""
    max_bytes: Size = Size(16 << 10)
    """Longest input and output kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """How many values a Prometheus label may take before the rest is ``other``."""

    model: int = 100
    """Models."""
    team: int = 50
    """Teams."""
    agent: int = 50
    """Agents."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolConfig:
    """A tool that agents use."""

    price: Decimal = Decimal(0)
    """What one use of it costs, in USD; shown beside what models cost, never summed with it."""

    def __post_init__(self) -> None:
        if not 0 <= self.price <= 1_000_000:
            raise ValueError(f"price: {self.price} is not between 0 and a million USD")


def _default_upstreams() -> dict[str, UpstreamConfig]:
    return {"openai": UpstreamConfig(kind="openai"), "anthropic": UpstreamConfig(kind="anthropic")}


@dataclass(frozen=True, slots=True, kw_only=True)
class BursarConfig:
    """One ``bursar.yaml``."""

    listen: Address = Address("127.0.0.1", 4000)
    """Where agents find the sidecar."""
    control: ControlConfig = field(default_factory=ControlConfig)
    """The operator's side."""
    collector: CollectorConfig = field(default_factory=CollectorConfig)
    """The process that keeps the books."""
    dashboard: DashboardConfig = field(default_factory=DashboardConfig)
    """The dashboard."""
    access: AccessConfig = field(default_factory=AccessConfig)
    """Who may look at it."""
    data_dir: Path = Path(".bursar")
    """Journal, database, snapshot, keys."""
    redis: str | None = None
    """``redis://`` or ``rediss://`` address, for budgets that many sidecars share."""
    workers: int = 1
    """Processes that share the port; what they spend counts together, through Redis or a process of ours."""
    upstreams: dict[str, UpstreamConfig] = field(default_factory=_default_upstreams)
    """Whom calls can go to."""
    models: dict[str, ModelConfig] = field(default_factory=dict)
    """Which upstream serves which model; others go to the first upstream that speaks the dialect."""
    prices: dict[str, dict[str, Decimal]] = field(default_factory=dict)
    """USD per million tokens (``per_request``: USD), by model; wins over the price book."""
    tools: dict[str, ToolConfig] = field(default_factory=dict)
    """Tools that agents use, by the name that models know them by."""
    price_source: str | None = None
    """File or https address of newer prices, in our own format, litellm's or genai-prices'."""
    price_refresh: Duration = Duration(3600)
    """How often ``price_source`` is read again."""
    budgets: list[BudgetConfig] = field(default_factory=list)
    """Limits on spending."""
    downgrades: list[DowngradeConfig] = field(default_factory=list)
    """Which models may stand in for which."""
    fallbacks: list[FallbackConfig] = field(default_factory=list)
    """Which models are asked when another does not answer."""
    throttles: list[ThrottleConfig] = field(default_factory=list)
    """How fast calls may spend, in each worker of each sidecar."""
    concurrency: list[ConcurrencyConfig] = field(default_factory=list)
    """How many calls may run at once, in each worker of each sidecar."""
    off_track: OffTrackConfig = field(default_factory=OffTrackConfig)
    """What happens to streams that repeat themselves without end."""
    runaway: RunawayConfig = field(default_factory=RunawayConfig)
    """What happens to conversations that run in circles."""
    litellm: LitellmWorkerConfig = field(default_factory=LitellmWorkerConfig)
    """The process that upstreams of kind litellm go through."""
    cut_style: Literal["length", "error"] = "length"
    """How a stream that we cut ends: as if the model had reached its length, or with an error event."""
    cache: CacheConfig = field(default_factory=CacheConfig)
    """Reuse of answers."""
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    """Where alerts go, when they fire, and what they may do."""
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    """Model servers that we start ourselves."""
    limits: LimitConfig = field(default_factory=LimitConfig)
    """What one client may send or hold."""
    deadlines: DeadlineConfig = field(default_factory=DeadlineConfig)
    """How long we wait."""
    journal: JournalSettings = field(default_factory=JournalSettings)
    """The sidecar's own disk."""
    capture: CaptureConfig = field(default_factory=CaptureConfig)
    """Prompts and answers in the ledger."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    """Caps on Prometheus labels."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags that every call gets."""
    allow_remote: bool = False
    """Let ``listen`` be other than loopback. Needs at least one virtual key."""

    def __post_init__(self) -> None:
        for name in self.upstreams:
            if name in RESERVED_NAMES or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"upstreams.{name}: not usable as the first part of a path")
        for model, target in self.models.items():
            if target.upstream not in self.upstreams:
                raise ValueError(
                    f"models.{model}.upstream: {target.upstream!r} is not one of {', '.join(self.upstreams)}"
                )
        try:
            policy_of(self.budgets, self.downgrades, self.throttles, self.concurrency)
        except ValueError as error:
            raise ValueError(f"budgets: {error}") from error
        if not 1 <= self.workers <= 64:
            raise ValueError(f"workers: {self.workers} is not between 1 and 64")
        if self.redis is not None:
            from sidecar.budgets.redis_connection import parse_address

            try:
                parse_address(self.redis)
            except ValueError as error:
                raise ValueError(f"redis: {error}") from error
        if (
            self.cache.redis is not None
            and self.redis is not None
            and same_database(self.cache.redis, self.redis)
        ):
            raise ValueError(
                "cache.redis: is where budgets are counted; use a database, better a server, of its own"
            )
        if not self.listen.is_loopback and not self.allow_remote:
            raise ValueError(
                f"listen: {self.listen} is open to others; set allow_remote: true and create a key"
            )
        if not self.control.listen.is_loopback and self.control.key is None:
            raise ValueError("control.key: required when control.listen is not loopback")
        if not self.collector.listen.is_loopback and self.control.key is None:
            raise ValueError("control.key: required when collector.listen is not loopback")

    @property
    def pools(self) -> list[Pool]:
        """Servers of our own, whose engines the collector watches and whose cost it divides."""
        return [
            Pool(
                upstream=name,
                urls=upstream.urls,
                capacity=upstream.capacity,
                gpu_hour_usd=upstream.gpu_hour_usd,
                energy_kwh_usd=upstream.energy_kwh_usd,
            )
            for name, upstream in self.upstreams.items()
            if upstream.kind == "vllm"
        ]

    @property
    def shared_store(self) -> str | None:
        """Address of what counts budgets for several processes; None where one counts alone."""
        if self.redis is not None or self.workers == 1:
            return self.redis
        return f"unix://{quote(str((self.data_dir / 'run' / 'budgets.sock').absolute()))}"

    @property
    def journal_dir(self) -> Path:
        """Where the sidecar's segments lie."""
        return self.data_dir / "journal"

    @property
    def secrets(self) -> list[str]:
        """Every secret of this configuration, for redaction."""
        found = [upstream.api_key.reveal() for upstream in self.upstreams.values() if upstream.api_key]
        found += [secret for upstream in self.upstreams.values() for secret in upstream.litellm.secrets]
        found += self.alerts.secrets
        signing = (self.access.oidc.client_secret, self.access.oidc.cookie_secret)
        found += [secret.reveal() for secret in signing if secret]
        return found + ([self.control.key.reveal()] if self.control.key else [])


def same_database(one: str, other: str) -> bool:
    """Whether two Redis addresses name the same database of the same server."""
    from sidecar.budgets.redis_connection import parse_address

    a, b = parse_address(one), parse_address(other)
    where = [(item.host, item.port) if not item.path else item.path for item in (a, b)]
    return where[0] == where[1] and a.database == b.database


RESERVED_NAMES = frozenset({"v1", "bursar", "healthz", "readyz", "metrics"})
"""First parts of paths that are ours."""


def stamp_of(path: Path) -> tuple[int, int] | None:
    """What changes when the file does; None while there is none."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


def config_path(given: Path | None, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the configuration is: ``given``, else in ``BURSAR_CONFIG``, else ./bursar.yaml, there or not."""
    named = environ.get("BURSAR_CONFIG")
    return given or (Path(named) if named else DEFAULT_FILE)


def load_config(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> BursarConfig:
    """The configuration in ``path``, else in ``BURSAR_CONFIG``, else in ./bursar.yaml, else the defaults.

    Raises:
        InvalidSettings: it cannot be used; says all that is wrong with it.
    """
    if path is None and (environ.get("BURSAR_CONFIG") or DEFAULT_FILE.exists()):
        path = config_path(None, environ)
    config = load(BursarConfig, path, environ)
    if path is None:
        config = _with_keys_of(config, environ)
    try:
        configured_prices(config.prices)
    except InvalidPrices as error:
        raise InvalidSettings([Problem(str(path), problem) for problem in error.problems]) from error
    return config


def _with_keys_of(config: BursarConfig, environ: Mapping[str, str]) -> BursarConfig:
    """Without a file, the providers' usual variables say which keys we hold."""
    from dataclasses import replace

    keys = {"openai": environ.get("OPENAI_API_KEY"), "anthropic": environ.get("ANTHROPIC_API_KEY")}
    upstreams = {
        name: replace(upstream, api_key=Secret(key)) if (key := (keys.get(name) or "").strip()) else upstream
        for name, upstream in config.upstreams.items()
    }
    return replace(config, upstreams=upstreams)

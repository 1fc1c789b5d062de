"""What alerting can be told: ``alerts:`` in ``bursar.yaml``.

Only the configuration reader's needs are imported here: the sidecar reads the same file.
"""

from dataclasses import field
from typing import Literal
from urllib.parse import urlsplit

from collector.frozen import dataclass
from collector.settings import Duration, Secret

Act = Literal["downgrade", "throttle", "pause", "cut"]
"""What the sidecar can be asked to do to calls."""

ACT_DIMENSIONS = ("tenant", "team", "user", "agent", "conversation", "task", "key", "model", "upstream")
"""By what calls can be picked out for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionPolicy:
    """When an alert may do something to calls, and what."""

    on: str
    """Name of the alert, such as SpendAnomaly or BudgetBurningFast."""
    do: Act
    """downgrade, throttle, pause or cut."""
    match: tuple[str, ...] = ("agent",)
    """Which of the alert's labels pick the calls out. Without all of them in the alert, nothing is done."""
    expires: Duration = Duration(1800)
    """How long the sidecar obeys without hearing of it again."""
    min_usd_per_hour: float = 0.0
    """Money an hour that must be at stake."""
    after: Duration = Duration(0)
    """How long the alert must have fired first."""
    per_minute: str = ""
    """Of a throttle: how much money a minute is left, such as 0.50 USD."""
    to: tuple[str, ...] = ()
    """Of a downgrade: the models to go to; the configured ones when empty."""
    dry_run: bool = True
    """Only say what would be done. Set it to false once the log has shown what that is."""

    def __post_init__(self) -> None:
        if unknown := [name for name in self.match if name not in ACT_DIMENSIONS]:
            raise ValueError(f"match: {', '.join(unknown)} is none of {', '.join(ACT_DIMENSIONS)}")
        if not self.match:
            raise ValueError("match: an action without a match would be for every call")
        if (self.do == "throttle") is not bool(self.per_minute):
            raise ValueError("per_minute: a throttle needs it, and nothing else takes it")
        if self.to and self.do != "downgrade":
            raise ValueError("to: only a downgrade goes to other models")
        if not 10 <= self.expires <= 86400:
            raise ValueError("expires: between 10s and 24h")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertsConfig:
    """Where alerts go, when they fire, and what they may do."""

    alertmanager: tuple[str, ...] = ()
    """Addresses of Alertmanager; of a highly available pair, both: they settle who notifies."""
    username: str = ""
    """For Alertmanager, where it asks for one."""
    password: Secret | None = None
    """For Alertmanager, where it asks for one."""
    token: Secret | None = None
    """Bearer token for Alertmanager, where it asks for one."""
    interval: Duration = Duration(15)
    """How often metrics are read and rules looked at."""
    heartbeat: Duration = Duration(30)
    """How often a firing alert is told again; it ends by itself after three without."""
    labels: dict[str, str] = field(default_factory=dict)
    """Added to every alert, such as {cluster: eu}; the same as Prometheus' external labels."""
    targets: dict[str, str] = field(default_factory=dict)
    """More metrics to read: job name to address, such as {vllm: http://10.0.0.5:8000/metrics}."""
    thresholds: dict[str, float] = field(default_factory=dict)
    """By alert, a number that replaces the shipped one, such as {LatencyHigh: 20}."""
    disabled: tuple[str, ...] = ()
    """Alerts that are not wanted."""
    cache_hit_target: float | None = None
    """Share of input meant to be read from providers' prompt caches; without it nobody warns of less."""
    pages_per_week: float = 5.0
    """How many pages a week detectors may cost. Rules and budgets page beyond it."""
    page_usd_per_hour: float = 5.0
    """Money an hour at stake from which an anomaly is worth a page; below it is a warning."""
    min_usd_per_hour: float = 0.10
    """Money an hour below which an anomaly of cost is only listed."""
    detectors: bool = True
    """Learn what is usual and warn of what is not."""
    injection: bool = True
    """Score what users write and tools return for prompt injection, on copies, beside the calls."""
    escalate_after: Duration = Duration(900)
    """A page that nobody has silenced for so long is escalated; 0 switches that off."""
    actions: tuple[ActionPolicy, ...] = ()
    """What alerts may do. None by default."""
    sidecars: tuple[str, ...] = ()
    """Control addresses of the sidecars that actions go to; the one of this configuration when empty."""
    most_directives: int = 20
    """Directives of alerts in force at once; more are only logged."""
    dashboard: str | None = None
    """Address of the dashboard as people reach it, for links; derived from dashboard.listen when empty."""

    def __post_init__(self) -> None:
        for url in (*self.alertmanager, *self.targets.values(), *self.sidecars):
            parts = urlsplit(url)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
                raise ValueError(f"{url!r} is not an http(s) address without user and password")
        if not 0 < self.interval <= 120:
            raise ValueError("interval: more than 0 and at most 2m")
        if self.cache_hit_target is not None and not 0 < self.cache_hit_target <= 1:
            raise ValueError("cache_hit_target: a share, such as 0.7")
        if self.pages_per_week < 0:
            raise ValueError("pages_per_week: 0 or more")

    @property
    def secrets(self) -> list[str]:
        """For redaction."""
        return [secret.reveal() for secret in (self.password, self.token) if secret is not None]

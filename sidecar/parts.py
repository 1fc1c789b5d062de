"""From a configuration to the parts that a sidecar is built of."""

import socket
import time
import uuid
from collections.abc import Callable

from collector.domain.policy import Policy
from collector.export.labels import LabelLimits
from collector.journal import JournalConfig
from collector.logs import get
from collector.pricing.book import PriceBook
from sidecar.budgets.books import LEDGER, BudgetBooks, Collector
from sidecar.budgets.charges import charges_by
from sidecar.budgets.configured import policy_of
from sidecar.budgets.memory import MemoryStore
from sidecar.budgets.replay import JournalReader
from sidecar.budgets.store import CreditStore
from sidecar.config import BursarConfig
from sidecar.http import Deadlines, Limits


def source_name(worker: int) -> str:
    """A name for this run of this worker: the host, and a boot id that sorts by time."""
    host = "".join(letter if letter.isalnum() else "_" for letter in socket.gethostname())[:32] or "host"
    boot = f"{time.time_ns() // 1_000_000:012x}{uuid.uuid4().hex[:8]}"
    return f"{host}-{worker}-{boot}"


def journal_config(config: BursarConfig) -> JournalConfig:
    """The journal's part of the configuration."""
    settings = config.journal
    return JournalConfig(
        cap_bytes=settings.cap,
        reserve_bytes=settings.reserve,
        sync_interval_s=settings.sync_interval,
        sync_always=settings.sync == "always",
    )


def policy_in(config: BursarConfig) -> Policy:
    """The rules about spending that a configuration has."""
    return policy_of(config.budgets, config.downgrades, config.throttles, config.concurrency)


def store_for(config: BursarConfig, source: str, policy_now: Callable[[], Policy]) -> CreditStore:
    """Where budgets are counted: in a store that several share, or here."""
    charges = charges_by(policy_now)
    books = BudgetBooks(policy_now, config.journal_dir, lambda: books_of(config))
    if config.shared_store is not None:
        from sidecar.budgets.redis_store import RedisStore

        history = JournalReader(config.journal_dir, charges).history
        return RedisStore(config.shared_store, source, truth=books.truth, history=history)
    return MemoryStore(source, directory=config.journal_dir, charges=charges, truth=books.ledger)


def books_of(config: BursarConfig) -> Collector | None:
    """Whom to ask what was spent; None where no collector has been, so that the journals have it all."""
    here = config.collector.listen
    if here.is_loopback and not (config.data_dir / LEDGER).exists():
        return None
    return Collector(address=here, key=config.control.key.reveal() if config.control.key else "")


def label_limits(config: BursarConfig) -> LabelLimits:
    """Which names become Prometheus labels: the configured ones, and the first few others."""
    return LabelLimits(
        upstreams=frozenset(config.upstreams),
        models=frozenset(config.models) | frozenset(config.prices),
        unconfigured_models=config.labels.model,
        unconfigured_teams=config.labels.team,
        unconfigured_agents=config.labels.agent,
    )


def load_prices(config: BursarConfig, *, told: bool = False) -> PriceBook:
    """The price book with the user's own prices on top.

    Args:
        told: what is probably a slip in them was logged before.
    """
    prices = PriceBook.load(config.prices)
    if config.prices and not told:
        for warning in prices.warnings:
            get("bursar").warning(str(warning))
    return prices


def limits_of(config: BursarConfig) -> Limits:
    """What the HTTP server allows."""
    limits = config.limits
    return Limits(
        body_bytes=limits.body,
        head_bytes=limits.header,
        head_fields=limits.header_fields,
        connections=limits.connections,
        # One more than calls: the call too many is refused in its dialect, and recorded.
        requests=max(4096, 2 * limits.streams),
    )


def deadlines_of(config: BursarConfig) -> Deadlines:
    """How long either side of the wire may take."""
    given = config.deadlines
    return Deadlines(
        connect_s=given.connect,
        first_byte_s=given.first_byte,
        idle_s=given.idle,
        total_s=given.total,
        head_s=given.header,
        body_s=given.body,
        keep_alive_s=given.keep_alive,
        stalled_client_s=given.idle,
        queue_s=given.queue,
    )

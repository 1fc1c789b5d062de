"""The composition root: builds everything a sidecar is made of, and hands it to those who need it.

A call's way is one line here: record, limit, identify, reuse, admit, forward.
"""

import asyncio
import gc
import os
import resource
import socket
import time
from datetime import UTC, datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Final

from collector.domain.policy import State
from collector.domain.price import TokenPrice
from collector.export.prometheus import CallMetrics
from collector.journal import JournalWriter
from collector.logs import get
from sidecar.agents import AgentPages
from sidecar.asker import dialect_of
from sidecar.books import Books
from sidecar.budgets.again import Readmission
from sidecar.budgets.charges import charges_by
from sidecar.budgets.credit import CreditControl
from sidecar.budgets.directives import Directives
from sidecar.budgets.guard import StreamGuard
from sidecar.budgets.replay import JournalReader
from sidecar.budgets.runaway import RunawayBreaker
from sidecar.cache.answers import Answers
from sidecar.call import Call, Onward, compose
from sidecar.config import BursarConfig
from sidecar.control import Control, leave_state
from sidecar.copies import Copies
from sidecar.errors import NoRoute
from sidecar.http import HeaderList, Outbox, Request, Responder, Server
from sidecar.keys import KeyFileBroken, KeyRing, read_pepper
from sidecar.native import native
from sidecar.parts import (
    deadlines_of,
    journal_config,
    label_limits,
    limits_of,
    load_prices,
    policy_in,
    source_name,
    store_for,
)
from sidecar.providers.opening import upstream_of, worker_of
from sidecar.providers.pages import show_replicas
from sidecar.routes import route_of
from sidecar.routing import Routing
from sidecar.stages.admit import Admit
from sidecar.stages.forward import Forward
from sidecar.stages.identify import Identify
from sidecar.stages.limit import Limit
from sidecar.stages.record import Record
from sidecar.stages.reuse import Reuse
from sidecar.stitching import Stitching
from sidecar.wire import error_body, error_fields
from sidecar.workers import control_socket

if TYPE_CHECKING:
    from sidecar.providers.worker import LitellmWorker

log = get("bursar.sidecar")

SHARED_TRUST_US = 250_000
"""How long what a shared store said may be relied on to refuse a call without asking it again."""

MEASURED_EVERY_S = 2.0
"""How often the sidecar looks whether the collector has measured anew what own tokens cost."""

LOOSE: Final = 20_000
"""So many new objects are looked through for cycles, a few milliseconds, when nobody has to wait for it."""

TICK_S = 0.5
"""How often the things that only age are looked at: keys, gauges, configuration."""


class Plane:
    """What a configuration stands for; swapped whole when the configuration changes."""

    def __init__(
        self,
        config: BursarConfig,
        books: Books,
        keys: KeyRing,
        credit: CreditControl,
        runaways: RunawayBreaker,
        answers: Answers,
        outbox: Outbox,
        worker: "LitellmWorker | None" = None,
    ) -> None:
        deadlines = deadlines_of(config)
        self.worker = worker
        """What upstreams of kind litellm go through; None where there are none."""
        if worker is not None:
            worker.join()
        self.upstreams = {
            name: upstream_of(name, item, deadlines, worker, outbox)
            for name, item in config.upstreams.items()
        }
        self.names = frozenset(self.upstreams)
        self.kinds = {name: item.kind for name, item in config.upstreams.items()}
        self.record = Record(books, self.kinds)
        limit = Limit(books, config.limits.streams)
        self.identify = identify = Identify(
            keys,
            control_key=config.control.key.reveal() if config.control.key else None,
            require_key=not config.listen.is_loopback,
            streams_per_key=config.limits.streams_per_key,
            capture=config.capture.content,
            tags=config.tags,
            stitching=books.stitching,
            # Only on pass-through may a body name several models, and there its path says who gets it.
            dearest=lambda call: books.dearest(call, self.upstreams[call.route.upstream]),
        )
        self.routing = Routing(self.upstreams, config.models)
        self.pages = AgentPages(identify, books.journal, credit.standings.of_caller, runaways)
        guard = StreamGuard(config.off_track, credit)
        forward = Forward(
            self.routing,
            books,
            again=Readmission(credit),
            fallbacks=config.fallbacks,
            cost_header_body=config.limits.cost_header_body,
            guard=guard if guard.is_on else None,
            cut_with_error=config.cut_style == "error",
            outbox=outbox,
        )
        admit = Admit(credit, self.routing, runaways if runaways.is_on else None)
        reuse = Reuse(config.cache, answers, books, self.routing)
        books.on_end = runaways.settle if runaways.is_on else None
        self.answer: Onward = compose([self.record, limit, identify, reuse, admit], forward)

    def adopt(self, before: "Plane") -> None:
        """Go on with what is known of the same replicas."""
        for name, upstream in self.upstreams.items():
            if name in before.upstreams:
                upstream.adopt(before.upstreams[name])

    async def close(self) -> None:
        """Close the connections to all upstreams."""
        for upstream in self.upstreams.values():
            await upstream.close()
        if self.worker is not None:
            await self.worker.leave()


class Sidecar:
    """One worker process of the data plane."""

    def __init__(self, config: BursarConfig, *, worker: int = 0) -> None:
        self.config = config
        self.worker = worker
        self.draining = False
        self.keys = KeyRing(config.data_dir)
        self.metrics = CallMetrics(label_limits(config))
        self.source = source_name(worker)
        self.journal = JournalWriter(
            config.journal_dir,
            self.source,
            journal_config(config),
            frame=None if native is None else native.frame_bytes,
        )
        self.outbox = Outbox(self.journal.flush)
        self.journal.on_held = self.outbox.soon
        self.books = Books(
            self.journal,
            self.metrics,
            load_prices(config),
            refuse_when_full=config.journal.on_full == "refuse",
            capture_bytes=config.capture.max_bytes,
        )
        self.books.tells_a_store = config.shared_store is not None
        self.stitching = self.books.stitching = Stitching()
        if config.alerts.injection:
            self.books.copies = Copies(config.data_dir / "alerts")
        policy = policy_in(config)
        self.credit = CreditControl(
            State(policy) if config.shared_store is None else State(policy, trust_us=SHARED_TRUST_US),
            store_for(config, self.source, lambda: self.credit.policy),
            self.books,
            longest_call_s=config.deadlines.total,
            board=Directives(config.shared_store),
            folder=config.data_dir,
        )
        self.runaways = RunawayBreaker(
            config.runaway,
            self.credit,
            secret=cache(partial(read_pepper, config.data_dir)),
            listen=str(config.listen),
        )
        self.answers = Answers(
            config.cache,
            config.data_dir,
            self.metrics,
            worker=worker,
            journal=self.journal,
            quote=lambda *asked: self.books.prices.quote(*asked),
        )
        self.plane = self._plane_for(config, worker_of(config))
        self.server = Server(
            self.handle,
            limits=limits_of(config),
            deadlines=deadlines_of(config),
            error_body=self.http_error,
            outbox=self.outbox,
        )
        self.control = Control(self)
        self._running: set[Call] = set()
        self.credit.calls = lambda: self._running
        self._prices_due = self._measured_due = 0.0
        self._prices_seen = b""
        self._ticker: asyncio.Task[None] | None = None
        self._recalling: asyncio.Task[None] | None = None
        self._following: asyncio.Future[None] | None = None
        self._inheriting: asyncio.Task[None] | None = None

    def _plane_for(self, config: BursarConfig, worker: "LitellmWorker | None") -> Plane:
        return Plane(
            config,
            self.books,
            self.keys,
            self.credit,
            self.runaways,
            self.answers,
            self.outbox,
            worker,
        )

    async def start(self, sock: socket.socket | None = None) -> None:
        """Listen for agents and for operators; of several workers, one process speaks for all."""
        config = self.config
        await self.credit.start()
        self.answers.start()
        await self.server.start(
            config.listen.host, config.listen.port, reuse_port=config.workers > 1, sock=sock
        )
        own = None if config.workers == 1 else control_socket(config, self.worker)
        await self.control.start(config.control.listen, own)
        self._ticker = asyncio.create_task(self._tick(), name="ticker")
        self._inheriting = asyncio.create_task(self._inherit(), name="inherit")
        recalled = self.runaways.recall if self.runaways.is_on else None
        self._recalling = asyncio.create_task(
            self.stitching.recall(config.journal_dir, recalled), name="recall"
        )

    async def handle(self, request: Request, responder: Responder) -> None:
        """Answer one request."""
        plane = self.plane
        lost: NoRoute | None = None
        try:
            route = route_of(request.path, plane.names)
        except NoRoute as error:
            lost = error
        if lost is not None:
            if not (self._own_path(request, responder) or await plane.pages.answer(request, responder)):
                dialect, status = dialect_of(request.path, request.headers, plane.kinds), lost.status
                body = error_body(dialect, status, kind=lost.kind, code=lost.code, message=str(lost))
                responder.send(status, error_fields(dialect, status), body)
            return
        call = Call(request, responder, route)
        task = asyncio.current_task()
        assert task is not None
        responder.on_disconnect(task.cancel)
        self._running.add(call)
        try:
            reply = await plane.answer(call)
            if reply.stream is None:
                responder.send(reply.status, reply.headers, reply.body)
            else:
                await reply.stream.run(partial(plane.record.closed, call, reply.status))
        except asyncio.CancelledError:
            if not call.recorded:
                raise
            responder.abort()
        finally:
            self._running.discard(call)
            if not call.recorded:
                plane.record.broken(call)

    async def drain(self) -> None:
        """Take no more calls, let the running ones end or cut them, and close the books."""
        self.draining = True
        drained = asyncio.create_task(self.server.drain(self.config.deadlines.drain + 5))
        done, _ = await asyncio.wait({drained}, timeout=self.config.deadlines.drain)
        if not done:
            for call in list(self._running):
                if call.cut is not None:
                    call.cut("the sidecar is shutting down")
            await drained
        for task in (self._ticker, self._recalling, self._inheriting):
            if task is not None:
                task.cancel()
        await self.control.close()
        await self.plane.close()
        await self.credit.close()
        await self.answers.close()
        if self.books.copies is not None:
            self.books.copies.close()
        await asyncio.to_thread(self.journal.close)

    def reconfigure(self, config: BursarConfig) -> None:
        """Serve new calls by ``config``; running ones end as they began. Addresses need a restart."""
        old, self.config = self.plane, config
        self.books.prices = load_prices(config)
        self.credit.state.follow(policy_in(config))
        self.runaways.follow_config(config.runaway)
        self.plane = self._plane_for(config, worker_of(config, old.worker))
        self.plane.adopt(old)
        self._following = asyncio.ensure_future(self.answers.follow(config.cache))
        asyncio.get_running_loop().call_later(
            config.deadlines.total, lambda: asyncio.ensure_future(old.close())
        )

    # -- aside from calls

    def http_error(
        self, request: Request | None, path: str, status: int, message: str
    ) -> tuple[HeaderList, bytes]:
        """The body for a request that is not even HTTP, or too large, or too slow."""
        dialect = dialect_of(path, request.headers if request is not None else None, self.plane.kinds)
        kind = (
            "overloaded_error" if status == 503 else "api_error" if status >= 500 else "invalid_request_error"
        )
        body = error_body(dialect, status, kind=kind, code=f"http_{status}", message=message)
        again = (b"retry-after", b"1") if status == 503 else (b"x-should-retry", b"false")
        return [*error_fields(dialect, status), again], body

    def _own_path(self, request: Request, responder: Responder) -> bool:
        if request.path in ("/healthz", "/readyz"):
            self.control.answer_health(request, responder)
            return True
        return False

    async def _tick(self) -> None:
        metrics, due = self.metrics, time.monotonic() + TICK_S
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            metrics.set_gauge("bursar_event_loop_lag_seconds", {}, max(0.0, time.monotonic() - due))
            due = time.monotonic() + TICK_S
            try:
                self.keys.refresh()
            except KeyFileBroken as error:
                log.error("keys not reloaded, the old ones stay in force", reason=str(error))
            if self.config.price_source is not None and time.monotonic() >= self._prices_due:
                self._prices_due = time.monotonic() + self.config.price_refresh
                await self._refresh_prices(self.config.price_source)
            if self._has_own_capacity and time.monotonic() >= self._measured_due:
                self._measured_due = time.monotonic() + MEASURED_EVERY_S
                await asyncio.to_thread(self._read_measured)
            since = self.journal.unsynced_since
            metrics.set_gauge(
                "bursar_journal_lag_seconds", {}, 0.0 if since is None else max(0.0, time.monotonic() - since)
            )
            metrics.set_gauge("bursar_process_memory_ratio", {}, memory_ratio())
            for upstream in self.plane.upstreams.values():
                upstream.tend()
            show_replicas(metrics, self.plane.upstreams.values())
            self.credit.tend()
            self.tidy()
            if self.config.workers > 1:
                leave_state(self)

    def tidy(self) -> None:
        """Free what only cycles keep, while no call is under way."""
        if not self._running and gc.get_count()[0] > LOOSE:
            gc.collect(1)

    async def _inherit(self) -> None:
        """Settle in a shared store for sidecars of this machine that died."""
        if self.config.shared_store is None:
            return
        from sidecar.budgets.inheritance import inherit_always
        from sidecar.budgets.redis_store import RedisStore

        store = self.credit.store
        assert isinstance(store, RedisStore)
        charges = charges_by(lambda: self.credit.policy)
        await inherit_always(store, JournalReader(self.config.journal_dir, charges))

    @property
    def _has_own_capacity(self) -> bool:
        return any(pool.has_price for pool in self.config.pools)

    def _read_measured(self) -> None:
        """What tokens of our own servers cost at present, as the collector measured; see its `Watch`."""
        from collector.probes.live_prices import read_live_prices

        self.books.measured = {
            upstream: TokenPrice(input=live.input, output=live.output, cache_read=0)
            for upstream, live in read_live_prices(self.config.data_dir, time.time_ns() // 1000).items()
        }

    async def _refresh_prices(self, source: str) -> None:
        """Price new calls by what ``source`` says now; old records keep the price they were made with."""
        from collector.pricing.refresh import fetch, leave_prices, load_overlay

        base = load_prices(self.config, told=True)
        today = datetime.now(UTC).date()
        try:
            data = await asyncio.to_thread(fetch, source)
            if data == self._prices_seen:
                return
            self._prices_seen = data
            newer = await asyncio.to_thread(load_overlay, base, data, source, today)
            await asyncio.to_thread(leave_prices, data, today, self.config.data_dir)
            self.books.prices = newer
        except (OSError, ValueError) as error:
            log.error("prices not refreshed, the old ones stay in force", reason=str(error))


# ---- words and figures of the whole


_PAGE = resource.getpagesize()
_MACHINE = os.sysconf("SC_PHYS_PAGES") * _PAGE


def memory_ratio() -> float:
    """Our resident memory as a share of what the machine or its control group has."""
    resident = int(_said_in("/proc/self/statm").split()[1]) * _PAGE
    return resident / _memory_limit()


def _memory_limit() -> int:
    try:
        said = _said_in("/sys/fs/cgroup/memory.max").strip()
    except OSError:
        return _MACHINE
    return min(_MACHINE, int(said)) if said.isdigit() else _MACHINE


def _said_in(path: str) -> bytes:
    # Looked at twice a second between the chunks of streams: a file object costs five times as much.
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 200)
    finally:
        os.close(file)

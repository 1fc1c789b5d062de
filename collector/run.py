"""The collector process: the books, and everyone who asks about them.

One thread keeps the books, one publishes snapshots, some take spans in by OTLP, and the main
thread answers requests. The process runs below the sidecars in priority: they serve traffic, it can wait.
"""

import asyncio
import ctypes
import gc
import importlib.abc
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import TYPE_CHECKING

from collector import logs
from collector.settings import Address, CollectorConfig

if TYPE_CHECKING:
    from decimal import Decimal
    from importlib.machinery import ModuleSpec

    from starlette.types import ASGIApp

    from collector.domain.access import Role
    from collector.domain.record import CallRecord
    from collector.export.spans import SpanExport
    from collector.ingest.entry import RecordSink
    from collector.ingest.events import OutcomeRow
    from collector.ingest.price_watch import PriceSource, PriceWatch
    from collector.ingest.state import State
    from collector.judging.judge import Judge
    from collector.judging.noticing import Notices
    from collector.probes.capacity import Pool
    from collector.probes.true_cost import PriceOf
    from collector.probes.watch import Watch
    from collector.store.duckdb import Database

    Prices = Mapping[str, Mapping[str, Decimal]]

NICENESS = 10
_STALE_SPAN_S = 3600
"""Records older than this come from a rebuild: their spans were exported when they were young."""

_PATIENCE_LOOKS, _LOOK_INTERVAL_S = 40, 0.05
"""The books are opened first, if they open at once: what OTLP loads would hold them up by half a second."""

_log = logs.get("collector")


def run(
    config: CollectorConfig,
    *,
    data_dir: Path,
    control_key: str | None = None,
    stop: threading.Event | None = None,
    environ: Mapping[str, str] = os.environ,
    pools: "Sequence[Pool]" = (),
    price_of: "Mapping[str, PriceOf] | None" = None,
    prices: "Prices | None" = None,
    changed_prices: "Callable[[], Prices | None]" = lambda: None,
    tool_prices: "Mapping[str, int] | None" = None,
    price_source: "PriceSource | None" = None,
    roles: "Sequence[Role]" = (),
) -> int:
    """Keep the books of ``data_dir`` and answer questions until ``stop`` or SIGTERM.

    Args:
        config: addresses, limits and intervals.
        data_dir: the journal's, the database's and the snapshot's folder.
        control_key: what others must show where we listen beyond this machine.
        stop: set to end; SIGTERM and SIGINT set it too when this is the main thread.
        environ: where `OTEL_EXPORTER_OTLP_*` may say that spans go out.
        pools: upstreams with servers of our own, whose engines are watched and whose cost is divided.
        price_of: what would be bought instead of each of these.
        prices: USD per million tokens, by model; they win over the price book.
        changed_prices: the same once they have changed since it was asked last, else None.
        tool_prices: what one use of a tool costs, in pico-USD.
        price_source: where newer prices are.
        roles: of the people for whom the dashboard asks.

    Returns:
        0 when told to stop, 1 when another collector has the folder or the port is taken, 2 for a
        configuration that cannot be.
    """
    if not config.listen.is_loopback and not control_key:
        _log.error(
            "the collector listens beyond this machine only with a control key", address=str(config.listen)
        )
        return 2
    be_modest()
    from collector.ingest.state import State
    from collector.judging.judge import Judge, prices_of
    from collector.judging.noticing import Notices
    from collector.probes.watch import Watch
    from collector.store import sandbox
    from collector.store.opening import AlreadyRunning, FolderLock

    try:
        lock = FolderLock(data_dir)
    except AlreadyRunning as error:
        _log.error(str(error))
        return 1
    try:
        sandbox.sweep(data_dir)
        state = State(data_dir=data_dir)
        watch = Watch(config, pools, state.books, data_dir, price_of)
        notices = Notices()
        judge = Judge(state.books, notices, prices_of(prices or {}), tool_prices or {})
        stop = stop or threading.Event()
        priced = prices or {}, changed_prices
        newer = None
        if price_source is not None:
            from collector.ingest.price_watch import PriceWatch

            newer = PriceWatch(price_source, prices or {}, state.books, data_dir, stop)
        return _serve(config, state, control_key, stop, environ, watch, judge, notices, priced, newer, roles)
    finally:
        lock.release()


def _serve(
    config: CollectorConfig,
    state: "State",
    control_key: str | None,
    stop: threading.Event,
    environ: Mapping[str, str],
    watch: "Watch",
    judge: "Judge",
    notices: "Notices",
    priced: "tuple[Prices, Callable[[], Prices | None]]",
    newer: "PriceWatch | None",
    roles: "Sequence[Role]",
) -> int:
    from collector.api.app import build_app
    from collector.ingest.archive import ArchiveConfig
    from collector.ingest.keeper import Keeper, KeeperConfig
    from collector.store.duckdb import DatabaseConfig

    export = _span_export(config, environ)
    # The books are closed last: spans that were taken in are stored before.
    closing = threading.Event()
    keeper = Keeper(
        KeeperConfig(
            data_dir=state.data_dir,
            commit_interval_s=float(config.commit_every),
            snapshot_interval_s=float(config.snapshot_every),
            retention_s=float(config.retention),
            archive=ArchiveConfig(grace_s=float(config.journal_grace)),
            database=DatabaseConfig(memory_limit_bytes=int(config.memory_limit), threads=config.threads),
            prices=priced[0],
            changed_prices=priced[1],
        ),
        state,
        closing,
        on_records=_all_of([watch.take, notices.offer, *([_young(export)] if export is not None else [])]),
    )
    try:
        listener = _listener(config.listen)
    except OSError as error:
        _log.error("the read API cannot listen", address=str(config.listen), reason=str(error))
        return 1
    _stop_on_signals(stop)
    spans = threading.Thread(
        target=_take_spans, args=(config, control_key, state, stop, closing, watch), name="otlp", daemon=True
    )

    judging = threading.Thread(target=judge.run, args=(stop,), name="judge", daemon=True)

    def meanwhile() -> None:
        spans.start()
        judging.start()
        watch.start()
        if newer is not None:
            threading.Thread(target=newer.run, name="prices", daemon=True).start()

    state.told.append(watch.metrics)
    try:
        app = build_app(state, config.listen, control_key, roles=roles)
        asyncio.run(_answer(app, listener, keeper.run, meanwhile, stop))
    finally:
        if export is not None:
            export.shutdown()
    return 0


def _listener(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
    except OSError:
        listener.close()
        raise
    return listener


def _take_spans(
    config: CollectorConfig,
    control_key: str | None,
    state: "State",
    stop: threading.Event,
    closing: threading.Event,
    watch: "Watch",
) -> None:
    """A thread's work: take spans in until ``stop``, store what has come in, then set ``closing``."""
    try:
        if config.otlp_http is None and config.otlp_grpc is None:
            stop.wait()
            return
        for _ in range(_PATIENCE_LOOKS):
            if state.ledger is not None or stop.wait(_LOOK_INTERVAL_S):
                break
        from collector.ingest.otlp.intake import Full
        from collector.ingest.otlp.receiver import OtlpConfig, OtlpReceiver
        from collector.store.duckdb import StoreError

        def database() -> "Database | None":
            ledger = state.ledger
            return ledger.books.database if ledger is not None else None

        def tell(outcomes: "Sequence[OutcomeRow]") -> None:
            books = state.books()
            try:
                if books is None:
                    raise Full
                books.tell(outcomes=outcomes)
            except StoreError as error:
                raise Full from error

        receiver = OtlpReceiver(
            OtlpConfig(http=config.otlp_http, grpc=config.otlp_grpc, key=control_key),
            database,
            journal_lag_s=state.lag_s,
            told=tell,
        )
        state.measured.append(receiver.metrics)
        try:
            receiver.start()
            stop.wait()
        finally:
            receiver.stop()
    except Exception as error:
        # Spans are not what the books stand on: calls are booked and questions answered without them.
        _log.error("spans are not taken in", failure=error)
        stop.wait()
    finally:
        watch.stop()
        closing.set()


async def _answer(
    app: "ASGIApp",
    listener: socket.socket,
    keep: Callable[[], None],
    meanwhile: Callable[[], None],
    stop: threading.Event,
) -> None:
    """Serve the API while ``keep`` runs in a thread of its own; it returns soon after ``stop`` is set.

    ``meanwhile`` is called once requests are answered.
    """
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        limit_concurrency=64,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=5,
        server_header=False,
        date_header=False,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # Not `serve`: it wakes up ten times a second to see whether it should end, and takes the signals.
    await server.startup(sockets=[listener])
    with ThreadPoolExecutor(1, "ledger") as thread:
        try:
            keeping = asyncio.get_running_loop().run_in_executor(thread, keep)
            meanwhile()
            await keeping
        finally:
            stop.set()
            await server.shutdown(sockets=[listener])


def be_modest() -> None:
    """Give way to the sidecars: lower priority, less memory."""
    with suppress(OSError):
        os.nice(max(0, NICENESS - os.getpriority(os.PRIO_PROCESS, 0)))
    # pyarrow and DuckDB load pandas and NumPy if they are installed (they come with the dashboard)
    # though nothing here uses them: 70 MiB, and threads that spin.
    for name in ("pandas", "numpy"):
        if name not in sys.modules and not any(
            isinstance(finder, _Absent) and finder.name == name for finder in sys.meta_path
        ):
            sys.meta_path.insert(0, _Absent(name))
    # Arrow's own allocator keeps what it had; ours gives back.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_TRIM_THRESHOLD, 1 << 20)
    # Batches make millions of objects and no cycles; looking for some costs a tenth of ingest.
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


_M_TRIM_THRESHOLD = -1
_M_ARENA_MAX = -8


class _Absent(importlib.abc.MetaPathFinder):
    """Makes a package look as if it were not installed."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> "ModuleSpec | None":
        if fullname == self.name:
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def _stop_on_signals(stop: threading.Event) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def end(number: int, frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)


def _span_export(config: CollectorConfig, environ: Mapping[str, str]) -> "SpanExport | None":
    if not any(name.startswith("OTEL_EXPORTER_OTLP") for name in environ):
        return None
    from collector.export.spans import SpanExport

    return SpanExport.from_environment(environ, ratio=config.span_sample_ratio)


def _all_of(sinks: "Sequence[RecordSink]") -> "RecordSink":
    def show(records: "Sequence[CallRecord]") -> Callable[[], object] | None:
        told = [tell for sink in sinks if (tell := sink(records)) is not None]
        return partial(_call_each, told) if told else None

    return show


def _call_each(told: Sequence[Callable[[], object]]) -> None:
    for tell in told:
        tell()


def _young(export: "SpanExport") -> "RecordSink":
    def show(records: "Sequence[CallRecord]") -> Callable[[], object]:
        oldest = (time.time() - _STALE_SPAN_S) * 1e6
        return partial(
            export.offer,
            [record for record in records if record.started_at_us + record.duration_us >= oldest],
        )

    return show

"""Starts the probes and keeps the books of own GPUs: the part of the collector that looks at machines.

GPUs are watched where NVIDIA's driver is, engines where an upstream of kind ``vllm`` is configured, and
the meter is divided where such an upstream's capacity has a price. Everything here may be missing or fail
without calls being booked any later.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from collector import logs
from collector.ingest import charges
from collector.probes import gpu_export, vllm_export
from collector.probes.capacity import Pool
from collector.probes.cost_export import metrics_of, write_present_prices
from collector.probes.gpu_probe import GpuProbe
from collector.probes.gpu_sample import GpuSample
from collector.probes.true_cost import PriceOf, TrueCost
from collector.probes.vllm_metrics import EngineSample
from collector.probes.vllm_probe import EngineProbe
from collector.settings import CollectorConfig
from collector.store.duckdb import StoreError
from collector.store.machine_sums import ENGINES, GPUS, MachineLevel

if TYPE_CHECKING:
    from collector.domain.record import AttemptRecord, CallRecord
    from collector.ingest.books import Books
    from collector.store.rollups import Mark

_log = logs.get("collector.watch")

ROUND_S = 1.0
_MOST_WAITING = 50_000
"""Booked attempts and samples that wait for the ledger or for this thread; more are dropped, and counted."""


class Watch:
    """The probes, and the thread that takes what they told to the books.

    Args:
        config: what is watched, and how long a window is.
        pools: upstreams of kind ``vllm``.
        books: the ledger's writer; None while it is not open.
        data_dir: where present prices are left for the sidecars.
        price_of: what would be bought instead, by upstream.
    """

    def __init__(
        self,
        config: CollectorConfig,
        pools: Sequence[Pool],
        books: "Callable[[], Books | None]",
        data_dir: Path,
        price_of: Mapping[str, PriceOf] | None = None,
    ) -> None:
        self._books = books
        self._data_dir = data_dir
        self._window_s = float(config.cost_window)
        self._gpus = GpuProbe() if config.watch_gpus else None
        urls = {pool.upstream: pool.urls for pool in pools if pool.urls}
        self._engines = EngineProbe(urls) if config.watch_engines and urls else None
        self._costs = TrueCost(
            pools,
            window_us=int(config.cost_window * 1e6),
            lag_us=int(config.cost_lag * 1e6),
            price_of=price_of,
        )
        self._attempts: deque[tuple[str, AttemptRecord]] = deque()
        self._samples: tuple[list[GpuSample], list[EngineSample]] = ([], [])
        self._fresh: tuple[list[GpuSample], list[EngineSample]] = ([], [])
        self._fed = (0, 0)
        """How many of the samples the books of replicas have seen."""
        self._entries: list[charges.Entry] = []
        self._booked_at = time.monotonic()
        self._resumed = False
        self._health = logs.StateLog(_log, "the books of own GPUs", good="kept")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.dropped = 0
        """Attempts and samples that could not wait any longer."""

    def take(self, records: "Sequence[CallRecord]") -> Callable[[], None] | None:
        """Records that are being booked; what is returned, called once they are, puts their attempts down.

        Both are called by the ledger's thread.
        """
        upstreams = self._costs.upstreams
        if not upstreams:
            return None
        found = [
            (record.call_id, attempt)
            for record in records
            for attempt in record.attempts
            if attempt.upstream in upstreams
        ]
        return partial(self._attempts.extend, found) if found else None

    def start(self) -> None:
        """Begin."""
        for probe in (self._gpus, self._engines):
            if probe is not None:
                probe.start()
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """End; what was measured until now is booked if the ledger is still open."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        for probe in (self._gpus, self._engines):
            if probe is not None:
                probe.stop()

    def metrics(self) -> str:
        """Prometheus text of everything that is watched."""
        gpus = self._gpus.latest() if self._gpus is not None else ()
        engines = self._engines.latest() if self._engines is not None else ()
        return gpu_export.metrics_of(gpus) + vllm_export.metrics_of(engines) + metrics_of(self._costs)

    # -- the thread

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._round(last=False)
            due = max(due + ROUND_S, time.monotonic())
            self._stop.wait(due - time.monotonic())
        self._round(last=True)

    def _round(self, *, last: bool) -> None:
        self._collect()
        books = self._books()
        if books is None:
            return
        try:
            if not self._resumed:
                with books.database.turn:
                    self._costs.resume(books.database.connection)
                self._resumed = True
            self._feed()
            self._entries += self._costs.advance()
            if self._entries or last or time.monotonic() - self._booked_at >= self._window_s:
                self._book(books)
            self._health.enter("kept")
        except StoreError as error:
            self._health.enter(str(error)[:200])

    def _collect(self) -> None:
        gpus, engines = self._samples
        if self._gpus is not None:
            gpus += self._gpus.drain()
        if self._engines is not None:
            engines += self._engines.drain()
        for waiting in (gpus, engines):
            if len(waiting) > _MOST_WAITING:
                self.dropped += len(waiting)
                waiting.clear()
                self._fed = (0, 0)
        while len(self._attempts) > _MOST_WAITING:
            self._attempts.popleft()
            self.dropped += 1
        self._fresh = (gpus[self._fed[0] :], engines[self._fed[1] :])

    def _feed(self) -> None:
        while self._attempts:
            self._costs.see_attempt(*self._attempts.popleft())
        gpus, engines = self._fresh
        self._costs.see_gpus(gpus)
        self._costs.see_engines(engines)
        self._fed = (len(self._samples[0]), len(self._samples[1]))

    def _book(self, books: "Books") -> None:
        gpus, engines = self._samples
        entries = self._entries
        if gpus or engines or entries:

            def change(connection: object, marks: "dict[str, Mark]") -> None:
                if gpus:
                    gpu_export.book(connection, gpus, _upto(marks, GPUS))
                if engines:
                    vllm_export.book(connection, engines, _upto(marks, ENGINES))
                if entries:
                    charges.book(connection, entries, marks)

            books.apply(change)
        self._samples, self._entries, self._fed = ([], []), [], (0, 0)
        self._booked_at = time.monotonic()
        if entries:
            with suppress(OSError):
                write_present_prices(self._data_dir, self._costs.now)


def _upto(marks: "dict[str, Mark]", level: MachineLevel) -> int | None:
    """How far the sums of a level go; None where there are none yet."""
    mark = marks.get(level.name)
    return None if mark is None else mark.upto_us

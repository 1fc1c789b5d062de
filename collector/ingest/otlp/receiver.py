"""OTLP in, all of it together, as the collector process runs it."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from collector import logs
from collector.ingest.otlp.grpc import GrpcMissing, GrpcServer
from collector.ingest.otlp.http import HttpServer
from collector.ingest.otlp.intake import Intake, IntakeLimits, SpanSink, Told
from collector.ingest.otlp.linking import Linker
from collector.ingest.otlp.metrics import OtlpMetrics
from collector.ingest.otlp.requests import RequestLimits, Requests
from collector.ingest.otlp.table import LedgerSink
from collector.settings import Address
from collector.store.duckdb import Database, StoreError

_log = logs.get("collector.otlp")
_LINK_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OtlpConfig:
    """Where spans come in, and how many at a time."""

    http: Address | None
    grpc: Address | None
    key: str | None = None
    """What others must show where we listen beyond this machine."""
    requests: RequestLimits = field(default_factory=RequestLimits)
    intake: IntakeLimits = field(default_factory=IntakeLimits)


class OtlpReceiver:
    """Listens, stores, links. Made once a process; the database may be closed and opened again.

    Args:
        config: see there.
        database: the ledger at this moment; None while it is not open.
        journal_lag_s: see `collector.ingest.otlp.linking.Linker`.
        sink: where spans go instead of the ledger.
        told: takes the outcomes that evaluations tell.
    """

    def __init__(
        self,
        config: OtlpConfig,
        database: Callable[[], Database | None],
        *,
        journal_lag_s: Callable[[], float] = lambda: 0.0,
        sink: SpanSink | None = None,
        told: Told | None = None,
    ) -> None:
        self._config = config
        self._database = database
        self._stop = threading.Event()
        self.intake = Intake(sink or LedgerSink(database), config.intake, told=told)
        self.linker = Linker(database, journal_lag_s=journal_lag_s)
        self.metrics = OtlpMetrics(self.intake, self.linker)
        self._requests = Requests(self.intake, config.requests, told=told)
        self._servers: list[HttpServer | GrpcServer] = []
        self._thread = threading.Thread(target=self._link, name="span-links", daemon=True)
        self.http_address: Address | None = None
        """Where HTTP is served in truth, once started."""
        self.grpc_address: Address | None = None
        """Where gRPC is served in truth; None also where grpcio is not installed."""

    def start(self) -> None:
        """Listen. An address that is taken, or a missing grpcio, is said in the log and done without."""
        config = self._config
        self.intake.start()
        self._thread.start()
        if config.http is not None:
            http = HttpServer(self._requests, config.http, config.key)
            if self._started(http):
                self.http_address = http.address
        if config.grpc is not None:
            try:
                grpc = GrpcServer(self._requests, config.grpc, config.key)
            except GrpcMissing as missing:
                _log.info(str(missing))
            else:
                if self._started(grpc):
                    self.grpc_address = grpc.address

    def stop(self) -> None:
        """Answer and store what has come in, then end. The database must be open until then."""
        self._stop.set()
        for server in self._servers:
            server.stop()
        self.intake.stop()
        if self._thread.is_alive():
            self._thread.join(10)

    def _started(self, server: HttpServer | GrpcServer) -> bool:
        try:
            server.start()
        except OSError as error:
            _log.error("OTLP cannot listen", address=str(server.address), reason=str(error))
            return False
        self._servers.append(server)
        return True

    def _link(self) -> None:
        health = logs.StateLog(_log, "linking spans", good="fine")
        while not self._stop.wait(_LINK_INTERVAL_S):
            try:
                while self.linker.step() and not self._stop.is_set():
                    pass
            except StoreError as error:
                health.enter(str(error)[:200])
            else:
                health.enter("fine")

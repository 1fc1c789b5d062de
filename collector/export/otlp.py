"""Spans on their way out: encoded when offered, queued within bounds, sent by a thread of its own.

Nothing waits for a receiver. What does not fit into the queue is dropped and counted,
so is what a receiver rejects or never takes; the ledger has the costs all the same.

    offer(records)  →  [queue: calls, bytes]  →  thread: batch, POST, retry with backoff
"""

import os
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException
from typing import Protocol

from collector.domain.record import CallRecord
from collector.export.conventions import SCHEMA_URL
from collector.export.facts import span_facts
from collector.export.protobuf import SpanEncoder
from collector.export.resource import SCOPE, service_resource, version
from collector.export.span_data import Cleaner
from collector.export.transport import Destination, Reply, Transport, destination
from collector.logs import StateLog, get

_log = get("collector.export")

_RETRYABLE = (429, 502, 503, 504)
_TRACE_ID_BOUND = 1 << 64


class Sender(Protocol):
    """What takes a batch to the receiver; :class:`Transport` in earnest."""

    def post(self, body: bytes, timeout_s: float) -> Reply:
        """Send one batch; OSError or HTTPException when no proper answer came."""

    def abort(self) -> None:
        """End the exchange under way at once."""

    def close(self) -> None:
        """Let go of the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLimits:
    """How much may wait, and for how long."""

    queued_calls: int = 8192
    queued_bytes: int = 16 << 20
    batch_calls: int = 512
    batch_bytes: int = 1 << 20
    call_bytes: int = 1 << 20
    """The spans of one call; larger ones, which only captured content makes, are dropped."""
    linger_s: float = 1.0
    """How long the first call of a batch waits for others."""
    timeout_s: float = 10.0
    """For one POST."""
    first_backoff_s: float = 0.5
    longest_backoff_s: float = 30.0
    give_up_after_s: float = 120.0
    """How long one batch is tried."""


class SpanExport:
    """Takes records, sends spans. ``dropped`` says what was lost and why."""

    def __init__(
        self,
        sender: Sender,
        encoder: SpanEncoder,
        *,
        name: str = "the OTLP receiver",
        ratio: float = 1.0,
        limits: ExportLimits | None = None,
        clean: Cleaner | None = None,
        on_drop: Callable[[str, int], None] | None = None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender = sender
        self._encoder = encoder
        self._limits = limits or ExportLimits()
        self._clean = clean or Cleaner()
        self._sampled_below = int(ratio * _TRACE_ID_BOUND)
        self._on_drop = on_drop
        self._jitter = jitter
        self._clock = clock
        self._state = StateLog(_log, f"span export to {name}", clock=clock)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._in_flight = 0
        self._changed = threading.Condition()
        self._stopping_at: float | None = None
        self.sent = 0
        """Calls whose spans a receiver took."""
        self.dropped: Counter[str] = Counter()
        """Calls whose spans are lost, by reason; for ``refused`` spans, for the receiver counts those."""
        self._thread = threading.Thread(target=self._run, name="span-export", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str] = os.environ,
        *,
        ratio: float = 1.0,
        on_drop: Callable[[str, int], None] | None = None,
    ) -> "SpanExport | None":
        """The export that ``OTEL_*`` variables ask for; None for none, or for one we cannot do."""
        if _switched_off(environ):
            return None
        try:
            where = destination(environ)
        except ValueError as error:
            _log.error("spans are not exported", reason=str(error))
            return None
        if where is None or not _speaks_http(environ, where):
            return None
        resource = service_resource()
        encoder = SpanEncoder(
            resource.attributes,
            scope=SCOPE,
            version=version(),
            schema_url=SCHEMA_URL,
            resource_schema=resource.schema_url,
        )
        try:
            transport = Transport(where)
        except OSError as error:
            _log.error("spans are not exported: the certificates cannot be used", reason=type(error).__name__)
            return None
        ratio = min(ratio, _environment_ratio(environ))
        _log.info("spans are exported", url=where.address)
        return cls(
            transport,
            encoder,
            name=where.address,
            ratio=ratio,
            limits=ExportLimits(timeout_s=where.timeout_s),
            on_drop=on_drop,
        )

    # Taking

    def offer(self, records: Iterable[CallRecord]) -> int:
        """Queue the spans of ended calls; how many of them were taken. Never waits for the receiver.

        Not for several threads at once.
        """
        taken = 0
        limits = self._limits
        for record in records:
            if not self._samples(record.trace_id):
                continue
            if self._stopping_at is not None:
                self._drop("shutdown", 1)
            elif len(self._queue) >= limits.queued_calls or self._queued_bytes >= limits.queued_bytes:
                # Looked at before the work of encoding: a hung receiver costs nothing.
                self._drop("queue_full", 1)
            else:
                taken += self._enqueue(record)
        return taken

    def _enqueue(self, record: CallRecord) -> int:
        try:
            piece = self._encoder.spans(span_facts(record, self._clean))
        except (ValueError, TypeError, OverflowError, AttributeError):
            # A damaged record (its ids are not hex, say) is the ledger's to report, not ours to fail on.
            self._drop("malformed", 1)
            return 0
        if len(piece) > self._limits.call_bytes:
            self._drop("too_large", 1)
            return 0
        with self._changed:
            self._queue.append(piece)
            self._queued_bytes += len(piece)
            if len(self._queue) == 1 or self._batch_is_full():
                self._changed.notify()
        return 1

    def _samples(self, trace_id: str) -> bool:
        """The same traces everywhere: by the lower half of the id, as the SDK's ratio sampler does."""
        if self._sampled_below >= _TRACE_ID_BOUND:
            return True
        try:
            return int(trace_id[16:], 16) < self._sampled_below
        except ValueError:
            return False

    @property
    def waiting(self) -> int:
        """Calls that are queued or on their way."""
        return len(self._queue) + self._in_flight

    # Ending

    def shutdown(self, timeout_s: float = 3.0) -> bool:
        """Send what is queued for at most ``timeout_s``, then let go of the rest; True when all was sent."""
        deadline = self._clock() + timeout_s
        with self._changed:
            if self._stopping_at is None:
                self._stopping_at = deadline
            self._changed.notify_all()
        # A tenth is left for the thread to notice that its exchange was cut.
        self._thread.join(timeout_s * 0.9)
        if self._thread.is_alive():
            self._sender.abort()
            self._thread.join(max(deadline - self._clock(), 0.01))
        with self._changed:
            lost = len(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            if self._thread.is_alive():
                # It is stuck where no signal reaches (a name look-up); it is a daemon and ends with us.
                lost, self._in_flight = lost + self._in_flight, 0
        if lost:
            self._drop("shutdown", lost)
        return not self.dropped["shutdown"]

    # The thread

    def _run(self) -> None:
        try:
            self._send_batches()
        finally:
            self._sender.close()

    def _send_batches(self) -> None:
        while batch := self._next_batch():
            reason = self._deliver(self._encoder.request(batch), len(batch))
            with self._changed:
                count, self._in_flight = self._in_flight, 0
            if not count:
                return  # Shut down, and already counted there.
            if reason:
                self._drop(reason, count)
            else:
                self.sent += count

    def _next_batch(self) -> list[bytes]:
        """The next calls to send; waits for them. Empty when it is time to end."""
        with self._changed:
            while not self._queue:
                if self._stopping_at is not None:
                    return []
                self._changed.wait()
            if self._stopping_at is None and not self._batch_is_full():
                self._changed.wait_for(
                    lambda: self._stopping_at is not None or self._batch_is_full(), self._limits.linger_s
                )
            batch: list[bytes] = []
            size = 0
            while self._queue and len(batch) < self._limits.batch_calls and size < self._limits.batch_bytes:
                piece = self._queue.popleft()
                batch.append(piece)
                size += len(piece)
            self._queued_bytes -= size
            self._in_flight = len(batch)
            return batch

    def _batch_is_full(self) -> bool:
        return len(self._queue) >= self._limits.batch_calls or self._queued_bytes >= self._limits.batch_bytes

    def _deliver(self, body: bytes, calls: int) -> str:
        """Send one batch, again where that may help; why it was given up, empty when it was taken."""
        started = self._clock()
        tries = 0
        while True:
            wait_s, reason, detail = self._try(body)
            if not reason:
                self._state.enter("ok")
                return ""
            if wait_s is None:
                self._state.enter("rejected", reason=detail, records=calls)
                return reason
            self._state.enter("failing", reason=detail)
            backoff = self._limits.first_backoff_s * 2 ** min(tries, 16) * (0.5 + self._jitter())
            pause = max(wait_s, min(backoff, self._limits.longest_backoff_s))
            tries += 1
            if self._stopping_at is not None:
                pause = min(pause, 0.1)
                if self._clock() + pause >= self._stopping_at:
                    return "shutdown"
            elif self._clock() - started + pause > self._limits.give_up_after_s:
                return "unreachable"
            with self._changed:
                known = self._stopping_at
                self._changed.wait_for(partial(self._is_told_to_stop_since, known), pause)

    def _is_told_to_stop_since(self, known: float | None) -> bool:
        return self._stopping_at != known

    def _try(self, body: bytes) -> tuple[float | None, str, str]:
        """One POST: how long to wait before the next (None: there is none), what went wrong, in detail."""
        timeout_s = self._limits.timeout_s
        if self._stopping_at is not None:
            timeout_s = min(timeout_s, max(self._stopping_at - self._clock(), 0.05))
        try:
            reply = self._sender.post(body, timeout_s)
        except (OSError, HTTPException, ValueError) as error:
            return 0.0, "unreachable", type(error).__name__
        if 200 <= reply.status < 300:
            if reply.body and (refused := _refused_spans(reply.body)):
                self._drop("refused", refused)
            return None, "", ""
        if reply.status in _RETRYABLE:
            return _retry_after_s(reply.retry_after), "unreachable", f"HTTP {reply.status}"
        return None, "rejected", f"HTTP {reply.status}"

    def _drop(self, reason: str, calls: int) -> None:
        self.dropped[reason] += calls
        if self._on_drop is not None:
            self._on_drop(reason, calls)


def _retry_after_s(text: str) -> float:
    """``Retry-After`` in seconds; dates, which receivers do not send here, count as none."""
    try:
        return min(max(float(text), 0.0), 60.0)
    except ValueError:
        return 0.0


def _refused_spans(reply: bytes) -> int:
    """How many spans a receiver that took the batch says it refused (``partial_success``)."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        return int(ExportTraceServiceResponse.FromString(reply).partial_success.rejected_spans)
    except DecodeError:
        return 0


def _switched_off(environ: Mapping[str, str]) -> bool:
    exporters = environ.get("OTEL_TRACES_EXPORTER", "otlp").replace(" ", "").lower().split(",")
    return environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or "otlp" not in exporters


def _speaks_http(environ: Mapping[str, str], where: Destination) -> bool:
    protocol = (
        environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or ""
    )
    if protocol.strip().lower() != "grpc":
        return True
    _log.error(
        "spans are not exported: OTLP over gRPC is asked for and only http/protobuf is spoken here; set "
        "OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf and the receiver's HTTP port, usually 4318",
        url=where.address,
    )
    return False


def _environment_ratio(environ: Mapping[str, str]) -> float:
    """The share of traces that ``OTEL_TRACES_SAMPLER`` keeps."""
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").strip().lower().removeprefix("parentbased_")
    if sampler == "always_off":
        return 0.0
    if sampler != "traceidratio":
        return 1.0
    try:
        return min(max(float(environ.get("OTEL_TRACES_SAMPLER_ARG", "1")), 0.0), 1.0)
    except ValueError:
        return 1.0

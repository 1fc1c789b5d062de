"""Reads the metrics of every vLLM replica once a second.

Each replica has a thread of its own, so that one that hangs, drips or floods is late alone. An
answer has a deadline and a largest size; connections are kept open between two looks.
"""

import http.client
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from collector import logs
from collector.probes.capacity import replica_name
from collector.probes.vllm_metrics import Differences, EngineSample, parse

_log = logs.get("collector.engines")

MOST_REPLICAS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineProbeConfig:
    """How engines are watched."""

    interval_s: float = 1.0
    """Between two looks at a replica."""
    deadline_s: float = 2.0
    """For a whole answer."""
    most_bytes: int = 4 << 20
    """Of one answer; a longer one counts as none."""
    most_waiting: int = 3600
    """Samples kept for whoever stores them; the oldest are dropped."""


class Unreadable(Exception):
    """A replica's metrics cannot be had at this moment."""


class EngineProbe:
    """Watches the replicas of all pools.

    Args:
        replicas: upstream to the base addresses (``http://host:port``) of its replicas.
        config: how often.
    """

    def __init__(
        self, replicas: Mapping[str, tuple[str, ...]], config: EngineProbeConfig | None = None
    ) -> None:
        self._config = config or EngineProbeConfig()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._latest: dict[tuple[str, str], tuple[float, EngineSample]] = {}
        self._waiting: deque[EngineSample] = deque(maxlen=self._config.most_waiting)
        self.dropped = 0
        """Samples that nobody fetched in time."""
        wanted = [(upstream, url) for upstream, urls in replicas.items() for url in urls]
        if len(wanted) > MOST_REPLICAS:
            _log.warning("not all replicas are watched", count=len(wanted), limit=MOST_REPLICAS)
        self._threads = [
            threading.Thread(target=self._watch, args=one, name="engine-probe", daemon=True)
            for one in wanted[:MOST_REPLICAS]
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 3.0) -> None:
        """End; looks under way end at their deadline."""
        self._stop.set()
        end = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.is_alive():
                thread.join(max(0.0, end - time.monotonic()))

    def latest(self) -> tuple[EngineSample, ...]:
        """The last sample of each replica; one that drips its answer for too long counts as unreachable."""
        patience_s = self._config.interval_s + 2 * self._config.deadline_s
        oldest = time.monotonic() - patience_s
        with self._lock:
            known = list(self._latest.values())
        return tuple(sample if at >= oldest else sample.silent() for at, sample in known)

    def drain(self) -> list[EngineSample]:
        """Every sample since the last call; each is given once."""
        with self._lock:
            samples = list(self._waiting)
            self._waiting.clear()
        return samples

    def _watch(self, upstream: str, url: str) -> None:
        config = self._config
        page = Page(url, config)
        differences = Differences(upstream, page.replica)
        health = logs.StateLog(_log, f"metrics of {page.replica}")
        due = time.monotonic()
        while not self._stop.is_set():
            at_us = time.time_ns() // 1000
            try:
                sample = differences.take(parse(page.read(), at_us))
                health.enter("ok", upstream=upstream)
            except Unreadable as error:
                sample = differences.unreachable(at_us)
                health.enter("unreachable", upstream=upstream, reason=str(error))
            with self._lock:
                self._latest[upstream, page.replica] = (time.monotonic(), sample)
                self.dropped += len(self._waiting) == config.most_waiting
                self._waiting.append(sample)
            due = max(due + config.interval_s, time.monotonic())
            self._stop.wait(due - time.monotonic())
        page.close()


class Page:
    """The ``/metrics`` of one server, over a connection that is kept.

    Args:
        url: the server's base address; a path after the host (``/v1``) is left away.
        config: deadline and largest size.
    """

    def __init__(
        self, url: str, config: EngineProbeConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        parts = urlsplit(url)
        self._config = config
        self._clock = clock
        self.replica = replica_name(url)
        """``host:port``, as attempts name it."""
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname or "", parts.port, timeout=config.deadline_s)

    def read(self) -> str:
        """Its text.

        Raises:
            Unreadable: no answer in time, another status than 200, or too much of it.
        """
        end = self._clock() + self._config.deadline_s
        try:
            return self._read(end)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise Unreadable(type(error).__name__) from error
        except Unreadable:
            self.close()
            raise

    def _read(self, end: float) -> str:
        connection = self._connection
        connection.request("GET", "/metrics", headers={"accept": "text/plain", "accept-encoding": "identity"})
        reply = connection.getresponse()
        if reply.status != 200:
            raise Unreadable(f"status {reply.status}")
        body, announced = bytearray(), reply.length
        # Counted here: before 3.11.8, read1 neither counts down what was announced nor stops at its end.
        while piece := reply.read1(1 << 16 if announced is None else min(1 << 16, announced - len(body))):
            body += piece
            if len(body) > self._config.most_bytes:
                raise Unreadable(f"more than {self._config.most_bytes} bytes")
            if self._clock() > end:
                raise Unreadable("it takes too long")
            if len(body) == announced:
                break
        if announced is not None and len(body) < announced:
            raise Unreadable("it ended early")
        reply.close()  # the answer, not the connection
        return body.decode("utf-8", "replace")

    def close(self) -> None:
        """Let go of the connection; the next look makes a new one."""
        with suppress(OSError):
            self._connection.close()

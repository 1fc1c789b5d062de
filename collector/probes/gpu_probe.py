"""Asks the GPUs once a second, in a thread of its own.

A call into a hanging driver does not come back and cannot be taken back. So only this thread
makes such calls, and everybody else looks at what it told last: after the deadline that is
nothing, and one line in the log says so. The thread goes on when the driver does.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from collector import logs
from collector.probes.gpu_sample import GpuSample
from collector.probes.nvml import NoDriver, Nvml

_log = logs.get("collector.gpu")

T = TypeVar("T")


class Reader(Protocol):
    """Something that tells the figures of this machine's GPUs."""

    def sample(self) -> list[GpuSample]:
        """All GPUs at this instant."""
        ...

    def close(self) -> None:
        """Let go of the driver."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProbeConfig:
    """How GPUs are watched."""

    interval_s: float = 1.0
    """Between two rounds."""
    deadline_s: float = 5.0
    """A round that takes longer means that the driver hangs."""
    look_again_s: float = 60.0
    """Where there is no driver, it is looked for this often."""
    most_waiting: int = 3600
    """Samples kept for whoever stores them; the oldest are dropped."""


class GpuProbe:
    """The thread and what it told last.

    Args:
        config: how often.
        open_reader: opens the driver; raises `NoDriver`.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: GpuProbeConfig | None = None,
        open_reader: Callable[[], Reader] = Nvml,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config or GpuProbeConfig()
        self._open_reader = open_reader
        self._clock = clock
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu-probe", daemon=True)
        self._lock = threading.Lock()
        self._latest: tuple[GpuSample, ...] = ()
        self._asked_at: float | None = None
        """When the call that is under way began."""
        self._answered_at = float("-inf")
        self._waiting: deque[GpuSample] = deque(maxlen=self._config.most_waiting)
        self._health = logs.StateLog(_log, "the GPU driver", clock=clock)
        self._told_of_absence = False
        self.dropped = 0
        """Samples that nobody fetched in time."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """End; whether the thread did. One that hangs in the driver is left behind with the process."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- for everybody

    @property
    def hangs(self) -> bool:
        """Whether the driver has owed an answer for longer than the deadline."""
        with self._lock:
            asked_at = self._asked_at
        late = asked_at is not None and self._clock() - asked_at > self._config.deadline_s
        if late:
            self._health.enter("does not answer", timeout_s=self._config.deadline_s)
        return late

    def latest(self) -> tuple[GpuSample, ...]:
        """What was told last; nothing when that is too long ago."""
        if self.hangs:
            return ()
        with self._lock:
            age = self._clock() - self._answered_at
            return self._latest if age <= self._config.interval_s + self._config.deadline_s else ()

    def drain(self) -> list[GpuSample]:
        """Every sample since the last call, oldest first; each is given once."""
        with self._lock:
            samples = list(self._waiting)
            self._waiting.clear()
        return samples

    # -- the thread

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                reader = self._asked(self._open_reader)
            except NoDriver as absent:
                self._absent(str(absent))
                self._stop.wait(self._config.look_again_s)
                continue
            try:
                self._watch(reader)
            except (OSError, ValueError, ArithmeticError) as error:
                # A driver that tells nonsense (text that is no text, say) must not end the watch.
                _log.warning("the GPU driver's answer cannot be read", error_type=type(error).__name__)
            finally:
                self._asked(reader.close)
            self._stop.wait(self._config.look_again_s)

    def _watch(self, reader: Reader) -> None:
        """Rounds, until told to stop or until there is no GPU."""
        due = self._clock()
        while not self._stop.is_set():
            samples = self._asked(reader.sample)
            if not samples:
                self._absent("the driver shows none")
                return
            self._keep(samples)
            due = max(due + self._config.interval_s, self._clock())
            self._stop.wait(due - self._clock())

    def _absent(self, reason: str) -> None:
        if not self._told_of_absence:
            self._told_of_absence = True
            _log.info("no GPU is watched", reason=reason)

    def _asked(self, question: Callable[[], T]) -> T:
        with self._lock:
            self._asked_at = self._clock()
        try:
            return question()
        finally:
            with self._lock:
                self._asked_at = None
            if not self._stop.is_set():
                self._health.enter("ok")

    def _keep(self, samples: list[GpuSample]) -> None:
        with self._lock:
            if not self._latest:
                _log.info("GPUs are watched", count=len(samples))
                self._told_of_absence = False
            self._latest = tuple(samples)
            self._answered_at = self._clock()
            limit = self._config.most_waiting
            self.dropped += max(0, len(self._waiting) + len(samples) - limit)
            self._waiting.extend(samples)

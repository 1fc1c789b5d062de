"""NVIDIA's GPUs through NVML: the only home of ``pynvml`` (distribution ``nvidia-ml-py``, extra ``gpu``).

Every reading is asked for on its own and may be missing on its own: what a GPU, driver or
permission does not give is noted in the sample and not asked for again until the library is
reopened. A newer call stands before an older one where NVML has both. A GPU that is lost
(fell off the bus, waits for a reset) is reported as such; reopening the library, with growing
pauses, finds it again.

Calls into a hanging driver do not come back, so nobody but `gpu_probe`'s thread calls this.
"""

import ctypes
import socket
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from collector import logs
from collector.probes.gpu_sample import GpuSample
from collector.probes.nvml_readings import READINGS, Gpm, address_of, drain_events, slices_of

_log = logs.get("collector.nvml")

_LOST = frozenset({15, 16, 28})
"""GPU_IS_LOST, RESET_REQUIRED, GPU_NOT_FOUND."""
_CLOSED = frozenset({1, 9, 18})
"""UNINITIALIZED, DRIVER_NOT_LOADED, LIB_RM_VERSION_MISMATCH: the library has to be opened anew."""
_NEVER = frozenset({2, 3, 4, 13, 25, 26})
"""INVALID_ARGUMENT, NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, ARGUMENT_VERSION_MISMATCH and
DEPRECATED: asking again will not help."""
_FIRST_REOPEN_S = 1.0
_LONGEST_REOPEN_S = 60.0
_ASK_AGAIN_S = 600.0
"""What a GPU did not support is tried again after this: some readings rest while it sleeps."""
_MOST_GPUS = 64
_MOST_XIDS = 32
"""Different Xid numbers that are told apart for one GPU."""


class NoDriver(Exception):
    """There is no GPU to watch: no binding, no library, no driver."""


class _Lost(Exception):
    """This GPU does not answer any more."""


class _Closed(Exception):
    """The library does not answer any more."""


@dataclass(slots=True)
class _Device:
    """A GPU that was found, and what is known of the ways to ask it."""

    gpu: str
    index: int
    name: str
    handle: Any = None
    """None while it is lost."""
    way: dict[str, int] = field(default_factory=dict)
    """Which of a reading's ways works; as many as there are when none does."""
    reason: dict[str, str] = field(default_factory=dict)
    gpm: Gpm | None = None
    asked_anew_at: float = 0.0
    joules: float = 0.0
    """Integrated from power, where there is no counter."""
    power: tuple[float, float] | None = None
    """When it was last told, and how much."""
    xid_counts: dict[int, int] = field(default_factory=dict)


class Nvml:
    """The library, opened, and the GPUs it shows.

    Raises:
        NoDriver: it cannot be opened.
    """

    def __init__(
        self,
        *,
        host: str | None = None,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host or socket.gethostname()
        self._now_us = now_us
        self._clock = clock
        _require_library()
        try:
            import pynvml
        except ModuleNotFoundError as error:
            raise NoDriver("nvidia-ml-py is not installed (extra gpu)") from error
        self._nvml: Any = pynvml
        self._devices: dict[str, _Device] = {}
        self._events: Any = None
        self._open = False
        self._reopen_in_s = _FIRST_REOPEN_S
        self._reopen_at: float | None = None
        self.driver_version = ""
        try:
            self._connect()
        except pynvml.NVMLError as error:
            self.close()
            raise NoDriver(_said(error)) from error

    def close(self) -> None:
        """Let go of the library."""
        nvml = self._nvml
        for device in self._devices.values():
            if device.gpm is not None:
                device.gpm.close()
                device.gpm = None
            device.handle = None
        if self._events is not None:
            with suppress(nvml.NVMLError):
                nvml.nvmlEventSetFree(self._events)
            self._events = None
        if self._open:
            self._open = False
            with suppress(nvml.NVMLError):
                nvml.nvmlShutdown()

    # -- finding

    def _connect(self) -> None:
        """Open the library and find every GPU.

        Raises:
            NVMLError: it cannot be opened.
        """
        nvml = self._nvml
        nvml.nvmlInit()
        self._open = True
        with suppress(nvml.NVMLError):
            self.driver_version = str(nvml.nvmlSystemGetDriverVersion())
        with suppress(nvml.NVMLError):
            self._events = nvml.nvmlEventSetCreate()
        for index in range(min(nvml.nvmlDeviceGetCount(), _MOST_GPUS)):
            with suppress(nvml.NVMLError):
                self._find(index)

    def _find(self, index: int) -> None:
        nvml = self._nvml
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        gpu, name = f"index-{index}", ""
        with suppress(nvml.NVMLError):
            gpu = str(nvml.nvmlDeviceGetUUID(handle))
        with suppress(nvml.NVMLError):
            name = str(nvml.nvmlDeviceGetName(handle))
        device = self._devices.get(gpu)
        if device is None:
            if len(self._devices) >= _MOST_GPUS:
                return
            device = self._devices[gpu] = _Device(gpu, index, name)
        elif device.handle is None:
            _log.info("a GPU is back", gpu=gpu)
        device.handle, device.index, device.name = handle, index, name or device.name
        device.asked_anew_at = self._clock()
        device.way.clear()
        device.reason.clear()
        device.gpm = Gpm.of(nvml, handle)
        if self._events is not None:
            with suppress(nvml.NVMLError):
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, self._events)

    def _reopen(self) -> None:
        """Look for lost GPUs, when it is time."""
        now = self._clock()
        if self._reopen_at is None:
            self._reopen_at = now + self._reopen_in_s
            return
        if now < self._reopen_at:
            return
        self.close()
        with suppress(self._nvml.NVMLError):
            self._connect()
        self._reopen_in_s = min(_LONGEST_REOPEN_S, self._reopen_in_s * 2)
        self._reopen_at = self._clock() + self._reopen_in_s

    # -- asking

    def sample(self) -> list[GpuSample]:
        """Every known GPU's figures; a lost one is among them, without figures.

        It never raises for what the driver does, and it may never come back.
        """
        if any(device.handle is None for device in self._devices.values()) or not self._open:
            self._reopen()
        else:
            self._reopen_in_s, self._reopen_at = _FIRST_REOPEN_S, None
        xids = self._xids()
        samples = []
        for device in sorted(self._devices.values(), key=lambda one: one.index):
            new = tuple(xids.get(device.gpu, ()))
            samples.append(self._sample(device, new))
        return samples

    def _sample(self, device: _Device, xids: tuple[int, ...]) -> GpuSample:
        at_us = self._now_us()
        values: dict[str, Any] = {}
        missing: dict[str, str] = {}
        if device.handle is not None:
            try:
                values, missing = self._ask(device)
            except _Lost as lost:
                _log.warning("a GPU is lost", gpu=device.gpu, reason=str(lost))
                device.handle = None
                if device.gpm is not None:
                    device.gpm.close()
                    device.gpm = None
                values = {}
            except _Closed as closed:
                _log.warning("the GPU driver does not answer any more", reason=str(closed))
                self.close()
                values = {}
        self._count_energy(device, values)
        return GpuSample(
            sampled_at_us=at_us,
            host=self._host,
            gpu=device.gpu,
            index=device.index,
            name=device.name,
            state="ok" if device.handle is not None else "lost",
            xids=xids,
            xid_counts=dict(device.xid_counts),
            missing=missing,
            **values,
        )

    def _ask(self, device: _Device) -> tuple[dict[str, Any], dict[str, str]]:
        values: dict[str, Any] = {}
        now = self._clock()
        if device.reason and now - device.asked_anew_at >= _ASK_AGAIN_S:
            device.asked_anew_at = now
            device.way.clear()
            device.reason.clear()
        missing: dict[str, str] = {}
        for name, ways in READINGS.items():
            self._read(device, name, ways, values, missing)
        if device.gpm is not None:
            values |= device.gpm.ratios()
        if values.get("mig_enabled"):
            values["slices"] = slices_of(self._nvml, device.handle)
        return values, {**device.reason, **missing}

    def _read(
        self,
        device: _Device,
        name: str,
        ways: tuple[Callable[[Any, Any], Mapping[str, Any]], ...],
        values: dict[str, Any],
        missing: dict[str, str],
    ) -> None:
        """Try the first way of a reading that is not known to fail."""
        while (way := device.way.get(name, 0)) < len(ways):
            try:
                values.update(ways[way](self._nvml, device.handle))
                return
            except self._nvml.NVMLError as error:
                code = int(error.value)
                if code in _LOST:
                    raise _Lost(_said(error)) from error
                if code in _CLOSED:
                    raise _Closed(_said(error)) from error
                if code not in _NEVER:
                    missing[name] = _said(error)
                    return
                device.way[name] = way + 1
                if way + 1 == len(ways):
                    device.reason[name] = _said(error)

    def _count_energy(self, device: _Device, values: dict[str, Any]) -> None:
        """Without an energy counter, sum power over time: less exact, and better than nothing."""
        power = values.get("power_watts")
        if "energy_joules" in values:
            values["energy_grade"] = "counter"
            device.power = None
            return
        if power is None:
            device.power = None
            return
        now = self._clock()
        if device.power is not None:
            then, before = device.power
            device.joules += (before + power) / 2 * (now - then)
        device.power = (now, power)
        values |= {"energy_joules": device.joules, "energy_grade": "integrated"}

    def _xids(self) -> dict[str, list[int]]:
        """New Xid errors by GPU."""
        if self._events is None:
            return {}
        by_handle = {
            address_of(device.handle): device
            for device in self._devices.values()
            if device.handle is not None
        }
        found: dict[str, list[int]] = {}
        for handle, xid in drain_events(self._nvml, self._events):
            device = by_handle.get(handle)
            if device is None:
                continue
            found.setdefault(device.gpu, []).append(xid)
            _log.warning("a GPU reports an error (Xid)", gpu=device.gpu, count=xid)
            counts = device.xid_counts
            if xid in counts or len(counts) < _MOST_XIDS:
                counts[xid] = counts.get(xid, 0) + 1
        return found


def _require_library() -> None:
    """Look for the library before the binding is imported: that takes 17 MiB, on every machine."""
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError as error:
        raise NoDriver("NVIDIA's library is not here (libnvidia-ml.so.1)") from error


def _said(error: Exception) -> str:
    return f"{error} (NVML {getattr(error, 'value', '?')})"

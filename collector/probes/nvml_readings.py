"""What is asked of a GPU, reading by reading. The binding is handed in; nothing is imported here.

Each way of a reading takes the binding and the device's handle and gives fields of `GpuSample`; it
lets NVML's errors through, except where one answer has several parts that may fail one by one.
"""

import ctypes
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from collector.probes.gpu_sample import GpuProcess, GpuSlice, throttle_reasons

Way = Callable[[Any, Any], Mapping[str, Any]]

_MHZ = 10**6
_MOST_EVENTS = 64
"""Taken in one round: a storm of errors must not hold it up."""
_MOST_PROCESSES = 64
_MOST_SLICES = 16


def _utilisation(nvml: Any, handle: Any) -> dict[str, Any]:
    rates = nvml.nvmlDeviceGetUtilizationRates(handle)
    return {"utilisation_ratio": rates.gpu / 100, "memory_busy_ratio": rates.memory / 100}


def _memory_v2(nvml: Any, handle: Any) -> dict[str, Any]:
    info = nvml.nvmlDeviceGetMemoryInfo(handle, nvml.nvmlMemory_v2)
    return {
        "memory_used_bytes": info.used,
        "memory_total_bytes": info.total,
        "memory_reserved_bytes": info.reserved,
    }


def _memory(nvml: Any, handle: Any) -> dict[str, Any]:
    info = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {"memory_used_bytes": info.used, "memory_total_bytes": info.total}


def _power(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"power_watts": nvml.nvmlDeviceGetPowerUsage(handle) / 1000}


def _power_field(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"power_watts": _field(nvml, handle, nvml.NVML_FI_DEV_POWER_INSTANT) / 1000}


def _power_limit(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"power_limit_watts": nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000}


def _energy(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"energy_joules": nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000}


def _energy_field(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"energy_joules": _field(nvml, handle, nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION) / 1000}


def _temperature_v(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"temperature_celsius": float(nvml.nvmlDeviceGetTemperatureV(handle, nvml.NVML_TEMPERATURE_GPU))}


def _temperature(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"temperature_celsius": float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))}


def _sm_clock(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"sm_clock_hz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * _MHZ}


def _memory_clock(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"memory_clock_hz": nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM) * _MHZ}


def _event_reasons(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"throttle_reasons": throttle_reasons(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))}


def _throttle_reasons(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"throttle_reasons": throttle_reasons(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))}


def _ecc_corrected(nvml: Any, handle: Any) -> dict[str, Any]:
    kind, since = nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_VOLATILE_ECC
    return {"ecc_corrected": nvml.nvmlDeviceGetTotalEccErrors(handle, kind, since)}


def _ecc_uncorrected(nvml: Any, handle: Any) -> dict[str, Any]:
    kind, since = nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
    return {"ecc_uncorrected": nvml.nvmlDeviceGetTotalEccErrors(handle, kind, since)}


def _processes_v3(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"processes": _listed(nvml.nvmlDeviceGetComputeRunningProcesses_v3(handle))}


def _processes_v2(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"processes": _listed(nvml.nvmlDeviceGetComputeRunningProcesses_v2(handle))}


def _mig(nvml: Any, handle: Any) -> dict[str, Any]:
    return {"mig_enabled": nvml.nvmlDeviceGetMigMode(handle)[0] == 1}


READINGS: Final[Mapping[str, tuple[Way, ...]]] = {
    "utilisation": (_utilisation,),
    "memory": (_memory_v2, _memory),
    "power": (_power, _power_field),
    "power_limit": (_power_limit,),
    "energy": (_energy, _energy_field),
    "temperature": (_temperature_v, _temperature),
    "sm_clock": (_sm_clock,),
    "memory_clock": (_memory_clock,),
    "throttle": (_event_reasons, _throttle_reasons),
    "ecc_corrected": (_ecc_corrected,),
    "ecc_uncorrected": (_ecc_uncorrected,),
    "processes": (_processes_v3, _processes_v2),
    "mig": (_mig,),
}
"""What is asked, each with its ways, the best first."""


def _listed(found: list[Any]) -> tuple[GpuProcess, ...]:
    return tuple(
        GpuProcess(one.pid, None if one.usedGpuMemory is None else int(one.usedGpuMemory))
        for one in found[:_MOST_PROCESSES]
    )


def _field(nvml: Any, handle: Any, field_id: int) -> int:
    value = nvml.nvmlDeviceGetFieldValues(handle, [field_id])[0]
    if value.nvmlReturn != nvml.NVML_SUCCESS:
        raise nvml.NVMLError(value.nvmlReturn)
    wide = (nvml.NVML_VALUE_TYPE_UNSIGNED_LONG_LONG, nvml.NVML_VALUE_TYPE_UNSIGNED_LONG)
    return int(value.value.ullVal if value.valueType in wide else value.value.uiVal)


# -- MIG


def slices_of(nvml: Any, handle: Any) -> tuple[GpuSlice, ...]:
    """The MIG devices of a GPU; what one of them does not tell is None."""
    slices: list[GpuSlice] = []
    count = 0
    with suppress(nvml.NVMLError):
        count = min(nvml.nvmlDeviceGetMaxMigDeviceCount(handle), _MOST_SLICES)
    for index in range(count):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            uuid = str(nvml.nvmlDeviceGetUUID(part))
        except nvml.NVMLError:
            # Places are numbered, and not all are taken.
            continue
        values: dict[str, Any] = {}
        with suppress(nvml.NVMLError):
            values |= _memory(nvml, part)
        with suppress(nvml.NVMLError):
            values["compute_slices"] = int(nvml.nvmlDeviceGetAttributes(part).gpuInstanceSliceCount)
        with suppress(nvml.NVMLError):
            values |= _processes_v3(nvml, part)
        slices.append(GpuSlice(uuid=uuid, **values))
    return tuple(slices)


# -- events


def address_of(handle: Any) -> int:
    """A device handle as a number, to find it again."""
    return int(ctypes.cast(handle, ctypes.c_void_p).value or 0)


def drain_events(nvml: Any, events: Any) -> Iterator[tuple[int, int]]:
    """Handle and number of each Xid error that waits."""
    for _ in range(_MOST_EVENTS):
        try:
            event = nvml.nvmlEventSetWait_v2(events, 1)
        except nvml.NVMLError:
            # Usually TIMEOUT: nothing waits. Any other error will be told by the readings.
            return
        if event.eventType == nvml.nvmlEventTypeXidCriticalError:
            yield address_of(event.device), int(event.eventData)


# -- GPM


class Gpm:
    """Hardware counters of Hopper and later: each figure is over the time between two samples."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml = nvml
        self._handle = handle
        self._before = nvml.nvmlGpmSampleAlloc()
        try:
            self._after = nvml.nvmlGpmSampleAlloc()
        except nvml.NVMLError:
            nvml.nvmlGpmSampleFree(self._before)
            raise
        self._taken = False

    @classmethod
    def of(cls, nvml: Any, handle: Any) -> "Gpm | None":
        """The counters of a GPU, where it has them."""
        try:
            if not nvml.nvmlGpmQueryDeviceSupport(handle).isSupportedDevice:
                return None
            return cls(nvml, handle)
        except nvml.NVMLError:
            return None

    def ratios(self) -> dict[str, float]:
        """Figures since the last call; none the first time, or when they cannot be had."""
        nvml = self._nvml
        try:
            nvml.nvmlGpmSampleGet(self._handle, self._after)
            found = self._between() if self._taken else {}
        except nvml.NVMLError:
            self._taken = False
            return {}
        self._before, self._after = self._after, self._before
        self._taken = True
        return found

    def _between(self) -> dict[str, float]:
        nvml = self._nvml
        asked = {
            "sm_active_ratio": nvml.NVML_GPM_METRIC_SM_UTIL,
            "tensor_active_ratio": nvml.NVML_GPM_METRIC_ANY_TENSOR_UTIL,
            "memory_bandwidth_ratio": nvml.NVML_GPM_METRIC_DRAM_BW_UTIL,
        }
        request = nvml.c_nvmlGpmMetricsGet_t()
        request.version = nvml.NVML_GPM_METRICS_GET_VERSION
        request.numMetrics = len(asked)
        request.sample1, request.sample2 = self._before, self._after
        for place, metric in enumerate(asked.values()):
            request.metrics[place].metricId = metric
        nvml.nvmlGpmMetricsGet(request)
        told = zip(asked, request.metrics, strict=False)
        return {
            name: metric.value / 100
            for name, metric in told
            if metric.nvmlReturn == nvml.NVML_SUCCESS and 0 <= metric.value <= 100.5
        }

    def close(self) -> None:
        """Give the samples back."""
        for sample in (self._before, self._after):
            with suppress(self._nvml.NVMLError):
                self._nvml.nvmlGpmSampleFree(sample)

"""One GPU at one instant, as far as its driver tells."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

THROTTLE_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal",
    0x40: "hw_thermal",
    0x80: "hw_power_brake",
    0x100: "display_clocks",
}
"""Bit of NVML's clocks event reasons (``nvml.h``: ``nvmlClocksEventReason*``) to our word for it."""

State = Literal["ok", "lost"]
EnergyGrade = Literal["counter", "integrated"]


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that computes on a GPU."""

    pid: int
    memory_bytes: int | None
    """None where the driver does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSlice:
    """A MIG device: a part of a GPU with memory and processes of its own.

    Power, energy and utilisation are told for the whole board only.
    """

    uuid: str
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    compute_slices: int | None = None
    """How many of the GPU's compute slices (seven on A100 and H100) it has."""
    processes: tuple[GpuProcess, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One GPU's figures. None: the driver did not tell; `missing` says why."""

    sampled_at_us: int
    """Since the Unix epoch, UTC."""
    host: str
    gpu: str
    """The driver's UUID, or ``index-N`` where it tells none."""
    index: int
    name: str
    state: State = "ok"
    """``lost`` when it fell off the bus or waits for a reset: then no figure is told."""
    utilisation_ratio: float | None = None
    """Share of time in which some kernel ran. It says busy, not efficient."""
    memory_busy_ratio: float | None = None
    """Share of time in which device memory was read or written."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    power_watts: float | None = None
    """Mean of about a second (Ampere and later, except GA100: an instant)."""
    power_limit_watts: float | None = None
    energy_joules: float | None = None
    """A running total: only differences mean something."""
    energy_grade: EnergyGrade | None = None
    """``counter``: the driver's own. ``integrated``: summed by us from power, since the probe started."""
    temperature_celsius: float | None = None
    sm_clock_hz: int | None = None
    memory_clock_hz: int | None = None
    throttle_reasons: tuple[str, ...] | None = None
    """Why clocks are held down (`THROTTLE_REASONS`); empty when they are not."""
    ecc_corrected: int | None = None
    """Since the driver was loaded."""
    ecc_uncorrected: int | None = None
    xids: tuple[int, ...] = ()
    """Xid errors since the sample before (79: fell off the bus)."""
    xid_counts: Mapping[int, int] = field(default_factory=dict)
    """How often each Xid came since the probe started."""
    processes: tuple[GpuProcess, ...] | None = None
    mig_enabled: bool | None = None
    slices: tuple[GpuSlice, ...] = ()
    sm_active_ratio: float | None = None
    """GPM, Hopper and later: share of the multiprocessors that worked."""
    tensor_active_ratio: float | None = None
    """GPM: share of time in which tensor cores worked."""
    memory_bandwidth_ratio: float | None = None
    """GPM: share of the peak memory bandwidth."""
    missing: Mapping[str, str] = field(default_factory=dict)
    """Readings that failed, with the driver's reason."""


def throttle_reasons(mask: int) -> tuple[str, ...]:
    """The reasons whose bits are set; unknown bits as ``bit_N``."""
    found = [name for bit, name in THROTTLE_REASONS.items() if mask & bit]
    rest = mask & ~sum(THROTTLE_REASONS)
    return (*found, *(f"bit_{n}" for n in range(rest.bit_length()) if rest >> n & 1))

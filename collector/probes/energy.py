"""Joules that a GPU drew between two instants. Pure.

The driver's counter steps about ten times a second, so nothing shorter than a second is worth
asking for. Between two samples energy is taken to flow evenly.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from collector.probes.gpu_sample import GpuSample

_LONGEST_GAP_US = 30_000_000
"""Power is not carried over a longer silence; a counter is."""


class Energy(NamedTuple):
    """What was drawn, and how much of the time that covers."""

    millijoules: int
    covered_us: int
    """Time for which samples tell; the rest is unknown, not zero."""


def energy_between(samples: Sequence[GpuSample], start_us: int, end_us: int) -> Energy:
    """What one GPU drew from ``start_us`` to ``end_us``.

    Args:
        samples: of one GPU, oldest first; best with one before the start and one after the end.
        start_us, end_us: microseconds since the epoch.

    Counter differences where both samples have them and the counter did not go back (a driver
    loaded anew); else mean power times time.
    """
    total, covered = 0.0, 0
    for before, after in pairwise(samples):
        span = after.sampled_at_us - before.sampled_at_us
        inside = min(end_us, after.sampled_at_us) - max(start_us, before.sampled_at_us)
        if span <= 0 or inside <= 0:
            continue
        joules = _drawn(before, after, span)
        if joules is not None:
            total += joules * inside / span
            covered += inside
    return Energy(round(total * 1000), covered)


def _drawn(before: GpuSample, after: GpuSample, span_us: int) -> float | None:
    same = before.energy_grade == after.energy_grade
    if same and before.energy_joules is not None and after.energy_joules is not None:
        joules = after.energy_joules - before.energy_joules
        if joules >= 0:
            return joules
    if before.power_watts is None or after.power_watts is None or span_us > _LONGEST_GAP_US:
        return None
    return (before.power_watts + after.power_watts) / 2 * span_us / 1e6


def idle_watts(samples: Sequence[GpuSample], quantile: float = 0.05) -> float | None:
    """Power while nothing runs: a low quantile over samples without utilisation; None without such."""
    idle = sorted(
        sample.power_watts
        for sample in samples
        if sample.power_watts is not None and sample.utilisation_ratio == 0
    )
    return idle[int(quantile * (len(idle) - 1))] if idle else None

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.probes.energy import Energy, energy_between, idle_watts
from collector.probes.gpu_sample import GpuSample

S = 1_000_000


def at(second: float, **values: Any) -> GpuSample:
    values.setdefault("energy_grade", "counter" if "energy_joules" in values else None)
    return GpuSample(sampled_at_us=int(second * S), host="box", gpu="GPU-1", index=0, name="", **values)


def test_between_two_counter_values_energy_flows_evenly() -> None:
    samples = [at(0, energy_joules=1000.0), at(10, energy_joules=2000.0), at(20, energy_joules=2500.0)]

    assert energy_between(samples, 0, 20 * S) == Energy(1_500_000, 20 * S)
    assert energy_between(samples, 5 * S, 12 * S) == Energy(600_000, 7 * S)  # 5 s x 100 W + 2 s x 50 W
    assert energy_between(samples, 30 * S, 40 * S) == Energy(0, 0)


def test_a_counter_that_went_back_is_bridged_by_power() -> None:
    samples = [
        at(0, energy_joules=9e6, power_watts=100.0),
        at(2, energy_joules=50.0, power_watts=300.0),
        at(3, energy_joules=250.0, power_watts=300.0),
    ]
    assert energy_between(samples, 0, 3 * S) == Energy(600_000, 3 * S)  # 2 s x 200 W, then 200 J counted


def test_time_without_figures_is_unknown_and_not_zero() -> None:
    samples = [at(0, power_watts=100.0), at(1, power_watts=100.0), at(2), at(3, power_watts=100.0)]
    assert energy_between(samples, 0, 4 * S) == Energy(100_000, 1 * S)


def test_power_is_not_carried_over_a_long_silence_but_a_counter_is() -> None:
    assert energy_between([at(0, power_watts=100.0), at(60, power_watts=100.0)], 0, 60 * S) == Energy(0, 0)
    counted = [at(0, energy_joules=0.0), at(60, energy_joules=6000.0)]
    assert energy_between(counted, 0, 60 * S) == Energy(6_000_000, 60 * S)


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=20), st.integers(0, 20))
def test_neighbouring_windows_add_up_to_the_whole(steps: list[int], cut: int) -> None:
    total, samples = 0.0, []
    for second, step in enumerate(steps):
        total += step
        samples.append(at(second, energy_joules=total))
    end = (len(steps) - 1) * S
    middle = min(cut * S // 2, end)

    parts = [energy_between(samples, 0, middle), energy_between(samples, middle, end)]

    whole = energy_between(samples, 0, end)
    assert sum(part.millijoules for part in parts) == pytest.approx(whole.millijoules, abs=1)
    assert sum(part.covered_us for part in parts) == whole.covered_us == end


def test_idle_power_is_what_is_drawn_while_nothing_runs() -> None:
    samples = [at(n, power_watts=70.0 + n, utilisation_ratio=0.0 if n < 5 else 0.9) for n in range(10)]
    assert idle_watts(samples) == 70.0
    assert idle_watts(samples[5:]) is None

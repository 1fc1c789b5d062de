import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.gpu import gpu_is_here

from collector.probes.gpu_sample import GpuProcess, GpuSample, throttle_reasons
from collector.probes.nvml import NoDriver, Nvml

NOT_SUPPORTED, NO_PERMISSION, NOT_LOADED, TIMEOUT, FUNCTION_NOT_FOUND, IS_LOST, MISMATCH = (
    3,
    4,
    9,
    10,
    13,
    15,
    18,
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def nvml(gpus: Any, clock: Clock) -> Iterator[Nvml]:
    opened = Nvml(host="box", clock=clock, now_us=lambda: int(clock.now * 1e6))
    yield opened
    opened.close()


def in_a_process_of_its_own(program: str) -> str:
    """What it prints, where no stand-in for the library was ever loaded."""
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def only(nvml: Nvml) -> GpuSample:
    (sample,) = nvml.sample()
    return sample


FIELDS_BY_FUNCTION = {
    "nvmlDeviceGetUtilizationRates": ("utilisation_ratio", "memory_busy_ratio"),
    "nvmlDeviceGetPowerUsage+nvmlDeviceGetFieldValues": ("power_watts",),
    "nvmlDeviceGetEnforcedPowerLimit": ("power_limit_watts",),
    "nvmlDeviceGetMemoryInfo_v2+nvmlDeviceGetMemoryInfo": ("memory_used_bytes", "memory_total_bytes"),
    "nvmlDeviceGetTemperatureV+nvmlDeviceGetTemperature": ("temperature_celsius",),
    "nvmlDeviceGetClockInfo": ("sm_clock_hz", "memory_clock_hz"),
    "nvmlDeviceGetCurrentClocksEventReasons": ("throttle_reasons",),
    "nvmlDeviceGetTotalEccErrors": ("ecc_corrected", "ecc_uncorrected"),
    "nvmlDeviceGetComputeRunningProcesses_v3": ("processes",),
    "nvmlDeviceGetMigMode": ("mig_enabled",),
}


def test_every_figure_comes_in_base_units(gpus: Any, nvml: Nvml) -> None:
    gpus.tell(
        util=87, mem_util=41, mem_used=90_000_000_000, mem_reserved=500_000_000, mem_total=150_754_820_096,
        power_mw=612_345, power_limit_mw=700_000, energy_mj=123_456_789, temp=71,
        clock_sm=1755, clock_mem=3201, throttle=0x4 | 0x40, ecc_corrected=3, ecc_uncorrected=1,
        procs="4242:89000000000,4243:1000",
    )  # fmt: skip

    sample = only(nvml)

    assert sample.gpu == "GPU-00000000-0000-0000-0000-000000000000"
    assert (sample.name, sample.index, sample.host, sample.state) == ("NVIDIA H200", 0, "box", "ok")
    assert sample.sampled_at_us == 1_000_000_000
    assert (sample.utilisation_ratio, sample.memory_busy_ratio) == (0.87, 0.41)
    assert (sample.memory_used_bytes, sample.memory_reserved_bytes) == (90_000_000_000, 500_000_000)
    assert sample.memory_total_bytes == 150_754_820_096
    assert (sample.power_watts, sample.power_limit_watts) == (612.345, 700.0)
    assert (sample.energy_joules, sample.energy_grade) == (123_456.789, "counter")
    assert sample.temperature_celsius == 71.0
    assert (sample.sm_clock_hz, sample.memory_clock_hz) == (1_755_000_000, 3_201_000_000)
    assert sample.throttle_reasons == ("sw_power_cap", "hw_thermal")
    assert (sample.ecc_corrected, sample.ecc_uncorrected) == (3, 1)
    assert sample.processes == (GpuProcess(4242, 89_000_000_000), GpuProcess(4243, 1000))
    assert (sample.mig_enabled, sample.slices, sample.missing) == (False, (), {})


@pytest.mark.parametrize("functions", FIELDS_BY_FUNCTION)
@pytest.mark.parametrize("code", [NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, TIMEOUT, 999])
def test_each_figure_can_be_missing_alone(gpus: Any, nvml: Nvml, functions: str, code: int) -> None:
    whole = only(nvml)
    for function in functions.split("+"):
        gpus.fail(function, code)

    sample = only(nvml)

    gone = FIELDS_BY_FUNCTION[functions]
    assert [getattr(sample, name) for name in gone] == [None] * len(gone)
    assert sample.missing
    told = set(GpuSample.__dataclass_fields__) - set(gone) - {"missing", "memory_reserved_bytes"}
    if "power_watts" not in gone:
        assert {name for name in told if getattr(sample, name) != getattr(whole, name)} == set()
    assert sample.state == "ok"


def test_a_passing_error_is_asked_again_and_a_lasting_one_is_not(gpus: Any, nvml: Nvml, clock: Clock) -> None:
    gpus.fail("nvmlDeviceGetUtilizationRates", TIMEOUT)
    gpus.fail("nvmlDeviceGetEnforcedPowerLimit", NOT_SUPPORTED)
    before = only(nvml)
    assert (before.utilisation_ratio, before.power_limit_watts) == (None, None)

    gpus.fail("nvmlDeviceGetUtilizationRates", None)
    gpus.fail("nvmlDeviceGetEnforcedPowerLimit", None)

    assert only(nvml).utilisation_ratio == 0.0
    assert only(nvml).power_limit_watts is None
    clock.now += 601
    assert only(nvml).power_limit_watts == 700.0


def test_old_drivers_are_asked_in_their_words(gpus: Any, nvml: Nvml) -> None:
    gpus.tell(mem_used=5_000_000, temp=55, energy_mj=7_000, power_mw=80_000)
    for function in (
        "nvmlDeviceGetMemoryInfo_v2",
        "nvmlDeviceGetTemperatureV",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetPowerUsage",
    ):
        gpus.fail(function, FUNCTION_NOT_FOUND)

    sample = only(nvml)

    assert sample.memory_used_bytes == 5_000_000
    assert sample.memory_reserved_bytes is None
    assert (sample.temperature_celsius, sample.energy_joules, sample.power_watts) == (55.0, 7.0, 80.0)
    assert sample.energy_grade == "counter"
    assert sample.missing == {}


def test_without_a_counter_energy_is_summed_from_power(gpus: Any, nvml: Nvml, clock: Clock) -> None:
    gpus.fail("nvmlDeviceGetTotalEnergyConsumption", NOT_SUPPORTED)
    gpus.fail("nvmlDeviceGetFieldValues", NOT_SUPPORTED)
    gpus.tell(power_mw=100_000)
    assert (only(nvml).energy_joules, only(nvml).energy_grade) == (0.0, "integrated")

    clock.now += 2
    gpus.tell(power_mw=300_000)

    assert only(nvml).energy_joules == 400.0  # 2 s at a mean of 200 W


def test_a_lost_gpu_is_reported_and_found_again(
    gpus: Any, nvml: Nvml, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    gpus.set({"count": 2, "g1.power_mw": 90_000})
    nvml.close()
    both = Nvml(clock=clock)
    gpus.fail("nvmlDeviceGetUtilizationRates", IS_LOST)
    gpus.fail("nvmlDeviceGetHandleByIndex_v2", IS_LOST)

    lost = [both.sample() for _ in range(3)]

    assert [[one.state for one in samples] for samples in lost] == [["lost", "ok"]] * 3
    assert lost[0][0].power_watts is None
    assert lost[2][1].power_watts == 90.0
    assert sum("a GPU is lost" in record.message for record in caplog.records) == 1

    clock.now += 2
    assert [one.state for one in both.sample()] == ["lost", "ok"]  # looked for, still gone
    gpus.fail("nvmlDeviceGetUtilizationRates", None)
    gpus.fail("nvmlDeviceGetHandleByIndex_v2", None)
    clock.now += 5
    both.sample()

    found = both.sample()
    assert [one.state for one in found] == ["ok", "ok"]
    assert found[0].power_watts == 75.0
    both.close()


def test_a_driver_that_goes_away_is_opened_anew(gpus: Any, nvml: Nvml, clock: Clock) -> None:
    assert only(nvml).state == "ok"
    gpus.fail("nvmlDeviceGetUtilizationRates", MISMATCH)
    gpus.set({"error.nvmlInit": NOT_LOADED})
    for _ in range(3):
        assert only(nvml).state == "lost"
        clock.now += 100

    gpus.fail("nvmlDeviceGetUtilizationRates", None)
    gpus.set({"error.nvmlInit": None})
    clock.now += 100

    assert only(nvml).state == "ok"


def test_xid_errors_are_told_once_and_counted(gpus: Any, nvml: Nvml) -> None:
    sequence = 1000 + os.getpid()  # the library remembers the last one for as long as it is loaded
    nvml.sample()
    gpus.tell(xid_seq=sequence, xid=79)
    first = only(nvml)
    second = only(nvml)
    gpus.tell(xid_seq=sequence + 1, xid=79)
    third = only(nvml)

    assert [one.xids for one in (first, second, third)] == [(79,), (), (79,)]
    assert third.xid_counts == {79: 2}


def test_gpm_tells_how_much_of_the_gpu_worked_since_the_last_sample(gpus: Any, clock: Clock) -> None:
    gpus.tell(gpm=1, gpm_2=85.5, gpm_5=40.0)
    nvml = Nvml(clock=clock)

    first, second = only(nvml), only(nvml)

    assert (first.sm_active_ratio, first.tensor_active_ratio) == (None, None)
    assert (second.sm_active_ratio, second.tensor_active_ratio) == (0.855, 0.4)
    assert second.memory_bandwidth_ratio is None
    gpus.fail("nvmlGpmSampleGet", NOT_SUPPORTED)
    assert only(nvml).sm_active_ratio is None
    nvml.close()


def test_mig_slices_are_listed_with_their_memory_and_processes(gpus: Any, nvml: Nvml) -> None:
    gpus.tell(mig=1, slices=2)
    gpus.set({"g1000.mem_total": 70 << 30, "g1000.mem_used": 5 << 30, "g1000.procs": "77:1024"})
    gpus.set({"g1000.slice_gi": 4, "g1001.error.nvmlDeviceGetMemoryInfo": NO_PERMISSION})

    sample = only(nvml)

    assert sample.mig_enabled
    one, other = sample.slices
    assert (one.memory_used_bytes, one.memory_total_bytes, one.compute_slices) == (5 << 30, 70 << 30, 4)
    assert one.processes == (GpuProcess(77, 1024),)
    assert (other.memory_used_bytes, other.compute_slices) == (None, 3)
    assert one.uuid != other.uuid


def test_without_a_driver_the_reason_is_said(gpus: Any) -> None:
    gpus.set({"error.nvmlInit": NOT_LOADED})
    with pytest.raises(NoDriver, match="Driver Not Loaded"):
        Nvml()


def test_without_the_library_the_reason_is_said_and_the_binding_is_not_imported() -> None:
    said = in_a_process_of_its_own(
        "import sys; from collector.probes.nvml import Nvml, NoDriver\n"
        "try: Nvml()\n"
        "except NoDriver as error: print('none:', error, 'pynvml' in sys.modules)\n"
        "else: print('a GPU is here')"
    )
    if said.startswith("a GPU"):
        pytest.skip("this machine has NVIDIA's library")
    assert said == "none: NVIDIA's library is not here (libnvidia-ml.so.1) False\n"


def test_the_binding_is_imported_when_a_gpu_is_looked_for_and_no_sooner() -> None:
    program = "import collector.probes.nvml, collector.probes.gpu_probe, sys; print('pynvml' in sys.modules)"
    assert in_a_process_of_its_own(program) == "False\n"


def test_unknown_throttle_bits_are_named_by_their_number() -> None:
    assert throttle_reasons(0) == ()
    assert throttle_reasons(0x4 | 1 << 20) == ("sw_power_cap", "bit_20")


@pytest.mark.gpu
def test_a_real_gpu_tells_its_figures() -> None:
    """In a process of its own, where no stand-in is loaded."""
    if not gpu_is_here():
        pytest.skip("there is no NVIDIA GPU here. NOT RUN: what the driver of a real one tells")
    program = (
        "import time; from collector.probes.nvml import Nvml\n"
        "nvml = Nvml(); a = nvml.sample(); time.sleep(2); b = nvml.sample()\n"
        "assert a and b\n"
        "for x, y in zip(a, b):\n"
        "    print(y)\n"
        "    assert y.memory_total_bytes > 1 << 30 and 5 < y.power_watts < 2000\n"
        "    assert 0 <= y.utilisation_ratio <= 1 and 10 < y.temperature_celsius < 110\n"
        "    drawn = (y.energy_joules - x.energy_joules) / ((y.sampled_at_us - x.sampled_at_us) / 1e6)\n"
        "    assert abs(drawn - y.power_watts) < 0.5 * y.power_watts + 20\n"
    )
    in_a_process_of_its_own(program)

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from collector.probes.gpu_probe import GpuProbe, GpuProbeConfig
from collector.probes.nvml import NoDriver

QUICK = GpuProbeConfig(interval_s=0.02, deadline_s=0.3, look_again_s=0.05, most_waiting=20)


def until(condition: Callable[[], Any], timeout_s: float = 10.0) -> Any:
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
    return found


@pytest.fixture
def probe(gpus: Any) -> Iterator[GpuProbe]:
    made = GpuProbe(QUICK)
    made.start()
    yield made
    made.stop()


def test_samples_come_by_themselves_and_each_is_drained_once(gpus: Any, probe: GpuProbe) -> None:
    gpus.tell(power_mw=120_000)
    until(lambda: [one for one in probe.latest() if one.power_watts == 120.0])

    first = until(probe.drain)
    second = until(probe.drain)

    times = [one.sampled_at_us for one in first + second]
    assert times == sorted(set(times))


def test_a_hanging_driver_stalls_nobody_and_is_followed_when_it_answers_again(
    gpus: Any, probe: GpuProbe, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    until(probe.latest)
    gpus.hang("nvmlDeviceGetPowerUsage")

    until(lambda: probe.hangs)
    began = time.monotonic()
    assert (probe.latest(), probe.latest()) == ((), ())
    probe.drain()
    assert time.monotonic() - began < 20
    assert sum("does not answer" in record.message for record in caplog.records) == 1

    gpus.hang("nvmlDeviceGetPowerUsage", False)
    until(probe.latest)
    assert not probe.hangs
    until(lambda: any(record.message == "the GPU driver: ok" for record in caplog.records))


def test_stopping_does_not_wait_for_a_hanging_driver(gpus: Any, probe: GpuProbe) -> None:
    until(probe.latest)
    gpus.hang("nvmlDeviceGetPowerUsage")
    until(lambda: probe.hangs)

    began = time.monotonic()
    assert probe.stop(timeout_s=0.1) is False
    assert time.monotonic() - began < 20

    gpus.hang("nvmlDeviceGetPowerUsage", False)
    assert until(lambda: probe.stop(timeout_s=0.1))


def test_without_a_driver_there_is_one_line_and_a_later_driver_is_found(
    gpus: Any, caplog: pytest.LogCaptureFixture
) -> None:
    looks = threading.Semaphore(0)

    def absent() -> Any:
        looks.release()
        raise NoDriver("no library")

    caplog.set_level("INFO")
    without = GpuProbe(QUICK, absent)
    without.start()
    assert all(looks.acquire(timeout=10) for _ in range(4))
    assert without.latest() == ()
    assert without.stop()
    assert [record.message for record in caplog.records] == ["no GPU is watched"]

    gpus.set({"error.nvmlInit": 9})
    later = GpuProbe(QUICK)
    later.start()
    until(lambda: len(caplog.records) == 2)
    gpus.set({"error.nvmlInit": None})
    until(later.latest)
    assert later.stop()


def test_a_driver_that_shows_no_gpu_is_looked_at_again(gpus: Any) -> None:
    gpus.set({"count": 0})
    probe = GpuProbe(QUICK)
    probe.start()
    gpus.set({"count": 1})
    assert until(probe.latest)
    assert probe.stop()


def test_what_nobody_fetches_is_bounded_and_counted(gpus: Any, probe: GpuProbe) -> None:
    until(lambda: probe.dropped > 3)
    assert len(probe.drain()) <= QUICK.most_waiting

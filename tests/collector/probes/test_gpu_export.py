import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collector.export.families import FAMILIES
from collector.probes.gpu_export import MORE_FAMILIES, book, metrics_of, rows_of
from collector.probes.gpu_sample import GpuProcess, GpuSample, GpuSlice

BARE = GpuSample(sampled_at_us=1_790_000_000_250_000, host="box", gpu="GPU-1", index=0, name="NVIDIA H200")
FULL = replace(
    BARE,
    utilisation_ratio=0.87,
    memory_busy_ratio=0.4,
    memory_used_bytes=90_000_000_000,
    memory_total_bytes=150_000_000_000,
    memory_reserved_bytes=1000,
    power_watts=612.5,
    power_limit_watts=700.0,
    energy_joules=1234.5,
    energy_grade="counter",
    temperature_celsius=71.0,
    sm_clock_hz=1_755_000_000,
    memory_clock_hz=3_201_000_000,
    throttle_reasons=("sw_power_cap",),
    ecc_corrected=3,
    ecc_uncorrected=0,
    xids=(79,),
    xid_counts={79: 2},
    processes=(GpuProcess(42, 1000), GpuProcess(43, None)),
    mig_enabled=True,
    slices=(GpuSlice(uuid="MIG-1", memory_used_bytes=5),),
    sm_active_ratio=0.5,
    missing={"utilisation": "Not Supported (NVML 3)"},
)


def samples_in(text: str) -> dict[tuple[str, ...], float]:
    return {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_prometheus_reads_every_figure_under_its_name() -> None:
    told = samples_in(metrics_of([FULL, replace(BARE, gpu="GPU-2", index=1, state="lost")]))

    assert told == {
        ("bursar_gpu_info", "GPU-1", "0", "NVIDIA H200"): 1,
        ("bursar_gpu_info", "GPU-2", "1", "NVIDIA H200"): 1,
        ("bursar_gpu_up", "GPU-1"): 1,
        ("bursar_gpu_up", "GPU-2"): 0,
        ("bursar_gpu_utilization_ratio", "GPU-1"): 0.87,
        ("bursar_gpu_memory_busy_ratio", "GPU-1"): 0.4,
        ("bursar_gpu_memory_used_bytes", "GPU-1"): 90_000_000_000,
        ("bursar_gpu_memory_size_bytes", "GPU-1"): 150_000_000_000,
        ("bursar_gpu_power_watts", "GPU-1"): 612.5,
        ("bursar_gpu_power_limit_watts", "GPU-1"): 700,
        ("bursar_gpu_energy_joules_total", "GPU-1"): 1234.5,
        ("bursar_gpu_temperature_celsius", "GPU-1"): 71,
        ("bursar_gpu_clock_hertz", "GPU-1", "sm"): 1_755_000_000,
        ("bursar_gpu_clock_hertz", "GPU-1", "memory"): 3_201_000_000,
        ("bursar_gpu_throttled", "GPU-1", "sw_power_cap"): 1,
        ("bursar_gpu_ecc_errors_total", "GPU-1", "corrected"): 3,
        ("bursar_gpu_ecc_errors_total", "GPU-1", "uncorrected"): 0,
        ("bursar_gpu_xid_errors_total", "GPU-1", "79"): 2,
        ("bursar_gpu_processes", "GPU-1"): 2,
        ("bursar_gpu_mig_enabled", "GPU-1"): 1,
        ("bursar_gpu_sm_active_ratio", "GPU-1"): 0.5,
        ("bursar_gpu_slice_memory_used_bytes", "GPU-1", "MIG-1"): 5,
    }


def test_without_a_gpu_there_is_no_metric() -> None:
    assert metrics_of([]) == ""


def test_our_own_families_take_no_name_twice() -> None:
    names = [family.name for family in MORE_FAMILIES]
    assert not set(names) & set(FAMILIES)
    assert len(set(names)) == len(names)


def test_a_row_has_a_value_for_every_column_and_the_rest_as_json() -> None:
    row = rows_of(FULL)

    assert row["sampled_at"] == datetime(2026, 9, 21, 14, 13, 20, 250_000)
    assert row["throttle_reasons"] == ["sw_power_cap"]
    assert json.loads(row["attributes"]) == {
        "state": "ok",
        "index": 0,
        "memory_busy_ratio": 0.4,
        "memory_reserved_bytes": 1000,
        "power_limit_watts": 700.0,
        "energy_grade": "counter",
        "ecc_corrected": 3,
        "ecc_uncorrected": 0,
        "mig_enabled": True,
        "sm_active_ratio": 0.5,
        "xids": [79],
        "processes": [{"pid": 42, "memory_bytes": 1000}, {"pid": 43, "memory_bytes": None}],
        "slices": [
            {
                "uuid": "MIG-1",
                "memory_used_bytes": 5,
                "memory_total_bytes": None,
                "compute_slices": None,
                "processes": None,
            }
        ],
        "missing": {"utilisation": "Not Supported (NVML 3)"},
    }


def test_rows_go_into_the_ledgers_own_table(database: Any, rows: Any) -> None:
    with database.turn, database.transaction() as connection:
        book(connection, [FULL, BARE])

    assert rows(
        "SELECT gpu, power_watts, sm_clock_hz, throttle_reasons[1], attributes->>'$.xids[0]' "
        "FROM gpu_samples ORDER BY power_watts NULLS LAST"
    ) == [("GPU-1", 612.5, 1_755_000_000, "sw_power_cap", "79"), ("GPU-1", None, None, None, None)]
    assert rows("SELECT epoch_us(sampled_at) FROM gpu_samples LIMIT 1") == [(1_790_000_000_250_000,)]


@given(
    st.text(max_size=20).filter(lambda text: text.isprintable()),
    st.floats(allow_nan=False) | st.none(),
    st.lists(st.sampled_from(["sw_thermal", "bit_12"]), unique=True) | st.none(),
)
def test_any_name_and_figure_is_text_that_prometheus_reads(
    name: str, watts: float | None, reasons: list[str] | None
) -> None:
    sample = replace(
        BARE, name=name, power_watts=watts, throttle_reasons=None if reasons is None else tuple(reasons)
    )
    told = samples_in(metrics_of([sample]))
    assert told[("bursar_gpu_info", "GPU-1", "0", name)] == 1
    assert told.get(("bursar_gpu_power_watts", "GPU-1")) == watts
    assert sum(key[0] == "bursar_gpu_throttled" for key in told) == len(reasons or ())

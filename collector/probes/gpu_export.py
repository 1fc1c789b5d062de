"""GPU samples as rows of the table ``gpu_samples`` and as Prometheus text. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from collector.export.exposition import Number, header, label_text, number
from collector.export.families import FAMILIES, Family
from collector.probes.gpu_sample import GpuSample
from collector.store.machine_sums import GPUS, add_late

if TYPE_CHECKING:
    import pyarrow as pa

_INSERT = (
    "INSERT INTO gpu_samples BY NAME SELECT * REPLACE (CAST(attributes AS JSON) AS attributes) FROM "
    "staged_gpu_samples"
)

_json = msgspec.json.Encoder(order="sorted").encode

_IN_ATTRIBUTES = (
    *("memory_busy_ratio", "memory_reserved_bytes", "power_limit_watts", "energy_grade"),
    *("ecc_corrected", "ecc_uncorrected", "mig_enabled"),
    *("sm_active_ratio", "tensor_active_ratio", "memory_bandwidth_ratio"),
)


def rows_of(sample: GpuSample) -> dict[str, Any]:
    """One row: column to value, times as naive UTC; what has no column is JSON in ``attributes``."""
    attributes: dict[str, Any] = {"state": sample.state, "index": sample.index}
    for name in _IN_ATTRIBUTES:
        value = getattr(sample, name)
        if value is not None:
            attributes[name] = value
    for name in ("xids", "processes", "slices", "missing"):
        if getattr(sample, name):
            attributes[name] = getattr(sample, name)
    return {
        "sampled_at": datetime.fromtimestamp(sample.sampled_at_us / 1e6, UTC).replace(tzinfo=None),
        "host": sample.host,
        "gpu": sample.gpu,
        "name": sample.name,
        "utilisation_ratio": sample.utilisation_ratio,
        "memory_used_bytes": sample.memory_used_bytes,
        "memory_total_bytes": sample.memory_total_bytes,
        "power_watts": sample.power_watts,
        "energy_joules": sample.energy_joules,
        "temperature_celsius": sample.temperature_celsius,
        "sm_clock_hz": sample.sm_clock_hz,
        "memory_clock_hz": sample.memory_clock_hz,
        "throttle_reasons": None if sample.throttle_reasons is None else list(sample.throttle_reasons),
        "attributes": _json(attributes).decode(),
    }


def table_of(samples: Iterable[GpuSample]) -> "pa.Table":
    """The rows as an Arrow table."""
    import pyarrow as pa

    text, whole, real = pa.string(), pa.int64(), pa.float64()
    schema = pa.schema(
        [
            ("sampled_at", pa.timestamp("us")),
            ("host", text),
            ("gpu", text),
            ("name", text),
            ("utilisation_ratio", real),
            ("memory_used_bytes", whole),
            ("memory_total_bytes", whole),
            ("power_watts", real),
            ("energy_joules", real),
            ("temperature_celsius", real),
            ("sm_clock_hz", whole),
            ("memory_clock_hz", whole),
            ("throttle_reasons", pa.list_(text)),
            ("attributes", text),
        ]
    )
    return pa.Table.from_pylist([rows_of(sample) for sample in samples], schema=schema)


def book(connection: Any, samples: Sequence[GpuSample], summed_until_us: int | None = None) -> None:
    """Put samples into the ledger's table, over its writer's connection (within its transaction).

    Args:
        connection: the writer's.
        samples: at least one.
        summed_until_us: how far the sums go.
    """
    connection.register("staged_gpu_samples", table_of(samples))
    try:
        connection.execute(_INSERT)
        oldest_us = min(sample.sampled_at_us for sample in samples)
        add_late(connection, GPUS, "staged_gpu_samples", oldest_us, summed_until_us)
    finally:
        connection.unregister("staged_gpu_samples")


# -- Prometheus


def _more(name: str, text: str, *labels: str) -> Family:
    kind: Literal["counter", "gauge"] = "counter" if name.endswith("_total") else "gauge"
    return Family(name, kind, text, ("gpu", *labels), "max", announced=False)


MORE_FAMILIES = (
    _more("bursar_gpu_info", "1; the labels say which GPU it is.", "index", "name"),
    _more("bursar_gpu_up", "1 while the GPU answers, 0 while it is lost."),
    _more("bursar_gpu_memory_busy_ratio", "Share of time device memory was read or written."),
    _more("bursar_gpu_power_limit_watts", "Power limit in force."),
    _more("bursar_gpu_ecc_errors_total", "Memory errors since the driver was loaded.", "kind"),
    _more("bursar_gpu_xid_errors_total", "Xid errors since the probe started.", "xid"),
    _more("bursar_gpu_processes", "Processes that compute there."),
    _more("bursar_gpu_sm_active_ratio", "Share of the multiprocessors that worked (GPM)."),
    _more("bursar_gpu_tensor_active_ratio", "Share of time tensor cores worked (GPM)."),
    _more("bursar_gpu_memory_bandwidth_ratio", "Share of the peak memory bandwidth (GPM)."),
    _more("bursar_gpu_mig_enabled", "1 while the GPU is cut into MIG slices."),
    _more("bursar_gpu_slice_memory_used_bytes", "Memory in use of a MIG slice.", "slice"),
    _more("bursar_gpu_slice_memory_size_bytes", "Memory there is of a MIG slice.", "slice"),
)
"""Beside those of `collector.export.families`."""

_FAMILIES = {
    **{name: family for name, family in FAMILIES.items() if family.labels[:1] == ("gpu",)},
    **{family.name: family for family in MORE_FAMILIES},
}

_Value = tuple[str, tuple[str, ...], Number | None]

_PLAIN = (
    ("bursar_gpu_utilization_ratio", "utilisation_ratio"),
    ("bursar_gpu_memory_used_bytes", "memory_used_bytes"),
    ("bursar_gpu_memory_size_bytes", "memory_total_bytes"),
    ("bursar_gpu_power_watts", "power_watts"),
    ("bursar_gpu_energy_joules_total", "energy_joules"),
    ("bursar_gpu_temperature_celsius", "temperature_celsius"),
    ("bursar_gpu_memory_busy_ratio", "memory_busy_ratio"),
    ("bursar_gpu_power_limit_watts", "power_limit_watts"),
    ("bursar_gpu_sm_active_ratio", "sm_active_ratio"),
    ("bursar_gpu_tensor_active_ratio", "tensor_active_ratio"),
    ("bursar_gpu_memory_bandwidth_ratio", "memory_bandwidth_ratio"),
    ("bursar_gpu_mig_enabled", "mig_enabled"),
)


def metrics_of(samples: Sequence[GpuSample]) -> str:
    """Prometheus text (0.0.4) of the latest sample of each GPU; what is not told has no line."""
    values: dict[str, list[tuple[tuple[str, ...], Number]]] = {}
    for sample in samples:
        for name, labels, value in _values(sample):
            if value is not None:
                values.setdefault(name, []).append(((sample.gpu, *labels), value))
    chunks = []
    for name, family in _FAMILIES.items():
        found = values.get(name)
        if found:
            chunks.append(header(family.name, family.kind, family.help))
            chunks += [
                f"{name}{{{label_text(family.labels, labels)}}} {number(value)}\n" for labels, value in found
            ]
    return "".join(chunks)


def _values(sample: GpuSample) -> Iterator[_Value]:
    yield "bursar_gpu_info", (str(sample.index), sample.name), 1
    yield "bursar_gpu_up", (), int(sample.state == "ok")
    for name, field in _PLAIN:
        yield name, (), getattr(sample, field)
    yield "bursar_gpu_clock_hertz", ("sm",), sample.sm_clock_hz
    yield "bursar_gpu_clock_hertz", ("memory",), sample.memory_clock_hz
    for reason in sample.throttle_reasons or ():
        yield "bursar_gpu_throttled", (reason,), 1
    yield "bursar_gpu_ecc_errors_total", ("corrected",), sample.ecc_corrected
    yield "bursar_gpu_ecc_errors_total", ("uncorrected",), sample.ecc_uncorrected
    for xid, count in sorted(sample.xid_counts.items()):
        yield "bursar_gpu_xid_errors_total", (str(xid),), count
    yield "bursar_gpu_processes", (), None if sample.processes is None else len(sample.processes)
    for part in sample.slices:
        yield "bursar_gpu_slice_memory_used_bytes", (part.uuid,), part.memory_used_bytes
        yield "bursar_gpu_slice_memory_size_bytes", (part.uuid,), part.memory_total_bytes

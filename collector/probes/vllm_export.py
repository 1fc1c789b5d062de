"""Engine samples as rows and as Prometheus text. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from collector.export.exposition import Number, header, label_text, number
from collector.export.families import Family
from collector.probes.vllm_metrics import EngineSample
from collector.store.machine_sums import ENGINES, add_late

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = {
    "sampled_at": "TIMESTAMP",
    "upstream": "VARCHAR",
    "replica": "VARCHAR",
    "model": "VARCHAR",
    "state": "VARCHAR",
    "restarted": "BOOLEAN",
    "interval_ms": "DOUBLE",
    "running": "INTEGER",
    "waiting": "INTEGER",
    "kv_cache_usage_ratio": "DOUBLE",
    "computed_prompt_tokens": "BIGINT",
    "cached_prompt_tokens": "BIGINT",
    "generation_tokens": "BIGINT",
    "steps": "BIGINT",
    "preemptions": "BIGINT",
    "attributes": "JSON",
}
"""Of the table ``engine_samples``, with DuckDB's types."""

_INSERT = (
    "INSERT INTO engine_samples BY NAME SELECT * REPLACE (CAST(attributes AS JSON) AS attributes) FROM "
    "staged_engine_samples"
)

_json = msgspec.json.Encoder(order="sorted").encode
_WITH_COLUMN = frozenset(COLUMNS)


def rows_of(sample: EngineSample) -> dict[str, Any]:
    """One row; figures of the interval without a column of their own are JSON in ``attributes``."""
    counted = sample.counted
    rest: dict[str, Any] = {
        word: amount for word, amount in counted.items() if word not in _WITH_COLUMN and amount
    }
    for word, kinds in sample.by_label.items():
        some = {kind: amount for kind, amount in kinds.items() if amount}
        if some:
            rest[word] = some
    return {
        "sampled_at": datetime.fromtimestamp(sample.sampled_at_us / 1e6, UTC).replace(tzinfo=None),
        "upstream": sample.upstream,
        "replica": sample.replica,
        "model": sample.model,
        "state": sample.state,
        "restarted": sample.restarted,
        "interval_ms": sample.interval_us / 1000,
        "running": sample.running,
        "waiting": sample.waiting,
        "kv_cache_usage_ratio": sample.kv_cache_usage_ratio,
        "computed_prompt_tokens": sample.computed_prompt_tokens,
        "cached_prompt_tokens": sample.cached_prompt_tokens,
        "generation_tokens": sample.generation_tokens,
        "steps": _whole(counted.get("steps")),
        "preemptions": _whole(counted.get("preemptions")),
        "attributes": _json(rest).decode(),
    }


def table_of(samples: Iterable[EngineSample]) -> "pa.Table":
    """The rows as an Arrow table."""
    import pyarrow as pa

    arrow = {
        "TIMESTAMP": pa.timestamp("us"),
        "VARCHAR": pa.string(),
        "JSON": pa.string(),
        "BOOLEAN": pa.bool_(),
        "DOUBLE": pa.float64(),
        "INTEGER": pa.int32(),
        "BIGINT": pa.int64(),
    }
    schema = pa.schema([(name, arrow[kind]) for name, kind in COLUMNS.items()])
    return pa.Table.from_pylist([rows_of(sample) for sample in samples], schema=schema)


def book(connection: Any, samples: Sequence[EngineSample], summed_until_us: int | None = None) -> None:
    """Put samples into the ledger's table, over its writer's connection (within its transaction).

    Args:
        connection: the writer's.
        samples: at least one.
        summed_until_us: how far the sums go.
    """
    connection.register("staged_engine_samples", table_of(samples))
    try:
        connection.execute(_INSERT)
        oldest_us = min(sample.sampled_at_us for sample in samples)
        add_late(connection, ENGINES, "staged_engine_samples", oldest_us, summed_until_us)
    finally:
        connection.unregister("staged_engine_samples")


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


_LABELS = ("upstream", "replica")


def _family(name: str, text: str, *labels: str) -> Family:
    kind: Literal["counter", "gauge"] = "counter" if name.endswith("_total") else "gauge"
    return Family(name, kind, text, (*_LABELS, *labels), announced=False)


FAMILIES = (
    _family("bursar_engine_up", "1 while the replica tells its metrics."),
    _family("bursar_engine_restarts_total", "Times the replica was another process than before."),
    _family("bursar_engine_requests_running", "Requests in the engine's batches."),
    _family("bursar_engine_requests_waiting", "Requests that wait for a place."),
    _family("bursar_engine_kv_cache_usage_ratio", "Share of the KV cache in use."),
    _family(
        "bursar_engine_prompt_tokens_total", "Prompt tokens: computed, or supplied by a cache.", "source"
    ),
    _family("bursar_engine_generation_tokens_total", "Tokens produced."),
    _family("bursar_engine_steps_total", "Steps of the engine."),
    _family("bursar_engine_preemptions_total", "Requests that were put back."),
)


def metrics_of(samples: Sequence[EngineSample]) -> str:
    """Prometheus text of the latest sample of each replica; what is not told has no line."""
    values: dict[str, list[tuple[tuple[str, ...], Number]]] = {}
    for sample in samples:
        for name, labels, value in _values(sample):
            if value is not None:
                values.setdefault(name, []).append(((sample.upstream, sample.replica, *labels), value))
    chunks = []
    for family in FAMILIES:
        if found := values.get(family.name):
            chunks.append(header(family.name, family.kind, family.help))
            chunks += [
                f"{family.name}{{{label_text(family.labels, labels)}}} {number(value)}\n"
                for labels, value in found
            ]
    return "".join(chunks)


def _values(sample: EngineSample) -> list[tuple[str, tuple[str, ...], Number | None]]:
    totals = sample.totals
    return [
        ("bursar_engine_up", (), int(sample.state == "ok")),
        ("bursar_engine_restarts_total", (), sample.restarts),
        ("bursar_engine_requests_running", (), sample.running),
        ("bursar_engine_requests_waiting", (), sample.waiting),
        ("bursar_engine_kv_cache_usage_ratio", (), sample.kv_cache_usage_ratio),
        ("bursar_engine_prompt_tokens_total", ("computed",), totals.get("computed_prompt_tokens")),
        ("bursar_engine_prompt_tokens_total", ("cached",), totals.get("cached_prompt_tokens")),
        ("bursar_engine_generation_tokens_total", (), totals.get("generation_tokens")),
        ("bursar_engine_steps_total", (), totals.get("steps")),
        ("bursar_engine_preemptions_total", (), totals.get("preemptions")),
    ]

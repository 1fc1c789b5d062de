"""The GPU page: what own GPUs cost against an API, how busy they are, and no page of zeros without one."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from dashboards import charts
from dashboards.views import gpu

Visit = Callable[..., AppTest]

USD = pa.decimal128(38, 12)
AT = pa.timestamp("us", "UTC")
PER_MTOK = ("busy_usd_per_mtok", "loaded_usd_per_mtok", "alternative_usd_per_mtok")

COSTS = pa.schema(
    [(name, pa.string()) for name in ("upstream", "replica", "model", "alternative", "alternative_grade")]
    + [(f"{name}_usd", USD) for name in ("meter", "charged", "idle", "unobserved", "alternative")]
    + [(name, pa.float64()) for name in (*PER_MTOK, "busy_ratio", "break_even_busy_ratio", "energy_j")]
    + [(f"{name}_tokens", pa.int64()) for name in ("prompt", "cached", "output")]
)
COSTS_OVER_TIME = pa.schema(
    [("bucket", AT), ("upstream", pa.string())] + [(name, pa.float64()) for name in PER_MTOK]
)
GPUS = pa.schema(
    [("bucket", AT)]
    + [(name, pa.string()) for name in ("host", "gpu", "name")]
    + [("utilisation_ratio", pa.float64()), ("memory_used_bytes", pa.int64()), ("power_watts", pa.float64())]
    + [(name, pa.int64()) for name in ("lost_samples", "throttled_samples")]
)
ENGINES = pa.schema(
    [("bucket", AT), ("upstream", pa.string()), ("replica", pa.string())]
    + [(name, pa.float64()) for name in ("running", "waiting", "kv_cache_usage_ratio", "prefix_hit_ratio")]
    + [(name, pa.int64()) for name in ("unreachable_samples", "restarts", "preemptions")]
)
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def no_gpu(collector: Any) -> None:
    answers = {"gpu_costs": COSTS, "gpu_costs_over_time": COSTS_OVER_TIME, "gpus_over_time": GPUS,
               "engines_over_time": ENGINES}  # fmt: skip
    collector.tables |= {name: columns.empty_table() for name, columns in answers.items()}


def a_replica(collector: Any, **changes: Any) -> None:
    """2 USD on the meter, half of it idle, for 4 million tokens that an API would have sold for 3 USD."""
    row = {
        "upstream": "local", "replica": "http://127.0.0.1:8000", "model": "qwen3-8b", "meter_usd": Decimal(2),
        "charged_usd": Decimal("0.9"), "idle_usd": Decimal(1), "unobserved_usd": Decimal("0.1"),
        "alternative_usd": Decimal(3), "alternative": "gpt-5-mini", "alternative_grade": "listed",
        "prompt_tokens": 1_000_000, "cached_tokens": 2_000_000, "output_tokens": 1_000_000,
        "busy_usd_per_mtok": 0.25, "loaded_usd_per_mtok": 0.5, "alternative_usd_per_mtok": 0.75,
        "busy_ratio": 0.5, "break_even_busy_ratio": 0.3333, "energy_j": 3.6e6,
    }  # fmt: skip
    collector.tables["gpu_costs"] = pa.Table.from_pylist([row | changes], COSTS)


def test_without_a_gpu_the_page_says_how_one_is_seen(collector: Any, visit: Visit) -> None:
    app = visit("gpu")
    assert "No GPU was seen" in app.info[0].value
    assert "gpu_hour_usd" in app.info[0].value
    assert not app.metric


def test_a_million_tokens_of_ours_stands_beside_the_api_s(collector: Any, visit: Visit) -> None:
    a_replica(collector)
    app = visit("gpu")
    tiles = {one.label: str(one.value).replace("\\", "") for one in app.metric}
    assert tiles == {
        "Meter": "$2.00", "Idle share": "50.0 %", "A million tokens": "$0.500", "while busy": "$0.250",
        "at the API": "$0.750",
    }  # fmt: skip
    assert next(one.delta for one in app.metric if one.label == "at the API") == "-33.3 %"
    row = app.dataframe[0].value.iloc[0]
    assert [row[name] for name in ("charged", "idle", "unobserved", "loaded_per_mtok", "break_even")] == [
        "$0.900", "$1.00", "$0.100", "$0.500", "33.3 %",
    ]  # fmt: skip
    assert (row["alternative"], row["energy"], row["tokens"]) == (
        "gpt-5-mini (listed)",
        "1.000 kWh",
        "4.00 M",
    )


def test_a_replica_that_is_dearer_than_the_api_at_its_busiest_never_pays(
    collector: Any, visit: Visit
) -> None:
    a_replica(collector, break_even_busy_ratio=36.28)
    app = visit("gpu")
    assert app.dataframe[0].value.iloc[0]["break_even"] == "never"
    assert [button.label for button in app.get("download_button")] == ["CSV", "Parquet"]


def test_where_nothing_was_measured_the_line_has_a_gap_as_wide_as_it_was_long() -> None:
    rows = [{"bucket": NOON + timedelta(minutes=n)} for n in (0, 1, 2, 8, 9)]
    at = [(moment - NOON) / timedelta(minutes=1) for moment in gpu._moments(rows)]
    assert at == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    assert gpu._moments(rows[:1]) == [NOON]
    assert gpu._moments([]) == []


def test_what_was_not_measured_is_a_dash_and_never_a_zero(collector: Any, visit: Visit) -> None:
    nothing: dict[str, Any] = dict.fromkeys((*PER_MTOK, "energy_j", "alternative", "break_even_busy_ratio"))
    tokens = {f"{name}_tokens": 0 for name in ("prompt", "cached", "output")}
    a_replica(collector, alternative_usd=Decimal(0), **nothing, **tokens)
    app = visit("gpu")
    tiles = {one.label: str(one.value) for one in app.metric}
    assert (tiles["A million tokens"], tiles["at the API"]) == ("–", "–")
    row = app.dataframe[0].value.iloc[0]
    assert [row[name] for name in ("loaded_per_mtok", "alternative", "energy")] == ["–", "–", "–"]


def test_every_gpu_and_every_engine_is_drawn_and_trouble_is_told(collector: Any, visit: Visit) -> None:
    gpus = [
        {"bucket": NOON + timedelta(minutes=n), "host": "h", "gpu": f"GPU-{g}", "name": "H100",
         "utilisation_ratio": 0.5, "memory_used_bytes": 8 << 30, "power_watts": 300.0, "lost_samples": 0,
         "throttled_samples": g}
        for n in range(3) for g in range(2)
    ]  # fmt: skip
    engine = {"bucket": NOON, "upstream": "local", "replica": "r", "running": 2.0, "waiting": 1.0,
              "kv_cache_usage_ratio": 0.4, "prefix_hit_ratio": None, "unreachable_samples": 0, "restarts": 1,
              "preemptions": 0}  # fmt: skip
    collector.tables["gpus_over_time"] = pa.Table.from_pylist(gpus, GPUS)
    collector.tables["engines_over_time"] = pa.Table.from_pylist([engine], ENGINES)
    app = visit("gpu")
    drawn = [json.loads(chart.proto.spec) for chart in app.get("echarts_chart")]
    names = [[one["name"] for one in chart["series"]] for chart in drawn]
    assert ["H100 GPU-0", "H100 GPU-1"] in names
    assert ["local running", "local waiting"] in names
    assert ["local in use"] in names
    assert app.warning[0].value.replace("\\", "") == "3 readings saw clocks held down; 1 engine restarts."


def test_a_gap_in_what_was_measured_is_a_gap_in_the_line() -> None:
    chart = charts.lines(["a", "b", "c"], [charts.Line("x", [1.0, None, 3.0])], " W", most=10)
    assert chart["series"][0]["data"] == [1.0, None, 3.0]
    assert chart["series"][0]["connectNulls"] is False
    assert (chart["yAxis"]["max"], chart["yAxis"]["axisLabel"]["formatter"]) == (10, "{value} W")

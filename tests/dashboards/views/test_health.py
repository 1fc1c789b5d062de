"""The health page: what Bursar adds, how far the ledger is behind, what was lost, what runs."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

import collector as books
from tests.dashboards.drawn import facts

Visit = Callable[..., AppTest]

LOSSES = pa.schema(
    [(name, pa.string()) for name in ("reason", "source", "detail")]
    + [(name, pa.int64()) for name in ("notes", "frames")]
    + [(name, pa.timestamp("us", "UTC")) for name in ("first_at", "last_at")]
)
METRICS = """
bursar_event_loop_lag_seconds 0.002
bursar_process_memory_ratio 0.41
bursar_config_valid 1
bursar_dropped_total{stage="export",reason="queue full"} 12
bursar_upstream_up{upstream="local",replica="a:1"} 0
bursar_upstream_breaker_open{upstream="local",replica="a:1"} 1
bursar_upstream_up{upstream="local",replica="b:1"} 1
bursar_upstream_inflight{upstream="local",replica="b:1"} 3
"""


@pytest.fixture(autouse=True)
def well(collector: Any) -> None:
    collector.tables["losses"] = LOSSES.empty_table()
    collector.control.metrics = METRICS


def tiles(app: AppTest) -> dict[str, str]:
    return {one.label: str(one.value).replace("\\", "") for one in app.metric}


def health(collector: Any, **changes: Any) -> None:
    row = collector.answer("health", {}).to_pylist()[0]
    collector.tables["health"] = pa.Table.from_pylist([row | changes])


def test_what_bursar_adds_and_how_far_it_is_behind_come_first(collector: Any, visit: Visit) -> None:
    app = visit("health")
    assert tiles(app) == {
        "Added, median": "0.18 ms", "Added, p99": "0.90 ms", "Ledger behind": "200 ms", "Lost": "0 frames",
        "Event loop late": "2.00 ms", "Memory": "41 %",
    }  # fmt: skip
    assert "Nothing needs attention" in app.success[0].value
    assert facts(app)["Bursar's dashboard"] == books.__version__
    assert facts(app)["Collector up for"] == "2.0 h"


def test_replicas_and_drops_are_named(collector: Any, visit: Visit) -> None:
    app = visit("health")
    upstreams = next(one.value for one in app.dataframe if "inflight" in one.value.columns).to_dict("records")
    assert [(row["replica"], row["state"], row["inflight"]) for row in upstreams] == [
        ("a:1", "left alone for its failures", 0),
        ("b:1", "well", 3),
    ]
    dropped = next(one.value for one in app.dataframe if "dropped" in one.value.columns).iloc[0]
    assert (dropped["stage"], dropped["reason"], dropped["dropped"]) == ("export", "queue full", 12)


@pytest.mark.parametrize(
    ("changes", "metrics", "said"),
    [
        ({"journal_lag_s": 600.0}, METRICS, "10 min behind"),
        ({"lost_frames": 3}, METRICS, "money may be missing"),
        ({"rebuilds": 1}, METRICS, "rebuilt 1 times"),
        ({}, METRICS.replace("lag_seconds 0.002", "lag_seconds 0.4"), "runs late"),
        ({}, METRICS.replace("config_valid 1", "config_valid 0"), "not valid"),
    ],
)
def test_what_needs_attention_is_said_and_not_that_all_is_well(
    collector: Any, visit: Visit, changes: dict[str, Any], metrics: str, said: str
) -> None:
    health(collector, **changes)
    collector.control.metrics = metrics
    app = visit("health")
    assert said in app.warning[0].value.replace("\\", "")
    assert not app.success


def test_what_was_lost_is_listed_with_what_was_said_of_it(collector: Any, visit: Visit) -> None:
    at = datetime(2026, 11, 29, tzinfo=UTC)
    row = {"reason": "torn", "source": "<s>", "detail": "x" * 9, "notes": 2, "frames": 3,
           "first_at": at, "last_at": at}  # fmt: skip
    collector.tables["losses"] = pa.Table.from_pylist([row], LOSSES)
    shown = next(one.value for one in visit("health").dataframe if "frames" in one.value.columns).iloc[0]
    assert (shown["reason"], shown["source"], shown["frames"]) == ("torn", "<s>", 3)


def test_without_a_sidecar_the_ledger_s_health_is_shown_all_the_same(
    collector: Any, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURSAR_CONTROL_URL", "http://127.0.0.1:1")
    app = visit("health")
    assert "control plane" in app.warning[0].value
    assert tiles(app)["Added, median"] == "0.18 ms"
    assert tiles(app)["Memory"] == "–"


def test_while_nothing_is_known_of_the_sidecar_nobody_is_told_that_all_is_well(
    collector: Any, visit: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BURSAR_CONTROL_URL", "http://127.0.0.1:9")
    app = visit("health")
    assert any("is not known" in warning.value for warning in app.warning)
    assert not app.success

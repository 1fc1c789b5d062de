"""The queue of a real vLLM server at six loads: the alert comes where requests wait, and not below."""

from pathlib import Path

import pytest

from alerts.engine import Engine
from alerts.rules import load_rules, needed
from alerts.samples import Samples

SCRAPE_S = 15


@pytest.mark.parametrize(
    ("load", "saturated"), [(100, False), (300, False), (500, True), (700, True), (900, True), (1500, True)]
)
def test_the_queue_tells_a_saturated_server_from_a_busy_one(
    shared_data: Path, load: int, saturated: bool
) -> None:
    """At 100 and 300 the median request waits 0.07 and 0.14 s for its first chunk; from 500 on over 0.6 s,
    and one in twenty over 40 s."""
    duckdb = pytest.importorskip("duckdb")
    path = shared_data / "gpu_serving_logs" / "vllm_log.parquet"
    rows = duckdb.sql(
        f"SELECT timestamp, num_pending FROM '{path}' WHERE load_scale = {load} ORDER BY 1"
    ).fetchall()
    start = rows[0][0]
    rules = [rule for rule in load_rules() if rule.name == "GpuSaturated"]
    engine, samples = Engine(rules), Samples(needed(rules))
    fired_after = None
    for now in range(0, int(rows[-1][0] - start) + 1, SCRAPE_S):
        waiting = [pending for at, pending in rows if at - start <= now][-1]
        samples.take("vllm", now, [("vllm:num_requests_waiting", (("model_name", "m"),), float(waiting))])
        engine.look(samples, now)
        if engine.firing() and fired_after is None:
            fired_after = now
    assert (fired_after is not None) is saturated
    if fired_after is not None:
        assert fired_after <= 150

"""The dashboard for Grafana: it asks Prometheus for what our processes really tell, in PromQL that parses."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.alerting import ROOT, program, wait_for
from support.ports import free_port

from collector.api.metrics import exposition
from collector.export.families import FAMILIES
from collector.export.prometheus import CallMetrics
from collector.ingest.state import State
from collector.probes import cost_export, gpu_export, vllm_export

DASHBOARD = json.loads((ROOT / "dashboards" / "grafana" / "bursar.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]


def exposed(tmp_path: Path) -> set[str]:
    """Every series of sidecar and collector: what they announce, and what probes may tell."""
    text = CallMetrics().render().decode() + exposition(State(tmp_path)).decode()
    names = set(FAMILIES)
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        names |= {f"{name}_{part}" for part in ("bucket", "sum", "count")} if kind == "histogram" else {name}
    probed = (*vllm_export.FAMILIES, *gpu_export.MORE_FAMILIES, *cost_export.MORE_FAMILIES)
    return names | {family.name for family in probed}


def metrics(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:bursar|gen_ai)_\w+", expression))


UNITS = {
    "bursar_cost_usd_total": "currencyUSD",
    "bursar_avoided_cost_usd_total": "currencyUSD",
    "bursar_gpu_cost_usd_total": "currencyUSD",
    "bursar_gpu_cost_idle_usd_total": "currencyUSD",
    "bursar_budget_spent_usd": "percentunit",
    "bursar_budget_limit_usd": "percentunit",
    "bursar_budget_held_usd": "percentunit",
    "bursar_gpu_memory_used_bytes": "percentunit",
    "bursar_gpu_memory_size_bytes": "percentunit",
    "_seconds": "s",
    "_seconds_bucket": "s",
    "_ratio": "percentunit",
    "_watts": "watt",
}
"""By the metric, or how it ends: budgets and memory are drawn as parts of their limits."""

SILENT = {
    "GPU utilisation": "there is no GPU",
    "GPU memory in use": "there is no GPU",
    "GPU power": "there is no GPU",
    "Cost of own GPUs": "the demonstration does not say what an hour costs",
    "Engine: KV cache in use": "the simulator has none",
    "Telemetry given up": "nothing was",
}
"""Panels without data over a demonstration on a machine like this, and why."""


def plain(expression: str, *, rate: str = "5m", reach: str = "6h") -> str:
    """As Grafana sends it: its variables replaced by what stands for all."""
    for variable, value in (("$__rate_interval", rate), ("$__range", reach)):
        expression = expression.replace(variable, value)
    return re.sub(r"\$\w+", ".*", expression)


def test_every_metric_of_the_dashboard_is_told_by_one_of_our_processes(tmp_path: Path) -> None:
    asked = set().union(*map(metrics, EXPRESSIONS))
    assert len(asked) > 20
    assert asked - exposed(tmp_path) == set()


def test_every_panel_asks_for_a_metric_of_ours_and_says_what_it_shows() -> None:
    assert [panel["title"] for panel in PANELS if not panel["description"]] == []
    assert [expression for expression in EXPRESSIONS if not metrics(expression)] == []


def test_prometheus_parses_every_expression(tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": plain(e)} for n, e in enumerate(EXPRESSIONS)]
    path = tmp_path / "panels.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([program("promtool"), "check", "rules", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_two_panels_share_an_id_or_a_place() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    covered: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not covered & cells, panel["title"]
        covered |= cells
    assert max(x for x, _ in covered) == 23


@pytest.mark.parametrize("name", ["upstream", "model", "team", "agent"])
def test_variables_are_labels_that_calls_have_and_filter_the_spend(name: str) -> None:
    listed = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert listed[name]["query"]["query"] == f"label_values(bursar_calls_total, {name})"
    spend = [expression for expression in EXPRESSIONS if "bursar_cost_usd_total" in expression]
    assert spend
    assert all(f'{name}=~"${name}"' in expression for expression in spend)


def test_every_panel_has_the_unit_of_what_it_draws() -> None:
    for panel in PANELS:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        asked = set().union(*(metrics(target["expr"]) for target in panel["targets"]))
        for metric in asked:
            wanted = next((UNITS[end] for end in UNITS if metric.endswith(end)), None)
            assert wanted is None or unit == wanted, (panel["title"], metric, unit)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_panel_has_data_over_a_running_demonstration(tmp_path: Path) -> None:
    port, log = free_port(), tmp_path / "demo.log"
    demo = [
        sys.executable,
        "-m",
        "sidecar.cli",
        "demo",
        "--no-dashboard",
        "--data-dir",
        str(tmp_path / "data"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("wb") as told, (tmp_path / "prometheus.log").open("wb") as said:
        playing = subprocess.Popen(demo, stdout=told, stderr=told, cwd=tmp_path, env=environment)
        scraping = None
        try:
            wait_for("the demonstration", lambda: "Questions:" in log.read_text(), 240)
            scraping = subprocess.Popen(
                [program("prometheus"), f"--config.file={scrapes(tmp_path, log.read_text())}",
                 f"--storage.tsdb.path={tmp_path / 'tsdb'}", f"--web.listen-address=127.0.0.1:{port}"],
                stdout=said, stderr=said,
            )  # fmt: skip
            wanted = {panel["title"] for panel in PANELS} - set(SILENT)
            wait_for("data in every panel", lambda: wanted <= with_data(port), 240)
        finally:
            for process, how in ((scraping, signal.SIGTERM), (playing, signal.SIGINT)):
                if process is not None:
                    process.send_signal(how)
                    process.wait(60)


def scrapes(folder: Path, told: str) -> Path:
    """A configuration of Prometheus that asks both processes of the demonstration once a second."""
    addresses = {
        line.split()[0]: line.split("//")[1].split("/")[0] for line in told.splitlines() if "//" in line
    }
    jobs = [
        {"job_name": name, "static_configs": [{"targets": [addresses[line]]}]}
        for name, line in (("bursar-sidecar", "Metrics:"), ("bursar-collector", "Questions:"))
    ]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}))
    return path


def with_data(port: int) -> set[str]:
    """The panels all of whose expressions have an answer; an expression that is refused fails the test."""
    return {panel["title"] for panel in PANELS if all(asked(port, one["expr"]) for one in panel["targets"])}


def asked(port: int, expression: str) -> list[Any]:
    query = urllib.parse.urlencode({"query": plain(expression, rate="1m", reach="5m")})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/query?{query}", timeout=30) as reply:
            answer: list[Any] = json.load(reply)["data"]["result"]
            return answer
    except urllib.error.HTTPError as error:
        if error.code == 503:
            return []  # It listens, and is starting.
        raise AssertionError(f"{expression}: {error.read()!r}") from error
    except (urllib.error.URLError, OSError):
        return []  # It is starting.

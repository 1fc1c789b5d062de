"""The dashboard for Grafana: it asks Prometheus for what our processes really tell, in PromQL that parses."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from support.alerting import ROOT, program

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


def plain(expression: str) -> str:
    """As Grafana sends it: its variables replaced by what stands for all."""
    for variable, value in (("$__rate_interval", "5m"), ("$__range", "6h")):
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

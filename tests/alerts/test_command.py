"""`bursar alerts` as it is typed."""

import json
import subprocess
from pathlib import Path

import pytest
from support.alerting import alertmanager, program, shipped_alertmanager, wait_for, webhook

from alerts.state import AlertFolder
from sidecar.cli import main

FIRING = {
    "labels": {"alertname": "SpendAnomaly", "severity": "page", "impact": "cost", "agent": "craw\x1b[31mler"},
    "annotations": {"summary": "Spends more", "why": "runaway loop", "finding": "f" * 16},
    "phase": "firing", "active_at": 1.0, "fired_at": 2.0, "last_true_at": 3.0, "resolved_at": 0.0,
    "value": 9.0, "fired": 1, "timing": [0, 0, 900], "usd_per_hour": "12.5", "began_at": 1.0,
}  # fmt: skip
RESOLVED = {**FIRING, "labels": {"alertname": "JournalLag", "severity": "warn"}, "phase": "resolved"}
WATCHDOG = {**FIRING, "labels": {"alertname": "Watchdog", "severity": "none"}}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    AlertFolder(tmp_path / "data").save("state", {"alerts": [RESOLVED, WATCHDOG, FIRING]})
    path = tmp_path / "bursar.yaml"
    path.write_text(f"data_dir: {tmp_path / 'data'}\nalerts: {{thresholds: {{MemoryHigh: 0.9}}}}\n")
    return path


def typed(config: Path, *words: str) -> int:
    return main(["alerts", "--config", str(config), *words])


def test_the_list_shows_what_fires_and_with_all_the_rest(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(config, "list", "--format", "json") == 0
    assert [one["labels"]["alertname"] for one in json.loads(capsys.readouterr().out)] == ["SpendAnomaly"]
    assert typed(config, "list", "--all") == 0
    out = capsys.readouterr().out
    assert "JournalLag" in out and "Watchdog" in out and "12.50" in out


def test_an_alert_is_explained_by_its_id_and_a_rule_by_its_name(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(config, "list", "--format", "json")
    name = json.loads(capsys.readouterr().out)[0]["id"]
    assert typed(config, "explain", name) == 0
    out = capsys.readouterr().out
    assert "runaway loop" in out
    assert "\x1b" not in out and "\\x1b[31m" in out
    assert typed(config, "explain", "MemoryHigh") == 0
    assert "> 0.9" in capsys.readouterr().out
    assert typed(config, "explain", "nothing-like-it") == 1
    assert "bursar alerts list" in capsys.readouterr().err


def test_the_rules_are_printed_with_the_thresholds_of_the_configuration(
    config: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert typed(config, "rules") == 0
    path = tmp_path / "rules.yml"
    path.write_text(capsys.readouterr().out)
    assert "(bursar_process_memory_ratio) > 0.9" in path.read_text()
    assert "PromptCacheHitRateLow" not in path.read_text()
    subprocess.run([program("promtool"), "check", "rules", str(path)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("alerts: {actions: [{on: SpendAnomaly, do: stop}]}", "actions[0].do"),
        ("alerts: {actions: [{on: SpendAnomaly, do: cut, match: []}]}", "every call"),
        ("alerts: {alertmanager: 'localhost:9093'}", "not an http(s) address"),
        ("alerts: {interval: 10m}", "at most 2m"),
    ],
)
def test_a_setting_that_cannot_be_is_said_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, says: str
) -> None:
    path = tmp_path / "bursar.yaml"
    path.write_text(given)
    assert typed(path, "list") == 2
    err = capsys.readouterr().err
    assert says in err and "bursar.yaml:1" in err


def test_a_threshold_for_no_alert_ends_with_misuse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bursar.yaml"
    path.write_text("alerts: {thresholds: {MemoryHi: 1}}")
    assert typed(path, "rules") == 2
    assert "MemoryHigh" in capsys.readouterr().err


def test_a_backtest_without_a_collector_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bursar.yaml"
    path.write_text("collector: {listen: 127.0.0.1:9}")
    assert typed(path, "backtest") == 1
    assert "bursar up" in capsys.readouterr().err


def test_a_route_is_tried_against_the_running_alertmanager(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with webhook() as sink, alertmanager(tmp_path / "am", shipped_alertmanager(sink.url)) as manager:
        path = tmp_path / "bursar.yaml"
        path.write_text(f"alerts: {{alertmanager: {manager.url}, labels: {{cluster: eu}}}}\n")
        assert typed(path, "test-route", "severity=page", "impact=cost", "--send") == 0
        out = capsys.readouterr().out
        assert manager.url in out
        assert [line.strip() for line in out.splitlines() if line.startswith("  ")] == ["owners", "chat"]
        told = wait_for("the trial", lambda: sink.named("TestRoute", path="/owners"))
        assert told[0]["labels"]["cluster"] == "eu"
    path.write_text("")
    assert typed(path, "test-route", "severity=info") == 0
    assert "shipped" in capsys.readouterr().out
    assert typed(path, "test-route", "severity") == 2

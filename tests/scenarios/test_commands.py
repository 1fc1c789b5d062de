"""The commands, as a user types them."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from support.agent import ASK, post
from support.stack import ROOT, Stack, free_ports, simulator

from sidecar.cli import COMMANDS


def bursar(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar.cli", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
        capture_output=True,
        text=True,
        timeout=110,
    )


def test_help_names_every_command(tmp_path: Path) -> None:
    said = bursar("--help", cwd=tmp_path).stdout

    assert all(re.search(rf"^ +{name}\b", said, re.MULTILINE) for name in COMMANDS)


def test_the_demonstration_ends_by_itself_with_a_summary_that_is_whole(tmp_path: Path) -> None:
    ran = bursar("demo", "--for", "5s", "--no-dashboard", cwd=tmp_path)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "SIMULATED" in ran.stdout
    for figure in ("calls", "tokens", "USD", "overhead"):
        assert figure in ran.stdout
    calls = int(re.search(r"calls +([\d,]+)", ran.stdout)[1].replace(",", ""))
    assert calls > 300
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_demonstration_replays_a_users_own_trace(tmp_path: Path) -> None:
    trace = tmp_path / "mine.csv"
    trace.write_text(
        "timestamp,model,input_tokens,output_tokens\n0,gpt-5-mini,1000,100\n1,gpt-5-mini,2000,200\n2,gpt-5-mini,oops,1\n"
    )

    ran = bursar("demo", "--trace", str(trace), "--for", "30s", "--no-dashboard", cwd=tmp_path)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"calls +2 ", ran.stdout)
    assert re.search(r"tokens +3,300 ", ran.stdout)
    assert "oops" in ran.stderr


def test_a_trace_without_tokens_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")

    ran = bursar("demo", "--trace", "bad.csv", cwd=tmp_path)

    assert ran.returncode == 2
    assert "bad.csv" in ran.stderr


def test_an_invalid_configuration_is_reported_whole_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "bursar.yaml").write_text("max_budet: 3\nworkers: none\n")

    ran = bursar("check", cwd=tmp_path)

    assert ran.returncode == 2
    assert "bursar.yaml:1" in ran.stderr and "bursar.yaml:2" in ran.stderr


@pytest.mark.parametrize("listen", ["0.0.0.0:4000", "[::]:4000"])
def test_listening_for_others_needs_a_flag_and_a_key(tmp_path: Path, listen: str) -> None:
    (tmp_path / "bursar.yaml").write_text(f"listen: '{listen}'\n")
    assert "allow_remote" in bursar("sidecar", cwd=tmp_path).stderr

    (tmp_path / "bursar.yaml").write_text(f"listen: '{listen}'\nallow_remote: true\n")
    ran = bursar("sidecar", cwd=tmp_path)

    assert ran.returncode == 2
    assert "keys create" in ran.stderr


def test_the_configuration_shown_in_the_design_is_valid(tmp_path: Path) -> None:
    (tmp_path / "bursar.yaml").write_text(
        "upstreams:\n"
        "  openai:    {kind: openai,    api_key: ${OPENAI_API_KEY}, connections: 100}\n"
        "  local:     {kind: vllm, replicas: [http://127.0.0.1:8000], gpu_hour_usd: 2.50}\n"
        "  bedrock:   {kind: litellm}\n"
        "models:\n  qwen3-8b: {upstream: local}\n"
        "prices:\n  qwen3-8b: {input: 0.05, output: 0.20, cache_read: 0.01}\n"
        "budgets:\n  - {name: t, match: {team: search}, limit: 25 USD, window: day, at: {50%: notify}}\n"
    )

    ran = bursar("check", cwd=tmp_path)

    assert ran.returncode == 0, ran.stderr
    assert "budget t: 25 USD" in ran.stdout


def test_a_price_is_explained(tmp_path: Path) -> None:
    ran = bursar("check", "--price", "gpt-5-mini", cwd=tmp_path)

    assert ran.returncode == 0
    assert "litellm" in ran.stdout and "genai-prices" in ran.stdout


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    made = bursar("keys", "create", "--team", "search", "--name", "me", cwd=tmp_path)
    assert made.stdout.startswith("vk_")

    (listed,) = json.loads(bursar("keys", "list", "--format", "json", cwd=tmp_path).stdout)
    assert (listed["team"], listed["state"]) == ("search", "valid")
    assert made.stdout.strip() not in bursar("keys", "list", cwd=tmp_path).stdout
    assert bursar("keys", "revoke", listed["id"], cwd=tmp_path).returncode == 0
    assert bursar("keys", "revoke", listed["id"], cwd=tmp_path).returncode == 1


def test_a_report_says_what_to_do_when_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "bursar.yaml").write_text(f"collector: {{listen: '127.0.0.1:{free_ports(1)[0]}'}}\n")

    ran = bursar("report", cwd=tmp_path)

    assert ran.returncode == 1
    assert "bursar up" in ran.stderr


def test_up_says_what_it_found_and_ends_cleanly(tmp_path: Path) -> None:
    ports = free_ports(6)
    address = "127.0.0.1:{}".format
    (tmp_path / "bursar.yaml").write_text(
        yaml.safe_dump(
            {
                "listen": address(ports[0]),
                "control": {"listen": address(ports[1])},
                "collector": {
                    "listen": address(ports[2]),
                    "otlp_http": address(ports[3]),
                    "otlp_grpc": address(ports[4]),
                },
            }
        )
    )
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar.cli", "up", "--no-dashboard"],
            cwd=tmp_path,
            umask=0o022,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    until = time.monotonic() + 60
    while "Ctrl-C" not in (said := (tmp_path / "log").read_text()):
        assert process.poll() is None and time.monotonic() < until, said
        time.sleep(0.05)

    data = tmp_path / ".bursar"
    made = [data, *data.rglob("*")]
    process.send_signal(signal.SIGINT)

    assert process.wait(60) == 0
    made += data.rglob("*")
    assert {path.name for path in made} > {".bursar", "journal", "bursar.duckdb", "snapshot.duckdb"}
    assert [path for path in made if path.exists() and path.stat().st_mode & 0o007] == []
    assert f"export OPENAI_BASE_URL=http://127.0.0.1:{ports[0]}/v1" in said
    for found in ("Redis", "GPU", "vLLM", "Alertmanager", "OPENAI_API_KEY"):
        assert found in said


def test_a_report_in_every_format_agrees_with_the_ledger(tmp_path: Path) -> None:
    with (
        simulator("--speed", "1000") as url,
        Stack(tmp_path / "s", {"openai": {"kind": "openai", "base_url": f"{url}/v1"}}) as stack,
    ):
        for _ in range(3):
            post(stack, ASK, x_bursar_team="=cmd()")
        stack.calls(3)
        total = Decimal(stack.total("effective_cost_usd"))

        def report(*words: str) -> str:
            ran = bursar("report", "--config", str(stack.config_file), "--by", "team", *words, cwd=tmp_path)
            assert ran.returncode == 0, ran.stderr
            return ran.stdout

        assert "=cmd()" in report()
        answer = json.loads(report("--format", "json"))
        assert Decimal(answer["total"]["effective_cost_usd"]) == total > 0
        (row,) = csv.DictReader(io.StringIO(report("--format", "csv")))
        assert (row["team"], Decimal(row["effective_cost_usd"])) == ("'=cmd()", total)
        (row,) = csv.DictReader(io.StringIO(report("--format", "focus")))
        assert (Decimal(row["EffectiveCost"]), row["BillingCurrency"]) == (total, "USD")
        year, week, _ = datetime.now(UTC).date().isocalendar()
        report("--statement", str(tmp_path / "pages"), "--week", f"{year}-W{week:02d}")
        (page,) = (tmp_path / "pages").iterdir()
        assert f"Exactly {total:,.12f} USD" in page.read_text()
        assert "What =cmd() spent on models" in page.read_text()

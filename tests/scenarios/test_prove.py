"""``bursar prove`` as a user runs it: what it measures, that it says so, and that it fails when it should."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from support.stack import ROOT

from sidecar.proving.trials import Outcome


def prove(*words: str, folder: Path, timeout_s: float = 110, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder), **more}
    return subprocess.run(
        [sys.executable, "-m", "sidecar.cli", "prove", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def test_bursts_and_an_unpriced_model_are_held_to_their_bounds(tmp_path: Path) -> None:
    found = prove("--only", "burst,unpriced", "--format", "json", folder=tmp_path)
    assert found.returncode == 0, found.stdout + found.stderr
    measures: list[dict[str, Any]] = json.loads(found.stdout)
    assert [one for one in measures if not one["passed"]] == []
    shown = {(one["trial"], one["what"]): one["value"] for one in measures}
    assert shown["burst, embedded", "overshoot"] == "0 USD"
    assert shown["burst, embedded", "ledger error against replies"] == "0.000000000000 USD"
    assert shown["unpriced model", "served at no cost"] == "0"
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_everything_is_proved_in_two_minutes(tmp_path: Path) -> None:
    found = prove(folder=tmp_path, timeout_s=240)
    assert found.returncode == 0, found.stdout + found.stderr
    assert "FAIL" not in found.stdout
    assert "the models were simulated" in found.stdout
    for trial in ("burst", "streams", "unpriced", "dying", "killed", "Redis"):
        assert trial in found.stdout


def test_a_trial_that_does_not_exist_is_misuse(tmp_path: Path) -> None:
    found = prove("--only", "burst,magic", folder=tmp_path)
    assert (found.returncode, found.stdout) == (2, "")
    assert "no such trial: magic" in found.stderr


@pytest.mark.slow
def test_a_redis_that_is_not_installed_is_said_and_no_failure(tmp_path: Path) -> None:
    found = prove("--only", "redis", folder=tmp_path, PATH=str(tmp_path))
    assert found.returncode == 0
    assert "no redis-server is installed" in found.stderr


def test_an_amount_of_nothing_is_shown_as_nothing() -> None:
    outcome = Outcome("trial")

    outcome.exactly("still held", Decimal("0E-12"), Decimal(0))
    outcome.exactly("spent", Decimal("100.50"), Decimal("100.5"))

    assert [(m.value, m.bound, m.passed) for m in outcome.measures] == [
        ("0", "= 0", True),
        ("100.5", "= 100.5", True),
    ]


def test_a_bound_that_is_not_kept_fails_the_proof() -> None:
    outcome = Outcome("trial")
    outcome.at_most("overshoot", Decimal("0.000000001"), Decimal(0), "USD")
    outcome.at_least("usable share", 94.9, 95.0, "%")
    outcome.exactly("records", 9, 10)
    outcome.at_most("fine", 1.0, 1.0)
    assert [(one.value, one.bound, one.passed) for one in outcome.measures] == [
        ("0.000000001 USD", "<= 0 USD", False),
        ("94.9 %", ">= 95 %", False),
        ("9", "= 10", False),
        ("1", "<= 1", True),
    ]

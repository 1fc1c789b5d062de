"""A file of outcomes reaches the ledger line by line, and what cannot is named by its line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.stack import ROOT, Stack

from sidecar.commands.outcomes import Line, checked, read_lines


def bursar(config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sidecar.cli", "outcomes", "--config", str(config), *words],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=config.parent,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )


CSV = """task_id,success,value_usd,score,note
t1,true,12.50,0.75,"merged,
after review"
t2,no,,,
t3,perhaps,,,
,yes,,,
t4,yes,1e9,,
"""


def problems(text: str, suffix: str) -> dict[int, str]:
    lines = checked(read_lines(text.splitlines(keepends=True), suffix))
    return {line.number: line.problem for line in lines if line.problem}


def test_a_csv_is_read_with_empty_fields_left_out() -> None:
    lines = list(read_lines(CSV.splitlines(keepends=True), ".csv"))

    note = "merged,\nafter review"
    assert json.loads(lines[0].body) == {
        "task_id": "t1",
        "success": True,
        "value_usd": "12.50",
        "score": 0.75,
        "note": note,
    }
    assert json.loads(lines[1].body) == {"task_id": "t2", "success": False}


def test_every_problem_of_a_csv_stands_at_its_line() -> None:
    found = problems(CSV, ".csv")

    assert sorted(found) == [5, 6, 7]
    assert "true or false, not 'perhaps'" in found[5]
    assert "task_id" in found[6]
    assert "value_usd" in found[7]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "truncated"),
        ('{"task_id": "t"}', "success"),
        ('{"success": true}', "task_id"),
        ('{"task_id": "t", "success": true, "mood": 1}', "mood"),
    ],
)
def test_a_line_of_jsonl_that_is_no_outcome_is_named(line: str, said: str) -> None:
    found = problems(f'{{"task_id": "t", "success": true}}\n\n{line}\n', ".jsonl")

    assert list(found) == [3]
    assert said in found[3]


def test_more_values_than_names_are_a_problem_and_not_an_outcome() -> None:
    lines = list(read_lines(["task_id,success\n", "t,yes,what\n"], ".csv"))
    assert lines == [Line(2, b"", "more values than names in the first line")]


def test_a_file_is_recorded_but_for_its_bad_lines(tmp_path: Path) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text(CSV)
    upstreams = {"openai": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}}
    with Stack(tmp_path / "stack", upstreams) as stack:
        looked = bursar(stack.config_file, "import", str(file), "--check")
        done = bursar(stack.config_file, "import", str(file))
        rows = stack.ask("outcomes")
        stack.stop("collector")
        refused = bursar(stack.config_file, "import", str(file))

    assert looked.stdout == "2 outcomes could be recorded, 3 not\n"
    assert (done.returncode, done.stdout) == (1, "2 outcomes recorded, 3 not\n")
    assert "line 5: " in done.stderr
    assert sorted((row["task_id"], row["success"], row["value_usd"]) for row in rows) == [
        ("t1", True, "12.500000000000"),
        ("t2", False, None),
    ]
    assert refused.returncode == 1
    assert "nothing from this line on was sent" in refused.stderr


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    config = tmp_path / "bursar.yaml"
    config.write_text("upstreams: {openai: {kind: openai}}\n")
    done = bursar(config, "import", "nowhere.csv")

    assert done.returncode == 2
    assert "nowhere.csv" in done.stderr

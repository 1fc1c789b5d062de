"""The extension in C is built where that is possible, and nothing is lost where it is not."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = (
    "import native, pathlib, sys; print(*(native.build(native.ROOT / folder, pathlib.Path(sys.argv[1]))"
    " for folder in native.FOLDERS))"
)
DIGEST = (
    "from sidecar.native import READ_BY; from sidecar.wire.hashing import fold; "
    "print(READ_BY, fold(3, 'user', b'Hi.'))"
)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the interpreter that runs this test."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )


def test_without_a_compiler_that_works_python_takes_its_place(tmp_path: Path) -> None:
    done = python("-c", BUILD, str(tmp_path), CC="/bin/false", PYTHONPATH="scripts/setup")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("None None None\n")
    assert "Python takes its place" in done.stdout or "is not here" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_can_be_left_unused_and_nothing_changes() -> None:
    usual, unused = python("-c", DIGEST), python("-c", DIGEST, BURSAR_NATIVE="off")
    assert unused.stdout.startswith("Python alone ")
    assert usual.stdout.split()[-1] == unused.stdout.split()[-1]

"""The set-up works on a machine that is not ours."""

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "scripts/setup").glob("*.sh"))


def program(folder: Path, name: str, text: str) -> Path:
    """An executable shell script."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def choose_python(path: list[Path], **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the choice of an interpreter with nothing else on PATH but what a script needs."""
    tools = [str(folder) for folder in path] + ["/usr/bin", "/bin"]
    return subprocess.run(
        [str(ROOT / "scripts/setup/python.sh")],
        env={"PATH": os.pathsep.join(tools), **environment},
        capture_output=True,
        text=True,
    )


def test_a_shim_that_cannot_run_is_passed_over(tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    program(shims, "python3.13", 'echo "python3.13: command not found" >&2; exit 127')
    program(shims, "python3.12", f'exec {sys.executable} "$@"')
    program(shims, "pyenv", "exit 1")

    done = choose_python([shims])

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "python3.12"


def test_a_version_that_pyenv_keeps_is_found_behind_its_shim(tmp_path: Path) -> None:
    shims, kept = tmp_path / "shims", tmp_path / "kept"
    program(shims, "python3.13", "exit 127")
    (kept / "bin").mkdir(parents=True)
    program(kept / "bin", "python", f'exec {sys.executable} "$@"')
    program(shims, "pyenv", f'[ "$1 $2" = "prefix 3.13" ] && echo {kept}')

    done = choose_python([shims])

    assert done.stdout.strip() == f"{kept}/bin/python"


def test_the_interpreter_that_is_named_is_the_one_that_is_used(tmp_path: Path) -> None:
    assert choose_python([tmp_path], PYTHON=sys.executable).stdout.strip() == sys.executable


def test_an_interpreter_that_is_too_old_is_refused_by_name(tmp_path: Path) -> None:
    old = program(tmp_path / "old", "python3", "exit 1")
    done = choose_python([tmp_path], PYTHON=str(old))
    assert done.returncode == 1
    assert f"PYTHON={old}" in done.stderr


def test_debian_programs_that_are_there_are_left_alone(tmp_path: Path) -> None:
    present = tmp_path / "present"
    for entry in re.findall(r"\b([\w-]+):[\w-]+", (ROOT / "scripts/setup/services.sh").read_text()):
        program(present, entry, "exit 0")
    program(present, "apt-get", "echo apt-get was called; exit 9")
    done = subprocess.run(
        [str(ROOT / "scripts/setup/services.sh"), "test"],
        env={"PATH": f"{present}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", [*SCRIPTS, ROOT / ".ci/run"], ids=lambda path: path.name)
def test_a_script_is_executable_and_stops_at_the_first_error(script: Path) -> None:
    assert script.stat().st_mode & stat.S_IXUSR
    assert re.search(r"^set -e?uo pipefail$", script.read_text(), re.M)
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


def test_the_continuous_check_runs_what_a_developer_runs() -> None:
    commands = [line for line in (ROOT / ".ci/run").read_text().splitlines() if line and line[0] != "#"]
    assert commands == ["set -euo pipefail", 'cd "$(dirname "$0")/.."', "exec make test"]


def test_the_whole_check_covers_style_format_contracts_types_and_tests() -> None:
    done = subprocess.run(
        ["make", "-n", "--no-print-directory", "test"], cwd=ROOT, capture_output=True, text=True
    )
    for step in (
        "services.sh test",
        "ruff check",
        "ruff format --check",
        "lint-imports",
        "mypy",
        "-m pytest",
    ):
        assert step in done.stdout


def test_hooks_need_nothing_from_elsewhere() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {entry["repo"] for entry in hooks["repos"]} == {"local"}
    assert {hook["language"] for entry in hooks["repos"] for hook in entry["hooks"]} == {"system"}


def test_the_wheel_holds_all_that_a_run_needs(tmp_path: Path, committed: list[Path]) -> None:
    if shutil.which("hatchling", path=str(Path(sys.executable).parent)) is None:
        pytest.skip("hatchling is not installed here (make env installs it)")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    path = next(tmp_path.glob("*.whl"))
    with zipfile.ZipFile(path) as wheel:
        inside = set(wheel.namelist())
    built = [name for name in inside if name.endswith(".so")]
    # What is built is for one interpreter and one machine, and the wheel's name says so.
    assert path.stem.endswith("none-any") is not bool(built)
    if "[setup]" not in done.stdout + done.stderr:
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        folders = ("collector", "sidecar/cache/similar", "sidecar")
        assert sorted(built) == [f"{folder}/native/_native{suffix}" for folder in folders]
    ours = {path.relative_to(ROOT).as_posix() for path in committed}
    packages = ("sidecar/", "collector/", "alerts/", "dashboards/", "inference/")
    assert {path for path in ours if path.startswith(packages)} - inside == set()
    assert not any(name.startswith(("tests/", "scripts/", "requirements/")) for name in inside)

"""The set-up works on a machine that is not ours."""

import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "scripts/setup").glob("*.sh"))


def program(folder: Path, name: str, text: str) -> Path:
    """An executable shell script."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def python(
    folder: Path, name: str, version: str, *, venv: bool = True, headers: bool = True, optimised: bool = True
) -> Path:
    """A Python that says what a real one would of itself."""
    facts = f"{venv:d} {headers:d} {optimised:d} {version.replace('.', ' ')}"
    return program(folder, name, f'case "$*" in *sidecar/interpreter.py) echo "{facts} $0" ;; esac')


def choose_python(
    path: list[Path], *, compiler: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the choice of an interpreter with nothing on PATH but ``path``, a shell, maybe a C compiler."""
    with tempfile.TemporaryDirectory() as tools:
        Path(tools, "bash").symlink_to(shutil.which("bash") or "/bin/bash")
        if compiler:
            program(Path(tools), "cc", "exit 1")
        return subprocess.run(
            [str(ROOT / "scripts/setup/python.sh")],
            env={"PATH": os.pathsep.join([*map(str, path), tools]), "HOME": tools, **environment},
            capture_output=True,
            text=True,
        )


def test_a_shim_that_cannot_run_is_passed_over(tmp_path: Path) -> None:
    shims = tmp_path / "shims"
    program(shims, "python3.13", 'echo "python3.13: command not found" >&2; exit 127')
    found = python(shims, "python3.12", "3.12.1")

    done = choose_python([shims])

    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, str(found), "")


def test_a_version_that_pyenv_keeps_is_found_behind_its_shim(tmp_path: Path) -> None:
    root = tmp_path / "pyenv"
    program(root / "shims", "python3.13", f"touch {tmp_path}/run; exit 127")
    found = python(root / "versions/3.13.2/bin", "python", "3.13.2")

    done = choose_python([root / "shims"], PYENV_ROOT=str(root))

    assert done.stdout.strip() == str(found)
    assert not (tmp_path / "run").exists()  # A shim takes longer to say no than all the others together.


def test_an_optimised_python_is_taken_before_a_newer_one_even_when_it_is_hidden(tmp_path: Path) -> None:
    shims, system = tmp_path / "shims", tmp_path / "system"
    python(shims, "python3.13", "3.13.0", optimised=False)
    python(shims, "python3.11", "3.11.7", optimised=False)
    found = python(system, "python3.11", "3.11.2")

    done = choose_python([shims, system])

    assert (done.stdout.strip(), done.stderr) == (str(found), "")


def test_of_two_optimised_ones_the_newer_is_taken(tmp_path: Path) -> None:
    python(tmp_path / "a", "python3.11", "3.11.9")
    found = python(tmp_path / "b", "python3.12", "3.12.10")
    python(tmp_path / "c", "python3.12", "3.12.9")

    assert choose_python([tmp_path / name for name in "acb"]).stdout.strip() == str(found)


def test_where_none_is_optimised_the_newest_is_taken_and_said_to_cost_more(tmp_path: Path) -> None:
    python(tmp_path, "python3.11", "3.11.7", optimised=False)
    found = python(tmp_path, "python3.12", "3.12.1", optimised=False)

    done = choose_python([tmp_path])

    assert done.stdout.strip() == str(found)
    assert done.stderr == (
        "[setup] Python 3.12.1 was built without profile-guided optimisation: "
        "a call costs about a fifth more of a processor\n"
    )


@pytest.mark.parametrize("lacking", ["venv", "headers"])
def test_one_that_nothing_can_be_built_with_stands_behind_one_that_is_slower(
    tmp_path: Path, lacking: str
) -> None:
    fast = python(tmp_path, "python3.13", "3.13.5", **{lacking: False})
    found = python(tmp_path, "python3.12", "3.12.1", optimised=False)

    done = choose_python([tmp_path])

    assert done.stdout.strip() == str(found)
    assert f"than with {fast}, which lacks its venv or headers" in done.stderr


def test_without_a_compiler_headers_do_not_count(tmp_path: Path) -> None:
    found = python(tmp_path, "python3.13", "3.13.5", headers=False)
    python(tmp_path, "python3.12", "3.12.1", optimised=False)

    assert choose_python([tmp_path], compiler=False).stdout.strip() == str(found)


@pytest.mark.parametrize("version", ["3.11.2", "3.14.0", "3.15.1"])
def test_a_machine_with_python3_alone_will_do(tmp_path: Path, version: str) -> None:
    found = python(tmp_path, "python3", version, venv=False, headers=False)

    assert choose_python([tmp_path]).stdout.strip() == str(found)


def test_a_version_that_nobody_has_tried_is_the_last_resort(tmp_path: Path) -> None:
    python(tmp_path, "python3", "3.14.0")
    found = python(tmp_path, "python3.12", "3.12.1", optimised=False)

    assert choose_python([tmp_path]).stdout.strip() == str(found)


def test_a_machine_without_a_python_of_ours_is_told_what_to_do(tmp_path: Path) -> None:
    python(tmp_path, "python3", "3.10.13")

    done = choose_python([tmp_path])

    assert (done.returncode, done.stdout) == (1, "")
    assert "make PYTHON=" in done.stderr


def test_the_python_that_runs_this_says_of_itself_what_the_choice_needs(tmp_path: Path) -> None:
    program(tmp_path, "python3", f'exec {sys.executable} "$@"')

    done = choose_python([tmp_path])

    assert Path(done.stdout.strip()).samefile(sys.executable)


def test_the_interpreter_that_is_named_is_the_one_that_is_used(tmp_path: Path) -> None:
    python(tmp_path, "python3.13", "3.13.5")
    assert choose_python([tmp_path], PYTHON=sys.executable).stdout.strip() == sys.executable


def test_an_interpreter_that_is_too_old_is_refused_by_name(tmp_path: Path) -> None:
    old = program(tmp_path / "old", "python3", "exit 1")
    done = choose_python([tmp_path], PYTHON=str(old))
    assert done.returncode == 1
    assert f"PYTHON={old}" in done.stderr


def remade(tmp_path: Path, now: Path, was: Path, **environment: str) -> list[str]:
    """What the set-up says of an environment made with ``was`` where ``now`` is the choice."""
    setup = tmp_path / "scripts/setup"
    setup.mkdir(parents=True)
    shutil.copy(ROOT / "scripts/setup/environment.sh", setup)
    program(setup, "python.sh", f"echo {now}")
    program(was.parent, "uv", "exit 0")
    program(tmp_path / "tools", "apt-get", "exit 9")
    done = subprocess.run(
        [str(setup / "environment.sh"), str(was.parent.parent), "dev"],
        env={"PATH": f"{tmp_path}/tools:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if "stays" in line]


@pytest.mark.parametrize(
    ("was_optimised", "named", "said"),
    [
        (False, False, "would take about a sixth less of a processor for a call"),
        (True, False, ""),
        (True, True, "to have it with 3.12.9"),
    ],
)
def test_an_environment_that_works_stays_and_it_is_said_what_would_do_better(
    tmp_path: Path, was_optimised: bool, named: bool, said: str
) -> None:
    now = python(tmp_path / "now", "python3.12", "3.12.9")
    was = python(tmp_path / "venv/bin", "python", "3.13.0", optimised=was_optimised)

    lines = remade(tmp_path, now, was, PYTHON=str(now) if named else "")

    assert [said in line for line in lines] == [True] * bool(said)
    assert was.exists()


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

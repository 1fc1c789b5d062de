"""How an interpreter was built is read off what it says of itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from sidecar import interpreter
from sidecar.cli import main
from sidecar.interpreter import is_optimised

GCC = {"PGO_PROF_GEN_FLAG": "-fprofile-generate", "PGO_PROF_USE_FLAG": "-fprofile-use -fprofile-correction"}
DEBIAN = {
    "CONFIG_ARGS": "'--enable-shared' '--prefix=/usr' '--without-ensurepip' '--with-system-expat'",
    "PGO_PROF_GEN_FLAG": "-fprofile-generate",
    "PGO_PROF_USE_FLAG": "",
}


@pytest.mark.parametrize(
    "built",
    [
        GCC | {"CONFIG_ARGS": "'--build=x86_64-linux-gnu' '--enable-optimizations' '--with-lto'"},
        {"CONFIG_ARGS": "-C --enable-framework --enable-optimizations --with-lto", "MULTIARCH": "darwin"},
        GCC | {"CONFIG_ARGS": "'--prefix=/opt/own'", "PY_CORE_CFLAGS": "-O3 -fprofile-use -fPIC"},
        {"CONFIG_ARGS": "", "PY_CFLAGS_NODIST": "-O3 -fprofile-instr-use=code.profclangd"},
        DEBIAN | {"MULTIARCH": "x86_64-linux-gnu"},
        DEBIAN | {"MULTIARCH": "aarch64-linux-gnu"},
        DEBIAN | {"MULTIARCH": "arm-linux-gnueabihf"},
    ],
    ids=["docker", "macos", "profile-opt by gcc", "by clang", "debian", "debian arm64", "debian armhf"],
)
def test_an_interpreter_built_by_a_profile_is_known(built: dict[str, object]) -> None:
    assert is_optimised(built)


@pytest.mark.parametrize(
    "built",
    [
        GCC | {"CONFIG_ARGS": "'--prefix=/srv/pyenv/versions/3.13.0' '--enable-shared'", "OPT": "-O3"},
        GCC | {"CONFIG_ARGS": "'--prefix=/usr'", "MULTIARCH": "x86_64-linux-gnu"},
        # Debian's, for a processor that it makes no profile for.
        DEBIAN | {"MULTIARCH": "riscv64-linux-gnu"},
        # conda's, cross-compiled: the flags are taken out as Debian does, and no profile was made.
        DEBIAN | {"CONFIG_ARGS": "'--prefix=/opt/conda'", "MULTIARCH": "x86_64-linux-gnu"},
        DEBIAN | {"MULTIARCH": "x86_64-linux-gnu", "Py_DEBUG": 1},
        {},
    ],
    ids=["pyenv", "by hand into /usr", "debian riscv64", "conda", "debian's debug build", "unknown"],
)
def test_an_interpreter_that_says_nothing_of_a_profile_is_not(built: dict[str, object]) -> None:
    assert not is_optimised(built)


def test_the_facts_for_the_set_up_need_nothing_but_the_standard_library() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", interpreter.__file__], capture_output=True, text=True, check=True
    )

    *flags, program = done.stdout.split(maxsplit=6)
    assert flags[:3] == [value for value in flags[:3] if value in "01"]
    assert tuple(map(int, flags[3:])) == sys.version_info[:3]
    assert Path(program.strip()).samefile(sys.executable)


@pytest.mark.parametrize(("optimised", "said"), [(True, ""), (False, "without profile-guided optimisation")])
def test_a_check_says_when_the_interpreter_costs_more_than_it_has_to(
    optimised: bool,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sidecar.commands.check.optimised", lambda: optimised)
    monkeypatch.setattr(interpreter, "optimised", lambda: optimised)
    path = tmp_path / "bursar.yaml"
    path.write_text(f"data_dir: {tmp_path}\n")

    assert main(["check", "--config", str(path)]) == 0

    warned = capsys.readouterr().err
    assert said in warned
    assert (warned == "") is optimised

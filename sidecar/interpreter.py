"""How the interpreter that runs us was built: with profile-guided optimisation a call costs a sixth less.

The set-up runs this file as a program with each interpreter it finds, before anything is installed: it needs
the standard library alone, and not even ``site``.
"""

import sys
import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

PROFILE_FLAGS = ("-fprofile-use", "-fprofile-instr-use", "-prof-use")
"""What tells GCC, Clang and ICC to build by a profile (CPython's ``test.support.check_cflags_pgo``)."""
COMPILED_WITH = ("PY_CORE_CFLAGS", "PY_CFLAGS_NODIST", "CONFIGURE_CFLAGS_NODIST", "CFLAGS")
DEBIAN_PROFILED = ("x86_64", "i386", "aarch64", "arm", "powerpc64le", "powerpc64", "powerpc", "s390x")
"""Processors that ``debian/rules`` of python3.X builds by a profile for (``with_pgo``)."""


def is_optimised(built: Mapping[str, object]) -> bool:
    """Whether an interpreter was built by a profile, as its ``sysconfig.get_config_vars()`` tell.

    ``--enable-optimizations`` is what python.org, uv, conda, Homebrew, Fedora, Alpine and Docker's images
    configure with. Debian and Ubuntu call make's ``profile-opt`` instead and take every trace of it from what
    they install (``-e 's/-fprofile-use *-fprofile-correction//g'``), which empties a variable that configure
    never leaves empty beside its pair. conda takes the same words out, so the prefix has to be Debian's.
    """
    configured = str(built.get("CONFIG_ARGS") or "")
    if built.get("Py_DEBUG"):
        return False
    if "--enable-optimizations" in configured:
        return True
    if any(flag in str(built.get(name) or "") for name in COMPILED_WITH for flag in PROFILE_FLAGS):
        return True
    emptied = built.get("PGO_PROF_GEN_FLAG") and not str(built.get("PGO_PROF_USE_FLAG", "?")).strip()
    processor = str(built.get("MULTIARCH") or "").partition("-")[0]
    return bool(emptied) and "'--prefix=/usr'" in configured and processor in DEBIAN_PROFILED


def optimised() -> bool:
    """Whether the interpreter that runs this was built by a profile."""
    return is_optimised(sysconfig.get_config_vars())


def interpreter() -> str:
    """The interpreter's version and how it was built, for people."""
    how = "with" if optimised() else "without"
    return f"Python {sys.version.split()[0]}, built {how} profile-guided optimisation"


def fitness() -> str:
    """A line of numbers to choose an interpreter by, the higher the better, and where it is.

    Whether an environment can be made with it, its headers are here, it was built by a profile; its version.
    The interpreter of an environment is named by the one that the environment was made with.
    """
    venv = find_spec("venv") is not None and find_spec("ensurepip") is not None
    headers = Path(sysconfig.get_path("include"), "Python.h").is_file()
    program: str = getattr(sys, "_base_executable", sys.executable)
    return f"{venv:d} {headers:d} {optimised():d} {' '.join(map(str, sys.version_info[:3]))} {program}"


if __name__ == "__main__":
    sys.stdout.write(f"{fitness()}\n")

"""Build what is in C where there is a C compiler with Python's headers; Python's twins serve otherwise.

Run by ``make env``, in place for the interpreter that runs it, and by the wheel's builder as its hook.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("sidecar/native", "sidecar/cache/similar/native", "collector/native")
"""Each an extension of its own: the collector does not import the sidecar; the finder is another process."""
FLAGS = ("-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
LINKED = ("-bundle", "-undefined", "dynamic_lookup") if sys.platform == "darwin" else ("-shared",)


def compiler() -> str | None:
    """A C compiler; the one that ``CC`` names is taken at its word."""
    named = os.environ.get("CC")
    if named:
        return named
    return next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(sources: Path, folder: Path, *more: str) -> Path | None:
    """What ``sources`` hold, built into ``folder``; None, and a line that says why, where it cannot be."""
    include = Path(sysconfig.get_path("include"))
    cc = compiler()
    if cc is None or not (include / "Python.h").is_file():
        lacking = "a C compiler" if cc is None else "Python.h"
        print(
            f"[setup] {lacking} is not here: calls are read in Python alone, which costs more of a processor"
        )
        return None
    target = folder / f"_native{sysconfig.get_config_var('EXT_SUFFIX')}"
    part = target.with_suffix(f".{os.getpid()}.part")
    files = sorted(map(str, sources.glob("*.c")))
    done = subprocess.run(
        [cc, *FLAGS, *LINKED, *more, f"-I{include}", "-o", str(part), *files],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        part.unlink(missing_ok=True)
        target.unlink(missing_ok=True)  # One built from other sources is not to be taken for these.
        print(
            f"[setup] the extension in C could not be built, Python takes its place:\n{done.stderr[-2000:]}"
        )
        return None
    part.replace(target)
    return target


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    pass
else:

    class NativeHook(BuildHookInterface):
        """Puts the extension into a wheel, which then is for this interpreter and machine."""

        def initialize(self, version: str, build_data: dict[str, object]) -> None:
            """Build it; an editable installation finds the one that ``make env`` builds in place."""
            if version != "standard" or self.target_name != "wheel":
                return
            self._folder = tempfile.TemporaryDirectory()
            for name in FOLDERS:
                folder = Path(self._folder.name, name)
                folder.mkdir(parents=True)
                built = build(ROOT / name, folder)
                if built is not None:
                    build_data["pure_python"] = False
                    build_data["infer_tag"] = True
                    build_data["force_include"][str(built)] = f"{name}/{built.name}"  # type: ignore[index]


if __name__ == "__main__":
    for name in FOLDERS:
        build(ROOT / name, ROOT / name, *sys.argv[1:])

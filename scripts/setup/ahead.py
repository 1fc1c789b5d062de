"""Compile the modules that every call passes through, where mypyc and a C compiler are here.

Run by ``make env``, for the interpreter that runs it; `collector.ahead` says which modules, and uses them.
Without either tool the sources themselves are run, which costs more of a processor.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts/setup")]

from native import LINKED, compiler

from collector.ahead import COMPILED, FOLDER, GROUP, INTERPRETER, MANIFEST, digests, is_fresh, source_of

# Half the time of -O2 to compile, and as fast afterwards: the time goes into the interpreter's own functions.
FLAGS = ("-O1", "-g0", "-fPIC", "-DNDEBUG", "-fwrapv", "-fvisibility=hidden", "-w")


def translated(target: Path) -> list[Any]:
    """The modules as C in ``target``: extensions as setuptools has them, the group with all code first."""
    from mypyc.build import mypycify

    # Not the project's own configuration, by which all of it would be checked.
    configuration = target / "mypy.ini"
    configuration.write_text("[mypy]\nignore_missing_imports = true\nfollow_imports = silent\n")
    files = [str(source_of(name).relative_to(ROOT)) for name in COMPILED]
    extensions: list[Any] = mypycify(
        [f"--config-file={configuration}", f"--cache-dir={target / 'cache'}", *files],
        opt_level="1",
        debug_level="0",
        multi_file=True,
        target_dir=str(target),
        group_name=GROUP,
    )
    return extensions


def compiled(extensions: list[Any], target: Path, cc: str) -> None:
    """Each of ``extensions`` as a library in ``target``."""
    include = f"-I{sysconfig.get_path('include')}"

    def compile_one(number: int, extension: Any, source: str) -> Path:
        made = target / f"{number}-{Path(source).stem}.o"
        folders = [f"-I{folder}" for folder in extension.include_dirs]
        run([cc, *FLAGS, include, *folders, "-c", source, "-o", str(made)])
        return made

    with ThreadPoolExecutor(os.cpu_count() or 1) as compilers:
        waiting = [
            (one, [compilers.submit(compile_one, number, one, source) for source in one.sources])
            for number, one in enumerate(extensions)
        ]
        for extension, objects in waiting:
            library = target / f"{extension.name}{sysconfig.get_config_var('EXT_SUFFIX')}"
            run([cc, *LINKED, "-o", str(library), *(str(one.result()) for one in objects)])


def run(command: list[str]) -> None:
    """Run a compiler.

    Raises:
        OSError: it failed; says what it said.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(done.stderr[-2000:])


def main() -> None:
    """Compile, unless that was done already; says why it was not."""
    if is_fresh():
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    cc = compiler()
    without = "modules are run as they are, which costs a fifth more of a processor"
    if cc is None or not Path(sysconfig.get_path("include"), "Python.h").is_file():
        print(f"[setup] no C compiler with Python's headers: {without}")
        return
    began = time.monotonic()
    made_of = digests()
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder)
        try:
            compiled(translated(target), target, cc)
        except ImportError:
            print(f"[setup] mypyc is not here: {without}")
            return
        except (Exception, SystemExit) as error:  # Whatever mypyc meets: the set-up goes on without.
            print(f"[setup] modules could not be compiled: {without}:\n{error}")
            return
        part = FOLDER.with_suffix(f".{os.getpid()}.part")
        part.mkdir()
        for library in target.glob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            shutil.copy(library, part)
        (part / MANIFEST).write_text(json.dumps({"interpreter": INTERPRETER, "sources": made_of}))
        part.replace(FOLDER)
    print(f"[setup] {len(COMPILED)} modules compiled ahead in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

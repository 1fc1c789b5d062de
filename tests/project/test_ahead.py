"""Modules compiled ahead are used together, only while they are of today's sources, and say the same."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from collector import ahead

ROOT = Path(__file__).resolve().parents[2]
MADE = ahead.is_fresh()
needs_them = pytest.mark.skipif(not MADE, reason="nothing is compiled ahead here: no C compiler, or no mypyc")
TELL = """
import sys
from collector import ahead
used = ahead.use()
import sidecar.cli, sidecar.app, sidecar.call
from sidecar.native import READ_BY
print(used, sidecar.call.__file__.endswith('.so'), ahead.use(), READ_BY)
"""


def told(program: str = TELL, **environment: str) -> str:
    """What the interpreter that runs this test says to ``program``."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@needs_them
def test_they_are_imported_where_they_are_wanted() -> None:
    assert told() == "True True True C and Python, compiled ahead"


@needs_them
def test_they_can_be_left_unused() -> None:
    assert told(BURSAR_NATIVE="off") == "False False False Python alone"


@needs_them
def test_they_are_not_mixed_with_what_was_imported_before() -> None:
    assert told("import sidecar.call; from collector import ahead; print(ahead.use())") == "False"


@needs_them
@pytest.mark.parametrize(
    "what", ["an edited source", "another interpreter", "one that is missing", "no manifest"]
)
def test_what_was_made_of_other_sources_is_not_used(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "compiled"
    shutil.copytree(ahead.FOLDER, folder)
    manifest = folder / ahead.MANIFEST
    made = json.loads(manifest.read_text())
    assert ahead.is_fresh(folder)
    if what == "an edited source":
        made["sources"]["sidecar.call"] = "0" * 32
    elif what == "another interpreter":
        made["interpreter"] = "3.9"
    elif what == "one that is missing":
        del made["sources"]["sidecar.call"]
    manifest.write_text(json.dumps(made))
    if what == "no manifest":
        manifest.unlink()
    assert not ahead.is_fresh(folder)


def test_each_module_is_fit_to_be_compiled() -> None:
    """At run time a compiled class has no annotations, which msgspec reads, and no dictionary."""
    for name in ahead.COMPILED:
        tree = ast.parse(ahead.source_of(name).read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base) for base in node.bases}
                assert not bases & {"msgspec.Struct", "Struct", "asyncio.Protocol"}, f"{name}: {node.name}"
            if isinstance(node, ast.FunctionDef):
                decorated = {ast.unparse(decorator) for decorator in node.decorator_list}
                assert "cached_property" not in decorated, f"{name}: {node.name}"
            assert not (isinstance(node, ast.Name) and node.id == "__file__"), name


def test_nothing_is_awaited_while_an_exception_is_handled() -> None:
    """Compiled, an exception that was dealt with would come up again, in whatever task is next."""
    wrong = []
    for name in ahead.COMPILED:
        for node in ast.walk(ast.parse(ahead.source_of(name).read_text())):
            if isinstance(node, ast.AsyncWith | ast.AsyncFor):
                wrong.append(f"{name}:{node.lineno}")
            handled = [*node.handlers, *node.finalbody] if isinstance(node, ast.Try) else []
            for part in handled:
                wrong += [f"{name}:{one.lineno}" for one in ast.walk(part) if isinstance(one, ast.Await)]
    assert wrong == []


def test_no_class_is_above_one_that_is_not_compiled() -> None:
    """Python refuses it, when the module of the lower one is imported."""
    program = """
import importlib, pkgutil, sys
from collector.ahead import COMPILED
for package in ("collector", "sidecar"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not found.name.endswith(("__main__", "._native")):
            try:
                importlib.import_module(found.name)
            except ImportError:
                pass
for name in COMPILED:
    for kind in vars(sys.modules[name]).values():
        if isinstance(kind, type) and kind.__module__ == name and not getattr(kind, "_is_protocol", False):
            for below in kind.__subclasses__():
                if below.__module__ not in COMPILED:
                    print(f"{below.__module__}.{below.__name__} stands below {name}.{kind.__name__}")
"""
    assert told(program) == ""


def test_what_fails_to_compile_leaves_nothing_behind(tmp_path: Path) -> None:
    program = f"""
import sys; sys.path.insert(0, 'scripts/setup')
import ahead
from pathlib import Path
ahead.FOLDER = Path({str(tmp_path / "compiled")!r})
ahead.is_fresh = lambda: False
ahead.COMPILED = ('collector.domain.money',)
ahead.main()
"""
    assert "could not be compiled" in told(program, CC="/bin/false") or "no C compiler" in told(program)
    assert list(tmp_path.iterdir()) == []

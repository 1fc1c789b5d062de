"""The project itself, as its tests look at it: what is committed, and its source as syntax trees."""

import ast
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sidecar", "collector", "alerts", "dashboards", "inference")


def dotted(node: ast.AST) -> str:
    """``a.b.c`` as it is written; empty for what is no name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


@dataclass(frozen=True)
class Source:
    """One Python file of ours."""

    path: str
    """Relative to the repository root, with forward slashes."""
    lines: list[str]
    tree: ast.Module

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """What rules are about, wherever it stands: imports, calls, constants and f-strings."""
        kinds = (ast.Import, ast.ImportFrom, ast.Call, ast.Constant, ast.JoinedStr)
        return [node for node in ast.walk(self.tree) if isinstance(node, kinds)]

    @cached_property
    def calls(self) -> list[tuple[ast.Call, str]]:
        """Every call, with the dotted name of what is called."""
        return [(node, dotted(node.func)) for node in self.nodes if isinstance(node, ast.Call)]

    def place(self, node: ast.AST) -> str:
        """``path:line`` of a node."""
        return f"{self.path}:{getattr(node, 'lineno', 0)}"


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def committed() -> list[Path]:
    """Every file that git keeps here."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this copy of the project is not a git checkout")
    paths = [ROOT / name for name in listed.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.fixture(scope="session")
def sources() -> list[Source]:
    """All Python files of the five packages."""
    found = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append(Source(path.relative_to(ROOT).as_posix(), text.splitlines(), ast.parse(text)))
    assert len(found) > 50
    return found

"""Whatever our packages import is installed where they run: by a plain install, or by an extra."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("sidecar", "collector", "alerts", "dashboards", "inference")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_INSTALLED_HERE = {"litellm": "litellm", "vllm": "vllm", "pynvml": "nvidia-ml-py", "faiss": "faiss-cpu"}
"""By import name, the distribution of extras that development may do without."""

LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.Try)
"""What runs later, or does without."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(entry).name) for entry in requirements}


BASE = names(PROJECT["dependencies"])
EXTRAS = {extra: names(entries) for extra, entries in PROJECT["optional-dependencies"].items()}


def pinned(name: str) -> set[str]:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    return {canonicalize_name(found) for found in re.findall(r"^([A-Za-z0-9._-]+)==", text, re.M)}


installed = cache(packages_distributions)
"""By import name, the distributions that hold it; all of them are read for that, so once."""


def is_for_types(test: ast.expr) -> bool:
    return any(getattr(node, "id", getattr(node, "attr", "")) == "TYPE_CHECKING" for node in ast.walk(test))


def imports(tree: ast.AST, *, at_once: bool) -> Iterator[str]:
    """Full names of what is imported, members that may be modules included.

    Args:
        tree: of a module.
        at_once: only what importing the module imports, not what its functions import when they run.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and is_for_types(node.test):
            continue
        elif not (at_once and isinstance(node, LATER)):
            yield from imports(node, at_once=at_once)


def foreign(package: str) -> dict[str, set[str]]:
    """Distributions that the modules of ``package`` import, with the modules that do."""
    known = installed()
    found: dict[str, set[str]] = {}
    for path in (ROOT / package).rglob("*.py"):
        for module in imports(ast.parse(path.read_text(encoding="utf-8")), at_once=False):
            name = module.partition(".")[0]
            if name in sys.stdlib_module_names or name in PACKAGES or name == "__future__":
                continue
            owners = known.get(name) or [NOT_INSTALLED_HERE.get(name, name)]
            key = min(map(canonicalize_name, owners))
            found.setdefault(key, set()).add(str(path.relative_to(ROOT)))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_whatever_is_imported_at_any_time_is_declared(package: str) -> None:
    declared = BASE.union(*EXTRAS.values()) | pinned("base") | pinned("dashboard")
    missing = {
        distribution: sorted(modules)
        for distribution, modules in foreign(package).items()
        if distribution not in declared
    }
    assert missing == {}


def test_every_command_can_be_named_with_nothing_but_a_plain_install() -> None:
    """What importing a command imports, however deep, is in the plain install; extras come on first use."""
    base = pinned("base")
    known = installed()
    seen: set[str] = set()
    waiting = [f"sidecar.commands.{path.stem}" for path in (ROOT / "sidecar/commands").glob("*.py")]
    needed: dict[str, str] = {}
    while waiting:
        module = waiting.pop()
        path = ROOT / f"{module.replace('.', '/')}.py"
        path = path if path.exists() else ROOT / module.replace(".", "/") / "__init__.py"
        if module in seen or not path.exists():
            continue
        seen.add(module)
        for name in imports(ast.parse(path.read_text(encoding="utf-8")), at_once=True):
            first = name.partition(".")[0]
            if first in PACKAGES:
                parts = name.split(".")
                waiting += [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
            elif first not in sys.stdlib_module_names:
                owners = {canonicalize_name(owner) for owner in known.get(first, [first])}
                if not owners & base:
                    needed[first] = module
    assert len(seen) > 100
    assert needed == {}

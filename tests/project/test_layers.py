"""Imports point down, and each heavy library has one home."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.project.conftest import Source

HOMES = {
    "litellm": ("sidecar/providers/via_litellm.py",),
    "pynvml": ("collector/probes/nvml.py",),
    "duckdb": ("collector/store/", "collector/ingest/", "collector/api/"),
    "clickhouse_connect": ("collector/store/clickhouse.py",),
    "sklearn": ("alerts/detectors/", "collector/", "sidecar/cache/"),
    "streamlit": ("dashboards/",),
    "altair": ("dashboards/",),
    "pandas": ("dashboards/",),
    "vllm": (),
    "opentelemetry": ("collector/",),
    "prometheus_client": ("collector/",),
    "starlette": ("collector/", "dashboards/served.py"),
    "uvicorn": ("collector/",),
    "httptools": ("sidecar/http/", "inference/"),
}
"""Where each library may be imported; elsewhere nobody may know that it exists."""


def imported(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every module that is imported, anywhere in the file, by its full name."""
    for node in source.nodes:
        if isinstance(node, ast.Import):
            yield from ((node, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node, node.module


def test_the_import_contracts_hold(root: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Imports point down KEPT" in done.stdout


def test_the_vocabulary_needs_the_standard_library_alone(sources) -> None:
    strangers = [
        f"{source.place(node)} imports {name}"
        for source in sources
        if source.path.startswith("collector/domain/")
        for node, name in imported(source)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("collector.domain")
    ]
    assert strangers == []


@pytest.mark.parametrize("library", sorted(HOMES))
def test_a_heavy_library_is_imported_at_its_home_alone(sources, library: str) -> None:
    away = [
        source.place(node)
        for source in sources
        for node, name in imported(source)
        if name.split(".")[0] == library and not source.path.startswith(HOMES[library] or ("-",))
    ]
    assert away == []


def test_neighbours_do_not_import_each_other(sources) -> None:
    neighbours = ("alerts", "dashboards", "inference")
    crossing = [
        f"{source.place(node)} imports {name}"
        for source in sources
        for node, name in imported(source)
        if source.path.split("/")[0] in neighbours
        and name.split(".")[0] in {*neighbours, "sidecar"} - {source.path.split("/")[0]}
    ]
    assert crossing == []

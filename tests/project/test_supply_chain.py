"""Nothing runs that we did not ask for: at the start of Python, on import, in the sidecar."""

import json
import site
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ALLOWED_PTH = {
    # An editable installation of ours: a path, no code.
    "_editable_impl_bursar.pth": None,
    "__editable__.bursar-0.1.0.pth": None,
    # Made by virtualenv and uv with the environment itself.
    "_virtualenv.pth": "import _virtualenv",
    # Came with pip's setuptools in environments before Python 3.12.
    "distutils-precedence.pth": (
        "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
        "enabled and __import__('_distutils_hack').add_shim();"
    ),
}
"""Files that Python runs as it starts: name, and the only code it may hold."""

HEAVY = (
    *("litellm", "sklearn", "pandas", "numpy", "streamlit", "duckdb", "pyarrow", "starlette", "uvicorn"),
    *("opentelemetry", "prometheus_client", "httpx", "requests", "pydantic", "rich"),
)
"""What the process that carries calls has no use for: start-up time, memory, and code beside the keys."""


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100)


def test_nothing_unknown_runs_when_python_starts() -> None:
    strange = []
    for folder in map(Path, site.getsitepackages()):
        for path in folder.glob("*.pth"):
            code = [
                line for line in path.read_text().splitlines() if line.startswith(("import ", "import\t"))
            ]
            if path.name not in ALLOWED_PTH or any(line.strip() != ALLOWED_PTH[path.name] for line in code):
                strange.append(path.name)
        strange += [path.name for path in folder.glob("*customize*")]
    assert strange == []


IMPORT_EVERYTHING = """
    import importlib, json, pkgutil, sys, warnings
    attempts = []
    NET = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname",
           "socket.gethostbyaddr", "urllib.Request", "http.client.connect"}
    def watch(event, arguments):
        if event in NET:
            attempts.append(f"{event} {arguments!r}")
            raise PermissionError(event)
    sys.addaudithook(watch)
    names = []
    for package in sys.argv[1:]:
        top = importlib.import_module(package)
        names.append(package)
        for module in pkgutil.walk_packages(top.__path__, package + "."):
            # Streamlit runs these from top to bottom as a page; they are no modules.
            if module.name == "dashboards.app" or module.name.startswith("dashboards.views."):
                continue
            if module.name.endswith("__main__"):
                continue
            names.append(module.name)
            importlib.import_module(module.name)
    print(json.dumps({"attempts": attempts, "names": names}))
"""


def test_importing_everything_of_ours_asks_the_network_for_nothing() -> None:
    packages = ("sidecar", "collector", "alerts", "dashboards", "inference")
    done = run(IMPORT_EVERYTHING, *packages)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["attempts"] == []
    assert len(seen["names"]) > 50


def heavy_modules(code: str) -> list[str]:
    done = run(code + "\n    import sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))")
    assert done.returncode == 0, done.stderr
    return sorted(set(done.stdout.split()) & set(HEAVY))


def test_the_sidecar_imports_nothing_heavy() -> None:
    code = """
    import asyncio, logging
    from sidecar.commands import sidecar, process
    import sidecar.app, sidecar.reload, sidecar.control, sidecar.cli
    """
    assert heavy_modules(code) == []


SERVE_ONCE = """
    import asyncio, os, signal, sys, threading, urllib.request
    from sidecar.cli import main

    def probe():
        import time
        for _ in range(400):
            try:
                with urllib.request.urlopen(sys.argv[1], timeout=2) as reply:
                    assert reply.status == 200
                break
            except OSError:
                time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=probe, daemon=True).start()
    assert main(["sidecar", "--config", sys.argv[2]]) == 0
    print(" ".join({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_sidecar_that_serves_has_loaded_nothing_heavy(tmp_path: Path, unused_tcp_port_factory) -> None:
    port, control, collector = (unused_tcp_port_factory() for _ in range(3))
    config = tmp_path / "bursar.yaml"
    config.write_text(
        f"listen: 127.0.0.1:{port}\ncontrol: {{listen: 127.0.0.1:{control}}}\n"
        f"collector: {{listen: 127.0.0.1:{collector}}}\ndata_dir: {tmp_path / 'data'}\n"
        "upstreams: {openai: {kind: openai, base_url: http://127.0.0.1:9/v1}}\n"
    )
    done = run(SERVE_ONCE, f"http://127.0.0.1:{port}/healthz", str(config))
    assert done.returncode == 0, done.stderr
    assert sorted(set(done.stdout.split()) & set(HEAVY)) == []


@pytest.mark.parametrize("name", ["sitecustomize", "usercustomize"])
def test_the_environment_brings_no_start_up_hook_of_its_own(name: str) -> None:
    done = run(
        f"import importlib.util as u; spec = u.find_spec({name!r}); print(spec.origin if spec else '')"
    )
    where = done.stdout.strip()
    assert not where.startswith(sys.prefix), where

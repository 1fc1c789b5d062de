"""A 7B-class model with made-up weights on an NVIDIA GPU, and the figures found with it.

Where there is none, each test says what was not run. With BURSAR_GPU_REHEARSAL=1 everything
runs but the GPU: vLLM's CPU build, a tiny model and a made-up driver. That shows that the suite works, and
measures nothing.
"""

import ctypes
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.gpu import MODEL, REHEARSAL, Board, why_not
from support.stack import ROOT, Stack
from support.vllm_servers import Servers, running

from inference.tiny_model import SHAPES, make_model

SHAPE = "tiny" if REHEARSAL else "7b"
RESULTS = ROOT / "bench-results" / "gpu.json"
_FAKE = ROOT / "tests" / "collector" / "probes" / "fake_nvml.c"
_figures: list[tuple[str, str, str]] = []


def pytest_runtest_setup(item: pytest.Item) -> None:
    if why := why_not():
        what = (item.function.__doc__ or item.name).strip()  # type: ignore[attr-defined]
        pytest.skip(f"{why}. NOT RUN: {what}")


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _figures:
        return
    width = max(len(name) for name, _, _ in _figures)
    terminalreporter.section("a rehearsal: not one of these is a figure" if REHEARSAL else "figures")
    for name, value, unit in _figures:
        terminalreporter.write_line(f"| {name:<{width}} | {value:>10} {unit} |")
    if not REHEARSAL:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(
            json.dumps([dict(zip(("what", "value", "unit"), one, strict=True)) for one in _figures])
        )


Tell = Callable[[str, float, str], None]


@pytest.fixture
def tell() -> Tell:
    """Put a figure into the table at the end."""

    def add(what: str, value: float, unit: str = "") -> None:
        _figures.append((what, f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}", unit))

    return add


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What our own processes need in their environment to see the GPU; nothing where it is a real one."""
    if not REHEARSAL:
        yield {}
        return
    compiler = shutil.which("cc")
    assert compiler is not None, "a rehearsal needs a C compiler, for the made-up driver"
    folder = tmp_path_factory.mktemp("driver")
    library, state = folder / "libnvidia-ml.so.1", folder / "state"
    named = "-Wl,-soname,libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", named, "-o", library, _FAKE], check=True, timeout=60)
    os.environ["FAKE_NVML_STATE"] = str(state)
    over = threading.Event()
    began = time.monotonic()

    def write() -> None:
        fresh = state.with_suffix(".new")
        fresh.write_text(f"g0.power_mw=100000\ng0.energy_mj={(time.monotonic() - began) * 100_000:.0f}\n")
        fresh.rename(state)

    def tick() -> None:
        while not over.wait(0.05):
            write()

    write()
    ctypes.CDLL(str(library), mode=os.RTLD_GLOBAL)
    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    yield {"LD_LIBRARY_PATH": str(folder), "FAKE_NVML_STATE": str(state)}
    over.set()
    thread.join(5)


@pytest.fixture(scope="session")
def board(driver: dict[str, str]) -> Iterator[Board]:
    found = Board()
    yield found
    found.close()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / SHAPE, SHAPE)


def kv_bytes(tokens: int) -> int:
    """Device memory for the keys and values of so many tokens, in 16 bits each."""
    shape = SHAPES[SHAPE]
    width = shape["hidden_size"] // shape["num_attention_heads"] * shape["num_key_value_heads"]
    return int(2 * shape["num_hidden_layers"] * width * 2 * tokens)


def server(folder: Path, profile: str, **options: str) -> dict[str, Any]:
    """How one server is configured: a profile of ours over made-up weights."""
    own = {
        "load-format": "dummy",
        "max-model-len": "8192",
        "enforce-eager": os.environ.get("BURSAR_GPU_EAGER", "true"),
        "enable-logging-iteration-details": "true",
        **{name.replace("_", "-"): value for name, value in options.items()},
    }
    profiles = [profile, "tiny-cpu"] if REHEARSAL else [profile]
    return {"model": str(folder), "profile": profiles, "served_name": MODEL, "options": own}


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Servers]]:
    """Start servers; they end with the module."""
    with ExitStack() as started:

        def start(**servers: dict[str, Any]) -> Servers:
            return started.enter_context(running(tmp_path_factory.mktemp("vllm"), servers))

        yield start


@pytest.fixture
def stack_of(tmp_path: Path, driver: dict[str, str]) -> Iterator[Callable[..., Stack]]:
    """Start sidecar and collector in front of servers: one upstream and one model for each name."""
    with ExitStack() as started:

        def start(**upstreams: dict[str, Any]) -> Stack:
            settings = {
                "models": {name: {"upstream": name, "model": MODEL} for name in upstreams},
                "prices": {MODEL: {"input": "0.1", "output": "0.3", "cache_read": "0.01"}},
            }
            often = {"BURSAR_COLLECTOR_COST_WINDOW": "5s", "BURSAR_COLLECTOR_COST_LAG": "10s", **driver}
            return started.enter_context(Stack(tmp_path / "stack", upstreams, settings, often))

        yield start

"""A small NVIDIA driver made here: the real binding loads it and cannot tell."""

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

SOURCE = Path(__file__).with_name("fake_nvml.c")


class Gpus:
    """What the driver says; change it at any time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: dict[str, str] = {}
        self.tell()

    def tell(self, **values: object) -> None:
        """Set keys of GPU 0 (``power_mw=350_000``); see `set` for others."""
        self.set({f"g0.{name}": value for name, value in values.items()})

    def set(self, values: dict[str, object]) -> None:
        """Set keys; None takes one away."""
        for key, value in values.items():
            if value is None:
                self._state.pop(key, None)
            else:
                self._state[key] = str(value)
        fresh = self._path.with_suffix(".new")
        fresh.write_text("".join(f"{key}={value}\n" for key, value in self._state.items()))
        fresh.rename(self._path)

    def fail(self, function: str, code: int | None, gpu: int = 0) -> None:
        """Let ``function`` return ``code`` for one GPU; None heals it."""
        self.set({f"g{gpu}.error.{function}": code})

    def hang(self, function: str, hangs: bool = True) -> None:
        """Let ``function`` not come back, or come back again."""
        self.set({f"g0.hang.{function}": 1 if hangs else None})


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shared library, compiled from C."""
    pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed (extra gpu)")
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler here: the stand-in for NVIDIA's library cannot be built")
    library = tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1"
    name = "-Wl,-soname,libnvidia-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", name, "-o", library, SOURCE], check=True, timeout=60)
    return library


@pytest.fixture
def gpus(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpus]:
    """One H200 that answers everything but GPM, until told otherwise."""
    state = tmp_path / "nvml-state"
    monkeypatch.setenv("FAKE_NVML_STATE", str(state))
    told = Gpus(state)
    # glibc finds a library that is loaded already by its SONAME, wherever it lies.
    ctypes.CDLL(str(nvml_library), mode=os.RTLD_GLOBAL)
    yield told


@pytest.fixture(scope="session")
def engine_steps() -> ModuleType:
    """An engine whose every step is known; see the module of that name beside this file."""
    path = Path(__file__).with_name("engine_steps.py")
    spec = importlib.util.spec_from_file_location("bursar_test_engine_steps", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

"""Fixtures for every test: where real data lies, when it is there."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

# Tests start hundreds of Pythons, and half of what a start costs is compiling what it imports: where the
# environment asks for compiling every time, that is kept once all the same.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A machine that has other work too stalls one example, or the making of it, for longer than Hypothesis waits.
settings.register_profile(
    "untimed", parent=settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")


def shared_folder(name: str) -> Path:
    """The folder ``name`` of real inputs beside the checkout, or a skip that says what is missing."""
    base = Path(os.environ.get("BURSAR_SHARED", ROOT.parent / "shared"))
    folder = base / name
    if not folder.is_dir():
        pytest.skip(f"real inputs are not here: no folder {name!r} beside the checkout (set BURSAR_SHARED)")
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real traces, recorded provider replies, prices; one folder each."""
    return shared_folder("data")


@pytest.fixture(scope="session")
def shared_tools() -> Path:
    """Checkers that are not ours."""
    return shared_folder("tools")


@pytest.fixture(scope="session")
def shared_samples() -> Path:
    """Our own recordings of a vLLM server."""
    return shared_folder("samples")

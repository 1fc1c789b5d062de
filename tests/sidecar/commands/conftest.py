"""The command line, in a folder of its own."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from sidecar import cli


class Ran(NamedTuple):
    """What a command said, and how it ended."""

    code: int
    out: str
    err: str


Bursar = Callable[..., Ran]


@pytest.fixture
def bursar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Bursar:
    """Runs one command in this process, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("collector.ahead.use", lambda: False)

    def run(*words: str) -> Ran:
        capsys.readouterr()
        try:
            code = cli.main(words)
        except SystemExit as ended:  # argparse's way
            code = ended.code
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture
def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the output a terminal that is so wide."""

    def be(width: int) -> None:
        for name, value in {"FORCE_COLOR": "1", "TERM": "dumb", "COLUMNS": str(width), "LINES": "30"}.items():
            monkeypatch.setenv(name, value)

    return be

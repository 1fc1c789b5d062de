"""Which vLLM a command belongs to, and which options that one has, without starting it (which takes 20 s)."""

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

LEAST_VERSION = (0, 26, 0)
"""Older ones have known holes in media decoding, `auto_map` and the OpenAI paths, or other metric names."""

_SOURCES = ("engine/arg_utils.py", "config/*.py", "entrypoints/**/cli_args.py", "entrypoints/cli/serve.py")
_SHEBANG_BYTES = 1024


class NotInstalled(Exception):
    """The command is not there, or is no vLLM."""


@dataclass(frozen=True)
class Installed:
    """A vLLM that was found."""

    command: Path
    package: Path
    version: str

    @property
    def release(self) -> tuple[int, ...]:
        """``0.32.0+cpu`` as (0, 32, 0)."""
        return tuple(int(part) for part in re.findall(r"\d+", self.version.partition("+")[0])[:3])

    @property
    def is_old(self) -> bool:
        """Whether it is older than what is safe."""
        return self.release < LEAST_VERSION

    @cached_property
    def _words(self) -> frozenset[str]:
        found: set[str] = set()
        for pattern in _SOURCES:
            for path in self.package.glob(pattern):
                text = path.read_text(encoding="utf-8", errors="replace")
                found.update(re.findall(r"[a-z][a-z0-9_-]{3,}", text))
        return frozenset(word.replace("-", "_") for word in found)

    def has(self, option: str) -> bool:
        """Whether this release has the long option."""
        return option.replace("-", "_") in self._words

    def without_unknown(self, options: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """``options`` that this release has, and the names of the others."""
        known = {name: value for name, value in options.items() if self.has(name)}
        return known, [name for name in options if name not in known]


def find(command: str) -> Installed:
    """The vLLM behind ``command``.

    Raises:
        NotInstalled: there is none.
    """
    found = shutil.which(command)
    if found is None:
        raise NotInstalled(
            f"{command!r} is not there: install vLLM (extra vllm, or make vllm-env), or say where it is"
        )
    path = Path(found)
    prefix = _interpreter(path).parent.parent
    # A folder filled by ``pip install --target`` has the command in ``bin`` and the packages beside it.
    places = ("lib/python3*/site-packages", "lib/python3*/dist-packages")
    for folder in (*(one for place in places for one in prefix.glob(place)), path.resolve().parent.parent):
        package = folder / "vllm"
        described = sorted(folder.glob("vllm-*.dist-info/METADATA"))
        if package.is_dir() and described:
            version = re.search(r"^Version: (\S+)", described[-1].read_text(encoding="utf-8"), re.M)
            if version:
                return Installed(path, package, version[1])
    raise NotInstalled(f"{path} belongs to no environment that has vLLM in it")


def _interpreter(script: Path) -> Path:
    """The Python of a console script, from its first lines: a long path hides behind ``/bin/sh``."""
    with script.open("rb") as file:
        head = file.read(_SHEBANG_BYTES).decode("utf-8", "replace")
    match = re.search(r"(/[^\s'\"]*python[0-9.]*)", head)
    return Path(match[1]) if match else script

"""The metrics that a process shows Prometheus, read back: names, labels, values."""

import re
from collections.abc import Mapping
from typing import NamedTuple

_LINE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?\s+(\S+)(?:\s+\d+)?\s*")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"\s*,?')
_ESCAPES = {"\\n": "\n", '\\"': '"', "\\\\": "\\"}


class Sample(NamedTuple):
    """One value."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(text: str, names: frozenset[str]) -> list[Sample]:
    """The samples of the metrics called so, in order; lines that are none are passed over."""
    found = []
    for line in text.splitlines():
        if line.startswith("#") or line.partition("{")[0].split(" ")[0] not in names:
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        labels = {name: _plain(text) for name, text in _LABEL.findall(match[2] or "")}
        found.append(Sample(match[1], labels, value))
    return found


def _plain(text: str) -> str:
    return re.sub(r'\\[n"\\]', lambda escape: _ESCAPES[escape[0]], text)

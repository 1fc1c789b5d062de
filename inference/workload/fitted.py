"""The fit: distributions of real workloads, in a few numbers each.

``fitted.json`` beside this file is written by ``scripts/workload/fit.py`` from public
traces; ``FIT.md`` says how, how well, from what source and under which licence.
It holds fitted numbers only, no row of any trace.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from inference.workload.quantiles import Quantiles

PATH = Path(__file__).with_name("fitted.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """Everything that was fitted."""

    distributions: Mapping[str, Quantiles]
    """By name, such as ``coding.output_tokens``."""
    shares: Mapping[str, float]
    """Probabilities, such as ``coding.streamed``."""
    hour_of_day: tuple[float, ...]
    """Rate of calls in each of 24 hours, over the mean rate."""
    sources: Mapping[str, Mapping[str, str]]
    """Trace, address, licence."""

    def __getitem__(self, name: str) -> Quantiles:
        return self.distributions[name]


def fit_from(document: Mapping[str, Any]) -> Fit:
    """The fit that a document such as ``fitted.json`` holds."""
    return Fit(
        distributions={name: Quantiles(tuple(knots)) for name, knots in document["distributions"].items()},
        shares=document["shares"],
        hour_of_day=tuple(document["hour_of_day"]),
        sources=document["sources"],
    )


@cache
def shipped_fit() -> Fit:
    """The fit that comes with the project."""
    return fit_from(msgspec.json.decode(PATH.read_bytes()))

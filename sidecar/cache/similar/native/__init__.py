"""MiniLM's layers in C, where they could be built and the processor has AVX2; numpy gives the same results.

    encoder.c    six layers over a few rows, weights read once from memory as they lie there

BLAS copies every matrix of weights before it multiplies, which for the ten tokens of a short question takes
longer than the products. Built with ``sidecar/native``, by ``make env``; not used with ``BURSAR_NATIVE=off``.
"""

import importlib
import os
from types import ModuleType
from typing import Final

INTERFACE: Final = 1
"""Raised with every change of what the function takes or returns: one built before is not used."""


def _loaded() -> ModuleType | None:
    if os.environ.get("BURSAR_NATIVE") == "off":
        return None
    try:
        built = importlib.import_module("sidecar.cache.similar.native._native")
    except ImportError:
        return None
    return built if built.INTERFACE == INTERFACE and built.RUNS_HERE else None


native: Final = _loaded()
"""The function in C; None where numpy does its work."""

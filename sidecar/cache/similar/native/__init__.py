"""What takes the finder's time, in C where that was built and the processor has AVX2; numpy gives the same.

    encoder.c    MiniLM's layers over a few rows, weights read once from memory as they lie there
    sieve.c      which of many vectors may be near another one, by a quarter of their columns, a byte each
    module.c     what Python sees of them

BLAS copies every matrix of weights before it multiplies, which for the ten tokens of a short question takes
longer than the products. Built with ``sidecar/native``, by ``make env``; not used with ``BURSAR_NATIVE=off``.
"""

import importlib
import os
from types import ModuleType
from typing import Final

INTERFACE: Final = 2
"""Raised with every change of what the functions take or return: one built before is not used."""


def _loaded() -> ModuleType | None:
    if os.environ.get("BURSAR_NATIVE") == "off":
        return None
    try:
        built = importlib.import_module("sidecar.cache.similar.native._native")
    except ImportError:
        return None
    return built if built.INTERFACE == INTERFACE and built.RUNS_HERE else None


native: Final = _loaded()
"""The functions in C; None where numpy does its work."""

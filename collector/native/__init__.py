"""Parts of ingest in C, where they could be built; each has a twin in Python with the same results.

    module.c     what Python sees of it
    native.h     what its files share
    msgpack.c    the values of the journal, read one by one
    fields.c     their fields, one after the other, into columns
    frames.c     frames where they stand in what was read, and intents paired with records
    columns.c    records of the journal as the buffers of Arrow's columns

They take what is ordinary and give up on all else (they return None), which the twin then takes. Built
with ``sidecar/native``, by ``make env``; ``BURSAR_NATIVE=off`` leaves them unused.
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
        built = importlib.import_module("collector.native._native")
    except ImportError:
        return None
    return built if built.INTERFACE == INTERFACE else None


native: Final = _loaded()
"""The functions in C; None where Python's are used."""

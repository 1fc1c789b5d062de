"""Parts of a call's way in C, where they could be built; each has a twin in Python with the same results.

    module.c     what Python sees of it
    native.h     what its files share
    digests.c    CRC-32 and the digests made of it
    json.c       a reader of JSON
    chat.c       what a chat request asks
    members.c    how many members a text of JSON has
    completion.c what a whole reply to one says
    heads.c      fields of HTTP heads
    frames.c     frames of the journal, and ids
    streams.c    chunks of an event stream that only add text
    gate.c       where a stream's chunks go as they come
    beginnings.c where conversations that begin alike belong
    credit.c     claims and charges on counters in memory
    records.c    the record of a call that was tried once
    slots.c      where the slots of Python's objects lie
    tuples.c     named tuples made of others
    stitching.c  conversations that calls belong to; its rules and its memory in the files named for them

Functions of bytes and numbers, without input or output; the gate alone hands on what comes. They take
what is ordinary and give up on all else (they return None), which the twin then reads; stitching alone is
all in C or all in Python. ``make env`` builds them where there is a C compiler with Python's headers;
``BURSAR_NATIVE=off`` leaves them unused.
"""

import importlib
import os
from types import ModuleType
from typing import Final

from collector import ahead

INTERFACE: Final = 14
"""Raised with every change of what the functions take or return: one built before is not used."""


def _loaded() -> ModuleType | None:
    if os.environ.get("BURSAR_NATIVE") == "off":
        return None
    try:
        built = importlib.import_module("sidecar.native._native")
    except ImportError:
        return None
    return built if built.INTERFACE == INTERFACE else None


native: Final = _loaded()
"""The functions in C; None where Python's are used."""

READ_BY: Final = ("Python alone" if native is None else "C and Python") + (
    ", compiled ahead" if ahead.in_use() else ""
)
"""What reads calls in this process, for people."""

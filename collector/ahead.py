"""Modules that every call passes through, compiled ahead of time where that could be done.

``scripts/setup/ahead.py`` has mypyc compile what `COMPILED` lists into a folder beside this file; once `use`
was called they are imported from there: the same sources, for a fifth less of a processor. They are used
together or not at all, and only as long as each was made of the source that stands here: what was edited
since is never passed over. ``BURSAR_NATIVE=off`` leaves them unused, as it does the parts in C.
"""

import json
import os
import sys
from collections.abc import Sequence
from hashlib import blake2b
from importlib.abc import MetaPathFinder
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

COMPILED: Final = (
    "collector.domain.money",
    "collector.domain.price",
    "collector.export.prometheus",
    "collector.journal",
    "sidecar.accounting",
    "sidecar.app",
    "sidecar.books",
    "sidecar.budgets.credit",
    "sidecar.budgets.guard",
    "sidecar.budgets.offtrack",
    "sidecar.budgets.runaway",
    "sidecar.budgets.telling",
    "sidecar.cache.key",
    "sidecar.call",
    "sidecar.copies",
    "sidecar.http.body",
    "sidecar.http.chunked",
    "sidecar.http.connection",
    "sidecar.http.exchange",
    "sidecar.http.fields",
    "sidecar.http.gate",
    "sidecar.http.head",
    "sidecar.http.outbox",
    "sidecar.http.reply",
    "sidecar.http.server",
    "sidecar.http.service",
    "sidecar.http.sweep",
    "sidecar.http.tcp",
    "sidecar.http.turns",
    "sidecar.http.upstream",
    "sidecar.http.upstream_connection",
    "sidecar.keys",
    "sidecar.providers.litellm_upstream",
    "sidecar.providers.native",
    "sidecar.records",
    "sidecar.relay",
    "sidecar.routes",
    "sidecar.routing",
    "sidecar.stages.admit",
    "sidecar.stages.forward",
    "sidecar.stages.identify",
    "sidecar.stages.limit",
    "sidecar.stages.record",
    "sidecar.stages.reuse",
    "sidecar.stages.streamed",
    "sidecar.wire.chunks",
    "sidecar.wire.dialects",
    "sidecar.wire.estimate",
    "sidecar.wire.meter",
    "sidecar.wire.modes",
    "sidecar.wire.ordinary",
    "sidecar.wire.passing",
    "sidecar.wire.reading",
    "sidecar.wire.requests",
    "sidecar.wire.sse",
    "sidecar.wire.whole",
)
"""Modules of which each call takes a part, whose classes nobody changes at run time.

Nothing in them may be awaited in a handler of exceptions or behind ``finally``, nor by an ``async with``:
compiled, an exception that was dealt with comes up again there, in whatever task is next (mypyc 2.4).
"""

GROUP: Final = "bursar"
"""What holds the code of all of them; theirs are doors to it."""
FOLDER: Final = Path(__file__).with_name("compiled")
MANIFEST: Final = "sources.json"
INTERPRETER: Final = f"{sys.implementation.cache_tag} {sys.hexversion:x}"
"""What they were made for; a rebuild of the same release by a distribution is the same to them."""
_ROOT: Final = Path(__file__).resolve().parents[1]


def source_of(module: str) -> Path:
    """Where the source of ``module`` stands."""
    return _ROOT.joinpath(*module.split(".")).with_suffix(".py")


def digests() -> dict[str, str]:
    """What tells the sources of `COMPILED` from others, by module."""
    return {name: blake2b(source_of(name).read_bytes(), digest_size=16).hexdigest() for name in COMPILED}


def is_fresh(folder: Path = FOLDER) -> bool:
    """Whether ``folder`` holds what was made of today's sources for this interpreter."""
    try:
        made = json.loads((folder / MANIFEST).read_bytes())
        return bool(made == {"interpreter": INTERPRETER, "sources": digests()})
    except (OSError, ValueError):
        return False


class _Finder(MetaPathFinder):
    """Finds the compiled modules, and what holds their code."""

    def __init__(self, folder: Path) -> None:
        self._files = {file.name.partition(".cpython")[0]: file for file in folder.glob("*.so")}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Its place in the folder, for a name that is there."""
        file = self._files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))


def use() -> bool:
    """Have the compiled modules imported instead of their sources; whether they are there, and fresh.

    To be called before any of them is imported: they are never mixed with others.
    """
    if in_use():
        return True
    if os.environ.get("BURSAR_NATIVE") == "off" or sys.modules.keys() & set(COMPILED) or not is_fresh():
        return False
    sys.meta_path.insert(0, _Finder(FOLDER))
    return True


def in_use() -> bool:
    """Whether the modules of this process are the compiled ones."""
    return any(isinstance(finder, _Finder) for finder in sys.meta_path)

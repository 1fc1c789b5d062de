"""The Lua scripts of the shared credit store, and how they are called."""

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from sidecar.budgets.redis_connection import pack

NAMES = (
    "hold", "settle", "release", "shrink", "reap", "keep", "standings", "enter", "fill", "commit", "joined",
    "adopt", "tell",
)  # fmt: skip


class Script:
    """One script: called by its digest, or by its text where the server has forgotten it."""

    __slots__ = ("name", "sha", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        # Redis names scripts by SHA-1; nothing is secured by it.
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

    def command(self, keys: Sequence[str], arguments: Sequence[str | int]) -> bytes:
        """The call, by digest."""
        return pack(("EVALSHA", self.sha, len(keys), *keys, *arguments))

    def whole_command(self, keys: Sequence[str], arguments: Sequence[str | int]) -> bytes:
        """The call, by text; the server knows the digest afterwards."""
        return pack(("EVAL", self.text, len(keys), *keys, *arguments))


@cache
def load_scripts() -> dict[str, Script]:
    """All scripts by name, each with what they have in common before it."""
    folder = files("sidecar.budgets") / "scripts"
    common = (folder / "common.lua").read_text("utf-8")
    return {name: Script(name, common + (folder / f"{name}.lua").read_text("utf-8")) for name in NAMES}

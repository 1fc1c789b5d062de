"""Regular expressions that are compiled when they are first used.

Most of ours are for names, addresses and errors that a process may never meet; compiling them all takes
longer than reading the modules that they stand in.
"""

import re
from typing import AnyStr, cast


class _Waiting:
    """Stands for a pattern, and does what the pattern does from its first use on."""

    __slots__ = ("__dict__", "_flags", "_text")

    def __init__(self, text: str | bytes, flags: int) -> None:
        self._text = text
        self._flags = flags

    def __getattr__(self, name: str) -> object:
        # Asked only for what is not here yet: each method is taken over once.
        found = getattr(re.compile(self._text, self._flags), name)
        setattr(self, name, found)
        return found


def expression(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """As ``re.compile``, later; a mistake in ``text`` shows then, too."""
    return cast("re.Pattern[AnyStr]", _Waiting(text, flags))

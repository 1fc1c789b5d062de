"""Which names become label values: the configured ones, then the first few others, then ``other``.

A label value lives as long as the process and multiplies series, and some of the
names come from callers (case H03: 100,000 distinct models). So each label has a
room of its own, and a name gets in only through it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from collector.logs import redact_shapes

OTHER = "other"
_LONGEST = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelLimits:
    """How many values each label may take. Configured names always have their own."""

    upstreams: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    agents: frozenset[str] = frozenset()
    unconfigured_upstreams: int = 16
    """Names beyond the configured ones that still get a value of their own, first come first served."""
    unconfigured_models: int = 64
    unconfigured_teams: int = 32
    unconfigured_agents: int = 32
    label_sets: int = 1000
    """Combinations kept for call counters; timings keep half as many, inferences a quarter."""


class LabelValues:
    """The values of one label. A name that is admitted is its own value."""

    __slots__ = ("_half", "_known", "_room")

    def __init__(self, configured: Iterable[str], room: int) -> None:
        self._known = {"", OTHER, *configured}
        self._room = room
        self._half = room // 2

    def value(self, name: str, *, worked: bool) -> str:
        """The label value of a name; admits it where there is room.

        Names of calls that failed may take only half of the room, so that a caller
        who makes names up cannot crowd out those that work. What looks like a
        credential is never admitted.
        """
        if name in self._known:
            return name
        room = self._room if worked else self._room - self._half
        if room <= 0 or len(name) > _LONGEST or redact_shapes(name) != name:
            return OTHER
        self._room -= 1
        self._known.add(name)
        return name

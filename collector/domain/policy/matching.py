"""Which calls a rule is for: values of what a call is known by, and nothing for every call."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from collector.domain.policy.asking import Ask

DIMENSIONS = ("tenant", "team", "user", "agent", "conversation", "task", "key", "model", "upstream")
"""What a call is known by, coarse to fine; a tag is named beside them as ``tag:NAME``."""

TAG = "tag:"


@dataclass(frozen=True, slots=True)
class Match:
    """All of its dimensions must have one of the values named; ``*`` in a value stands for any text.

    What nobody said of a call (an empty value) matches nothing, not even ``*``: a rule for all
    calls names no dimension.
    """

    wanted: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Dimension (or ``tag:NAME``) and its accepted values."""

    @classmethod
    def of(cls, wanted: Mapping[str, str | Iterable[str]]) -> "Match":
        """From dimension to value or values.

        Raises:
            ValueError: a dimension is none, or has no value.
        """
        pairs = []
        for name, values in wanted.items():
            if name not in DIMENSIONS and not (name.startswith(TAG) and len(name) > len(TAG)):
                raise ValueError(f"{name!r} is not one of {', '.join(DIMENSIONS)}, {TAG}NAME")
            accepted = (values,) if isinstance(values, str) else tuple(values)
            if not accepted or not all(accepted):
                raise ValueError(f"{name}: has no value")
            pairs.append((name, accepted))
        return cls(tuple(pairs))

    def accepts(self, ask: Ask) -> bool:
        """Whether the rule is for this call."""
        return all(_accepted(accepted, value_of(ask, name)) for name, accepted in self.wanted)

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions that the answer depends on."""
        return tuple(name for name, _ in self.wanted)

    def only(self, name: str) -> str:
        """The one value that ``name`` must have; empty when there are several or none."""
        for dimension, accepted in self.wanted:
            if dimension == name and len(accepted) == 1 and "*" not in accepted[0]:
                return accepted[0]
        return ""


EVERY_CALL = Match()


def value_of(ask: Ask, name: str) -> str:
    """What a call says of a dimension or tag; empty when nothing."""
    if name.startswith(TAG):
        return ask.tags.get(name[len(TAG) :], "")
    value: str = getattr(ask, name)
    return value


def _accepted(accepted: tuple[str, ...], value: str) -> bool:
    if not value:
        return False
    return any(value == text or ("*" in text and _pattern(text).fullmatch(value)) for text in accepted)


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)

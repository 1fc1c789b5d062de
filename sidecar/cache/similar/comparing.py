"""Whether two answers say the same; where that is in doubt, they do not."""

import json
from collections import Counter
from typing import Any, Final

from sidecar.cache.guards import Told, judge, told_by
from sidecar.cache.guards.lexicon import NEGATIONS
from sidecar.cache.guards.marks import Mark

SHORT: Final = 400
"""Characters up to which an answer is read word by word."""
NEAR: Final = 0.10
"""Cosine distance up to which two answers are in the same sense."""
MOST_LONGER: Final = 2.0
"""Times as long as the other that an answer may be."""
_TURNED: Final = frozenset(("numbers", "identifiers", "opposites", "language", "names", "order"))


def same_answer(one: str, other: str, distance: float) -> bool:
    """Whether ``one`` could stand for ``other``.

    Args:
        distance: cosine distance of their vectors.
    """
    if one.split() == other.split():
        return True
    structured = _parsed(one), _parsed(other)
    if structured != (None, None):
        return bool(structured[0] == structured[1])
    shorter, longer = sorted((len(one), len(other)))
    if distance > NEAR or longer > MOST_LONGER * max(1, shorter):
        return False
    told, said = told_by(one), told_by(other)
    if longer <= SHORT:
        return judge(told, said).reason not in _TURNED
    return told.language == said.language and _literal(told) == _literal(said)


def _literal(text: Told) -> tuple[set[Mark], Counter[str]]:
    """What must be the same in two long answers: numbers, identifiers and the like, and each denial."""
    denials = Counter(mark.text for mark in text.marks if mark.text in NEGATIONS)
    return {mark for mark in text.marks if mark.kind != "word"}, denials


def _parsed(text: str) -> Any:
    """An object or a list that ``text`` is, in JSON; None if it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return json.loads(text)
    except ValueError:
        return None

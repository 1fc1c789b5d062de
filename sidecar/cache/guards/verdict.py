"""Whether two texts may share an answer; if not, why."""

from collections import Counter
from typing import Final, Literal, NamedTuple

from sidecar.cache.guards.languages import language_of
from sidecar.cache.guards.lexicon import AMOUNTS, LANGUAGES, NEGATIONS, OPPOSITES, PREFIXES, ROLES, bare
from sidecar.cache.guards.marks import Mark, sentences_of
from sidecar.cache.guards.wording import read

LEAST_REPLACED: Final = 2
"""Words that each side has and the other has not, for a text to be held for one said in other words.

One word in another's place is a question about something else, however close the two stand.
"""
REPLACED_SHARE: Final = 0.15
"""Share of the words that must be others: a few that differ in a long text were changed on purpose."""
SHARED_SHARE: Final = 0.3
"""Words that must be common, for each that is not."""


class Verdict(NamedTuple):
    """How two texts stand to each other."""

    likeness: Literal["same", "rephrased", "apart"]
    """``same``: they come to the same, mark for mark. ``rephrased``: nothing speaks against it that they say
    the same in other words; only a measurement can tell. ``apart``: they may not share an answer."""
    reason: str = ""
    """The guard that keeps them apart: numbers, identifiers, language, opposites, names, order, question
    or words."""


SAME: Final = Verdict("same")
REPHRASED: Final = Verdict("rephrased")


class Told(NamedTuple):
    """What a text comes to."""

    marks: tuple[Mark, ...]
    names: frozenset[str]
    """Words with a capital inside a sentence, lower-cased."""
    language: str


def told_by(text: str) -> Told:
    """Read ``text`` once; two such readings are compared by :func:`judge`."""
    sentences = sentences_of(text)
    shouted = text.isupper()
    marks = [mark for sentence in sentences for mark in read(sentence, shouted=shouted)]
    names = frozenset(
        mark.text.lower()
        for sentence in sentences
        for mark in sentence[1:]
        if mark.kind == "word" and mark.text[0].isupper() and len(mark.text) > 1
    )
    return Told(tuple(marks), names, language_of(text))


def judge(one: Told, other: Told) -> Verdict:
    """Whether two texts may share an answer."""
    if one.language != other.language or not one.marks:
        return Verdict("apart", "language")
    if one.marks == other.marks:
        return SAME
    said, asked = Counter(one.marks), Counter(other.marks)
    if said == asked:
        return Verdict("apart", "order")
    mine, theirs = set(said - asked), set(asked - said)
    reason = _what_turns(one, other, mine, theirs)
    if reason:
        return Verdict("apart", reason)
    as_it_was = _rest(one, mine) == _rest(other, theirs)
    mine, theirs = _of_weight(mine), _of_weight(theirs)
    fewer, more = sorted((len(mine), len(theirs)))
    shared = len(_of_weight(set(said & asked)))
    if not more:
        return Verdict("apart", "question")
    # Two other things in a sentence that is as it was are put there on purpose, too.
    least = LEAST_REPLACED + as_it_was
    if fewer < least or fewer < REPLACED_SHARE * (shared + more) or shared < SHARED_SHARE * more:
        return Verdict("apart", "words")
    return REPHRASED


def _what_turns(one: Told, other: Told, mine: set[Mark], theirs: set[Mark]) -> str:
    """The guard that no other wording gets past; empty where there is none."""
    different = mine | theirs
    words = {mark.text for mark in different if mark.kind == "word"}
    if any(mark.kind == "number" for mark in different) or not words.isdisjoint(AMOUNTS):
        return "numbers"
    if any(mark.kind != "word" for mark in different):
        return "identifiers"
    if not words.isdisjoint(NEGATIONS) or "past" in words or _opposed(mine, theirs):
        return "opposites"
    is_name = one.names ^ other.names | LANGUAGES
    if not words.isdisjoint(is_name) or any(word.endswith("^") for word in words):
        return "names"
    return ""


def _opposed(mine: set[Mark], theirs: set[Mark]) -> bool:
    said, asked = {bare(mark.text) for mark in mine}, {bare(mark.text) for mark in theirs}
    return any(
        not OPPOSITES.get(word, _NOTHING).isdisjoint(against)
        or any(word.removeprefix(prefix) in against for prefix in PREFIXES if word.startswith(prefix))
        for words, against in ((said, asked), (asked, said))
        for word in words
    )


def _rest(told: Told, replaced: set[Mark]) -> list[Mark]:
    return [mark for mark in told.marks if mark not in replaced]


def _of_weight(marks: set[Mark]) -> set[Mark]:
    return {mark for mark in marks if mark.text not in ROLES}


_NOTHING: Final[frozenset[str]] = frozenset()

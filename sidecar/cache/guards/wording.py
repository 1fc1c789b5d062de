"""What the words of a sentence come to: the same, if they ask for the same in almost the same words.

Only what makes no difference to an answer is evened out: articles, politeness, the many ways to begin a
question, plurals, spelling, whether one asks for oneself ("how do I", "how do you", "how to"). Every other
word stays where it stands, so two texts come to the same only if they say the same of the same things in the
same order; an opposite, a name, a unit, a tense or a preposition that differs is seen without being listed.
"""

import re
from typing import Final

from sidecar.cache.guards.lexicon import HOMOGRAPHS, IRREGULAR, NO_PLURAL, NUMBERS, ROLES, SAME, words_of
from sidecar.cache.guards.marks import Mark, Sentence

_CONTRACTED: Final = {
    "can't": "can not", "cannot": "can not", "won't": "will not", "shan't": "shall not", "ain't": "be not",
    "let's": "let us", "i'm": "i am", "wanna": "want to", "gonna": "going to", "gotta": "got to",
}  # fmt: skip
_IS_AFTER: Final = words_of("what who where how when why that it there here he she which")
_ENDINGS: Final = {"n't": " not", "'re": " are", "'ve": " have", "'ll": " will", "'d": " would"}

_SUBJECT: Final = r"(?P<subject>i|one|someone|somebody|anyone|anybody|a person)"
_ASK: Final = re.compile(
    r"^(?:(?:hi|hello|hey|please|kindly|so|well|ok|okay) )*"
    r"(?:(?:(?:can|could|would|will) (?:you|someone|anyone|somebody) (?:please )?"
    r"(?:tell me|explain|explain to me)"
    r"|(?:please )?(?:tell me|explain|let me know)|i (?:want|would like|need) to know|i am wondering|i wonder"
    r"|do you know|does (?:anyone|anybody|someone) know) (?=(?:how|what|why|when|where|who|which)\b))?"
)
_BEST: Final = r"(?:(?:best|good|great|right|proper|correct|effective) )?"
_HOW: Final = re.compile(
    rf"^(?:how (?:do|does|can|could|should|would|shall) {_SUBJECT}"
    rf"|(?:what|which) (?:is|are|would be|can be|could be) (?:some of )?(?:(?:the|some|a|an|any) )?{_BEST}"
    r"(?:way to|ways to|way of(?= \S+ing\b)|ways of(?= \S+ing\b))"
    rf"|(?:what|which) (?:can|should|could|must) (?P<doer>i|one) do to"
    rf"|(?:the )?{_BEST}(?:way|ways) to|how to) (?=\S)"
)
_WHY: Final = re.compile(r"^(?:how come|what (?:is|are) the reasons? (?:why|that)|why is it that) (?=\S)")
_WHAT: Final = re.compile(
    r"^(?:what|which) (?:is|are) "
    r"(?:(?:the )?(?:some|any|a few) of (?:the )?|(?:some|any|a few) (?=\S))?"
    r"(?:the |a |an )?"
)
_GOOD: Final = re.compile(r"^(?:good|great|top) (?=[^\W\d])")
_POSSIBLE: Final = re.compile(r"^(?:is it possible to|is there (?:a|any|some) way to) (?=\S)")
_THERE: Final = re.compile(r"^(?:is|are) there (?:any|some|a|an) (?=\S)")
_ASKED: Final = re.compile(
    r"^(what|which|who|where|when|why|how)((?: \S+){0,4}?) (i|you|we|one) "
    r"(should|can|could|would|will|must)\b"
)
_FIRST: Final = {"i": "you", "me": "you", "my": "your", "mine": "yours", "myself": "yourself"}
_SECOND: Final = words_of("you your yours yourself yourselves")
_ONE: Final = {"one's": "your", "oneself": "yourself"}

_ASKING: Final = words_of(
    """
    what which who whose where when why how is are was were do does did can could should would will must may
    might has have had
    """
)
_NOTHING: Final = words_of("a an the please kindly really actually basically exactly ever")
_AUXILIARY: Final = words_of("is are am do does")
_PAST: Final = {"was": "be", "were": "be", "did": "do", "had": "have"}
_BE: Final = {"is": "be", "are": "be", "am": "be", "does": "do", "has": "have"}
_DOING: Final = {"be": "become", "being": "become", "doing": "do", "going": "go", "using": "use"}
_BETWEEN: Final = Mark("word", "between")
_AND: Final = Mark("word", "and")
_HELD: Final = "\x00"
"""Stands for what is no word, while words are looked at together."""


def read(sentence: Sentence, *, shouted: bool) -> list[Mark]:
    """What ``sentence`` comes to, mark for mark.

    Args:
        shouted: all letters of the text are capitals, so that they say nothing.
    """
    words = _lower(sentence, shouted=shouted)
    line = _ASK.sub("", " ".join(words), count=1)
    line, frame, subject = _frame(line)
    others = iter([mark for mark in sentence if mark.kind != "word"])
    found = [Mark("word", frame)] if frame else []
    came = line.split(" ") if line else []
    asks = bool(frame) or (bool(came) and came[0] in _ASKING)
    for place, word in enumerate(came):
        if word == _HELD:
            found.append(next(others))
        else:
            first = frame == "how-to" and place == 0
            found += _canonical(root(word) if first else word, place, frame, asks=asks)
    return _between(_for_oneself(found, subject) if frame == "how-to" else found)


def _lower(sentence: Sentence, *, shouted: bool) -> list[str]:
    """The words without their capitals, contractions taken apart."""
    found: list[str] = []
    for place, mark in enumerate(sentence):
        if mark.kind != "word":
            found.append(_HELD)
            continue
        word = mark.text.replace("’", "'")
        lower = word.lower()
        capital = word[0].isupper() and not shouted
        if capital and lower in HOMOGRAPHS and (place or (word.isupper() and len(word) > 1)):
            found.append(f"{lower}^" if lower != "i" else lower)
            continue
        if capital and place and lower in ("the", "a", "an"):
            lower = f"{lower}^"  # Part of a name.
        found += _apart(lower, found[-1] if found else "")
    return found


def _apart(word: str, before: str) -> list[str]:
    if "'" not in word:
        return _CONTRACTED.get(word, word).split(" ")
    if word in _CONTRACTED:
        return _CONTRACTED[word].split(" ")
    for ending, means in _ENDINGS.items():
        if word.endswith(ending) and len(word) > len(ending):
            return [word.removesuffix(ending), *means.split()]
    if word.endswith("'s") and word not in _ONE:
        stem = word.removesuffix("'s")
        return [stem, "is"] if stem in _IS_AFTER else [stem]
    return [word.removesuffix("'")]


def _frame(line: str) -> tuple[str, str, str]:
    """The rest of a question, how it begins, and who asks for himself."""
    if (match := _HOW.match(line)) is not None:
        return line[match.end() :], "how-to", match["subject"] or match["doer"] or ""
    if (match := _WHY.match(line)) is not None:
        return line[match.end() :], "why", ""
    if (match := _WHAT.match(line)) is not None and len(line) > match.end():
        # Some good ones are the best; whether one is good is another question.
        rest = line[match.end() :]
        return (_GOOD.sub("best ", rest) if " are " in match[0] else rest), "what", ""
    if (match := _POSSIBLE.match(line)) is not None:
        return line[match.end() :], "possible", ""
    if (match := _THERE.match(line)) is not None:
        return line[match.end() :], "there-is", ""
    return _ASKED.sub(r"\1\2 \4 \3", line, count=1), "", ""


def _canonical(word: str, place: int, frame: str, *, asks: bool) -> list[Mark]:
    """What a word counts as.

    Args:
        asks: it stands in a question, which has the same answer for one and for many of a kind; to delete a
            file and to delete files are two things.
    """
    if word in _NOTHING:
        return []
    if word in NUMBERS and (word != "one" or place == 0):
        return [Mark("number", NUMBERS[word])]
    found = []
    if word in _PAST:
        # "What was" is not "what is"; which verb it was is told by its place.
        found.append(Mark("word", "past"))
        word = _PAST[word]
    if not frame and place <= 1 and (word in _AUXILIARY or (found and word in ("be", "do"))):
        return [*found, Mark("word", "whether")] if place == 0 else found
    word = _BE.get(word, word)
    word = _ONE.get(word, word)
    if asks:
        word = SAME.get(word) or singular(word)
    found.append(Mark("word", SAME.get(word, word)))
    return found


def singular(word: str) -> str:
    """``word`` without the ending of a plural or a third person."""
    if word in IRREGULAR:
        return IRREGULAR[word]
    if len(word) < 4 or word in NO_PLURAL or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    return word[:-1]


def _between(marks: list[Mark]) -> list[Mark]:
    """What stands at the end "between this and that" stands between that and this as well."""
    if _BETWEEN not in marks or marks.count(_AND) != 1:
        return marks
    start, middle = marks.index(_BETWEEN) + 1, marks.index(_AND)
    one, other = marks[start:middle], marks[middle + 1 :]
    if not one or not other or any(mark.kind == "word" and mark.text in ROLES for mark in one + other):
        return marks
    return [*marks[:start], *min(one, other), _AND, *max(one, other)]


def root(verb: str) -> str:
    """What a verb is known by, whether it stands alone or as in "ways of running"."""
    verb = _DOING.get(verb, verb)
    stem = verb.removesuffix("ing") if len(verb) > 5 else verb
    if stem != verb and len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz":
        stem = stem[:-1]
    return stem.removesuffix("e") if len(stem) > 3 else stem


def _for_oneself(marks: list[Mark], subject: str) -> list[Mark]:
    """Who asks how to do something asks for himself, whatever he calls himself."""
    said = {mark.text for mark in marks if mark.kind == "word"}
    first, second = not said.isdisjoint(_FIRST), not said.isdisjoint(_SECOND)
    asks_first = subject in _FIRST or (not subject and first)
    if (asks_first and second) or (not asks_first and first):
        return [*marks, Mark("word", f"{subject or 'one'}^")]  # Somebody else is meant besides.
    return [Mark("word", _FIRST.get(mark.text, mark.text)) if mark.kind == "word" else mark for mark in marks]

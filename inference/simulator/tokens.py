"""How the simulator counts: a token is four bytes of UTF-8, the last one rounded up.

No real tokenizer is this simple, and none is needed: the rule is exact, costs
nothing on a megabyte, and a test can work out every figure with a division.
English prose takes a little over four bytes a token in the tokenizers of 2026,
so the sizes stay plausible.
"""

from functools import cache
from random import Random

BYTES_PER_TOKEN = 4

OPENING = "[simulated] "
"""How every simulated text begins."""

_PROSE_WORDS = """
    a I we it of to in is as on by or at an be the and for not one all new key log run set map row sum
    call cost time path plan test read code file list name step each with from that then when this
    model token price query cache agent store index batch graph value total limit clear under
    budget ledger stream result branch record window answer reason prefix before either listed single
    summary request journal measure because compare context balance message section pattern another
    estimate decision function response evidence document schedule possible baseline quantity
    collected different reference available completes treasurer processed
    spreadsheet reconciled throughput repository accounting
"""
_WORDS = tuple(_PROSE_WORDS.split())


@cache
def _words_of(length: int) -> tuple[str, ...]:
    return tuple(word for word in _WORDS if len(word) == length)


@cache
def _corpus() -> str:
    """Sentences without end, 64 kB of them; always the same ones."""
    random = Random(20261122)  # noqa: S311 (prose, not secrets)
    sentences: list[str] = []
    size = 0
    while size < 65_536:
        words = [random.choice(_WORDS) for _ in range(random.randint(6, 14))]
        sentence = " ".join(words)
        sentences.append(sentence[0].upper() + sentence[1:] + ".")
        size += len(sentence) + 2
    return " ".join(sentences) + " "


def count_tokens(text: str | bytes) -> int:
    """Tokens of ``text``: its UTF-8 bytes over four, rounded up."""
    size = len(text) if isinstance(text, bytes) or text.isascii() else len(text.encode())
    return -(-size // BYTES_PER_TOKEN)


def prose(tokens: int, seed: int, opening: str = OPENING) -> str:
    """English-looking ASCII text of exactly ``tokens`` tokens; the same seed gives the same text."""
    size = tokens * BYTES_PER_TOKEN
    if size <= len(opening):
        return opening[:size]
    corpus = _corpus()
    start = corpus.index(". ", seed % (len(corpus) - 200)) + 2
    missing = size - len(opening)
    text = corpus[start : start + missing]
    if len(text) < missing:
        text += (corpus * (missing // len(corpus) + 1))[: missing - len(text)]
    return opening + _ended(text)


def _ended(text: str) -> str:
    """``text`` with its last, perhaps torn, word replaced by a whole one and a full stop."""
    head, space, tail = text.rpartition(" ")
    whole = _words_of(len(tail) - 1)
    return head + space + (whole[0] if whole else tail[:-1]) + "." if tail else head + "."

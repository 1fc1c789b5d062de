"""WordPiece tokens of BERT, uncased (https://arxiv.org/abs/1810.04805; the reference's ``tokenization.py``).

Texts are split at white space and punctuation, in lower case and without accents, and each word is
covered from the left by the longest pieces that the vocabulary has.
"""

import unicodedata
from pathlib import Path
from typing import Final

UNKNOWN: Final = "[UNK]"
START: Final = "[CLS]"
END: Final = "[SEP]"
LONGEST_WORD: Final = 100
"""Letters of a word beyond which it is one unknown piece."""


class WordPiece:
    """The token numbers of texts, by one vocabulary file."""

    def __init__(self, vocabulary: Path) -> None:
        with vocabulary.open(encoding="utf-8") as file:
            self._ids = {line.rstrip("\n"): number for number, line in enumerate(file)}
        self._start, self._end = self._ids[START], self._ids[END]
        self._unknown = self._ids[UNKNOWN]

    def encode(self, text: str, longest: int) -> list[int]:
        """The numbers of at most ``longest`` tokens of ``text``, its two marks among them."""
        found = [self._start]
        room = longest - 1
        for word in words_of(text):
            found += self._pieces(word)
            if len(found) >= room:
                del found[room:]
                break
        found.append(self._end)
        return found

    def _pieces(self, word: str) -> list[int]:
        if len(word) > LONGEST_WORD:
            return [self._unknown]
        ids, found, start, size = self._ids, [], 0, len(word)
        while start < size:
            mark = "##" if start else ""
            for end in range(size, start, -1):
                number = ids.get(mark + word[start:end])
                if number is not None:
                    found.append(number)
                    start = end
                    break
            else:
                return [self._unknown]
        return found


def words_of(text: str) -> list[str]:
    """Words and punctuation marks, in lower case, without accents."""
    plain = unicodedata.normalize("NFD", text.lower())
    spaced: list[str] = []
    for letter in plain:
        code = ord(letter)
        if letter.isalnum() and code < 0x300:
            spaced.append(letter)
        elif letter in " \t\n\r" or unicodedata.category(letter) == "Zs":
            spaced.append(" ")
        elif _is_punctuation(letter, code) or _is_ideograph(code):
            spaced.append(f" {letter} ")
        elif unicodedata.category(letter) not in ("Mn", "Cc", "Cf", "Co", "Cs") and code not in (0, 0xFFFD):
            spaced.append(letter)
    return "".join(spaced).split()


def _is_punctuation(letter: str, code: int) -> bool:
    if 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126:
        return True
    return unicodedata.category(letter).startswith("P")


def _is_ideograph(code: int) -> bool:
    return (
        0x4E00 <= code <= 0x9FFF
        or 0x3400 <= code <= 0x4DBF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x2CEAF
        or 0x2F800 <= code <= 0x2FA1F
    )

"""Which language a text is in, as far as its script and its smallest words tell."""

import re
from typing import Final

_SMALL: Final = {
    "en": "the and is are was what how do does of in to for with my your can i you it this that not",
    "es": "el los las una es son qué cómo como de en para con mi puedo yo usted esto que no por del cuál",
    "fr": "le les une est sont quoi comment de en pour avec mon puis je vous il ce que ne pas du des au",
    "de": "der die das ein eine ist sind was wie von im für mit mein kann ich sie es dies nicht und zu den",
    "it": "il gli una è sono cosa come di in per con mio posso io lei questo che non della dei",
    "pt": "o os uma é são que como de em para com meu posso eu você isto não do da dos qual",
    "nl": "de het een is zijn wat hoe van in voor met mijn kan ik u dit niet en te ik",
}
_LANGUAGES: Final = {name: frozenset(words.split()) for name, words in _SMALL.items()}
_WORD: Final = re.compile(r"[^\W\d_]+")
_FEW: Final = 3
"""Of the smallest words, how many more must be of one language than of English to say it is that."""


def language_of(text: str) -> str:
    """A name that differs between texts of different languages; English and what cannot be told are empty."""
    words = _WORD.findall(text.lower())[:200]
    counts = {name: sum(word in small for word in words) for name, small in _LANGUAGES.items()}
    best = max(counts, key=lambda name: counts[name])
    found = best if counts[best] >= counts["en"] + _FEW else ""
    if text.isascii():
        return found
    # Each block of 256 code points beyond Latin is near enough to a script.
    blocks = {ord(letter) >> 8 for letter in text if letter.isalpha() and ord(letter) >= 0x250}
    return ",".join([found, *map(str, sorted(blocks)[:16])])

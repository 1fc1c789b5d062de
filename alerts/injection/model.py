"""How much a text reads like an instruction to the model that its operator did not give.

A linear model over the words of a text and the pairs they stand in, hashed into a table of small
integers, so that nothing of the texts it was fitted on is kept. It reads a window of a few hundred
characters at a time, and a text is as suspicious as its worst window: an instruction that hides in a
long document stands out in its own window and would drown in the whole. All work per character is
bounded, and there is no pattern that backtracks.

A score says what a text looks like, not what it does: harmless texts about passwords look alike, and a
plain question can break a rule of the system prompt without looking strange. It is a reason to look,
not a verdict.
"""

import json
import math
import re
import unicodedata
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Final, Self
from zlib import crc32

WEIGHTS: Final = Path(__file__).with_name("weights.json")
"""The fitted model, made by ``scripts/alerts/injection.py``."""

BITS: Final = 15
"""The table has 2 to the power of this many places."""

WINDOW: Final = 800
"""Characters read at once: most injections of the fitting set fit whole."""
STRIDE: Final = 500
"""Characters between the beginnings of two windows: one instruction of up to 300 lies whole in one."""

WORD: Final = re.compile(r"\w{1,40}|[^\w\s]")
"""A word or a mark. A word beyond 40 characters is several, so that each costs little."""

VERSION: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Weights of the hashed words; :func:`built_in` gives the one that is shipped.

    Raises:
        ValueError: the table has not ``1 << BITS`` places.
    """

    table: bytes
    """One signed byte a place."""
    scale: float
    """What one step of the table is worth, in log odds."""
    bias: float
    """Log odds of a text without words."""

    def __post_init__(self) -> None:
        if len(self.table) != 1 << BITS:
            raise ValueError(f"the table has {len(self.table)} places, not {1 << BITS}")

    def score(self, text: str) -> float:
        """How suspicious ``text`` is, 0 to 1: that of its worst window. 0 for one without words."""
        return max(map(self.score_window, windows(text)), default=0.0)

    def score_window(self, text: str) -> float:
        """How suspicious ``text`` is when read at once; beyond ``WINDOW`` characters use :meth:`score`."""
        places = hashed(text)
        if not places:
            return 0.0
        steps = sum(map(memoryview(self.table).cast("b").__getitem__, places))
        odds = self.bias + self.scale * steps / math.sqrt(len(places))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, odds))))

    def to_json(self, source: str) -> str:
        """As the text of :data:`WEIGHTS`; ``source`` says what it was fitted on."""
        facts = {"version": VERSION, "source": source, "bits": BITS, "window": WINDOW, "stride": STRIDE}
        numbers = {"scale": self.scale, "bias": self.bias, "table": b64encode(self.table).decode()}
        return json.dumps(facts | numbers, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The model that :meth:`to_json` wrote.

        Raises:
            ValueError: not such a text, or one made for another way of reading words.
        """
        try:
            found = json.loads(text)
            made_for = (found["version"], found["bits"], found["window"], found["stride"])
            if made_for != (VERSION, BITS, WINDOW, STRIDE):
                raise ValueError(f"the weights were fitted for another reader of words: {made_for}")
            table = b64decode(found["table"], validate=True)
            return cls(table=table, scale=float(found["scale"]), bias=float(found["bias"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the weights of an injection model: {error!r}") from error


@cache
def built_in() -> Model:
    """The model that is shipped, read once."""
    return Model.from_json(WEIGHTS.read_text(encoding="ascii"))


def windows(text: str) -> Iterator[str]:
    """``text`` in pieces of at most ``WINDOW`` characters that overlap, in order."""
    for start in range(0, max(1, len(text) - (WINDOW - STRIDE)), STRIDE):
        yield text[start : start + WINDOW]


def hashed(text: str) -> set[int]:
    """The places of the table that the words of ``text``, and the pairs of neighbours, fall on."""
    found = words(text)
    pairs = [b"%b %b" % pair for pair in pairwise(found)]
    return {crc32(each) & _MASK for each in found + pairs}


def words(text: str) -> list[bytes]:
    """The words and marks of ``text`` in order, however they are dressed up, as UTF-8.

    Case, width, accents and letter variants are folded (NFKD) and characters that cannot be seen are left
    out, as they are the cheapest disguises of a word.
    """
    if not text.isascii():
        # A Korean syllable becomes three characters, hence room for four; one (U+FDFA) becomes eighteen,
        # hence the cut.
        folded = unicodedata.normalize("NFKD", text)[: 4 * WINDOW]
        text = "".join(char for char in folded if unicodedata.category(char) not in _UNSEEN)
    return [word.encode("utf-8", "surrogatepass") for word in WORD.findall(text.casefold())]


_MASK: Final = (1 << BITS) - 1
_UNSEEN: Final = frozenset({"Cf", "Mn"})
"""Formatting characters (zero width, directions, tags) and combining marks."""

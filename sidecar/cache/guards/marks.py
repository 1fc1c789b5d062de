"""Cutting a text into marks: numbers, identifiers, quotations, symbols and words, in their order.

What stands in a number, an identifier, a quotation or a symbol is compared as it is written; only words are
read further (:mod:`sidecar.cache.guards.wording`). Nothing but punctuation is ever passed over, and each step
takes time in proportion to the text.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

Kind = Literal["number", "identifier", "quotation", "symbol", "word"]


class Mark(NamedTuple):
    """One piece of a text."""

    kind: Kind
    text: str
    """As it counts in a comparison; of a word, as it is written."""


Sentence = list[Mark]

_CHUNK: Final = re.compile(
    r"(?P<quotation>\"[^\"\n]{1,400}\"|“[^”\n]{1,400}”|„[^“”\n]{1,400}[“”]|«[^»\n]{1,400}»|`[^`]{1,400}`"
    r"|(?<!\w)['‘][^'‘’\n]{1,200}['’](?!\w))|(?P<line>\n\s*)|(?P<chunk>[^\s\"“„«`]+|\S)"
)
_OPENING: Final = "([{'‘’"
_CLOSING: Final = ")]}'’,;:!?…。、，！？；：."
_BULLETS: Final = frozenset("•●▪–—")
_SILENT: Final = frozenset(",;()[]{}'’‘")
_ENDING: Final = frozenset("!?.:;…。！？；")
_CURRENCIES: Final = {"$": "usd", "€": "eur", "£": "gbp", "¥": "jpy", "₹": "inr", "₽": "rub", "₿": "btc"}
_AMOUNT: Final = re.compile(
    r"(?P<sign>[-+±~≈]?)(?P<currency>[$€£¥₹₽₿]?)(?P<digits>\d+(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
    r"(?P<unit>%|°[CFcf]?|[$€£¥₹₽₿]|[^\W\d_]{1,12}(?:/[^\W\d_]{1,12})?)?"
)
_DIGITS: Final = re.compile(r"[\d.,:/x-]*\d[\d.,:/x-]*")
_NAMED: Final = re.compile(r"[^\W\d_]+(?:\+\+|#)|\.NET")
_WORDS: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*(?:-[^\W\d_]+(?:['’][^\W\d_]+)*)*")
_LITERAL: Final = re.compile(r"\d+(?:\.\d+)?|[^\W\d_]+(?:['’][^\W\d_]+)*|_+|[^\w\s]")
_CODE: Final = re.compile(r"://|@|\\|_|::|\(\)|^[#~/]|^--?[^\W\d]|^\.\.?/|[^\W\d_]\.[^\W\d_]|/.*/|=")
_CAMEL: Final = re.compile(r"[^\W\d_A-Z][A-Z]")


def sentences_of(text: str) -> list[Sentence]:
    """The marks of ``text``, sentence by sentence; punctuation but that of numbers and code is left out."""
    found: list[Sentence] = []
    sentence: Sentence = []
    for match in _CHUNK.finditer(_plain(text)):
        chunk = match[0]
        if match.lastgroup == "quotation":
            sentence.append(Mark("quotation", " ".join(chunk[1:-1].split())))
            continue
        if match.lastgroup == "chunk":
            core = _stripped(chunk)
            if sentence or core not in ("-", "*"):  # There they are marks of a list.
                sentence += _marks_in(core)
            ended = chunk[-1] in _ENDING and not (core and chunk.endswith(core))
        else:
            ended = True
        if ended and sentence:
            found.append(sentence)
            sentence = []
    return [*found, sentence] if sentence else found


def _plain(text: str) -> str:
    """``text`` composed, full-width letters and digits made ordinary, without invisible characters."""
    if text.isascii():
        return text
    return "".join(
        letter for letter in unicodedata.normalize("NFKC", text) if unicodedata.category(letter) != "Cf"
    )


def _stripped(chunk: str) -> str:
    """``chunk`` without the punctuation around it."""
    end = len(chunk)
    while end and chunk[end - 1] in _CLOSING:
        end -= 1
    if chunk[end : end + 1] == "!" and chunk[end - 1 : end].isdigit():
        end += 1  # A factorial, perhaps.
    core = chunk[:end].lstrip(_OPENING)
    if chunk[end : end + 1] == ")" and core.endswith("("):
        return core + ")"  # A function by its name: main().
    return core


def _marks_in(core: str) -> Iterator[Mark]:
    if not core or core in _BULLETS:
        return
    if _WORDS.fullmatch(core):
        # A brand with a capital inside, iPhone or WhatsApp, is written in any way.
        yield from (Mark("word", word.lower() if _CAMEL.search(word) else word) for word in core.split("-"))
    elif core == "&":
        yield Mark("word", "and")
    elif (amount := _AMOUNT.fullmatch(core)) is not None:
        yield from _amount(amount)
    elif _DIGITS.fullmatch(core):
        yield Mark("number", core)
    elif _NAMED.fullmatch(core) or _CODE.search(core):
        yield Mark("identifier", core)
    elif any(map(str.isdigit, core)) and core.replace("-", "").isalnum():
        yield Mark("identifier", core.lower())
    else:
        for piece in _LITERAL.findall(core):
            kind: Kind = "number" if piece[0].isdigit() else "word" if piece[0].isalpha() else "symbol"
            if piece not in _SILENT:
                yield Mark(kind, _shortest(piece) if kind == "number" else piece)


def _amount(amount: re.Match[str]) -> Iterator[Mark]:
    sign = amount["sign"].replace("+", "")
    yield Mark("number", sign + _shortest(amount["digits"].replace(",", "")))
    for unit in (amount["currency"], amount["unit"]):
        if unit:
            # Read as a word: 5kg, 5 kg and 5 kilograms are one.
            yield Mark("word", _CURRENCIES.get(unit, "percent" if unit == "%" else unit))


def _shortest(digits: str) -> str:
    if digits.startswith("."):
        digits = "0" + digits
    return digits.rstrip("0").rstrip(".") if "." in digits else digits

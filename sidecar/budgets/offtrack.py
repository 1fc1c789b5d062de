"""Whether a running stream has gone off track: it repeats itself without end, or is far too long.

A model that loops writes the same thing until its token limit. Ordinary answers repeat themselves
too (tables, logs, JSON, zeros), so a verdict needs both: text that brings nothing new, and a lot of it.

| kind       | what it is                                                       | how much of it       |
|------------|------------------------------------------------------------------|----------------------|
| `blank`    | whitespace alone                                                 | 1 KiB                |
| `loop`     | the same bytes again and again, with a period of up to 4 KiB     | 4 KiB and 4 periods  |
|            | ... where there are no words in it                               | 8 KiB and 4 periods  |
| `counting` | the same words around numbers that advance evenly                | 24 KiB and 8 periods |
| `stale`    | of each block at most 4 % is new to a compressor that saw 5 KiB  | 16 KiB               |
| `runaway`  | anything, beyond a bound that comes from the history of its like | the bound            |

To see that something repeats takes a period and a block more, and the end of a block must come: a
loop is found within :func:`found_within` bytes of its beginning.

Text is looked at a block (1 KiB) at a time, counted from the beginning of the stream, so that the
verdict does not depend on how the stream was cut into chunks. Between blocks a chunk costs one
append. Pure: no clock, no randomness; a stream holds 6 KiB at most. Numbers that are counted up
without a word beside them are a list that somebody asked for; only its length can be too much.
"""

import re
import zlib
from enum import StrEnum
from typing import Final, NamedTuple

BLOCK: Final = 1024
"""Bytes between two looks."""
LONGEST_PERIOD: Final = 4096
"""Bytes. 400 tokens of any text take less, at up to 10 bytes a token."""
MOST_BLANK: Final = 1024
MOST_LOOPED: Final = 4096
MOST_WORDLESS: Final = 8192
"""Rows of zeros, rules of dashes, and the white of an image in base64 are written on purpose."""
MOST_COUNTED: Final = 24 << 10
"""A list of some hundred test users differs in its numbers alone, too."""
MOST_STALE: Final = 16 << 10

_HISTORY: Final = LONGEST_PERIOD + BLOCK
_STALE_SHARE: Final = 0.04
"""Ordinary JSON, tables and logs measure 0.06 and more, a 150-byte paragraph with a counter 0.04."""
_RELIEF: Final = 4 * BLOCK
"""What one block with news in it takes back: a loop has such a block now and then."""
_FEWEST_SYMBOLS: Final = 20
"""Below so many different bytes in a block it is an image in base64 or hex, not language."""
_LEAST_PERIODS: Final = 4
_LEAST_COUNTED_PERIODS: Final = 8
_ANCHOR: Final = 32
_MOST_CANDIDATES: Final = 16
_PROBES: Final = ((160, 192), (480, 512), (800, 832))
_MOST_NUMBERS: Final = 256
_MOST_NUMBERS_A_PERIOD: Final = 64
_EVEN_SHARE: Final = 0.9
"""Clocks carry: of the seconds in a row of times, two in sixty do not advance like the others."""

_DIGITS: Final = b"0123456789"
_NO_LETTERS: Final = bytes(
    [byte for byte in range(128) if not (65 <= byte <= 90 or 97 <= byte <= 122)]
)  # Beyond ASCII all counts as a letter.
_NUMBER: Final = re.compile(rb"\d{1,15}")


class Kind(StrEnum):
    """In which way a stream went off track."""

    BLANK = "blank"
    LOOP = "loop"
    COUNTING = "counting"
    STALE = "stale"
    RUNAWAY = "runaway"


class OffTrack(NamedTuple):
    """What was found."""

    kind: Kind
    at_bytes: int
    """How much of the reply had been written when it was found."""
    run_bytes: int
    """How much of that, at the end, is off track; all of it for a runaway."""
    period_bytes: int
    """What is repeated, 0 where nothing has a period; of a counting loop, without its digits."""

    @property
    def reason(self) -> str:
        """For people and for the record."""
        if self.kind is Kind.RUNAWAY:
            return f"off track: {self.at_bytes} bytes, far more than its like"
        period = f", {self.period_bytes} bytes at a time" if self.period_bytes else ""
        return f"off track: {_WORDS[self.kind]} for {self.run_bytes} bytes{period}"


_WORDS: Final = {
    Kind.BLANK: "nothing but whitespace",
    Kind.LOOP: "the same text again and again",
    Kind.COUNTING: "the same text with a counter",
    Kind.STALE: "hardly anything new",
}


def found_within(kind: Kind, period: int = 0, *, words: bool = True) -> int:
    """Bytes after its beginning within which something of ``kind`` is found.

    Args:
        kind: all but a runaway.
        period: bytes that are repeated; for a counting loop, without its digits.
        words: whether a loop has words in it, see :func:`has_words`.
    """
    least = {
        Kind.BLANK: MOST_BLANK,
        Kind.LOOP: max(MOST_LOOPED if words else MOST_WORDLESS, _LEAST_PERIODS * period),
        Kind.COUNTING: max(MOST_COUNTED, _LEAST_COUNTED_PERIODS * period),
        Kind.STALE: MOST_STALE + _HISTORY,
    }[kind]
    return least + period + 2 * BLOCK


FEWEST_CALLS: Final = 200
"""With fewer calls a quantile of 0.99 is a guess."""
FAR: Final = 4
"""How many times the usual length is far too long."""
LEAST_RUNAWAY_TOKENS: Final = 4096
"""Nothing shorter is worth a cut."""
_BYTES_A_TOKEN: Final = 6
"""More than any language or notation takes on average, so that the bound errs towards length."""


def longest_ordinary(usual_tokens: int, calls: int) -> int | None:
    """The bytes beyond which a reply is a runaway; ``None`` when history cannot say.

    Args:
        usual_tokens: the 0.99 quantile of the output of calls with the same model, agent and api.
        calls: how many of them that comes from.
    """
    if calls < FEWEST_CALLS or usual_tokens <= 0:
        return None
    return max(FAR * usual_tokens, LEAST_RUNAWAY_TOKENS) * _BYTES_A_TOKEN


class Watch:
    """Watches the text of one reply as it is written, thoughts and arguments of tools too.

    Args:
        longest: bytes beyond which the reply is a runaway, see :func:`longest_ordinary`.
    """

    __slots__ = (
        "_blank", "_exact", "_fresh", "_history", "_longest", "_masked", "_recheck", "_seen", "_stale",
        "found",
    )  # fmt: skip

    def __init__(self, longest: int | None = None) -> None:
        self._longest = longest
        self._fresh = bytearray()
        self._history = b""
        self._seen = 0
        self._blank = 0
        self._stale = 0
        self._exact = _Repeats()
        self._masked = _Repeats()
        self._recheck = 0
        self.found: OffTrack | None = None
        """The first finding; nothing is looked at after it."""

    def feed(self, text: bytes) -> OffTrack | None:
        """Take what a chunk adds (UTF-8, cut anywhere); what was found, once."""
        fresh = self._fresh
        fresh += text
        if len(fresh) < BLOCK or self.found is not None:
            return None
        return self._look_at_blocks()

    def room(self) -> int:
        """Bytes of text before anything more is looked at."""
        return BLOCK - len(self._fresh) if self.found is None else BLOCK

    def _look_at_blocks(self) -> OffTrack | None:
        fresh, self._fresh = bytes(self._fresh), bytearray()
        whole = len(fresh) - len(fresh) % BLOCK
        for start in range(0, whole, BLOCK):
            self.found = self._look(fresh[start : start + BLOCK])
            if self.found is not None:
                self._history = b""
                return self.found
        self._fresh += fresh[whole:]
        return None

    def _look(self, block: bytes) -> OffTrack | None:
        before = self._history
        self._history = history = (before + block)[-_HISTORY:]
        self._seen += BLOCK
        if (blank := self._blank_run(block)) >= MOST_BLANK:
            return OffTrack(Kind.BLANK, self._seen, blank, 0)
        self._exact.extend(history, BLOCK, BLOCK)
        if self._exact.period and self._loops(history):
            return OffTrack(Kind.LOOP, self._seen, self._exact.run, self._exact.period)
        masked = history.translate(None, _DIGITS)
        self._masked.extend(masked, len(block.translate(None, _DIGITS)), BLOCK)
        if self._masked.period and self._counts(masked, history):
            return OffTrack(Kind.COUNTING, self._seen, self._masked.run, self._masked.period)
        self._stale = self._stale + BLOCK if is_stale(block, before) else max(0, self._stale - _RELIEF)
        if self._stale >= MOST_STALE:
            return OffTrack(Kind.STALE, self._seen, self._stale, 0)
        if self._longest is not None and self._seen > self._longest:
            return OffTrack(Kind.RUNAWAY, self._seen, self._seen, 0)
        return None

    def _blank_run(self, block: bytes) -> int:
        """The length of the run of whitespace that this block begins with, what stood before it included."""
        begun = len(block) - len(block.lstrip())
        run = self._blank + begun
        self._blank = run if begun == BLOCK else BLOCK - len(block.rstrip())
        return run

    def _loops(self, history: bytes) -> bool:
        period = self._exact.period
        least = MOST_LOOPED if has_words(history[-period:]) else MOST_WORDLESS
        return self._exact.run >= max(least, _LEAST_PERIODS * period)

    def _counts(self, masked: bytes, history: bytes) -> bool:
        period, run = self._masked.period, self._masked.run
        if run < max(MOST_COUNTED, _LEAST_COUNTED_PERIODS * period, self._recheck):
            return False
        self._recheck = run + 4 * BLOCK
        return has_words(masked[-period:]) and advances_evenly(history)


class _Repeats:
    """Follows how long a text has been repeating itself, a block at a time."""

    __slots__ = ("period", "run")

    def __init__(self) -> None:
        self.period = 0
        """Bytes after which the text comes again; 0 when it does not."""
        self.run = 0
        """Bytes of the whole stream, at its end, that repeat with this period."""

    def extend(self, history: bytes, added: int, told: int) -> None:
        """Take the next block.

        Args:
            history: the last of the text, the block included.
            added: bytes at the end of ``history`` that are the block.
            told: how many bytes the block counts for.
        """
        if not added:
            return
        period, size = self.period, len(history)
        if (
            period
            and period + added <= size
            and history[size - added :] == history[-added - period : -period]
        ):
            self.run += told
            return
        self.period = self.run = 0
        if size < 2 * _ANCHOR:
            return
        anchor, end = history[-_ANCHOR:], size - 1
        for _ in range(_MOST_CANDIDATES):
            at = history.rfind(anchor, 0, end)
            if at < 0:
                return
            period = size - _ANCHOR - at
            if period + added > size:
                return
            if history[size - added :] == history[-added - period : -period]:
                self.period, self.run = period, told
                return
            end = at + _ANCHOR - 1


def has_words(text: bytes) -> bool:
    """Whether ``text`` holds at least two different letters."""
    return len(set(text.translate(None, _NO_LETTERS))) > 1


def is_stale(block: bytes, before: bytes) -> bool:
    """Whether ``block`` hardly adds to what stands ``before`` it."""
    if not any(block[start:end] in before for start, end in _PROBES):
        return False  # Ordinary text: spares it the compressor, which takes 50 us.
    if len(set(block)) < _FEWEST_SYMBOLS:
        return False
    compressor = zlib.compressobj(6, zlib.DEFLATED, -13, 6, zlib.Z_DEFAULT_STRATEGY, before)
    return len(compressor.compress(block)) + len(compressor.flush()) <= _STALE_SHARE * len(block)


def advances_evenly(text: bytes) -> bool:
    """Whether the numbers at the end of ``text`` are counters: each advances by its own constant step.

    There may be up to 64 of them side by side; a number that stays the same advances by 0.
    """
    numbers = [int(found) for found in _NUMBER.findall(text)[-_MOST_NUMBERS - 1 : -1]]
    most = min(_MOST_NUMBERS_A_PERIOD, len(numbers) // 3)
    return any(_advance_evenly(numbers, side_by_side) for side_by_side in range(1, most + 1))


def _advance_evenly(numbers: list[int], side_by_side: int) -> bool:
    pairs = len(numbers) - 2 * side_by_side
    may_fail = pairs - _EVEN_SHARE * pairs
    for first, second, third in zip(
        numbers, numbers[side_by_side:], numbers[2 * side_by_side :], strict=False
    ):
        if third - second != second - first:
            may_fail -= 1
            if may_fail < 0:
                return False
    return True

"""Whether a conversation still gets anywhere: a score that rises while an agent runs in circles.

All that is known of a step are digests (`CallRecord.tool_call_hashes`, `input_hash`, ...), its tokens and
its cost. Three things raise the score of a conversation, in hundredths:

* *Standing still*. A step is stale when its tool calls were made before, or what the tools said was said
  before; digits do not count as a difference, so a retry counter or a clock hides nothing. Stale steps add
  up (`WEIGHTS`), fresh ones take away. What is new on one side alone, calls or results, counts only after
  some steps in a row: whoever edits and tests makes new calls, then hears new results. A context that
  grows while nothing is new counts a quarter more.
* *Leaving the usual path*. What conversations of an agent have spent after 1, 2, 4, ... steps is learned
  (`Habits`). Far above it, or many times longer than any before, adds up to `MOST_OFF_PATH`.
* *A change of pace*. Steps that suddenly cost a multiple of those before add up to `MOST_CHANGE`.

The last two together stay below what stops a conversation: without standing still nothing is stopped.
An agent that stands still as a habit (it waits for a build by asking again and again) is known for it after
some conversations, and measured by that.

Pure and bounded: a `Track` remembers the last `KEPT` digests of one conversation in `KEPT` times four bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2, sqrt
from typing import Final, NamedTuple

HUNDRED: Final = 100
"""Scores are whole hundredths."""
FLAG_AT: Final = 4 * HUNDRED
STOP_AT: Final = 8 * HUNDRED
MOST_OFF_PATH: Final = 4 * HUNDRED
MOST_CHANGE: Final = 2 * HUNDRED
MOST_SUSPICION: Final = 40 * HUNDRED
KEPT: Final = 128

WEIGHTS: Final = {
    # How often seen before (0 no, 1 but for digits, 2 the same): what was asked of tools, what they said.
    (2, 2): 150,
    (2, 1): 150,
    (1, 2): 125,
    (1, 1): 100,
    (2, 0): 60,
    (0, 2): 60,
    (0, 1): 40,
}
"""What a stale step adds, in hundredths."""
AGAIN: Final = 75
"""The same request once more adds at least so much."""
SAME_WORDS: Final = 150
"""The same answer in words to words that were said before."""
SAME_PROMPT: Final = 45
"""Another answer in words to the same words: people say "go on" now and then, programs without end."""
_WORD: Final = (1 << 32) - 1
_GROWN: Final = 4
"""Stale steps in a row from which growth of the context counts."""
_ONE_SIDED: Final = 4
"""Steps in a row without a new call, or without a new result, from which the one alone counts."""
_FEWEST: Final = 20
"""Conversations from which habits are told."""
_ROOM: Final = 4
"""Hundreds between what an agent does as a habit and where it is stopped."""
_STEPS: Final = 16
"""Powers of two at which spending is looked at: 65,536 steps."""
_PEAKS: Final = 24
"""Classes of how far conversations stood still at most, of a hundred each."""


class Step(NamedTuple):
    """One call of a conversation that has ended, as the ledger knows it."""

    calls: Sequence[int] = ()
    """`tool_call_hashes` of its reply."""
    reply: int = 0
    """What tells its reply in words from others; 0 when there is none."""
    role: str = ""
    said: int = 0
    """`input_role` and `input_hash` of its request."""
    errors: int = 0
    """`tool_errors` of its request."""
    state: int = 0
    """The rolling hash at the end of its request."""
    input_tokens: int = 0
    cost_pico: int = 0


class Track:
    """How one conversation has gone so far."""

    __slots__ = (
        "_cusum", "_next", "_pace", "_seen", "agent", "change", "grown_from", "off_path", "old_calls",
        "old_results", "peak", "spent_pico", "stale", "steps", "suspicion",
    )  # fmt: skip

    def __init__(self, agent: str = "") -> None:
        self.agent = agent
        self._seen = bytearray()
        self._next = 0
        self.steps = 0
        self.spent_pico = 0
        self.suspicion = self.off_path = self.change = 0
        """The three parts of the score."""
        self.peak = 0
        """The most that `suspicion` has been."""
        self.stale = 0
        """Stale steps since the last fresh one."""
        self.old_calls = self.old_results = 0
        """Steps in a row that made no new call, and that were told nothing new."""
        self.grown_from = 0
        """Tokens of context when the conversation began to stand still."""
        self._pace = 0.0
        self._cusum = 0.0

    @property
    def score(self) -> int:
        """All parts together."""
        return self.suspicion + self.off_path + self.change

    def forgive(self) -> None:
        """Somebody has looked at it and lets it go on."""
        self.suspicion = self.off_path = self.change = self.stale = 0
        self._cusum = 0.0

    def _met(self, kind: int, value: int) -> bool:
        """Whether this was there before; from now on it was."""
        key = ((value * 0x9E3779B1 + kind) & _WORD).to_bytes(4, "little")
        seen = self._seen
        if seen.find(key) >= 0:
            return True
        if len(seen) < 4 * KEPT:
            seen += key
        else:
            seen[self._next : self._next + 4] = key
            self._next = (self._next + 4) % (4 * KEPT)
        return False

    def _times(self, kind: int, said: int, shape: int) -> int:
        same = self._met(kind, said)
        alike = self._met(kind + 1, shape)
        return 2 if same else 1 if alike else 0


def observe(track: Track, step: Step) -> int:
    """Take up a step; what it adds to the suspicion, 0 when it is fresh or says nothing."""
    track.steps += 1
    track.spent_pico += step.cost_pico
    weight, fresh = _weight(track, step)
    if weight:
        track.stale += 1
        if track.stale == 1:
            track.grown_from = step.input_tokens
        elif track.stale >= _GROWN and step.input_tokens * 4 > track.grown_from * 5:
            weight += weight // 4
        track.suspicion = min(MOST_SUSPICION, track.suspicion + weight)
        track.peak = max(track.peak, track.suspicion)
    elif fresh:
        track.stale = 0
        track.suspicion = max(0, track.suspicion * 7 // 10 - 30)
    _note_pace(track, step.cost_pico)
    return weight


def _weight(track: Track, step: Step) -> tuple[int, bool]:
    """What a step adds, and whether it brought anything new."""
    said = track._times(1, step.said & _WORD, step.said >> 32) if step.said else 0
    again = AGAIN if step.state and track._met(7, step.state & _WORD) else 0
    if step.calls:
        exact = shape = 0
        for call in step.calls:
            exact = (exact * 31 + (call & _WORD)) & _WORD
            shape = (shape * 31 + (call >> 32)) & _WORD
        asked = track._times(3, exact, shape)
        if step.role != "tool":
            # A person's words: new ones are a new task, whatever is done about it.
            return (WEIGHTS.get((asked, said), 0) if asked and said else again), not said
        if step.errors and not said:
            said = 1
        track.old_calls = track.old_calls + 1 if asked else 0
        track.old_results = track.old_results + 1 if said else 0
        weight = WEIGHTS.get((asked, said), 0)
        if not (asked and said) and track.old_calls < _ONE_SIDED and track.old_results < _ONE_SIDED:
            # New edits that all say "done", then the same test with another result: that is work.
            weight = 0
        return max(again, weight), not (asked or said)
    if not step.reply:
        return again, False
    same = track._met(5, step.reply & _WORD ^ step.reply >> 31)
    if same and said:
        return SAME_WORDS, False
    if said == 2:
        return max(again, SAME_PROMPT), False
    # The same words to other words: a canned answer, or an agent that is done. Neither is progress.
    return again, not same


def _note_pace(track: Track, cost_pico: int) -> None:
    """Watch for a change in what steps cost: a cumulated sum of doublings above the usual pace."""
    if cost_pico <= 0:
        return
    cost = log2(cost_pico)
    if track.steps <= 1 or not track._pace:
        track._pace = cost
        return
    above = cost - track._pace
    track._cusum = max(0.0, track._cusum + min(above, 4.0) - 1.0)
    track._pace += above / 8
    track.change = min(MOST_CHANGE, max(0, int((track._cusum - 4.0) * 25)))


@dataclass(slots=True)
class _Spread:
    """Mean and spread of logarithms, as they come."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    def add(self, value: float) -> None:
        self.count += 1
        apart = value - self.mean
        # After some hundred conversations the latest count as much as any: habits change.
        self.mean += apart / min(self.count, 500)
        self.squares += (apart * (value - self.mean) - self.squares) / min(self.count, 500)

    def above(self, value: float) -> float:
        """How many times the usual spread ``value`` lies above the usual."""
        return (value - self.mean) / max(1.0, sqrt(self.squares))


class Habits:
    """What conversations of one agent usually come to."""

    __slots__ = ("_peaks", "_spent", "conversations", "tolerance")

    def __init__(self) -> None:
        self._spent = [_Spread() for _ in range(_STEPS)]
        self._peaks = [0] * _PEAKS
        self.conversations = 0
        self.tolerance = 0
        """What people have added by letting conversations go on."""

    def reached(self, track: Track) -> None:
        """A conversation has come a power of two of steps far: compare what it spent, and learn it."""
        steps = track.steps
        if steps & (steps - 1) or not track.spent_pico:
            return
        place = steps.bit_length() - 1
        if place >= _STEPS:
            return
        if place == 0:
            self.conversations += 1
        spent, usual = log2(track.spent_pico), self._spent[place]
        off = 0
        if usual.count >= _FEWEST:
            off = int((usual.above(spent) - 2) * HUNDRED)
        elif self.conversations >= 5 * _FEWEST and not usual.count:
            # Longer than any before, by a doubling at least.
            off = HUNDRED
        track.off_path = min(MOST_OFF_PATH, max(0, track.off_path // 2, off))
        if track.suspicion < STOP_AT:
            usual.add(spent)

    def ended(self, track: Track) -> None:
        """Nothing more is expected of a conversation: learn how far it stood still."""
        if track.peak < STOP_AT + self.allowance():
            self._peaks[min(track.peak // HUNDRED, _PEAKS - 1)] += 1

    def allowance(self) -> int:
        """How much later than others this agent is stopped: 1 in 50 of its conversations stood still more."""
        total = sum(self._peaks)
        learned = 0
        if total >= _FEWEST:
            above = 0
            for place in range(_PEAKS - 1, -1, -1):
                above += self._peaks[place]
                if above * 50 > total:
                    learned = max(0, (place + _ROOM) * HUNDRED - STOP_AT)
                    break
        return min(learned + self.tolerance, STOP_AT)

    def tolerate(self) -> None:
        """Somebody let a conversation of this agent go on: be slower next time."""
        self.tolerance = min(STOP_AT, self.tolerance + 2 * HUNDRED)


def reason(track: Track) -> str:
    """Why the score is what it is, for people."""
    parts = []
    if track.stale:
        parts.append(f"{track.stale} steps in a row brought nothing new")
    elif track.suspicion:
        parts.append("many of its last steps brought nothing new")
    if track.off_path:
        parts.append(f"its {track.steps} steps cost far more than this agent's usually do")
    if track.change:
        parts.append("its steps have suddenly become dearer")
    return "; ".join(parts) or "it runs as usual"

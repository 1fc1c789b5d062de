"""How far similar answers may be trusted: measured, by scope and distance, against what the model says.

A similar answer is first not given: the call goes to the model, and the two answers are compared. A bin (one
scope, one step of distance, said in the same words or in others) serves only while, at 95 % confidence, at
least ``1 - max_error`` of its answers are right (lower bound of Wilson, 1927, one-sided). Of those that would
be served a share still goes to the model, so that a bin which turns bad is closed again. At one wrong answer
in a hundred a bin opens after 268 right ones in a row: so much such a promise takes.
"""

import math
import random
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

Z: Final = 1.6448536269514722
"""95 % of a normal distribution lie below."""
STEP: Final = 0.025
"""Width of a bin, in cosine distance."""
MOST_BINS: Final = 5000
"""Those that learned nothing for longest leave."""
MEMORY: Final = 4000
"""Comparisons after which older ones count half: what was right last year says little."""


class Bin(msgspec.Struct, array_like=True):
    """What was compared."""

    right: int = 0
    wrong: int = 0
    max_error: float = 0.01
    """Share of answers that may be wrong, as was asked for last."""

    @property
    def compared(self) -> int:
        """How many comparisons count."""
        return self.right + self.wrong

    @property
    def serves(self) -> bool:
        """Whether enough of its answers are right, as far as is known."""
        return wilson(self.right, self.compared)[0] >= 1 - self.max_error


class Place(NamedTuple):
    """Which bin."""

    scope: bytes
    likeness: str
    step: int


class Measured(NamedTuple):
    """The error of what is served."""

    wrong: int
    compared: int
    low: float
    high: float
    """Between the two the share of wrong answers lies; each side at 95 %."""

    @property
    def error(self) -> float:
        """Share of comparisons that came out wrong."""
        return self.wrong / self.compared


def place_of(scope: bytes, likeness: str, distance: float) -> Place:
    """The bin of a similar answer."""
    return Place(scope, likeness, int(distance / STEP))


class Bound:
    """The bins of all scopes, and the decision."""

    def __init__(self, seed: int | None = None) -> None:
        self.bins: dict[Place, Bin] = {}
        self.others: dict[str, dict[Place, Bin]] = {}
        """What other sidecars compared, by who they are."""
        self.changes = 0
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret

    def serves(self, place: Place, max_error: float, share: float) -> bool:
        """Whether a similar answer may be given now; if not, the model is asked, and the answers compared.

        Args:
            max_error: share of served answers that may be wrong.
            share: part of what could be served that is compared all the same.
        """
        found = self.bins.get(place)
        if found is not None:
            found.max_error = max_error
        known = self._known(place)
        known.max_error = max_error
        return known.serves and self._random.random() >= share

    def is_open(self, place: Place) -> bool:
        """Whether a bin serves, as far as is known."""
        return self._known(place).serves

    def learn(self, place: Place, max_error: float, *, right: bool) -> None:
        """Note how a comparison came out."""
        found = self.bins.pop(place, None) or Bin()
        self.bins[place] = found  # The one that learned last.
        while len(self.bins) > MOST_BINS:
            del self.bins[next(iter(self.bins))]
        found.max_error = max_error
        if right:
            found.right += 1
        else:
            found.wrong += 1
        if found.compared > MEMORY:
            # A wrong one is not forgotten by rounding.
            found.right, found.wrong = found.right // 2, (found.wrong + 1) // 2
        self.changes += 1

    def measured(self) -> Measured | None:
        """The error of all bins that serve; None where none does."""
        serving = [known for known in map(self._known, self._places()) if known.serves]
        wrong, compared = sum(one.wrong for one in serving), sum(one.compared for one in serving)
        return Measured(wrong, compared, *wilson(wrong, compared)) if compared else None

    def counts(self) -> tuple[int, int]:
        """Bins that serve, and bins that still learn."""
        serving = [self._known(place).serves for place in self._places()]
        return sum(serving), len(serving) - sum(serving)

    def told(self) -> list[tuple[bytes, str, int, Bin]]:
        """All bins of our own, to be kept."""
        return [(*place, found) for place, found in self.bins.items()]

    def recall(self, told: Iterable[tuple[bytes, str, int, Bin]]) -> None:
        """Go on from what was kept."""
        for scope, likeness, step, found in told:
            self.bins.setdefault(Place(scope, likeness, step), found)

    def hear(self, who: str, told: Iterable[tuple[bytes, str, int, Bin]]) -> None:
        """Take in what another sidecar compared so far."""
        self.others[who] = {Place(scope, likeness, step): found for scope, likeness, step, found in told}

    def _places(self) -> set[Place]:
        return set(self.bins).union(*self.others.values())

    def _known(self, place: Place) -> Bin:
        """What all of us know of a bin; without a word from others, our own."""
        known = Bin()
        for bins in (self.bins, *self.others.values()):
            found = bins.get(place)
            if found is not None:
                # The strictest of what was asked for.
                strictest = min(known.max_error, found.max_error) if known.compared else found.max_error
                known.right, known.wrong = known.right + found.right, known.wrong + found.wrong
                known.max_error = strictest
        return known


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The interval that a share lies in; each side at 95 %."""
    if trials <= 0:
        return 0.0, 1.0
    share = successes / trials
    spread = Z * math.sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials))
    middle, scale = share + Z * Z / (2 * trials), 1 + Z * Z / trials
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)

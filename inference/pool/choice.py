"""The policies by which a replica is chosen, as functions of what is known of the replicas."""

import math
from collections.abc import Collection, Sequence
from typing import Protocol

from inference.pool.ring import Ring, bound

DECAY_S = 10.0
"""How soon a slow answer is forgotten: a third of it is left after this time."""


class Candidate(Protocol):
    """What the choice looks at of one replica."""

    @property
    def index(self) -> int:
        """Its place among all replicas of the upstream."""

    @property
    def inflight(self) -> int:
        """Calls under way."""

    @property
    def load(self) -> int:
        """Tokens of prompts under way that it does not have cached."""

    @property
    def prefixes(self) -> Collection[int]:
        """Keys of the beginnings that it was last asked for: they may be cached there."""

    @property
    def latency_s(self) -> float:
        """By :func:`peak_ewma`; 0 where it has not answered yet: it is tried first."""

    @property
    def weight(self) -> int:
        """How large a share it gets, 1 for an ordinary one."""


def in_turn(candidates: Sequence[Candidate], turn: int) -> int:
    """Each as often as its weight says: the ``turn``-th of an endless sequence.

    Heavier ones are spread over the sequence, not served in runs.
    """
    size = sum([candidate.weight for candidate in candidates])
    # A golden step visits every place of a round once in an order that spreads neighbours.
    place = turn * coprime_step(size) % size
    for candidate in candidates:
        place -= candidate.weight
        if place < 0:
            return candidate.index
    raise ValueError("no candidates")


def coprime_step(size: int) -> int:
    """A step near the golden section of ``size`` that visits every place of a round."""
    step = max(1, round(size * 0.618))
    while math.gcd(step, size) != 1:
        step += 1
    return step


def least(candidates: Sequence[Candidate], turn: int) -> int:
    """The one with the fewest calls for its weight; taking turns among equals."""
    best, best_load, count = -1, math.inf, len(candidates)
    first = turn % count
    # From the one whose turn it is to the last, then on from the first: places before 0 count from the end.
    for place in range(first - count, first):
        candidate = candidates[place]
        inflight = candidate.inflight
        if not inflight:
            return candidate.index
        load = inflight / candidate.weight
        if load < best_load:
            best, best_load = candidate.index, load
    return best


def fastest(candidates: Sequence[Candidate], turn: int) -> int:
    """The one where a call is likely done first: its latency times the calls that it shares it with."""
    best, best_cost, count = -1, math.inf, len(candidates)
    for offset in range(count):
        candidate = candidates[(turn + offset) % count]
        waits = candidate.inflight + 1
        # While nobody has answered, only the calls under way tell.
        cost = (candidate.latency_s or 1e-6) * waits / candidate.weight
        if cost < best_cost:
            best, best_cost = candidate.index, cost
    return best


def by_prefix(
    candidates: Sequence[Candidate],
    ring: Ring,
    key: int,
    tokens: int,
    *,
    load_factor: float,
    floor: int,
) -> int:
    """Where the key belongs, or the next on the ring that has room.

    Two things are bounded in the same way, by ``load_factor`` of the mean: tokens under way, so that a
    popular beginning does not overload one replica; and the beginnings that a replica keeps, for its cache
    is finite, and one that holds more than its share forgets them before they are asked for again. A key
    that a replica has is not taken away from it by the second.

    Args:
        candidates: those that can be asked, at least one.
        ring: of all replicas, so that one that is away moves no keys but its own.
        key: by :func:`inference.pool.affinity.affinity_key`.
        tokens: uncached tokens that the call brings.
        load_factor: of the mean load, above which a replica takes no keys.
        floor: tokens under way below which it always does.
    """
    first = ring.first(key)
    for home in candidates:
        if home.index == first:
            # Under the floor no mean matters: the ordinary case, and nothing else is looked at.
            if key in home.prefixes and (not home.load or home.load + tokens <= floor * home.weight):
                return first
            break
    total = tokens
    size = kept = 0
    is_new = True
    for candidate in candidates:
        total += candidate.load
        size += candidate.weight
        prefixes = candidate.prefixes
        kept += len(prefixes)
        if is_new and key in prefixes:
            is_new = False
    most = bound(total, size, load_factor=load_factor, floor=floor)
    share = bound(kept + 1, size, load_factor=load_factor, floor=1)
    if (
        home.index == first
        and (home.load + tokens <= most * home.weight or not home.load)
        and (key in home.prefixes or (is_new and len(home.prefixes) < share * home.weight))
    ):
        return first
    known = {candidate.index: candidate for candidate in candidates}
    new = able = fallback = -1
    for index in ring.walk(key):
        found = known.get(index)
        if found is None:
            continue
        if found.load + tokens <= most * found.weight or not found.load:
            if key in found.prefixes:
                return index
            if new < 0 and len(found.prefixes) < share * found.weight:
                new = index
            if able < 0:
                able = index
        if fallback < 0:
            fallback = index
    return new if new >= 0 else able if able >= 0 else fallback


def peak_ewma(average_s: float, sample_s: float, elapsed_s: float) -> float:
    """A latency that rises at once with a slow answer and falls slowly with quick ones.

    As in Finagle's ``PeakEwma``: a replica that got slow is noticed by its first slow answer.

    Args:
        average_s: before; 0 where nothing is known.
        sample_s: of this answer.
        elapsed_s: since the last one.
    """
    if sample_s >= average_s:
        return sample_s
    kept = math.exp(-max(0.0, elapsed_s) / DECAY_S)
    return average_s * kept + sample_s * (1 - kept)

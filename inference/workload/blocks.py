"""Cached prefixes, worked out from the block ids of a trace.

Some traces give each prompt as ids of equal-sized blocks of tokens; equal ids are
equal text. The provider's cache can then be replayed: the leading blocks that an
earlier call had are read from it, the rest of the whole blocks is written.
"""

from bisect import bisect_right
from collections.abc import Iterable


def parse_ranges(text: str) -> list[tuple[int, int]]:
    """``"1-40,57"`` as ``[(1, 40), (57, 57)]``.

    Raises:
        ValueError: it is not written so.
    """
    ranges = []
    for part in filter(None, text.split(",")):
        low, dash, high = part.partition("-")
        first, last = int(low), int(high) if dash else int(low)
        if last < first:
            raise ValueError(f"a range that runs backwards: {part}")
        ranges.append((first, last))
    return ranges


def count_blocks(ranges: Iterable[tuple[int, int]]) -> int:
    """How many blocks the ranges hold."""
    return sum(last - first + 1 for first, last in ranges)


class SeenBlocks:
    """The block ids that earlier calls had, as disjoint ranges."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._ends: list[int] = []

    def leading(self, ranges: Iterable[tuple[int, int]]) -> int:
        """How many blocks at the prompt's beginning have been seen."""
        found = 0
        for first, last in ranges:
            place = bisect_right(self._starts, first) - 1
            if place < 0 or self._ends[place] < first:
                return found
            known = min(last, self._ends[place])
            found += known - first + 1
            if known < last:
                return found
        return found

    def add(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Remember a prompt's blocks."""
        for first, last in ranges:
            self._add(first, last)

    def _add(self, first: int, last: int) -> None:
        low = bisect_right(self._starts, first) - 1
        if low < 0 or self._ends[low] < first - 1:
            low += 1
        high = low
        while high < len(self._starts) and self._starts[high] <= last + 1:
            first = min(first, self._starts[high])
            last = max(last, self._ends[high])
            high += 1
        self._starts[low:high] = [first]
        self._ends[low:high] = [last]

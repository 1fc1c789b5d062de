"""Where vectors are searched: by products while that is quick, and up to a million; then by a graph.

The products miss nothing: most rows are ruled out by their first columns, and need not come from memory
(:mod:`sidecar.cache.similar.sieve`). Once that takes longer than look-ups have time for, or there are more
than a million, vectors move, a few at a time while nobody asks, to a graph of usearch (HNSW; half precision,
and from ten million on a byte a column) or, where only that is installed, of faiss (the same). Where neither
is, the product stays.
"""

import itertools
import time
from importlib.util import find_spec
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sidecar.cache.similar.native import native
from sidecar.cache.similar.sieve import PART, ByNumpy, InC, Sieve, larger

Vectors = NDArray[np.float32]
Found = list[tuple[int, float]]
"""Numbers and cosine distances, nearest first."""

EXACT_UP_TO: Final = 1_000_000
GRAPH_FROM: Final = 50_000
"""Fewer are never worth a graph: products take less than two milliseconds."""
SLOW_IN_A_ROW: Final = 16
"""Searches that took too long, before vectors move."""
COMPRESSED_FROM: Final = 10_000_000
MOVED_AT_ONCE: Final = 4
"""A vector takes a large graph half a millisecond to a millisecond, and look-ups wait meanwhile."""
SPARE: Final = 4
"""Times as many as asked for that a graph is asked for: some of them have been dropped."""


class Index(Protocol):
    """Vectors under numbers."""

    def __len__(self) -> int:
        """How many there are."""

    def add(self, number: int, vector: Vectors) -> None:
        """Find ``number`` near ``vector`` from now on."""

    def drop(self, number: int) -> None:
        """Find it no more."""

    def near(self, vector: Vectors, within: float, most: int) -> Found:
        """The nearest within a cosine distance."""


class Exact:
    """One matrix; nothing within the distance is missed.

    Args:
        in_c: whether what cannot be near is ruled out in C rather than by numpy.
    """

    def __init__(self, *, in_c: bool = native is not None) -> None:
        self._vectors: Vectors = np.zeros((0, 0), np.float32)
        self._sieve: Sieve = InC() if in_c else ByNumpy()
        self._numbers: list[int] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, vector: Vectors) -> None:
        """Find ``number`` near ``vector`` from now on."""
        self.drop(number)
        size = len(self._numbers)
        if size == len(self._vectors):
            self._vectors = larger(self._vectors, (max(64, 2 * size), vector.size))
        self._vectors[size] = vector
        self._sieve.put(size, vector)
        self._places[number] = size
        self._numbers.append(number)

    def drop(self, number: int) -> None:
        """Find it no more."""
        place = self._places.pop(number, None)
        if place is None:
            return
        last = self._numbers.pop()
        if last != number:
            size = len(self._numbers)
            self._vectors[place] = self._vectors[size]
            self._sieve.move(size, place)
            self._numbers[place], self._places[last] = last, place

    def near(self, vector: Vectors, within: float, most: int) -> Found:
        """The nearest within a cosine distance."""
        size = len(self._numbers)
        if not size:
            return []
        places = self._sieve.passing(size, vector, within)
        if len(places) > size // PART:  # Picking so many costs more than to pass over none.
            places, distances = np.arange(size), 1.0 - self._vectors[:size] @ vector
        else:
            distances = 1.0 - self._vectors[places] @ vector
        few = np.argpartition(distances, most)[:most] if len(places) > most else np.arange(len(places))
        found = [(self._numbers[places[one]], float(distances[one])) for one in few.tolist()]
        return nearest(found, within, most)

    def some(self, most: int) -> list[tuple[int, Vectors]]:
        """The first few, in no order, to be moved elsewhere."""
        numbers = list(itertools.islice(self._numbers, most))
        return [(number, self._vectors[self._places[number]].copy()) for number in numbers]


class Usearch:
    """A graph by usearch."""

    def __init__(self, columns: int, kept_as: str = "f16") -> None:
        from usearch.index import Index as Graph

        # Of vectors of length one the product says what the cosine does, in two thirds of the time.
        self._graph: Any = Graph(ndim=columns, metric="cos" if kept_as == "i8" else "ip", dtype=kept_as)

    def __len__(self) -> int:
        return len(self._graph)

    def add(self, number: int, vector: Vectors) -> None:
        """Find ``number`` near ``vector`` from now on."""
        self.drop(number)
        self._graph.add(number, vector)

    def drop(self, number: int) -> None:
        """Find it no more."""
        if number in self._graph:
            self._graph.remove(number)

    def near(self, vector: Vectors, within: float, most: int) -> Found:
        """The nearest within a cosine distance, as far as the graph leads to them."""
        if not len(self._graph):
            return []
        matches = self._graph.search(vector, most)
        found = [(int(one.key), float(one.distance)) for one in matches]
        return nearest(found, within, most)


class Faiss:
    """A graph by faiss; what is dropped stays in it, and is passed over."""

    def __init__(self, columns: int, kept_as: str = "f16") -> None:
        import faiss

        kind: Any = faiss.ScalarQuantizer.QT_fp16
        self._scale = np.float32(1)
        if kept_as == "i8":
            kind = faiss.ScalarQuantizer.QT_8bit_direct_signed
            # Whole numbers: four deviations of a column are made the largest that a byte holds.
            self._scale = np.float32(127 / 4 * columns**0.5)
        self._graph: Any = faiss.IndexHNSWSQ(columns, kind, 32, faiss.METRIC_INNER_PRODUCT)
        # By its own width of 16 it missed one question in ten of a hundred thousand; a look takes 0.4 ms.
        self._graph.hnsw.efSearch = 64
        self._numbers: list[int] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._places)

    def add(self, number: int, vector: Vectors) -> None:
        """Find ``number`` near ``vector`` from now on."""
        self._places[number] = len(self._numbers)
        self._numbers.append(number)
        self._graph.add(self._scaled(vector))

    def drop(self, number: int) -> None:
        """Find it no more."""
        self._places.pop(number, None)

    def near(self, vector: Vectors, within: float, most: int) -> Found:
        """The nearest within a cosine distance, as far as the graph leads to them."""
        if not self._places:
            return []
        products, places = self._graph.search(self._scaled(vector), SPARE * most)
        found = [
            (self._numbers[place], 1.0 - float(product) / float(self._scale) ** 2)
            for product, place in zip(products[0], places[0].tolist(), strict=True)
            if place >= 0 and self._places.get(self._numbers[place]) == place
        ]
        return nearest(found, within, most)

    def _scaled(self, vector: Vectors) -> Vectors:
        row = vector.reshape(1, -1)
        # A query's fractions would be cut off rather than rounded, which moves it away by 0.06.
        return row if self._scale == 1 else np.rint(row * self._scale).clip(-127, 127)


class Growing:
    """Exact as long as that is quick enough, then a graph; both are searched while vectors move over.

    Args:
        exact_up_to: vectors beyond which it is not.
        patience_s: time of the processor that a search may take.
        graph_from: fewer stay, however long that takes.
    """

    def __init__(
        self,
        exact_up_to: int = EXACT_UP_TO,
        patience_s: float = float("inf"),
        graph_from: int = GRAPH_FROM,
    ) -> None:
        self._exact = Exact()
        self._exact_up_to = exact_up_to
        self._patience_s = patience_s
        self._graph_from = graph_from
        self._slow = 0
        self._graph: Index | None = None

    def __len__(self) -> int:
        return len(self._exact) + (len(self._graph) if self._graph is not None else 0)

    @property
    def is_exact(self) -> bool:
        """Whether nothing near can be missed."""
        return self._graph is None

    def add(self, number: int, vector: Vectors) -> None:
        """Find ``number`` near ``vector`` from now on."""
        if self._graph is not None:
            self._graph.drop(number)
        self._exact.add(number, vector)
        self.move()

    def move(self, most: int = MOVED_AT_ONCE) -> bool:
        """Move a few over, if there are too many; whether there were any to be moved."""
        if not len(self._exact) or (self._graph is None and not self._outgrown()):
            return False
        some = self._exact.some(most)
        if self._graph is None:
            self._graph = graph_for(some[0][1].size, len(self._exact))
        if self._graph is None:
            return False
        for number, vector in some:
            self._graph.add(number, vector)
            self._exact.drop(number)
        return True

    def drop(self, number: int) -> None:
        """Find it no more."""
        self._exact.drop(number)
        if self._graph is not None:
            self._graph.drop(number)

    def near(self, vector: Vectors, within: float, most: int) -> Found:
        """The nearest within a cosine distance."""
        if self._graph is not None:
            found = self._exact.near(vector, within, most) + self._graph.near(vector, within, most)
            return nearest(found, within, most)
        began = time.thread_time()
        found = self._exact.near(vector, within, most)
        self._slow = self._slow + 1 if time.thread_time() - began > self._patience_s else 0
        return found

    def _outgrown(self) -> bool:
        size = len(self._exact)
        return size > self._exact_up_to or (self._slow >= SLOW_IN_A_ROW and size >= self._graph_from)


def graph_for(columns: int, size: int) -> Index | None:
    """A graph by what is installed; None where nothing is."""
    if find_spec("usearch") is not None:
        return Usearch(columns, "i8" if size >= COMPRESSED_FROM else "f16")
    if find_spec("faiss") is not None:
        return Faiss(columns)
    return None


def nearest(found: Found, within: float, most: int) -> Found:
    """The ``most`` nearest of ``found``; what is no number is none of them."""
    close = [(number, max(0.0, distance)) for number, distance in found if distance <= within]
    close.sort(key=lambda one: one[1])
    return close[:most]

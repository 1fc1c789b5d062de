"""Where vectors are searched: by products up to a million, beyond that by a graph.

The products miss nothing: most rows are ruled out by their first columns (:class:`Exact`), a quarter of a
matrix that would have to come from memory for each search. Beyond a million, vectors move, a few at a time
while nobody asks, to a graph of usearch (HNSW; half precision, and from ten million on a byte a column) or,
where only that is installed, of faiss (the same). Where neither is, the product stays.
"""

import itertools
from collections.abc import Iterable
from importlib.util import find_spec
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Found = list[tuple[int, float]]
"""Numbers and cosine distances, nearest first."""

EXACT_UP_TO: Final = 1_000_000
COMPRESSED_FROM: Final = 10_000_000
MOVED_AT_ONCE: Final = 4
"""A vector takes a large graph half a millisecond to a millisecond, and look-ups wait meanwhile."""
FIRST_PART: Final = 4
"""One in so many columns is looked at first."""
ROUNDING: Final = 1e-5
"""By how much two ways to add up single-precision products may differ."""
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

    By Cauchy and Schwarz the product of two vectors is at most that of their first columns and the lengths of
    their rests. What cannot be near by that is not looked at further; most vectors cannot.
    """

    def __init__(self) -> None:
        self._vectors: Vectors = np.zeros((0, 0), np.float32)
        self._firsts: Vectors = np.zeros((0, 0), np.float32)
        self._rests: Vectors = np.zeros(0, np.float32)
        self._numbers: list[int] = []
        self._places: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, number: int, vector: Vectors) -> None:
        """Find ``number`` near ``vector`` from now on."""
        self.drop(number)
        size = len(self._numbers)
        first = vector.size // FIRST_PART
        if size == len(self._vectors):
            rows = max(64, 2 * size)
            self._vectors = _larger(self._vectors, (rows, vector.size))
            self._firsts = _larger(self._firsts, (rows, first))
            self._rests = _larger(self._rests, (rows,))
        self._vectors[size] = vector
        self._firsts[size] = vector[:first]
        self._rests[size] = np.linalg.norm(vector[first:])
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
            for rows in (self._vectors, self._firsts, self._rests):
                rows[place] = rows[size]
            self._numbers[place], self._places[last] = last, place

    def near(self, vector: Vectors, within: float, most: int) -> Found:
        """The nearest within a cosine distance."""
        size = len(self._numbers)
        if not size:
            return []
        first = self._firsts.shape[1]
        bound = self._firsts[:size] @ vector[:first]
        bound += self._rests[:size] * np.linalg.norm(vector[first:])
        places = np.flatnonzero(bound >= 1.0 - within - ROUNDING)
        if len(places) > size // FIRST_PART:  # Picking so many costs more than to pass over none.
            places, distances = np.arange(size), 1.0 - self._vectors[:size] @ vector
        else:
            distances = 1.0 - self._vectors[places] @ vector
        few = np.argpartition(distances, most)[:most] if len(places) > most else np.arange(len(places))
        found = [(self._numbers[places[one]], float(distances[one])) for one in few.tolist()]
        return nearest(found, within, most)

    def some(self, most: int) -> Iterable[tuple[int, Vectors]]:
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
    """Exact as long as that is quick enough, then a graph; both are searched while vectors move over."""

    def __init__(self, exact_up_to: int = EXACT_UP_TO) -> None:
        self._exact = Exact()
        self._exact_up_to = exact_up_to
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
        if self._graph is None and len(self._exact) > self._exact_up_to:
            self._graph = graph_for(vector.size, len(self._exact))
        self.move()

    def move(self, most: int = MOVED_AT_ONCE) -> bool:
        """Move a few over; whether there were any to be moved."""
        if self._graph is None or not len(self._exact):
            return False
        for number, vector in self._exact.some(most):
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
        found = self._exact.near(vector, within, most)
        if self._graph is not None:
            found = nearest(found + self._graph.near(vector, within, most), within, most)
        return found


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


def _larger(rows: Vectors, shape: tuple[int, ...]) -> Vectors:
    """``rows`` in an array of ``shape``, the rest of it zero."""
    larger = np.zeros(shape, np.float32)
    if len(rows):
        larger[: len(rows)] = rows
    return larger

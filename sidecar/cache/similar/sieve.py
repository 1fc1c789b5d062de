"""Which of many vectors may be near another one, told by a quarter of their columns.

By Cauchy and Schwarz the product of two vectors is at most that of their first columns and the lengths of
their rests. What cannot be near by that is not looked at further; most vectors cannot. Nothing that is near
is ever held back.
"""

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sidecar.cache.similar.native import native

Vectors = NDArray[np.float32]
Places = NDArray[np.integer[Any]]

PART: Final = 4
"""One in so many columns is looked at."""
ROUNDING: Final = 1e-5
"""By how much two ways to add up single-precision products may differ."""
FEWEST: Final = 64
"""Vectors that there is room for at first."""
CODES: Final = 127
ASKED: Final = 8191
"""The largest that a column of a kept vector, and of the one asked for, is made."""


class Sieve(Protocol):
    """First columns of vectors, by their places."""

    def put(self, place: int, vector: Vectors) -> None:
        """Have ``vector`` at ``place``; places are filled in their order."""

    def move(self, place: int, to: int) -> None:
        """Have it elsewhere as well, in place of another."""

    def passing(self, size: int, vector: Vectors, within: float) -> Places:
        """Of the first ``size`` places, those that may be within a cosine distance."""


class ByNumpy:
    """Four bytes a column, one product."""

    def __init__(self) -> None:
        self._firsts: Vectors = np.zeros((0, 0), np.float32)
        self._rests: Vectors = np.zeros(0, np.float32)

    def put(self, place: int, vector: Vectors) -> None:
        """Have ``vector`` at ``place``."""
        first = vector.size // PART
        if place >= len(self._rests):
            rows = max(FEWEST, 2 * place)
            self._firsts, self._rests = larger(self._firsts, (rows, first)), larger(self._rests, (rows,))
        self._firsts[place] = vector[:first]
        self._rests[place] = np.linalg.norm(vector[first:])

    def move(self, place: int, to: int) -> None:
        """Have it elsewhere as well."""
        self._firsts[to], self._rests[to] = self._firsts[place], self._rests[place]

    def passing(self, size: int, vector: Vectors, within: float) -> Places:
        """Of the first ``size`` places, those that may be within a cosine distance."""
        first = self._firsts.shape[1]
        most = self._firsts[:size] @ vector[:first]
        most += self._rests[:size] * np.linalg.norm(vector[first:])
        return np.flatnonzero(most >= 1.0 - within - ROUNDING)


class InC:
    """A byte a column, and what rounding took added to what is possible: a quarter of the memory is read."""

    def __init__(self) -> None:
        self._codes: NDArray[np.int8] = np.zeros((0, 0), np.int8)
        self._terms: Vectors = np.zeros((3, 0), np.float32)
        """For each vector what one of its codes stands for, its rest's length, and that of the rounding."""

    def put(self, place: int, vector: Vectors) -> None:
        """Have ``vector`` at ``place``."""
        assert native is not None
        first = vector[: vector.size // PART]
        if place >= len(self._codes):
            rows = max(FEWEST, 2 * place)
            filled = -(-first.size // native.STRIDE) * native.STRIDE
            self._codes = larger(self._codes, (rows, max(filled, native.STRIDE)))
            self._terms = np.stack([larger(term, (rows,)) for term in self._terms])
        scale, codes = _coded(first, CODES)
        self._codes[place, : first.size] = codes
        rest, error = np.linalg.norm(vector[first.size :]), np.linalg.norm(first - scale * codes)
        self._terms[:, place] = scale, rest, error

    def move(self, place: int, to: int) -> None:
        """Have it elsewhere as well."""
        self._codes[to], self._terms[:, to] = self._codes[place], self._terms[:, place]

    def passing(self, size: int, vector: Vectors, within: float) -> Places:
        """Of the first ``size`` places, those that may be within a cosine distance."""
        assert native is not None
        first = vector[: vector.size // PART]
        query = np.zeros(self._codes.shape[1], np.int16)
        scale, query[: first.size] = _coded(first, ASKED)
        # The codes of no vector of length one are longer than two.
        lost = 2.0 * float(np.linalg.norm(first - scale * query[: first.size]))
        rest, length = float(np.linalg.norm(vector[first.size :])), float(np.linalg.norm(first))
        rows = -(-size // FEWEST) * FEWEST
        places = np.empty(rows, np.int32)
        numbers = (scale, rest, length, 1.0 - within - ROUNDING - lost)
        found = native.passing(self._codes[:rows], *self._terms[:, :rows], query, numbers, places)
        near = places[:found]
        return near[near < size]


def _coded(values: Vectors, largest: int) -> tuple[float, NDArray[Any]]:
    """Whole numbers up to ``largest``, and what one stands for."""
    most = float(np.abs(values).max(initial=0.0))
    if not most:
        return 0.0, np.zeros(values.size, np.int16)
    return most / largest, np.rint(values * np.float32(largest / most)).astype(np.int16)


def larger(rows: Any, shape: tuple[int, ...]) -> Any:
    """``rows`` in an array of ``shape``, the rest of it zero."""
    array = np.zeros(shape, rows.dtype)
    if len(rows):
        array[: len(rows)] = rows
    return array

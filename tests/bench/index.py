"""What a scope of a million questions costs: exact up to there, then a graph, and what happens in between.

    python tests/bench/index.py                              # usearch
    python tests/bench/index.py --graph faiss --size 100000

Vectors are made up: crowds around many centres, with questions that lie near one of the vectors. The way is
the finder's own (:class:`sidecar.cache.similar.index.Growing`): filled as products, then moved, a few at a
time, with look-ups in between. Times are of the processor.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sidecar.cache.similar import index  # noqa: E402
from sidecar.cache.similar.index import Growing, Vectors  # noqa: E402

COLUMNS = 384
ASKED = 200
WITHIN = 0.10
SAID_EVERY = 20


def crowds(size: int, chance: Any) -> Vectors:
    """Vectors around one centre for every fifty, half as far from it as from others."""
    centres = unit(chance.standard_normal((size // 50 + 1, COLUMNS), np.float32))
    rows = np.empty((size, COLUMNS), np.float32)
    for start in range(0, size, 10_000):
        some = rows[start : start + 10_000]
        away = chance.standard_normal(some.shape, np.float32) * np.float32(0.7 / COLUMNS**0.5)
        some[:] = unit(centres[chance.integers(len(centres), size=len(some))] + away)
    return rows


def unit(rows: Any) -> Vectors:
    """Of length one."""
    scaled: Vectors = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def resident_mib() -> float:
    """Memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def same(found: list[int | None], wanted: list[int | None]) -> float:
    """The share that was found as wanted."""
    return sum(one == other for one, other in zip(found, wanted, strict=True)) / len(wanted)


class Looks:
    """The same questions, asked again and again."""

    def __init__(self, asked: Vectors) -> None:
        self._asked = asked

    def __call__(self, among: Growing) -> tuple[list[int | None], list[float]]:
        """The nearest to each, and the milliseconds it took."""
        found: list[int | None] = []
        spent = []
        for vector in self._asked:
            began = time.thread_time()
            near = among.near(vector, WITHIN, 8)
            spent.append((time.thread_time() - began) * 1e3)
            found.append(near[0][0] if near else None)
        return found, sorted(spent)


def said(spent: list[float]) -> str:
    """Two of the quantiles."""
    return f"p50 {statistics.median(spent):.2f}  p99 {spent[int(len(spent) * 0.99)]:.2f} ms"


def main() -> None:
    """Print what each step costs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--graph", choices=("usearch", "faiss"), default="usearch")
    given = parser.parse_args()
    graph = {"usearch": index.Usearch, "faiss": index.Faiss}[given.graph]
    index.graph_for = lambda columns, size: graph(columns, "i8" if size >= index.COMPRESSED_FROM else "f16")
    chance = np.random.default_rng(5)
    vectors = crowds(given.size + 1, chance)
    away = chance.standard_normal((ASKED, COLUMNS), np.float32) * np.float32(0.2 / COLUMNS**0.5)
    looks = Looks(unit(vectors[chance.integers(given.size, size=ASKED)] + away))
    bare = resident_mib()
    growing = Growing(given.size)
    for number, vector in enumerate(vectors[:-1]):
        growing.add(number, vector)
    wanted, spent = looks(growing)
    print(f"{given.size:,} vectors, exact: {said(spent)}, {resident_mib() - bare:,.0f} MiB", flush=True)

    bare = resident_mib()
    growing.add(given.size, vectors[-1])
    moves: list[float] = []
    between: list[float] = []
    began, next_said = time.thread_time(), given.size // SAID_EVERY
    while True:
        start = time.thread_time()
        if not growing.move():
            break
        moves.append((time.thread_time() - start) * 1e3)
        if len(moves) * index.MOVED_AT_ONCE >= next_said:
            next_said += given.size // SAID_EVERY
            found, some = looks(growing)
            between += some
            print(
                f"  {len(moves) * index.MOVED_AT_ONCE:>9,} moved, {time.thread_time() - began:.0f} s; "
                f"a step {said(sorted(moves))}; a look-up {said(some)}; "
                f"the nearest {same(found, wanted):.1%}",
                flush=True,
            )
    found, spent = looks(growing)
    print(
        f"{given.size:,} vectors, {given.graph}: {said(spent)}; the nearest {same(found, wanted):.1%}; "
        f"moved in {time.thread_time() - began:.0f} s, a step {said(sorted(moves))}; "
        f"look-ups meanwhile {said(sorted(between))}; {resident_mib() - bare:,.0f} MiB more"
    )


if __name__ == "__main__":
    main()

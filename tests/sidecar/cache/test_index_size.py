"""Indexes of very many vectors: what they miss, and what a search costs."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="similar answers need the semantic extra")
pytest.importorskip("usearch", reason="usearch is not installed")

from sidecar.cache.similar.index import Growing  # noqa: E402

COLUMNS = 384
ASKED = 200
WITHIN = 0.10

pytestmark = pytest.mark.slow


def crowd(count: int, seed: int) -> Any:
    """Vectors about as MiniLM's lie: most far from each other, some with near ones."""
    chance = np.random.default_rng(seed)
    rows = chance.normal(size=(count, COLUMNS)).astype(np.float32)
    near = rows[: count // 10]
    rows[count // 10 : count // 5] = near + 0.3 * chance.normal(size=near.shape)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def median_ms(search: Callable[[Any], Any], asked: Any) -> float:
    spent = []
    for vector in asked:
        began = time.thread_time()
        search(vector)
        spent.append((time.thread_time() - began) * 1e3)
    return statistics.median(spent)


def test_a_graph_finds_what_a_product_finds() -> None:
    size = 50_000
    index, vectors = Growing(size), crowd(size, 1)
    for number, vector in enumerate(vectors):
        index.add(number, vector)
    assert index.is_exact
    asked = vectors[:ASKED] + 0.02 * np.random.default_rng(2).normal(size=(ASKED, COLUMNS)).astype(np.float32)
    asked /= np.linalg.norm(asked, axis=1, keepdims=True)
    wanted = [index.near(vector, WITHIN, 8) for vector in asked]
    exact_ms = median_ms(lambda vector: index.near(vector, WITHIN, 8), asked)
    index.add(size, crowd(10, 3)[0])
    while index.move():
        pass
    assert not index.is_exact

    found = [index.near(vector, WITHIN, 8) for vector in asked]
    graph_ms = median_ms(lambda vector: index.near(vector, WITHIN, 8), asked)

    known = [{number for number, _ in near} for near in found]
    pairs = [(number, known[place]) for place, near in enumerate(wanted) for number, _ in near]
    recall = sum(number in near for number, near in pairs) / len(pairs)
    print(f"{size:,}: recall {recall:.3f}, {exact_ms:.2f} ms by products, {graph_ms:.2f} ms by the graph")
    assert len(pairs) >= ASKED and recall >= 0.95

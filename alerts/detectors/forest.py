"""Which minutes of many signals are strange together: an isolation forest, for ranking only.

A forest of random splits isolates a rare combination in few steps (Liu, Ting, Zhou: "Isolation
forest", ICDM 2008). It pages nobody: on sparse series it has no idea of scale, and by itself it
finds a tenth of what the tests of :mod:`alerts.detectors.watch` find. It ranks what they found, and says
which signal makes a minute strange: the one whose return to usual would help most.

Needs scikit-learn (extra ``alerts``), imported on first use.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any, NamedTuple

FEWEST = 60
"""Points of history below which there is nothing to rank by."""


class Ranked(NamedTuple):
    """How strange one point is, and why."""

    score: float
    """0.5 and less is usual, 1 unheard of."""
    signal: str
    """The signal that makes it so; empty where none does."""


def rank(
    history: Sequence[Sequence[float]],
    recent: Sequence[Sequence[float]],
    names: Sequence[str],
    *,
    seed: int = 0,
) -> list[Ranked]:
    """How strange each of ``recent`` is beside ``history``.

    Args:
        history: shape (points, signals), oldest first, rates and means in log.
        recent: shape (n, signals), the same columns.
        names: of the signals.
        seed: of the random splits; the same seed gives the same answer.

    Returns:
        One for each of ``recent``; all usual where the history is too short.
    """
    if len(history) < FEWEST or not recent:
        return [Ranked(0.0, "") for _ in recent]
    import numpy

    # By name: the library has no types, and this is its one home.
    ensemble: Any = import_module("sklearn.ensemble")
    past = numpy.asarray(history, dtype=float)
    forest = ensemble.IsolationForest(n_estimators=100, random_state=seed).fit(past)
    usual = numpy.median(past, axis=0)
    rows = numpy.asarray(recent, dtype=float)
    scores = -forest.score_samples(rows)
    ranked = []
    for row, score in zip(rows, scores, strict=True):
        restored = numpy.repeat(row[None, :], len(names), axis=0)
        numpy.fill_diagonal(restored, usual)
        gains = score + forest.score_samples(restored)
        best = int(gains.argmax())
        ranked.append(Ranked(float(score), names[best] if gains[best] > 0 else ""))
    return ranked

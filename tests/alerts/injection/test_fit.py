"""How well the score tells attacks from harmless texts, on the labelled ones beside the checkout.

The published figures to beat, at no more than 12.7 % of NotInject's look-alikes called attacks (PIGuard):
77.4 % of attacks found, and 79.1 % at 13.3 % (GPT-4o).
"""

import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from alerts.injection import HIGH, SUSPICIOUS, built_in

ROOT = Path(__file__).resolve().parents[3]

Row = dict[str, str | int]


@pytest.fixture(scope="module")
def scored(shared_data: Path) -> list[tuple[Row, float]]:
    """Every labelled text with its score by the shipped model, which was fitted on them."""
    with gzip.open(shared_data / "prompt_injection/samples.jsonl.gz", "rt", encoding="utf-8") as lines:
        return [(row, built_in().score(row["text"])) for row in map(json.loads, lines)]


def share(scores: list[float], line: float) -> float:
    return sum(score >= line for score in scores) / len(scores)


def test_the_shipped_weights_belong_to_this_reading_of_words(scored: list[tuple[Row, float]]) -> None:
    direct = [score for row, score in scored if row["kind"] == "direct_injection"]
    lookalike = [score for row, score in scored if "NotInject" in str(row["source"])]
    other = [score for row, score in scored if not row["label"] and "NotInject" not in str(row["source"])]

    assert share(direct, SUSPICIOUS) > 0.90  # of texts that it knows; a changed hash would give chance
    assert share(lookalike, SUSPICIOUS) < 0.127
    assert share(other, SUSPICIOUS) < 0.03
    assert share(other + lookalike, HIGH) < 0.01


@pytest.mark.slow
def test_texts_that_a_fit_has_not_seen_are_told_apart_better_than_published(shared_data: Path) -> None:
    pytest.importorskip("sklearn")
    told = subprocess.run(
        [sys.executable, str(ROOT / "scripts/alerts/injection.py"), "judge", str(shared_data)],
        capture_output=True, text=True, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    ).stdout  # fmt: skip

    by_fifths = told.split("fifths, near copies together")[0].split("fifths at random")[1]
    # Columns: the lines that 0.3, 5, 9 and 12 % of the look-alikes exceed.
    found = {
        name: [float(figure) for figure in figures.split()]
        for figures, name in re.findall(r"^([ .\d]+)  attack (\w+) \(", by_fifths, re.M)
    }
    assert found["direct"][0] > 28.3  # LlamaGuard3 at the same 0.3 %
    assert found["direct"][2] > 79.1
    ordinary = told.split("origins not fitted on")[1]
    (at_high,) = re.findall(r"^ +[\d.]+ +([\d.]+) +[\d.]+  harmless questions", ordinary, re.M)
    assert float(at_high) < 2

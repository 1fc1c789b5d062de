"""How right similar answers are on public question pairs, and what finding one costs.

    python tests/bench/similar.py                    # both sets of pairs, and the speed
    python tests/bench/similar.py --pairs 8000       # more of the question pairs: about 15 ms of CPU each

A look-up test, as a cache would meet it: the first text of every pair is kept, the second asked for; a hit is
right if its question is the same by the file's labels. The distance is chosen on the even rows (the widest
at which 95 of 100 hits are right) and reported on the odd ones. Labels are incomplete: of the hits that they
call wrong many ask for the same in almost the same words, so that precision is a lower bound.
"""

import argparse
import asyncio
import json
import os
import re
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from sidecar.cache.guards import Told, judge, told_by  # noqa: E402
from sidecar.cache.similar.comparing import same_answer  # noqa: E402
from sidecar.cache.similar.finder import NEAREST, Finder  # noqa: E402
from sidecar.cache.similar.runners import Runner, runner_of  # noqa: E402

DATA = ROOT.parent / "shared/data/semantic_cache"
DISTANCES = (0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.10, 0.12, 0.15, 0.20)
WANTED = 0.95
DENIABLE = re.compile(r"\b(is|are|was|can|will|does|should|has)\b")
BATCH = 32


class Pair(NamedTuple):
    """One row: what is kept, what is asked for, and whether they are the same."""

    kept: str
    asked: str
    kept_class: int
    asked_class: int
    numbers_differ: bool


class Score(NamedTuple):
    """What came of all look-ups."""

    asked: int
    answerable: int
    hits: int
    right: int
    number_pairs: int
    number_hits: int

    @property
    def precision(self) -> float:
        return self.right / self.hits if self.hits else 1.0

    def line(self) -> str:
        """For people."""
        return (
            f"hits {self.hits / self.asked:6.2%} of all, {self.right / max(1, self.answerable):6.2%} of "
            f"those with an answer; right {self.precision:6.2%}; "
            f"pairs whose numbers differ {self.number_hits}/{self.number_pairs}"
        )


def question_pairs(most: int) -> list[Pair]:
    """The Quora question pairs."""
    from pyarrow import parquet

    rows = parquet.read_table(DATA / "qqp_pairs.parquet").slice(0, most).to_pylist()
    return [
        Pair(row["text_a"], row["text_b"], row["class_a"], row["class_b"], row["numbers_differ"])
        for row in rows
    ]


def rephrasings() -> list[Pair]:
    """GPTCache's own 999 statements and their rephrasings; a text that comes twice is of one class."""
    lines = (DATA / "gptcache_mock_pairs.jsonl").read_text().splitlines()
    found: list[Pair] = []
    kinds: dict[str, int] = {}
    for row in map(json.loads, lines):
        texts = (row["origin"], row["similar"])
        kind = next((kinds[text] for text in texts if text in kinds), row["id"])
        kinds |= dict.fromkeys(texts, kind)
        found.append(Pair(*texts, kind, kind, False))
    return found


class LookUps:
    """One half of a file."""

    def __init__(self, pairs: Sequence[Pair], runner: Runner) -> None:
        self._pairs = pairs
        kept: dict[str, int] = {}
        asked: dict[str, int] = {}
        for pair in pairs:
            kept.setdefault(pair.kept, pair.kept_class)
        for pair in pairs:
            if pair.asked not in kept:
                asked.setdefault(pair.asked, pair.asked_class)
        self._kept, self._asked, self._runner = kept, asked, runner
        texts = sorted(kept.keys() | asked.keys() | {pair.asked for pair in pairs}, key=len)
        self._vectors: dict[str, Any] = {}
        for start in range(0, len(texts), BATCH):
            some = texts[start : start + BATCH]
            self._vectors.update(zip(some, runner.embed(some), strict=True))
        self._told: dict[str, Told] = {text: told_by(text) for text in texts}
        matrix = np.stack([self._vectors[text] for text in kept])
        names = list(kept)
        self._near: dict[str, list[tuple[str, float, str]]] = {}
        for text in asked:
            distances = 1 - matrix @ self._vectors[text]
            few = np.argsort(distances)[:NEAREST]
            self._near[text] = [
                (names[place], float(distances[place]) * runner.scale, self._likeness(names[place], text))
                for place in few
            ]

    def _likeness(self, one: str, other: str) -> str:
        return judge(self._told[one], self._told[other]).likeness

    def score(self, within: float, allowed: Sequence[str]) -> Score:
        """What comes of it at one distance."""
        classes = set(self._kept.values())
        hits = right = 0
        for text, near in self._near.items():
            found = next(
                (name for name, distance, like in near if distance <= within and like in allowed), None
            )
            if found is not None:
                hits += 1
                right += self._kept[found] == self._asked[text]
        numbers = [pair for pair in self._pairs if pair.numbers_differ]
        number_hits = sum(
            self._likeness(pair.kept, pair.asked) in allowed
            and (1 - float(self._vectors[pair.kept] @ self._vectors[pair.asked])) * self._runner.scale
            <= within
            for pair in numbers
        )
        answerable = sum(kind in classes for kind in self._asked.values())
        return Score(len(self._asked), answerable, hits, right, len(numbers), number_hits)


def report(name: str, pairs: Sequence[Pair], runner: Runner) -> None:
    """Choose on the even rows, report on the odd ones."""
    even, odd = LookUps(pairs[::2], runner), LookUps(pairs[1::2], runner)
    print(f"\n{name}: {len(pairs):,} pairs")
    for title, allowed in (
        ("any near text (no guards)", ("same", "rephrased", "apart")),
        ("in almost the same words", ("same",)),
        ("in the same or other words", ("same", "rephrased")),
    ):
        good = [distance for distance in DISTANCES if even.score(distance, allowed).precision >= WANTED]
        chosen = max(good, default=None)
        said = "none keeps 95 %" if chosen is None else f"{chosen:.2f}"
        print(f"  {title}: distance chosen on even rows: {said}")
        # Up to 0.01 hardly a letter differs: what the labels call wrong there is how far they can be right.
        for distance in sorted({0.01, 0.05, 0.10} | ({chosen} if chosen is not None else set())):
            mark = "*" if distance == chosen else " "
            print(f"   {mark} {distance:.2f}  {odd.score(distance, allowed).line()}")


class Agreement(NamedTuple):
    """What comes of comparing answers whose sense is known."""

    same: int
    agreed: int
    """Of those that say the same."""
    different: int
    mistaken: int
    """Of those that do not, the ones held for agreeing: by so much a measured error is too low."""
    denied: int
    """Those that a "not" was put into."""
    missed: int
    """Of these, the ones held for agreeing."""

    def line(self) -> str:
        """For people."""
        return (
            f"of {self.same:,} that say the same {self.agreed / self.same:.1%} agree; "
            f"of {self.different:,} that do not {self.mistaken / self.different:.2%} are held to agree; "
            f"of {self.denied:,} denials {self.missed}"
        )


def agreement(pairs: Sequence[Pair], runner: Runner) -> Agreement:
    """Texts read as answers: those of one class say the same, the nearest one of another class does not."""
    texts = sorted({pair.kept for pair in pairs} | {pair.asked for pair in pairs}, key=len)
    parts = [runner.embed(texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    matrix, place = np.concatenate(parts), {text: number for number, text in enumerate(texts)}
    classes = {pair.kept: pair.kept_class for pair in pairs} | {
        pair.asked: pair.asked_class for pair in pairs
    }
    same = agreed = different = mistaken = denied = missed = 0
    for pair in pairs:
        distances = 1 - matrix @ matrix[place[pair.kept]]
        if pair.kept_class == pair.asked_class:
            same += 1
            agreed += same_answer(pair.kept, pair.asked, float(distances[place[pair.asked]]) * runner.scale)
        few = np.argsort(distances)[: 2 * NEAREST]
        other = next((one for one in few if classes[texts[one]] != pair.kept_class), None)
        if other is not None:
            different += 1
            mistaken += same_answer(pair.kept, texts[other], float(distances[other]) * runner.scale)
        # At no distance at all: the vector of a denial is often the statement's own, nearly.
        opposite = DENIABLE.sub(r"\1 not", pair.kept, count=1)
        if opposite != pair.kept:
            denied += 1
            missed += same_answer(pair.kept, opposite, 0.0)
    return Agreement(same, agreed, different, mistaken, denied, missed)


def speed(runner: Runner, entries: int = 10_000) -> None:
    """A whole look-up among so many kept questions of one scope: vector, search and guards."""
    finder = Finder(runner, entries)
    rng = np.random.default_rng(1)
    columns = runner.embed(["warm"]).shape[1]
    from sidecar.cache.similar.finder import Kept

    vectors = rng.normal(size=(entries, columns)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for number, vector in enumerate(vectors):
        kept = Kept(str(number).encode(), told_by(f"What is item {number}?"), time.time() + 3600)
        finder._put(b"s", (b"tenant", b"model!"), kept, vector)
    asked = [f"how do i change my {thing} to {number}" for number in range(10) for thing in THINGS]

    wall, cpu = [], []

    async def look() -> None:
        for text in asked:
            began, spent = time.perf_counter(), time.process_time()
            await finder.answer([1, "find", b"s", text, 0.10, time.monotonic() + 60])
            wall.append((time.perf_counter() - began) * 1e3)
            cpu.append((time.process_time() - spent) * 1e3)

    asyncio.run(look())
    print(f"\n{runner.name}, {entries:,} entries, questions of about nine words: ms a look-up")
    for name, values in (("wall", wall), ("CPU", cpu)):
        cut = statistics.quantiles(values, n=100)
        print(f"  {name:<5} min {min(values):.2f}  p50 {cut[49]:.2f}  p90 {cut[89]:.2f}  p99 {cut[98]:.2f}")


THINGS = ("password", "address", "plan", "name", "seat", "order", "card", "phone", "booking", "language")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pairs", type=int, default=4_000, help="of the question pairs, both halves together"
    )
    parser.add_argument("--runner", choices=("minilm", "onnx", "tfidf"), default="minilm")
    parser.add_argument("--folder", default="", help="where its model lies")
    parser.add_argument("--only", choices=("quality", "speed"))
    given = parser.parse_args()
    runner, _ = runner_of({"runner": given.runner, "folder": given.folder})
    if given.only != "quality":
        speed(runner)
    if given.only != "speed":
        if not DATA.is_dir():
            sys.exit(f"no data in {DATA}")
        questions = question_pairs(given.pairs)
        print("\ncomparing answers, each with its nearest of another sense:")
        print(f"  GPTCache's rephrasings: {agreement(rephrasings(), runner).line()}")
        print(f"  Quora question pairs:   {agreement(questions, runner).line()}")
        report("GPTCache's rephrasings", rephrasings(), runner)
        report("Quora question pairs", questions, runner)


if __name__ == "__main__":
    main()

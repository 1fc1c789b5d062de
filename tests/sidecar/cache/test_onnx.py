"""The runner by onnxruntime, on MiniLM's own weights written as a graph."""

import asyncio
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

np = pytest.importorskip("numpy", reason="similar answers need the semantic extra")

from sidecar.cache.similar.finder import Finder  # noqa: E402
from sidecar.cache.similar.minilm import MiniLM, model_folder  # noqa: E402
from sidecar.cache.similar.runners import Runner, RunnerMissing, runner_of  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("onnx") is None or find_spec("onnxruntime") is None,
        reason="nothing to write a graph with, or to run it: make onnx",
    ),
]

TEXTS = [
    "How do I reset my password?",
    "x",
    "What is the capital of France, and how many people live there as of 2024?",
    "naïve café 東京 " * 40,
]


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    try:
        folder = model_folder()
    except RunnerMissing:
        pytest.skip("MiniLM's weights are not installed: make minilm")
    from tests.sidecar.cache.onnx_graph import write

    into: Path = tmp_path_factory.mktemp("onnx")
    write(folder, into)
    found, problem = runner_of({"runner": "onnx", "folder": str(into)})
    assert not problem
    return found


def test_a_graph_says_what_numpy_says_alone_and_among_others(runner: Runner) -> None:
    wanted = MiniLM().embed(TEXTS)
    assert np.abs(runner.embed(TEXTS) - wanted).max() < 2e-5
    for text, vector in zip(TEXTS, wanted, strict=True):
        assert np.abs(runner.embed([text])[0] - vector).max() < 2e-5


def test_similar_questions_are_found_by_it(runner: Runner) -> None:
    finder = Finder(runner, 100)
    owner, until = (b"tenant", b"model!"), time.time() + 600

    async def ask(text: str) -> list[bytes]:
        said = await finder.answer([1, "find", b"s", text, 0.10, time.monotonic() + 60])
        return [key for key, _, _ in said]

    async def look() -> None:
        await finder.answer([0, "add", b"s", owner, b"k", "How do I reset my password?", until])
        assert await ask("how can i reset my password") == [b"k"]
        assert await ask("how can i not reset my password") == []

    asyncio.run(look())

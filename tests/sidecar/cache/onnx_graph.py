"""MiniLM's own weights as an ONNX graph, as sentence-transformers' exports have it: states above tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sidecar.cache.similar.minilm import HEADS, LAYERS, WIDTH, _tensors

OPSET = 17
IR_VERSION = 9


class _Graph:
    """Nodes that are named by their number."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def dense(self, rows: str, name: str) -> str:
        weight = self.constant(np.ascontiguousarray(self.weights[f"{name}.weight"].T))
        return self.node(
            "Add", self.node("MatMul", rows, weight), self.constant(self.weights[f"{name}.bias"])
        )

    def norm(self, rows: str, name: str) -> str:
        weight, bias = (self.constant(self.weights[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self.node("LayerNormalization", rows, weight, bias, axis=-1, epsilon=1e-12)

    def heads(self, rows: str) -> str:
        shape = self.constant(np.array([0, 0, HEADS, WIDTH // HEADS], np.int64))
        return self.node("Transpose", self.node("Reshape", rows, shape), perm=[0, 2, 1, 3])

    def layer(self, states: str, masked: str, name: str) -> str:
        query, key, value = (
            self.heads(self.dense(states, f"{name}attention.self.{part}"))
            for part in ("query", "key", "value")
        )
        scores = self.node("MatMul", query, self.node("Transpose", key, perm=[0, 1, 3, 2]))
        scale = self.constant(np.float32((WIDTH // HEADS) ** -0.5))
        scores = self.node("Add", self.node("Mul", scores, scale), masked)
        seen = self.node("MatMul", self.node("Softmax", scores, axis=-1), value)
        shape = self.constant(np.array([0, 0, WIDTH], np.int64))
        seen = self.node("Reshape", self.node("Transpose", seen, perm=[0, 2, 1, 3]), shape)
        seen = self.node("Add", self.dense(seen, f"{name}attention.output.dense"), states)
        flat = self.norm(seen, f"{name}attention.output.LayerNorm")
        inner = self.dense(flat, f"{name}intermediate.dense")
        erf = self.node("Erf", self.node("Mul", inner, self.constant(np.float32(2**-0.5))))
        half = self.node("Mul", inner, self.constant(np.float32(0.5)))
        inner = self.node("Mul", half, self.node("Add", erf, self.constant(np.float32(1))))
        out = self.node("Add", self.dense(inner, f"{name}output.dense"), flat)
        return self.norm(out, f"{name}output.LayerNorm")


def write(folder: Path, into: Path) -> None:
    """``model.onnx`` and ``vocab.txt`` in ``into``, from the weights in ``folder``."""
    weights = _tensors((folder / "model.safetensors").read_bytes())
    graph = _Graph(weights)
    words = graph.node("Gather", graph.constant(weights["embeddings.word_embeddings.weight"]), "input_ids")
    types = graph.node(
        "Gather", graph.constant(weights["embeddings.token_type_embeddings.weight"]), "token_type_ids"
    )
    zero, one = graph.constant(np.int64(0)), graph.constant(np.int64(1))
    size = graph.node("Gather", graph.node("Shape", "input_ids"), one)
    places = graph.node(
        "Gather",
        graph.constant(weights["embeddings.position_embeddings.weight"]),
        graph.node("Range", zero, size, one),
    )
    states = graph.norm(graph.node("Add", graph.node("Add", words, types), places), "embeddings.LayerNorm")
    away = graph.node(
        "Sub", graph.constant(np.float32(1)), graph.node("Cast", "attention_mask", to=TensorProto.FLOAT)
    )
    masked = graph.node("Mul", away, graph.constant(np.float32(-1e9)))
    masked = graph.node("Unsqueeze", masked, graph.constant(np.array([1, 2], np.int64)))
    for number in range(LAYERS):
        states = graph.layer(states, masked, f"encoder.layer.{number}.")
    graph.nodes.append(helper.make_node("Identity", [states], ["last_hidden_state"]))
    given = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["texts", "tokens"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    made = helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["texts", "tokens", WIDTH])
    model = helper.make_model(
        helper.make_graph(graph.nodes, "minilm", given, [made], graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.save(model, str(into / "model.onnx"))
    (into / "vocab.txt").write_bytes((folder / "vocab.txt").read_bytes())

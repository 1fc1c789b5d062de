"""A whole model for llama.cpp, made of nothing: a GGUF file with a tokenizer and random weights.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import json
import math
import random
import struct
from array import array
from pathlib import Path
from typing import Any

from inference.tiny_model import make_model

WIDTH, INNER, LAYERS, HEADS, KV_HEADS = 64, 128, 2, 4, 2
_ALIGNED = 32
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_NORMAL, _CONTROL = 1, 3
_F32 = 0


def make_gguf(folder: Path) -> Path:
    """Write the model into ``folder``; the path of its file (300 kB)."""
    made = make_model(folder)
    tokenizer = json.loads((made / "tokenizer.json").read_text())
    about = json.loads((made / "tokenizer_config.json").read_text())
    tokens = list(tokenizer["model"]["vocab"])
    special = {one["content"] for one in tokenizer["added_tokens"]}
    kinds = [_CONTROL if token in special else _NORMAL for token in tokens]
    merges = [" ".join(pair) for pair in tokenizer["model"]["merges"]]
    about_model = [
        ("general.architecture", _STRING, "qwen2"),
        ("general.name", _STRING, "tiny"),
        ("qwen2.block_count", _UINT32, LAYERS),
        ("qwen2.context_length", _UINT32, 32768),
        ("qwen2.embedding_length", _UINT32, WIDTH),
        ("qwen2.feed_forward_length", _UINT32, INNER),
        ("qwen2.attention.head_count", _UINT32, HEADS),
        ("qwen2.attention.head_count_kv", _UINT32, KV_HEADS),
        ("qwen2.attention.layer_norm_rms_epsilon", _FLOAT32, 1e-6),
        ("qwen2.rope.freq_base", _FLOAT32, 10000.0),
        ("tokenizer.ggml.model", _STRING, "gpt2"),
        ("tokenizer.ggml.pre", _STRING, "qwen2"),
        ("tokenizer.ggml.tokens", _ARRAY, (_STRING, tokens)),
        ("tokenizer.ggml.token_type", _ARRAY, (_INT32, kinds)),
        ("tokenizer.ggml.merges", _ARRAY, (_STRING, merges)),
        ("tokenizer.ggml.eos_token_id", _UINT32, tokens.index(about["eos_token"])),
        ("tokenizer.ggml.padding_token_id", _UINT32, tokens.index(about["pad_token"])),
        ("tokenizer.chat_template", _STRING, about["chat_template"]),
    ]
    shapes = _shapes(len(tokens))
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(shapes), len(about_model))
    head += b"".join(
        _text(name) + struct.pack("<I", kind) + _value(kind, value) for name, kind, value in about_model
    )
    draw = random.Random(0)
    data = b""
    for name, shape in shapes.items():
        head += _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _F32, len(data))
        data += _aligned(_weights(name, math.prod(shape), draw))
    path = folder / "tiny.gguf"
    path.write_bytes(_aligned(head) + data)
    return path


def _shapes(words: int) -> dict[str, tuple[int, ...]]:
    """Of every tensor; the dimension whose numbers lie side by side comes first."""
    narrow = WIDTH // HEADS * KV_HEADS
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (WIDTH, words), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm.weight": (WIDTH,),
            "attn_q.weight": (WIDTH, WIDTH),
            "attn_q.bias": (WIDTH,),
            "attn_k.weight": (WIDTH, narrow),
            "attn_k.bias": (narrow,),
            "attn_v.weight": (WIDTH, narrow),
            "attn_v.bias": (narrow,),
            "attn_output.weight": (WIDTH, WIDTH),
            "ffn_norm.weight": (WIDTH,),
            "ffn_gate.weight": (WIDTH, INNER),
            "ffn_up.weight": (WIDTH, INNER),
            "ffn_down.weight": (INNER, WIDTH),
        }.items():
            shapes[f"blk.{layer}.{name}"] = shape
    return shapes


def _weights(name: str, count: int, draw: random.Random) -> bytes:
    if name.endswith("norm.weight"):
        return array("f", [1.0] * count).tobytes()
    return array("f", [draw.gauss(0, 0.1) for _ in range(count)]).tobytes()


def _value(kind: int, value: Any) -> bytes:
    if kind == _STRING:
        return _text(value)
    if kind == _ARRAY:
        inner, values = value
        return struct.pack("<IQ", inner, len(values)) + b"".join(_value(inner, one) for one in values)
    return struct.pack({_UINT32: "<I", _INT32: "<i", _FLOAT32: "<f"}[kind], value)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _aligned(data: bytes) -> bytes:
    return data + bytes(-len(data) % _ALIGNED)

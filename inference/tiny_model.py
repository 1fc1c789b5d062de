"""Makes a model of nothing: a configuration and a tokenizer, for servers that make up the weights.

vLLM's ``--load-format dummy`` fills the shape with random weights, so a folder of a few hundred kilobytes
is a whole model: real batching, real caches, real metrics, and texts without sense. Nothing is downloaded.
The same shape with larger numbers is a 7B-class model for a GPU.
"""

import json
import sysconfig
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
_MERGES = 700
_CORPUS_FILES = 24
_LONGEST_WORD = 16

SHAPES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
    },
    "7b": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 32768,
        "vocab_size": 152064,
    },
}
"""``7b`` has the published measures of Qwen2.5 7B."""

_CHAT = (
    "{%- if tools %}<|im_start|>system\nTools: {{ tools | tojson }}<|im_end|>\n{%- endif %}"
    "{%- for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{%- if m['content'] is string %}{{ m['content'] }}"
    "{%- elif m['content'] %}{%- for p in m['content'] %}{{ p.text if p.text is defined else '' }}"
    "{%- endfor %}{%- endif %}"
    "{%- if m.tool_calls %}{%- for t in m.tool_calls %}<tool_call>{{ t.function | tojson }}</tool_call>"
    "{%- endfor %}{%- endif %}<|im_end|>\n{%- endfor %}"
    "{%- if add_generation_prompt %}<|im_start|>assistant\n{%- endif %}"
)


def make_model(folder: Path, shape: str = "tiny") -> Path:
    """Write the model into ``folder``; returns it.

    Args:
        folder: made if need be; what is in it under these names is replaced.
        shape: of `SHAPES`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _tokenizer(_words())
    size = len(tokenizer["model"]["vocab"])
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "dtype": "bfloat16",
        "vocab_size": size,
        "rms_norm_eps": 1e-6,
        "hidden_act": "silu",
        "tie_word_embeddings": shape == "tiny",
        "eos_token_id": 2,
        "pad_token_id": 0,
        "rope_theta": 10000.0,
        **SHAPES[shape],
    }
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": config["max_position_embeddings"],
        "chat_template": _CHAT,
    }
    for name, content in (
        ("config.json", config),
        ("tokenizer.json", tokenizer),
        ("tokenizer_config.json", about),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _words() -> Counter[str]:
    """Words of this Python's own library, each with the space before it."""
    found: Counter[str] = Counter()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:_CORPUS_FILES]:
        for word in path.read_text(encoding="utf-8", errors="ignore").split():
            if word.isalpha() and word.isascii() and len(word) <= _LONGEST_WORD:
                found["Ġ" + word] += 1
    return found


def byte_letters() -> dict[int, str]:
    """The letter that stands for each byte in a byte-level tokenizer: printable ones for themselves."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + place) for place, byte in enumerate(others)}


def _tokenizer(words: Counter[str]) -> dict[str, Any]:
    """A byte-level BPE tokenizer, in the file format of the ``tokenizers`` library."""
    merges = _learned(words)
    pieces = [*byte_letters().values(), *("".join(pair) for pair in merges)]
    vocabulary = {piece: place for place, piece in enumerate(dict.fromkeys((*SPECIAL, *pieces)))}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": vocabulary[text],
                "content": text,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for text in SPECIAL
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": [list(pair) for pair in merges],
        },
    }


def _learned(words: Counter[str]) -> list[tuple[str, str]]:
    """The most frequent pairs, one after the other (Sennrich et al., 2016)."""
    split = {word: list(word) for word in words}
    counts: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], set[str]] = {}

    def count(word: str, sign: int) -> None:
        pieces = split[word]
        for pair in pairwise(pieces):
            counts[pair] += sign * words[word]
            if sign > 0:
                places.setdefault(pair, set()).add(word)

    for word in split:
        count(word, 1)
    merges = []
    for _ in range(_MERGES):
        pair = max(counts, key=lambda one: (counts[one], one))
        if counts[pair] < 2:
            break
        merges.append(pair)
        for word in places.pop(pair, set()):
            count(word, -1)
            split[word] = _merged(split[word], pair)
            count(word, 1)
        del counts[pair]
    return merges


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    found: list[str] = []
    for piece in pieces:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return found

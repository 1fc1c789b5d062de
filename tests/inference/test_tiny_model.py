"""The made-up model is whole: its tokenizer is one that the library reads, and loses no byte."""

import json
from pathlib import Path

import pytest

from inference.tiny_model import SHAPES, SPECIAL, byte_letters, make_model


def test_a_folder_holds_a_shape_and_a_tokenizer_and_no_weights(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")

    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    config = json.loads((folder / "config.json").read_text())
    told = json.loads((folder / "tokenizer.json").read_text())
    assert config["vocab_size"] == len(told["model"]["vocab"])
    assert [told["model"]["vocab"][text] for text in SPECIAL] == [0, 1, 2, 3, 4]
    assert config["eos_token_id"] == told["model"]["vocab"]["<|im_end|>"]
    # Every piece can be put together from pieces that are there.
    pieces = set(told["model"]["vocab"])
    assert all({a, b, a + b} <= pieces for a, b in told["model"]["merges"])
    assert len(told["model"]["merges"]) > 300


def test_every_byte_has_a_letter_of_its_own() -> None:
    letters = byte_letters()
    assert len(letters) == len(set(letters.values())) == 256
    assert letters[ord("a")] == "a"
    assert letters[ord(" ")] == "Ġ"


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_shapes_divide_evenly_among_their_heads(shape: str) -> None:
    measures = SHAPES[shape]
    assert measures["hidden_size"] % measures["num_attention_heads"] == 0
    assert measures["num_attention_heads"] % measures["num_key_value_heads"] == 0

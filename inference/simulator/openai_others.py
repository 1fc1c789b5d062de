"""OpenAI embeddings and the list of models."""

from array import array
from base64 import b64encode
from collections.abc import Mapping, Sequence
from hashlib import shake_256
from math import sqrt
from typing import Any

from inference.simulator.events import encode
from inference.simulator.models import LISTED, profile_of
from inference.simulator.prompts import InvalidPrompt
from inference.simulator.tokens import BYTES_PER_TOKEN, count_tokens


def embedding_inputs(body: Mapping[str, Any]) -> list[str]:
    """The texts to embed; token ids count as text of their length.

    Raises:
        InvalidPrompt: ``input`` is missing or of no known shape.
    """
    given = body.get("input")
    if isinstance(given, str):
        return [given]
    if isinstance(given, list) and given:
        if all(isinstance(item, str) for item in given):
            return given
        if all(isinstance(item, int) for item in given):
            return ["x" * BYTES_PER_TOKEN * len(given)]
        if all(isinstance(item, list) for item in given):
            return ["x" * BYTES_PER_TOKEN * len(item) for item in given]
    raise InvalidPrompt("'input' must be a string or an array of strings or tokens.", "input")


def embeddings(body: Mapping[str, Any], texts: Sequence[str], tokens: int | None, model: str) -> bytes:
    """One unit vector for each text, always the same for the same text."""
    dimensions = int(body.get("dimensions") or profile_of(model).embedding_dimensions)
    if not 1 <= dimensions <= 8192:
        raise InvalidPrompt("Invalid 'dimensions': expected an integer from 1 to 8192.", "dimensions")
    as_text = body.get("encoding_format") == "base64"
    data = []
    for index, text in enumerate(texts):
        vector = _unit_vector(text, dimensions)
        embedding = b64encode(vector.tobytes()).decode() if as_text else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    used = sum(map(count_tokens, texts)) if tokens is None else tokens
    usage = {"prompt_tokens": used, "total_tokens": used}
    return encode({"object": "list", "data": data, "model": model, "usage": usage})


def model_list(created: int, *, anthropic: bool) -> bytes:
    """The models that the simulator likes to be asked for; it answers for any other too."""
    if anthropic:
        names = [name for name in LISTED if name.startswith("claude")]
        data = [
            {
                "type": "model",
                "id": name,
                "display_name": f"{name} (simulated)",
                "created_at": "2026-01-01T00:00:00Z",
            }
            for name in names
        ]
        return encode({"data": data, "has_more": False, "first_id": names[0], "last_id": names[-1]})
    listed = [
        {"id": name, "object": "model", "created": created, "owned_by": f"simulated-{profile_of(name).owner}"}
        for name in LISTED
    ]
    return encode({"object": "list", "data": listed})


def _unit_vector(text: str, dimensions: int) -> "array[float]":
    raw = array("h", shake_256(text.encode()).digest(2 * dimensions))
    scale = 1 / (sqrt(sum(part * part for part in raw)) or 1.0)
    return array("f", [part * scale for part in raw])

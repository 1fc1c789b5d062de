"""What ``bursar.yaml`` says of similar answers."""

import re
from pathlib import Path
from typing import Any, Literal

from collector.frozen import dataclass
from collector.settings import Duration, Secret

_SHARE = re.compile(r"(\d+(?:\.\d+)?)\s*(%?)")


class Share(float):
    """A part of a whole, written ``1%`` or ``0.01``."""

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read ``1%`` or ``0.01``.

        Raises:
            ValueError: it is neither.
        """
        match = _SHARE.fullmatch(text.strip())
        value = float(match[1]) / (100 if match[2] else 1) if match is not None else -1.0
        if not 0 <= value <= 1:
            raise ValueError(f"{text!r} is not a share; write 1% or 0.01")
        return cls(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingConfig:
    """What makes vectors of questions; it runs in a process of its own, started when first needed."""

    runner: Literal["auto", "minilm", "onnx", "endpoint", "tfidf"] = "auto"
    """``minilm`` by numpy, ``onnx`` by onnxruntime, an ``endpoint``, or ``tfidf``, which needs no model.

    ``auto`` is MiniLM where its weights are installed, else TF-IDF.
    """
    folder: Path | None = None
    """Where the model lies, if not in its package: ``model.safetensors`` or ``model.onnx``; ``vocab.txt``."""
    url: str = ""
    """Of an OpenAI-compatible endpoint, up to and without ``/embeddings``; vLLM's, for one."""
    model: str = ""
    """What the endpoint calls its model."""
    api_key: Secret | None = None
    """Of the endpoint."""
    deadline: Duration = Duration(0.05)
    """How long a call waits for a similar answer to be found; after that it is a miss.

    While a search takes less than half of it nothing near is missed; what outgrows that moves to a graph.
    """
    entries: int = 50_000
    """Questions that are held for look-ups; those of the scope not used longest leave first."""

    def __post_init__(self) -> None:
        if self.runner == "endpoint" and not (self.url.startswith(("http://", "https://")) and self.model):
            raise ValueError("runner: endpoint needs a url (http:// or https://) and a model")
        if self.entries < 1 or not 0 < self.deadline <= 5:
            raise ValueError("entries must be at least 1, and deadline more than 0 and at most 5s")

    def assignment(self) -> dict[str, Any]:
        """What the finder is told."""
        return {
            "runner": self.runner,
            "folder": str(self.folder) if self.folder else "",
            "url": self.url,
            "model": self.model,
            "key": self.api_key.reveal() if self.api_key else "",
            "deadline_s": float(self.deadline),
            # An answer that comes a little late is of use for the next who asks the same.
            "timeout_s": max(1.0, 4 * self.deadline),
            "entries": self.entries,
        }

"""How many tokens a text has, where no provider says: bytes over a ratio learned per model.

A family's tokenizer and people's language move the ratio slowly, so it is learned
online from replies that did report usage, recent ones counting more. Before anything
is learned a default per family is used; the defaults lean low, since too many tokens
is the safer mistake for a budget.
"""

from collections import OrderedDict
from typing import Final

_DEFAULTS: Final = (
    # Rules of thumb for English and code (vendors say "about four characters"), kept low.
    ("gpt-3.5", 4.0),
    ("gpt", 4.2),
    ("o1", 4.2),
    ("o3", 4.2),
    ("o4", 4.2),
    ("claude", 3.4),
    ("gemini", 4.0),
    ("mistral", 3.8),
    ("mixtral", 3.6),
    ("llama-2", 3.6),
    ("llama", 4.0),
    ("qwen", 4.0),
    ("deepseek", 4.0),
    ("grok", 4.0),
    ("command", 4.0),
    ("nova", 3.8),
    ("titan", 3.6),
)
DEFAULT_RATIO: Final = 3.6
_DECAY: Final = 0.97
"""What an observation keeps of its weight when the next one comes: about 33 are remembered."""
_LEAST: Final = 0.5
_MOST: Final = 16.0
"""Ratios outside of this are no text: hidden reasoning, media, or a lying provider."""
_RELIABLE_TOKENS: Final = 1000
_ENOUGH_BYTES: Final = 32
"""Texts shorter than this say more about framing than about the tokenizer."""


class TokenRatios:
    """Bytes a token, for each model; bounded, least recently used models are forgotten.

    Input and output differ (tool schemas, chat framing): keep one of these for each.
    """

    __slots__ = ("_capacity", "_sums")

    def __init__(self, capacity: int = 1024) -> None:
        self._capacity = capacity
        self._sums: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def learn(self, model: str, text_bytes: int, tokens: int) -> None:
        """Note that ``text_bytes`` of text were ``tokens`` tokens of ``model``.

        For output, leave out reply whose reasoning was billed but not shown.
        """
        if text_bytes < _ENOUGH_BYTES or tokens <= 0 or not _LEAST <= text_bytes / tokens <= _MOST:
            return
        old_bytes, old_tokens = self._sums.pop(model, (0.0, 0.0))
        self._sums[model] = (old_bytes * _DECAY + text_bytes, old_tokens * _DECAY + tokens)
        if len(self._sums) > self._capacity:
            self._sums.popitem(last=False)

    def ratio(self, model: str) -> float:
        """Bytes a token of ``model``."""
        learned = self._sums.get(model)
        if learned is not None:
            self._sums.move_to_end(model)
            return learned[0] / learned[1]
        return default_ratio(model)

    def knows(self, model: str) -> bool:
        """Whether the ratio of ``model`` was learned from enough of its calls to be relied on."""
        learned = self._sums.get(model)
        return learned is not None and learned[1] >= _RELIABLE_TOKENS

    def estimate(self, model: str, text_bytes: int) -> int:
        """Tokens in ``text_bytes`` of text, at least 1, rounded up."""
        return max(1, -int(-text_bytes / self.ratio(model) // 1))

    def __len__(self) -> int:
        return len(self._sums)


def default_ratio(model: str) -> float:
    """Bytes a token before anything was learned, by the family in the model's name."""
    name = model.lower().rpartition("/")[2]
    return next((ratio for family, ratio in _DEFAULTS if family in name), DEFAULT_RATIO)

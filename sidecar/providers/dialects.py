"""Which dialects an upstream speaks, and how a call in another one reaches it."""

from typing import TYPE_CHECKING, Final

from sidecar.call import Call
from sidecar.config import UpstreamConfig

if TYPE_CHECKING:
    from sidecar.wire.translate.translation import Translation

_OPENAI: Final = frozenset({"openai.chat", "openai.completions", "openai.responses", "openai.embeddings"})
_ANTHROPIC: Final = frozenset({"anthropic.messages", "anthropic.count_tokens"})

SPOKEN: Final = {
    "openai": _OPENAI,
    "azure": _OPENAI,
    "anthropic": _ANTHROPIC,
    "vllm": _OPENAI | _ANTHROPIC,
    "litellm": frozenset({"openai.chat", "openai.embeddings"}),
}
"""By kind. The kinds that are missing have dialects of their own, and are reached on pass-through."""

_NAMED: Final = {
    "chat": frozenset({"openai.chat"}),
    "completions": frozenset({"openai.completions"}),
    "responses": frozenset({"openai.responses"}),
    "embeddings": frozenset({"openai.embeddings"}),
    "messages": _ANTHROPIC,
}

_NEW_CAP: Final = frozenset({"openai", "azure.ai.openai"})
"""Providers whose reasoning models refuse ``max_tokens``; others may not know its successor."""


class Speech:
    """What one upstream speaks."""

    def __init__(self, config: UpstreamConfig, provider: str) -> None:
        named = [_NAMED[dialect] for dialect in config.dialects]
        self._spoken = frozenset().union(*named) if named else SPOKEN.get(config.kind)
        self._cap = "max_completion_tokens" if provider in _NEW_CAP else "max_tokens"
        self._extended = config.kind == "litellm"
        self._known: dict[str, Translation | None] = {"raw": None, "models": None}

    def translation_for(self, call: Call) -> "Translation | None":
        """How ``call`` is said to this upstream; None where it is said as it stands."""
        api = call.route.api
        if api not in self._known:
            self._known[api] = self._translation(api)
        return self._known[api]

    def _translation(self, api: str) -> "Translation | None":
        if self._spoken is None or api in self._spoken:
            return None
        from sidecar.wire.translate.translation import Translation, nearest

        other = nearest(api, self._spoken)
        if other is None:
            return None  # What there is no translation for, the upstream itself may refuse.
        return Translation(api, other, cap=self._cap, extended=self._extended)
